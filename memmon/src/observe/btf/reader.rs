//! A bounds-checked reader for types and members in BTF (Documentation/bpf/btf.rst).
//!
//! The file comes from the kernel, but this reader does not rely on it being well formed: every offset is checked, every
//! loop and recursion is bounded, and nothing panics.

use super::error::LayoutError;

/// Magic number at the start of the file, in the file's byte order.
const MAGIC: u16 = 0xeb9f;
/// Size of the first version of `struct btf_header`; later kernels append fields.
const HEADER: usize = 24;
/// Size of `struct btf_type`.
const TYPE: usize = 12;
/// Size of `struct btf_member`; members follow the `btf_type` of a struct or union.
const MEMBER: usize = 12;
/// Maximum of typedefs and qualifiers in front of one type. The kernel has less than ten.
const MAX_CHAIN: usize = 32;
/// Maximum nesting of anonymous structs. The kernel has less than five.
const MAX_NESTING: u32 = 16;
/// Maximum of members visited for one lookup, which a hostile file could make exponential in the nesting.
const MAX_VISITS: u32 = 100_000;

/// The `BTF_KIND_*` that offsets can depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Void,
    Int,
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Forward,
    /// Typedefs, qualifiers and tags, which refer to another type.
    Alias,
    /// Functions, variables and everything else that cannot be the type of a field.
    Other,
}

/// One type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    pub(super) kind: Kind,
    /// Size in bytes, for integers, structs, unions and enums.
    size: u32,
    /// The id of the type that it refers to: the same four bytes as `size`.
    target: u32,
    name: u32,
    members: u32,
    /// Bit offsets of members carry a bit-field's width in their upper byte.
    bit_fields: bool,
    /// Position after the `btf_type`, where its members and other details start.
    tail: usize,
}

/// A member of a struct. Its offset counts from the struct that was searched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Offset in bytes.
    pub(super) offset: u32,
    /// Its type, with aliases resolved.
    pub(super) of: Type,
}

/// The elements of an array type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements {
    pub(super) of: Type,
    pub(super) count: u32,
}

/// A parsed file with an index of its types, half a megabyte for a whole kernel.
#[derive(Debug)]
pub(super) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Positions of the types, indexed by type id minus one, because id 0 is void.
    starts: Vec<u32>,
}

impl<'a> Btf<'a> {
    /// Checks the header and indexes the types.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, LayoutError> {
        let magic: [u8; 2] = bytes.first_chunk().copied().ok_or(LayoutError::NotBtf)?;
        match u16::from_ne_bytes(magic) {
            MAGIC => {}
            swapped if swapped == MAGIC.swap_bytes() => return Err(LayoutError::ForeignByteOrder),
            _ => return Err(LayoutError::NotBtf),
        }
        let cut = LayoutError::Malformed("its header points behind its end");
        let head = |at| word(bytes, at).ok_or(LayoutError::Malformed("its header is cut off"));
        let [length, type_at, type_len, string_at, string_len] =
            [head(4)?, head(8)?, head(12)?, head(16)?, head(20)?];
        if (length as usize) < HEADER {
            return Err(LayoutError::Malformed("its header is too short"));
        }
        let body = bytes.get(length as usize..).ok_or(cut.clone())?;
        let types = section(body, type_at, type_len).ok_or(cut.clone())?;
        let strings = section(body, string_at, string_len).ok_or(cut)?;
        let mut btf = Self { types, strings, starts: Vec::new() };
        btf.index()?;
        Ok(btf)
    }

    /// The structs of this name. There should be one; a file that is not fully deduplicated has more.
    pub(super) fn structs(&self, name: &str) -> impl Iterator<Item = Type> {
        self.all().filter(move |of| of.kind == Kind::Struct && self.is_called(*of, name))
    }

    /// The value of an enumerator of any 32-bit enum, from the first enum in the file that has it.
    pub(super) fn enumerator(&self, name: &str) -> Option<i32> {
        self.all().filter(|of| of.kind == Kind::Enum).find_map(|of| {
            (0..of.members as usize).find_map(|nth| {
                let at = of.tail + 8 * nth;
                let value = word(self.types, at + 4)?;
                self.text_is(word(self.types, at)?, name).then_some(value.cast_signed())
            })
        })
    }

    /// The member of this name, also within anonymous structs and unions. `None` if there is no such member, or if it does
    /// not start at a whole byte.
    pub(super) fn member(&self, of: Type, name: &str) -> Result<Option<Member>, LayoutError> {
        let mut visits = MAX_VISITS;
        self.member_within(of, name, MAX_NESTING, &mut visits)
    }

    /// The elements of an array; `None` if the type is not an array.
    pub(super) fn elements(&self, of: Type) -> Result<Option<Elements>, LayoutError> {
        if of.kind != Kind::Array {
            return Ok(None);
        }
        let (Some(element), Some(count)) = (word(self.types, of.tail), word(self.types, of.tail + 8)) else {
            return Ok(None);
        };
        Ok(Some(Elements { of: self.resolved(element)?, count }))
    }

    /// The type that a pointer points to, with aliases resolved; `None` if the type is not a pointer.
    pub(super) fn pointee(&self, of: Type) -> Result<Option<Type>, LayoutError> {
        if of.kind != Kind::Pointer {
            return Ok(None);
        }
        self.resolved(of.target).map(Some)
    }

    /// Whether the type has this name.
    pub(super) fn is_called(&self, of: Type, name: &str) -> bool {
        self.text_is(of.name, name)
    }

    /// The type's size in bytes; `None` for a type without a size of its own, and for an implausibly large array.
    pub(super) fn size(&self, of: Type) -> Result<Option<u32>, LayoutError> {
        Ok(match of.kind {
            Kind::Int | Kind::Struct | Kind::Union | Kind::Enum => Some(of.size),
            Kind::Pointer => Some(8),
            Kind::Array => {
                let Some(elements) = self.elements(of)? else { return Ok(None) };
                // No field that memmon reads is an array of arrays.
                let each = match elements.of.kind {
                    Kind::Array => None,
                    _ => self.size(elements.of)?,
                };
                each.and_then(|each| each.checked_mul(elements.count))
            }
            Kind::Void | Kind::Forward | Kind::Alias | Kind::Other => None,
        })
    }

    fn member_within(
        &self,
        of: Type,
        name: &str,
        nesting: u32,
        visits: &mut u32,
    ) -> Result<Option<Member>, LayoutError> {
        if !matches!(of.kind, Kind::Struct | Kind::Union) {
            return Ok(None);
        }
        let deeper = nesting.checked_sub(1).ok_or(LayoutError::Malformed("its structs nest too deeply"))?;
        for nth in 0..of.members as usize {
            *visits = visits.checked_sub(1).ok_or(LayoutError::Malformed("its structs have no end"))?;
            let at = of.tail + MEMBER * nth;
            let (Some(called), Some(target), Some(place)) =
                (word(self.types, at), word(self.types, at + 4), word(self.types, at + 8))
            else {
                return Ok(None);
            };
            let (bits, width) = if of.bit_fields { (place & 0xff_ffff, place >> 24) } else { (place, 0) };
            let (offset, aligned) = (bits / 8, bits % 8 == 0 && width == 0);
            if self.text_is(called, name) {
                return Ok(if aligned { Some(Member { offset, of: self.resolved(target)? }) } else { None });
            }
            if self.text_is(called, "") && aligned {
                let inner = self.resolved(target)?;
                if let Some(found) = self.member_within(inner, name, deeper, visits)? {
                    let beyond = LayoutError::Malformed("a member lies beyond all memory");
                    return Ok(Some(Member {
                        offset: offset.checked_add(found.offset).ok_or(beyond)?,
                        ..found
                    }));
                }
            }
        }
        Ok(None)
    }

    /// The type of this id, with typedefs, qualifiers and tags resolved.
    fn resolved(&self, mut id: u32) -> Result<Type, LayoutError> {
        for _ in 0..MAX_CHAIN {
            let of = self.get(id).ok_or(LayoutError::Malformed("a type refers to none that is there"))?;
            match of.kind {
                Kind::Alias => id = of.target,
                _ => return Ok(of),
            }
        }
        Err(LayoutError::Malformed("a typedef goes round in a circle"))
    }

    fn index(&mut self) -> Result<(), LayoutError> {
        let mut at = 0;
        while at < self.types.len() {
            let info = word(self.types, at + 4).ok_or(LayoutError::Malformed("its last type is cut off"))?;
            let length = tail_length(info).ok_or(LayoutError::UnknownKind(kind_number(info)))?;
            let start = u32::try_from(at).map_err(|_| LayoutError::Malformed("it is larger than 4 GB"))?;
            self.starts.push(start);
            at += TYPE + length;
        }
        if at == self.types.len() { Ok(()) } else { Err(LayoutError::Malformed("its last type is cut off")) }
    }

    fn all(&self) -> impl Iterator<Item = Type> {
        self.starts.iter().filter_map(|start| self.at(*start as usize))
    }

    fn get(&self, id: u32) -> Option<Type> {
        match id.checked_sub(1) {
            None => Some(Type {
                kind: Kind::Void,
                size: 0,
                target: 0,
                name: 0,
                members: 0,
                bit_fields: false,
                tail: 0,
            }),
            Some(index) => self.at(*self.starts.get(index as usize)? as usize),
        }
    }

    fn at(&self, start: usize) -> Option<Type> {
        let (name, info) = (word(self.types, start)?, word(self.types, start + 4)?);
        let size = word(self.types, start + 8)?;
        Some(Type {
            kind: kind(info),
            size,
            target: size,
            name,
            members: member_count(info),
            bit_fields: info >> 31 == 1,
            tail: start + TYPE,
        })
    }

    /// Whether the string at `offset` is exactly `text`.
    fn text_is(&self, offset: u32, text: &str) -> bool {
        self.strings
            .get(offset as usize..)
            .and_then(|rest| rest.strip_prefix(text.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn section(body: &[u8], at: u32, length: u32) -> Option<&[u8]> {
    body.get(at as usize..)?.get(..length as usize)
}

/// The kind is in bits 24 to 28 today. Bits 29 and 30 are unused; if one of them is set, the kind is unknown.
const fn kind_number(info: u32) -> u32 {
    info >> 24 & 0x7f
}

/// The count is in bits 0 to 15 today. Bits 16 to 23 are unused; if one of them is set, the type exceeds the file.
const fn member_count(info: u32) -> u32 {
    info & 0xff_ffff
}

const fn kind(info: u32) -> Kind {
    match kind_number(info) {
        1 => Kind::Int,
        2 => Kind::Pointer,
        3 => Kind::Array,
        4 => Kind::Struct,
        5 => Kind::Union,
        6 => Kind::Enum,
        7 => Kind::Forward,
        // typedef, volatile, const, restrict; type tags such as __rcu
        8..=11 | 18 => Kind::Alias,
        _ => Kind::Other,
    }
}

/// Bytes that follow a `btf_type`; `None` for an unknown kind, after which nothing can be located.
const fn tail_length(info: u32) -> Option<usize> {
    let count = member_count(info) as usize;
    match kind_number(info) {
        // int, var, declaration tag
        1 | 14 | 17 => Some(4),
        // array
        3 => Some(12),
        // struct, union, data section, 64-bit enum
        4 | 5 | 15 | 19 => Some(MEMBER * count),
        // enum, function prototype
        6 | 13 => Some(8 * count),
        // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
        2 | 7..=12 | 16 | 18 => Some(0),
        _ => None,
    }
}

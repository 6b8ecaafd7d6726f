//! Offsets of the fields that the BPF programs read, from the running kernel's own type information.
//!
//! rustc emits no CO-RE relocations, so the offsets are looked up at start and passed to the programs as constants. An
//! offset is used only if the field exists, has the type that the programs expect, and lies within its struct;
//! everything else is an error, never a guess.

#[cfg(test)]
mod build;
mod error;
mod reader;

use memmon_common::{FileMappingOffsets, Offsets};

pub use error::LayoutError;
use reader::{Btf, Kind, Type};

/// Looks up all offsets in `btf`, the bytes of /sys/kernel/btf/vmlinux.
pub fn resolve(btf: &[u8]) -> Result<Offsets, LayoutError> {
    let btf = Btf::parse(btf)?;
    check_order(&btf)?;
    let mm = Structs::named(&btf, "mm_struct")?;
    let task = Structs::named(&btf, "task_struct")?;
    let cred = Structs::named(&btf, "cred")?;
    let signal = Structs::named(&btf, "signal_struct")?;
    let rss = rss_stat(&mm)?;
    let cgroup = CgroupPath::resolve(&btf, &task).unwrap_or_default();
    Ok(Offsets {
        rss: rss.offset,
        rss_stride: rss.stride,
        rss_legacy: rss.legacy.into(),
        mm_owner: mm.offset("owner", Shape::Pointer("task_struct"))?,
        mm_users: mm.offset("mm_users.counter", Shape::Int32)?,
        task_tgid: task.offset("tgid", Shape::Int32)?,
        task_pid: task.offset("pid", Shape::Int32)?,
        task_mm: task.offset("mm", Shape::Pointer("mm_struct"))?,
        task_flags: task.offset("flags", Shape::Int32)?,
        task_start_boottime: task.offset("start_boottime", Shape::Int64)?,
        task_comm: task.offset("comm", Shape::Comm)?,
        task_real_cred: task.offset("real_cred", Shape::Pointer("cred"))?,
        task_group_leader: task.offset("group_leader", Shape::Pointer("task_struct"))?,
        task_cgroups: cgroup.task_cgroups,
        css_set_dfl_cgrp: cgroup.css_set_dfl_cgrp,
        cgroup_kn: cgroup.cgroup_kn,
        kernfs_node_id: cgroup.kernfs_node_id,
        task_signal: task.offset("signal", Shape::Pointer("signal_struct"))?,
        cred_uid: cred.offset("uid.val", Shape::Int32)?,
        task_exit_code: task.offset("exit_code", Shape::Int32)?,
        signal_live: signal.offset("live.counter", Shape::Int32)?,
        signal_oom_mm: signal.offset("oom_mm", Shape::Pointer("mm_struct"))?,
        file_mapping: file_mapping(&btf).unwrap_or_default(),
    })
}

/// The way from a mapping to the tree of all mappings of its file. If a part of it is missing, or the kernel cannot restrict an
/// iterator to one process (Linux 6.1, or a kernel with that change), older processes are asked for their mappings.
fn file_mapping(btf: &Btf<'_>) -> Result<FileMappingOffsets, LayoutError> {
    let of = |structure, field, shape| Structs::named(btf, structure)?.offset(field, shape);
    let vma = |field, shape| of("vm_area_struct", field, shape);
    of("bpf_iter_aux_info", "task.pid", Shape::Int32)?;
    Ok(FileMappingOffsets {
        vma_vm_file: vma("vm_file", Shape::Pointer("file"))?,
        vma_node: vma("shared.rb.__rb_parent_color", Shape::Int64)?,
        vma_left: vma("shared.rb.rb_left", Shape::Pointer("rb_node"))?,
        vma_right: vma("shared.rb.rb_right", Shape::Pointer("rb_node"))?,
        file_f_mapping: of("file", "f_mapping", Shape::Pointer("address_space"))?,
        address_space_root: of("address_space", "i_mmap.rb_root.rb_node", Shape::Pointer("rb_node"))?,
        address_space_host: of("address_space", "host", Shape::Pointer("inode"))?,
        inode_i_ino: of("inode", "i_ino", Shape::Int64)?,
        inode_i_sb: of("inode", "i_sb", Shape::Pointer("super_block"))?,
        super_block_s_dev: of("super_block", "s_dev", Shape::Int32)?,
    })
}

/// The way from a thread to the id of its cgroup. If a part of it is missing, no sums of cgroups are kept.
#[derive(Default)]
struct CgroupPath {
    task_cgroups: u32,
    css_set_dfl_cgrp: u32,
    cgroup_kn: u32,
    kernfs_node_id: u32,
}

impl CgroupPath {
    fn resolve(btf: &Btf<'_>, task: &Structs<'_, '_>) -> Result<Self, LayoutError> {
        let of = |structure, field, shape| Structs::named(btf, structure)?.offset(field, shape);
        Ok(Self {
            task_cgroups: task.offset("cgroups", Shape::Pointer("css_set"))?,
            css_set_dfl_cgrp: of("css_set", "dfl_cgrp", Shape::Pointer("cgroup"))?,
            cgroup_kn: of("cgroup", "kn", Shape::Pointer("kernfs_node"))?,
            kernfs_node_id: of("kernfs_node", "id", Shape::Int64)?,
        })
    }
}

/// The counters as the BPF programs number them: `enum` of include/linux/mm_types_task.h, unchanged since 4.5.
const COUNTERS: [(&str, i32); 4] =
    [("MM_FILEPAGES", 0), ("MM_ANONPAGES", 1), ("MM_SWAPENTS", 2), ("MM_SHMEMPAGES", 3)];

/// Compares [`COUNTERS`] with the kernel's own numbers. Compilers may drop the enum; then only the length of the array is
/// checked, as it always is.
fn check_order(btf: &Btf<'_>) -> Result<(), LayoutError> {
    for (counter, expected) in COUNTERS {
        match btf.enumerator(counter) {
            Some(found) if found != expected => {
                return Err(LayoutError::CounterOrder { counter, expected, found });
            }
            _ => {}
        }
    }
    Ok(())
}

#[derive(PartialEq)]
struct RssStat {
    offset: u32,
    stride: u32,
    legacy: bool,
}

fn rss_stat(mm: &Structs<'_, '_>) -> Result<RssStat, LayoutError> {
    let (btf, field) = (mm.btf, "rss_stat");
    let unexpected =
        || mm.unexpected(field, "an array of four percpu_counter, nor a struct mm_rss_stat of four");
    mm.unanimous(field, |of| {
        let Some(rss) = btf.member(of, field)? else { return Ok(None) };
        let legacy = rss.of.kind != Kind::Array;
        // The start of the array, and the name of the value in each of its elements.
        let (array, value) = if legacy {
            (btf.member(rss.of, "count")?.ok_or_else(unexpected)?, "counter")
        } else {
            (reader::Member { offset: 0, ..rss }, "count")
        };
        let elements = btf.elements(array.of)?.ok_or_else(unexpected)?;
        let value = btf.member(elements.of, value)?.ok_or_else(unexpected)?;
        let stride = btf.size(elements.of)?.ok_or_else(unexpected)?;
        let is_counter = legacy || btf.is_called(elements.of, "percpu_counter");
        let contiguous = !legacy || stride == 8;
        if !is_counter || !contiguous || elements.count < 4 || !Shape::Int64.fits(btf, value.of)? {
            return Err(unexpected());
        }
        let first = [rss.offset, array.offset, value.offset].into_iter().try_fold(0, u32::checked_add);
        let last = stride.checked_mul(3).and_then(|all| all.checked_add(first?));
        let offset =
            first.filter(|_| last.is_some_and(|last| mm.holds(of, last, 8))).ok_or_else(unexpected)?;
        Ok(Some(RssStat { offset, stride, legacy }))
    })
}

/// The type that the BPF programs expect of a field.
#[derive(Clone, Copy)]
enum Shape {
    Int32,
    Int64,
    /// `char[16]`.
    Comm,
    /// A pointer to a struct of this name.
    Pointer(&'static str),
}

impl Shape {
    const fn size(self) -> u32 {
        match self {
            Self::Int32 => 4,
            Self::Int64 | Self::Pointer(_) => 8,
            Self::Comm => 16,
        }
    }

    const fn described(self) -> &'static str {
        match self {
            Self::Int32 => "a 32-bit integer",
            Self::Int64 => "a 64-bit integer",
            Self::Comm => "an array of 16 characters",
            Self::Pointer(_) => "a pointer to the struct that memmon expects",
        }
    }

    fn fits(self, btf: &Btf<'_>, of: Type) -> Result<bool, LayoutError> {
        let size = btf.size(of)?;
        Ok(match self {
            Self::Int32 | Self::Int64 => of.kind == Kind::Int && size == Some(self.size()),
            Self::Comm => {
                let characters = btf.elements(of)?.is_some_and(|elements| elements.of.kind == Kind::Int);
                characters
                    && size == Some(self.size())
                    && btf.elements(of)?.is_some_and(|all| all.count == 16)
            }
            Self::Pointer(name) => btf.pointee(of)?.is_some_and(|target| {
                matches!(target.kind, Kind::Struct | Kind::Forward) && btf.is_called(target, name)
            }),
        })
    }
}

/// All structs of one name: more than one if the file is not fully deduplicated.
struct Structs<'b, 'f> {
    btf: &'b Btf<'f>,
    name: &'static str,
    all: Vec<Type>,
}

impl<'b, 'f> Structs<'b, 'f> {
    fn named(btf: &'b Btf<'f>, name: &'static str) -> Result<Self, LayoutError> {
        let all: Vec<Type> = btf.structs(name).collect();
        if all.is_empty() { Err(LayoutError::NoStruct(name)) } else { Ok(Self { btf, name, all }) }
    }

    /// The offset of the field at the end of `path` (`uid.val`).
    fn offset(&self, path: &'static str, shape: Shape) -> Result<u32, LayoutError> {
        self.unanimous(path, |outer| {
            let (mut offset, mut of) = (0_u32, outer);
            for part in path.split('.') {
                let Some(member) = self.btf.member(of, part)? else { return Ok(None) };
                let beyond = LayoutError::Malformed("a member lies beyond all memory");
                offset = offset.checked_add(member.offset).ok_or(beyond)?;
                of = member.of;
            }
            if shape.fits(self.btf, of)? && self.holds(outer, offset, shape.size()) {
                Ok(Some(offset))
            } else {
                Err(self.unexpected(path, shape.described()))
            }
        })
    }

    /// The answer that all structs of this name agree on; structs without the field are ignored.
    fn unanimous<T: PartialEq>(
        &self,
        field: &'static str,
        look_up: impl Fn(Type) -> Result<Option<T>, LayoutError>,
    ) -> Result<T, LayoutError> {
        let structure = self.name;
        let mut answer = None;
        for of in &self.all {
            match (look_up(*of)?, &answer) {
                (None, _) => {}
                (Some(found), Some(earlier)) if found != *earlier => {
                    return Err(LayoutError::Ambiguous { structure, field });
                }
                (Some(found), _) => answer = Some(found),
            }
        }
        answer.ok_or(LayoutError::NoField { structure, field })
    }

    /// Whether `length` bytes at `offset` lie within the struct.
    fn holds(&self, of: Type, offset: u32, length: u32) -> bool {
        let size = self.btf.size(of).ok().flatten();
        offset.checked_add(length).is_some_and(|end| size.is_some_and(|size| end <= size))
    }

    fn unexpected(&self, field: &'static str, expected: &'static str) -> LayoutError {
        LayoutError::UnexpectedType { structure: self.name, field, expected }
    }
}

#[cfg(test)]
mod tests;

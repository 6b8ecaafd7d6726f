//! /proc/PID/smaps and /proc/PID/maps (proc_pid_smaps(5)), as far as shared memory needs them. Pure, over bytes.
//!
//! The procfs crate parses both as UTF-8 text. A process names its memfds with any bytes, and one that is not UTF-8 must
//! not make its memory unreadable.

use std::{
    io::{self, BufRead},
    ops::Range,
    str,
};

use super::parse::number;
use crate::model::Bytes;

/// One mapping of an address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// The mapped file: device and inode; the inode is 0 for anonymous memory.
    pub file: FileId,
    /// The part of the file that is mapped.
    pub range: Range<u64>,
    /// The path as the kernel prints it, with its " (deleted)"; empty for anonymous memory.
    pub path: Vec<u8>,
    /// Resident pages of the file itself: `Rss` less `Anonymous`, the pages that were copied on write.
    pub resident: Bytes,
}

impl Mapping {
    pub(super) fn size(&self) -> Bytes {
        Bytes(self.range.end.saturating_sub(self.range.start))
    }
}

/// A file by its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileId {
    /// Major and minor number, packed as makedev(3) does.
    pub device: u64,
    /// For a System V segment the segment's id (shmget(2)).
    pub inode: u64,
}

/// The mappings of `wanted` files in smaps. Lines that are not in the kernel's format are skipped. An address space may
/// have 65,530 mappings (max_map_count), so its text is never held whole.
///
/// # Errors
/// Those of reading.
pub(super) fn mappings(smaps: impl BufRead, wanted: impl Fn(FileId) -> bool) -> io::Result<Vec<Mapping>> {
    let mut mappings: Vec<Mapping> = Vec::new();
    let mut anonymous = Bytes::ZERO;
    let mut is_wanted = false;
    for line in smaps.split(b'\n') {
        let line = line?;
        if let Some((file, range, path)) = head(&line) {
            settle(mappings.last_mut(), &mut anonymous);
            is_wanted = wanted(file);
            if is_wanted {
                let path = path.to_owned();
                mappings.push(Mapping { file, range, path, resident: Bytes::ZERO });
            }
        } else if let (true, Some(mapping), Some((key, amount))) =
            (is_wanted, mappings.last_mut(), amount(&line))
        {
            match key {
                b"Rss" => mapping.resident = amount,
                b"Anonymous" => anonymous = amount,
                _ => {}
            }
        }
    }
    settle(mappings.last_mut(), &mut anonymous);
    Ok(mappings)
}

/// Takes the pages that were copied on write off a mapping whose lines are complete.
fn settle(mapping: Option<&mut Mapping>, anonymous: &mut Bytes) {
    if let Some(mapping) = mapping {
        mapping.resident = mapping.resident.saturating_sub(*anonymous);
    }
    *anonymous = Bytes::ZERO;
}

/// The files in maps that the process can read or write, each with the size of one mapping.
///
/// # Errors
/// Those of reading.
pub(super) fn files(maps: impl BufRead) -> impl Iterator<Item = io::Result<(FileId, Bytes)>> {
    maps.split(b'\n').filter_map(|line| {
        let file = |line: Vec<u8>| {
            let (_, permissions) = split(&line, b' ')?;
            let (file, range, _) = head(&line)?;
            let size = Bytes(range.end.saturating_sub(range.start));
            (!permissions.starts_with(b"--")).then_some((file, size))
        };
        line.map(file).transpose()
    })
}

/// Anonymous memory of one mapping that other processes have as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SharedRegion {
    pub addresses: Range<u64>,
    /// At most so much.
    pub bytes: Bytes,
}

/// The regions of smaps with anonymous memory that other processes have as well, in the order of their addresses.
///
/// # Errors
/// Those of reading.
pub(super) fn shared_anonymous(smaps: impl BufRead) -> io::Result<Vec<SharedRegion>> {
    let mut regions: Vec<SharedRegion> = Vec::new();
    let mut shared = Bytes::ZERO;
    for line in smaps.split(b'\n') {
        let line = line?;
        if let Some(addresses) = addresses(&line) {
            regions.pop_if(|region| region.bytes == Bytes::ZERO);
            regions.push(SharedRegion { addresses, bytes: Bytes::ZERO });
            shared = Bytes::ZERO;
        } else if let (Some(region), Some((key, amount))) = (regions.last_mut(), amount(&line)) {
            match key {
                // These come before `Anonymous`.
                b"Shared_Clean" | b"Shared_Dirty" => shared = shared + amount,
                b"Anonymous" => region.bytes = shared.min(amount),
                _ => {}
            }
        }
    }
    regions.pop_if(|region| region.bytes == Bytes::ZERO);
    Ok(regions)
}

/// The memory in `one` that can be the same as in `other`: a fork changes no address.
pub(super) fn in_common(one: &[SharedRegion], other: &[SharedRegion]) -> Bytes {
    let mut first = 0;
    let common = one.iter().map(|region| {
        let Range { start, end } = region.addresses;
        first += other[first..].iter().take_while(|other| other.addresses.end <= start).count();
        let near = other[first..].iter().take_while(|other| other.addresses.start < end);
        let there = near.map(|other| {
            let overlap = end.min(other.addresses.end).saturating_sub(start.max(other.addresses.start));
            other.bytes.min(Bytes(overlap))
        });
        region.bytes.min(there.sum())
    });
    common.sum()
}

/// The addresses at the head of a mapping's lines.
fn addresses(line: &[u8]) -> Option<Range<u64>> {
    head(line)?;
    let (start, end) = split(word(line)?.0, b'-')?;
    Some(hex(start)?..hex(end)?)
}

/// `7f00-7f10 rw-s 00001000 00:01 36      /dev/zero (deleted)`: addresses and offset in hex, the inode in decimal.
fn head(line: &[u8]) -> Option<(FileId, Range<u64>, &[u8])> {
    let (addresses, rest) = word(line)?;
    let (_permissions, rest) = word(rest)?;
    let (offset, rest) = word(rest)?;
    let (device, rest) = word(rest)?;
    let (inode, rest) = word(rest)?;
    let (start, end) = split(addresses, b'-')?;
    let (major, minor) = split(device, b':')?;
    let size = hex(end)?.checked_sub(hex(start)?)?;
    let offset = hex(offset)?;
    let device = nix::sys::stat::makedev(hex(major)?, hex(minor)?);
    let file = FileId { device, inode: number(inode)? };
    Some((file, offset..offset.checked_add(size)?, rest.trim_ascii_start()))
}

/// `Rss:     123 kB`.
fn amount(line: &[u8]) -> Option<(&[u8], Bytes)> {
    let (key, rest) = split(line, b':')?;
    let (kib, _) = word(rest.trim_ascii_start())?;
    Some((key, Bytes::from_kib(number(kib)?)))
}

/// The first word and what follows the blank behind it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    (end > 0).then(|| (&text[..end], text.get(end + 1..).unwrap_or_default()))
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let middle = text.iter().position(|byte| *byte == at)?;
    Some((&text[..middle], &text[middle + 1..]))
}

fn hex(text: &[u8]) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"7f1c2d400000-7f1c2d500000 rw-s 00100000 00:01 2051    /memfd:a b\xff (deleted)\n\
        Size:               1024 kB\nRss:                 512 kB\nPss:                 300 kB\n\
        Shared_Clean:          4 kB\nShared_Dirty:        100 kB\nPrivate_Dirty:       408 kB\nAnonymous:            12 kB\n\
        VmFlags: rd wr sh\n\
        7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n\
        Rss:                  16 kB\nAnonymous:            16 kB\n";

    fn all(text: &[u8]) -> Vec<Mapping> {
        mappings(text, |_| true).unwrap()
    }

    #[test]
    fn each_mapping_has_its_file_and_what_is_resident_of_it() {
        let file = FileId { device: nix::sys::stat::makedev(0, 1), inode: 2051 };
        let memfd = Mapping {
            file,
            range: 0x10_0000..0x20_0000,
            path: b"/memfd:a b\xff (deleted)".to_vec(),
            resident: Bytes::from_kib(500),
        };
        let mappings = all(TEXT);
        assert_eq!((&mappings[0], mappings.len()), (&memfd, 2));
        assert_eq!((mappings[1].resident, &mappings[1].path[..]), (Bytes::ZERO, &b"[stack]"[..]));
        assert_eq!(super::mappings(TEXT, |other| other == file).unwrap(), [memfd]);
        assert_eq!(super::mappings(TEXT, |other| other != file).unwrap(), mappings[1..]);
        let of_file = files(TEXT).map(Result::unwrap).filter(|(found, _)| *found == file);
        assert_eq!(of_file.map(|(_, size)| size).collect::<Vec<_>>(), [Bytes(0x10_0000)]);
        let hidden = String::from_utf8_lossy(TEXT).replace(" rw-s ", " ---s ");
        assert!(files(hidden.as_bytes()).all(|found| found.unwrap().0 != file), "it cannot be used");
    }

    #[test]
    fn anonymous_memory_is_shared_where_both_have_it() {
        let text = |regions: &[(u64, u64, u64, u64)]| {
            let region = |(start, end, shared, anonymous): &(u64, u64, u64, u64)| {
                format!(
                    "{start:x}000-{end:x}000 rw-p 00000000 00:00 0\nRss: 900 kB\nShared_Clean: 4 kB\nShared_Dirty: {} kB\n\
                     Anonymous: {anonymous} kB\n",
                    shared.saturating_sub(4)
                )
            };
            shared_anonymous(regions.iter().map(region).collect::<String>().as_bytes()).unwrap()
        };
        let kib = Bytes::from_kib;
        let one = text(&[(10, 30, 60, 80), (40, 50, 40, 40), (60, 70, 40, 0)]);
        assert_eq!(one.iter().map(|region| region.bytes).collect::<Vec<_>>(), [kib(60), kib(40)]);
        // The second one is split, and one part of it is elsewhere.
        let other = text(&[(10, 30, 80, 80), (42, 44, 8, 8), (46, 48, 8, 8), (90, 99, 24, 24)]);
        assert_eq!(in_common(&one, &other), kib(60 + 16));
        assert_eq!(in_common(&other, &one), kib(60 + 16));
        assert_eq!(in_common(&one, &text(&[(28, 41, 52, 52)])), kib(8 + 4), "no more than what overlaps");
        assert_eq!(in_common(&one, &[]), Bytes::ZERO);
    }

    #[test]
    fn this_process_is_read_whole() {
        let text = std::fs::read("/proc/self/smaps").unwrap();
        let ends = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"VmFlags:")).count();
        assert_eq!(all(&text).len(), ends);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..300), cut in 0..TEXT.len()) {
            all(&text);
            all(&[&TEXT[..cut], &text, &TEXT[cut..]].concat());
        }
    }
}

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
    /// What is mapped: device and inode; the inode is 0 for anonymous memory.
    pub file: FileId,
    /// The part of the file that is mapped.
    pub range: Range<u64>,
    /// The path as the kernel prints it, with its " (deleted)"; empty for anonymous memory.
    pub path: Vec<u8>,
    /// Resident pages of the file itself: `Rss` less `Anonymous`, the pages that were copied on write.
    pub resident: Bytes,
}

/// A file by its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileId {
    /// As makedev(3) packs major and minor.
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

/// The files in maps.
///
/// # Errors
/// Those of reading.
pub(super) fn files(maps: impl BufRead) -> impl Iterator<Item = io::Result<FileId>> {
    maps.split(b'\n').filter_map(|line| line.map(|line| Some(head(&line)?.0)).transpose())
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
        assert_eq!(files(TEXT).map(Result::unwrap).filter(|found| *found == file).count(), 1);
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

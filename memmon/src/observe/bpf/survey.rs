//! Updates and reads the whole table in one pass, through an iterator over the elements of a map (Linux 5.9).

#![expect(unsafe_code, reason = "plain structs from bytes")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use memmon_common::ProcessRss;

use super::iterator::Iterator;

/// Size of a record that the program writes for each entry: the tgid and the entry.
const RECORD: usize = size_of::<u32>() + size_of::<ProcessRss>();

/// Records that fit into the buffer: 59 KB. The kernel returns up to 32 KB at once.
const BUFFERED: usize = 512;

/// The program, attached to the table.
pub(super) struct Survey {
    iterator: Iterator,
    buffer: Vec<u8>,
}

impl Survey {
    /// Attaches `program`, an `iter/bpf_map_elem`, to `map`.
    pub(super) fn attach(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<Self> {
        let iterator = Iterator::attach(program, &[map.as_raw_fd().cast_unsigned()])?;
        Ok(Self { iterator, buffer: vec![0; BUFFERED * RECORD] })
    }

    /// Runs the program for every entry, and calls `each` with what it wrote.
    pub(super) fn read(&mut self, mut each: impl FnMut(u32, &ProcessRss)) -> io::Result<()> {
        self.iterator.read(&mut self.buffer, RECORD, |record| {
            if let Some((tgid, process)) = parse(record) {
                each(tgid, &process);
            }
        })
    }
}

/// A record of [`RECORD`] bytes.
fn parse(record: &[u8]) -> Option<(u32, ProcessRss)> {
    let (tgid, process) = record.split_first_chunk()?;
    let process = process.first_chunk::<{ size_of::<ProcessRss>() }>()?;
    // SAFETY: a repr(C) struct of integers without padding (memmon-common asserts it), from as many bytes.
    let process = unsafe { process.as_ptr().cast::<ProcessRss>().read_unaligned() };
    Some((u32::from_ne_bytes(*tgid), process))
}

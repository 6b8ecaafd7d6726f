//! Reads the mappings of files of one process, each with its place among all mappings of the file (Linux 6.1).

#![expect(unsafe_code, reason = "plain structs from bytes")]

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use memmon_common::FileMapping;

use super::iterator::Iterator;
use crate::model::Pid;

/// Size of a record that the program writes for each mapping.
const RECORD: usize = size_of::<FileMapping>();

/// Records that fit into the buffer.
const BUFFERED: usize = 256;

/// The program, an `iter/task_vma`, which is attached to a process at each read.
#[derive(Debug)]
pub struct FileMappings(pub(super) OwnedFd);

impl FileMappings {
    /// The mappings of files of the process `pid`. Waits for its mmap_lock.
    ///
    /// # Errors
    /// The kernel cannot restrict an iterator to one process (before 6.1: E2BIG), or refuses it. A process that is gone has no
    /// mappings.
    pub fn of(&self, pid: Pid) -> io::Result<Vec<FileMapping>> {
        // `task.tid`, `task.pid` and `task.pid_fd`. An older kernel knows the first word alone, and refuses others than 0.
        let iterator = Iterator::attach(self.0.as_fd(), &[0, pid.0, 0])?;
        let mut mappings = Vec::new();
        iterator.read(&mut [0; BUFFERED * RECORD], RECORD, |record| mappings.extend(parse(record)))?;
        mappings.retain(|mapping| mapping.tgid == pid.0);
        Ok(mappings)
    }
}

/// A record of [`RECORD`] bytes.
fn parse(record: &[u8]) -> Option<FileMapping> {
    let record = record.first_chunk::<RECORD>()?;
    // SAFETY: a repr(C) struct of integers without padding (memmon-common asserts it), from as many bytes.
    Some(unsafe { record.as_ptr().cast::<FileMapping>().read_unaligned() })
}

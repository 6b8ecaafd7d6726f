//! Reads a whole hash map in a few system calls with `BPF_MAP_LOOKUP_BATCH` (Linux 5.6), which aya does not offer.

#![expect(unsafe_code, reason = "the raw bpf(2) call that fills the buffers")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use memmon_common::ProcessRss;

const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

/// Entries per call: 60 KB of buffers, and three calls on a desktop.
const BATCH: usize = 512;

/// Buffers, kept for as long as the map.
pub(super) struct Scratch {
    keys: Vec<u32>,
    values: Vec<ProcessRss>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let mut scratch = Self { keys: Vec::new(), values: Vec::new() };
        scratch.resize(BATCH);
        scratch
    }

    fn resize(&mut self, entries: usize) {
        self.keys.resize(entries, 0);
        self.values.resize(entries, ProcessRss::default());
    }
}

/// Calls `each` for every entry of the map.
pub(super) fn read(
    map: BorrowedFd<'_>,
    scratch: &mut Scratch,
    mut each: impl FnMut(u32, &ProcessRss),
) -> io::Result<()> {
    let mut position = None;
    loop {
        let (count, next) = match lookup(map, scratch, position) {
            // One bucket holds more entries than the buffers: nothing was read, and the position is still valid.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                scratch.resize(scratch.keys.len() * 2);
                continue;
            }
            outcome => outcome?,
        };
        for (tgid, process) in scratch.keys.iter().zip(&scratch.values).take(count) {
            each(*tgid, process);
        }
        if next.is_none() {
            return Ok(());
        }
        position = next;
    }
}

/// Makes one call. Returns the number of entries, and the position for the next call if there are more.
///
/// `position` is the kernel's (the next bucket), `None` for the first call.
fn lookup(
    map: BorrowedFd<'_>,
    scratch: &mut Scratch,
    position: Option<u64>,
) -> io::Result<(usize, Option<u64>)> {
    let (entries, mut next) = (scratch.keys.len(), 0_u64);
    let mut attributes = Attributes {
        in_batch: position.as_ref().map_or(0, address),
        out_batch: (&raw mut next).addr() as u64,
        keys: scratch.keys.as_mut_ptr().addr() as u64,
        values: scratch.values.as_mut_ptr().addr() as u64,
        count: u32::try_from(entries).map_err(io::Error::other)?,
        map_fd: map.as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the four addresses point to live buffers: two of `count` elements of the map's key and value types (the
    // typed map was made from the same map, which checks the sizes), two of eight bytes for a position of four.
    let outcome = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut attributes, size_of::<Attributes>())
    };
    let error = (outcome < 0).then(io::Error::last_os_error);
    match error {
        None => Ok((attributes.count as usize, Some(next))),
        // The last batch, which may contain entries.
        Some(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attributes.count as usize, None)),
        Some(error) => Err(error),
    }
}

fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of).addr() as u64
}

/// `union bpf_attr`, member `batch`.
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

//! Updates and reads the whole table in one pass, through an iterator over the elements of a map (Linux 5.9).
//!
//! aya makes iterators, but passes them no map.

#![expect(unsafe_code, reason = "the raw bpf(2) calls that make the iterator, and plain structs from bytes")]

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd},
};

use memmon_common::ProcessRss;

const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ITER_CREATE: libc::c_int = 33;
const BPF_TRACE_ITER: u32 = 28;

/// Size of a record that the program writes for each entry: the tgid and the entry.
const RECORD: usize = size_of::<u32>() + size_of::<ProcessRss>();

/// Records that fit into the buffer: 59 KB. The kernel returns up to 32 KB at once.
const BUFFERED: usize = 512;

/// The program, attached to the table.
pub(super) struct Survey {
    link: OwnedFd,
    buffer: Vec<u8>,
}

impl Survey {
    /// Attaches `program`, an `iter/bpf_map_elem`, to `map`.
    pub(super) fn attach(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<Self> {
        let target = map.as_raw_fd().cast_unsigned();
        let attributes = LinkCreate {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_fd: 0,
            attach_type: BPF_TRACE_ITER,
            flags: 0,
            iter_info: std::ptr::from_ref(&target).addr() as u64,
            iter_info_len: u32::BITS / 8,
            padding: 0,
        };
        let link = bpf(BPF_LINK_CREATE, &attributes)?;
        Ok(Self { link, buffer: vec![0; BUFFERED * RECORD] })
    }

    /// Runs the program for every entry, and calls `each` with what it wrote.
    pub(super) fn read(&mut self, mut each: impl FnMut(u32, &ProcessRss)) -> io::Result<()> {
        let link_fd = self.link.as_raw_fd().cast_unsigned();
        let mut table = File::from(bpf(BPF_ITER_CREATE, &IterCreate { link_fd, flags: 0 })?);
        let mut filled = 0;
        loop {
            match table.read(&mut self.buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(()),
                Ok(0) => return Err(io::Error::other("the table ends within an entry")),
                Ok(count) => filled += count,
                // The kernel pauses after a million entries without output.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            }
            let mut records = self.buffer[..filled].chunks_exact(RECORD);
            for (tgid, process) in records.by_ref().filter_map(parse) {
                each(tgid, &process);
            }
            let rest = records.remainder().len();
            self.buffer.copy_within(filled - rest..filled, 0);
            filled = rest;
        }
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

/// A bpf(2) command that returns a descriptor.
fn bpf<A>(command: libc::c_int, attributes: &A) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is the prefix of `union bpf_attr` that the command reads, of the size that is passed.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>()) };
    let fd = i32::try_from(outcome).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created it, and no other code has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `union bpf_attr`, member `link_create`, for an iterator.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    /// Address of a `union bpf_iter_link_info`, which begins with the map's descriptor.
    iter_info: u64,
    iter_info_len: u32,
    padding: u32,
}

/// `union bpf_attr`, member `iter_create`.
#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

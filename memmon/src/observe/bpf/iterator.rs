//! Iterators of the kernel (Linux 5.8): a program visits each element of something, and what it writes is read from a file.
//!
//! aya makes iterators, but passes them no target: a map, or a process.

#![expect(unsafe_code, reason = "the raw bpf(2) calls that make the iterator")]

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd},
};

const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_ITER_CREATE: libc::c_int = 33;
const BPF_TRACE_ITER: u32 = 28;

/// A program, attached to its target.
pub(super) struct Iterator(OwnedFd);

impl Iterator {
    /// Attaches `program` to `target`, a `union bpf_iter_link_info`.
    pub(super) fn attach(program: BorrowedFd<'_>, target: &[u32]) -> io::Result<Self> {
        let attributes = LinkCreate {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_fd: 0,
            attach_type: BPF_TRACE_ITER,
            flags: 0,
            iter_info: target.as_ptr().addr() as u64,
            iter_info_len: u32::try_from(size_of_val(target)).map_err(io::Error::other)?,
            padding: 0,
        };
        bpf(BPF_LINK_CREATE, &attributes).map(Self)
    }

    /// Runs the program for every element, and calls `each` with every record of `size` bytes that it writes. `buffer` has
    /// room for at least one.
    pub(super) fn read(&self, buffer: &mut [u8], size: usize, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let link_fd = self.0.as_raw_fd().cast_unsigned();
        let mut written = File::from(bpf(BPF_ITER_CREATE, &IterCreate { link_fd, flags: 0 })?);
        let mut filled = 0;
        loop {
            match written.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(()),
                Ok(0) => return Err(io::Error::other("what the iterator wrote ends within a record")),
                Ok(count) => filled += count,
                // The kernel pauses after a million elements without output.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            }
            let mut records = buffer[..filled].chunks_exact(size);
            records.by_ref().for_each(&mut each);
            let rest = records.remainder().len();
            buffer.copy_within(filled - rest..filled, 0);
            filled = rest;
        }
    }
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
    /// Address of the target.
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

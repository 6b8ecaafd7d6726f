//! Mappings by their address, so that a load decides when each page is taken.
#![expect(unsafe_code, reason = "mmap(2) and madvise(2) take addresses")]

use std::{io, ptr};

use anyhow::{Result, ensure};

use crate::shared::page_at;

/// Private memory in pages of 4 KiB, so that each touch is one fault.
pub(crate) fn map(len: usize) -> Result<usize> {
    let start = map_new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    advise(start, len, libc::MADV_NOHUGEPAGE);
    Ok(start)
}

pub(crate) fn map_new(len: usize, flags: libc::c_int, fd: libc::c_int) -> Result<usize> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, 0) };
    ensure!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
    Ok(start.expose_provenance())
}

/// Whether the kernel takes the advice about memory that was just mapped.
pub(crate) fn advise(start: usize, len: usize, advice: libc::c_int) -> bool {
    // SAFETY: the mapping is ours, and this advice does not change its contents.
    unsafe { libc::madvise(page_at(start).cast(), len, advice) == 0 }
}

/// Gives a whole mapping back, to which no pointer is left.
pub(crate) fn unmap(start: usize, len: usize) {
    // SAFETY: the mapping is ours.
    unsafe { libc::munmap(page_at(start).cast(), len) };
}

pub(crate) fn touch(address: usize) {
    // SAFETY: inside a mapping of this process that is writable and still there.
    unsafe { page_at(address).write_volatile(1) };
}

pub(crate) fn drop_contents(start: usize, len: usize) {
    // SAFETY: a whole mapping of ours; its contents mean nothing.
    unsafe { libc::madvise(page_at(start).cast(), len, libc::MADV_DONTNEED) };
}

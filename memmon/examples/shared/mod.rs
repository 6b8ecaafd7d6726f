//! Shared code of the hog and the loads: ending with the parent, changing the user, and pages by address.
#![expect(unsafe_code, reason = "prctl(2) has no safe wrapper for these")]

use std::{io, ptr};

use anyhow::{Result, ensure};
use nix::unistd::{self, Gid, Uid};

/// Touching one byte in each page makes all memory resident (with larger pages, too).
pub(crate) const PAGE: usize = 4096;

/// Requests SIGKILL for this process when the thread that started it ends. This holds for the calling thread, until the
/// next change of credentials.
pub(crate) fn die_with_parent() -> Result<()> {
    let parent = unistd::getppid();
    // SAFETY: PR_SET_PDEATHSIG takes one integer.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    ensure!(set == 0, "PR_SET_PDEATHSIG: {}", io::Error::last_os_error());
    ensure!(unistd::getppid() == parent, "the parent is gone already");
    Ok(())
}

/// Drops all groups and changes to these uids, and to the gid with the real uid's number.
pub(crate) fn become_user([real, effective, saved]: [u32; 3]) -> Result<()> {
    let (gid, [real, effective, saved]) = (Gid::from_raw(real), [real, effective, saved].map(Uid::from_raw));
    unistd::setgroups(&[])?;
    unistd::setresgid(gid, gid, gid)?;
    unistd::setresuid(real, effective, saved)?;
    // A change of credentials resets both of the following (prctl(2)).
    // SAFETY: PR_SET_DUMPABLE takes one integer.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
    die_with_parent()
}

pub(crate) fn page_at(address: usize) -> *mut u8 {
    ptr::with_exposed_provenance_mut(address)
}

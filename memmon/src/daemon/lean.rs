//! What only the start needed is given back, so that what stays resident is what memmon works with.
#![expect(unsafe_code, reason = "malloc_trim(3) and madvise(2)")]

use std::{ffi::c_void, io, ptr::with_exposed_provenance_mut};

use anyhow::Context as _;
use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};
use rustix::mm::{Advice, madvise};

/// Gives back the heap's free memory, and takes the program and its libraries out of memmon's address space: what runs
/// again is mapped again with its next use, from the page cache. To be called before memory is locked.
pub(super) fn give_back() {
    give_heap_back();
    if let Err(error) = unmap_files() {
        tracing::debug!("more stays mapped than is needed: {error:#}");
    }
}

fn unmap_files() -> anyhow::Result<()> {
    let maps = Process::myself().and_then(|own| own.smaps()).context("/proc/self/smaps")?;
    for map in maps.iter().filter(|map| is_only_the_file(map)) {
        unmap(map).context("madvise")?;
    }
    Ok(())
}

/// The kernel's type information took tens of megabytes in small pieces, which glibc keeps for later. There is no later.
fn give_heap_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether the file has all that is mapped here: nothing was ever written to it (as the dynamic linker does, before it
/// takes the right to write away), and nothing can be. What was written may be out on swap by now.
fn is_only_the_file(map: &MemoryMap) -> bool {
    let private = map.perms.contains(MMPermissions::READ | MMPermissions::PRIVATE);
    let none = |kind| map.extension.map.get(kind) == Some(&0);
    matches!(map.pathname, MMapPath::Path(_))
        && private
        && !map.perms.contains(MMPermissions::WRITE)
        && none("Anonymous")
        && none("Swap")
}

fn unmap(map: &MemoryMap) -> io::Result<()> {
    let (start, end) = map.address;
    let (start, length) = (usize::try_from(start), usize::try_from(end - start));
    let (start, length) = (start.map_err(io::Error::other)?, length.map_err(io::Error::other)?);
    let start: *mut c_void = with_exposed_provenance_mut(start);
    // SAFETY: a private mapping of a file that holds just what the file does: whoever reads or runs it next finds the
    // same bytes there, at the price of a page fault.
    Ok(unsafe { madvise(start, length, Advice::LinuxDontNeed) }?)
}

#[cfg(test)]
mod tests {
    use procfs::{FromBufRead as _, process::MemoryMaps};

    use super::*;

    #[test]
    fn what_was_written_once_stays_wherever_it_is() {
        for (mapped, anonymous, swap, only_the_file) in [
            ("r-xp 00000000 08:01 42 /usr/lib/libc.so.6", 0, 0, true),
            ("r--p 00000000 08:01 42 /usr/lib/libc.so.6", 4, 0, false),
            ("r--p 00000000 08:01 42 /usr/lib/libc.so.6", 0, 4, false),
            ("rw-p 00000000 08:01 42 /usr/lib/libc.so.6", 0, 0, false),
            ("r--s 00000000 08:01 42 /usr/lib/libc.so.6", 0, 0, false),
            ("r--p 00000000 00:00 0 ", 0, 0, false),
        ] {
            let text =
                format!("7f0000000000-7f0000002000 {mapped}\nAnonymous: {anonymous} kB\nSwap: {swap} kB\n");
            let maps = MemoryMaps::from_buf_read(text.as_bytes()).unwrap();
            assert_eq!(maps.iter().map(is_only_the_file).collect::<Vec<_>>(), [only_the_file], "{text}");
        }
        let untold = "7f0000000000-7f0000002000 r-xp 00000000 08:01 42 /usr/lib/libc.so.6\nRss: 8 kB\n";
        let maps = MemoryMaps::from_buf_read(untold.as_bytes()).unwrap();
        assert!(!maps.iter().any(is_only_the_file));
    }
}

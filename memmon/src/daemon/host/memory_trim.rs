//! Frees memory that only the start needed, so that memmon's resident memory is what it works with.
#![expect(unsafe_code, reason = "malloc_trim(3) and madvise(2)")]

use std::{
    io,
    ptr::{NonNull, with_exposed_provenance_mut},
};

use anyhow::{Context as _, anyhow};
use nix::sys::mman::{MmapAdvise, madvise};
use procfs::{
    ProcResult,
    process::{MMPermissions, MMapPath, MemoryMap, Process},
};

/// The files of the program and its libraries, as they are mapped at the start of memmon.
pub(crate) struct Startup(ProcResult<Vec<MemoryMap>>);

impl Startup {
    /// Reads the mappings. Call it before there is another thread: a thread that loads a library maps it, writes to it and
    /// only then removes the write permission, and a look meanwhile would see a file that is unmodified.
    pub(crate) fn look() -> Self {
        let maps = Process::myself().and_then(|own| own.smaps());
        Self(maps.map(|maps| maps.0.into_iter().filter(is_only_the_file).collect()))
    }

    /// Frees the heap's unused memory, and drops the pages of these files: a page that is used again is mapped again from
    /// the page cache. Call it before memory is locked.
    pub(crate) fn give_back(&self) {
        give_heap_back();
        if let Err(error) = self.unmap() {
            tracing::debug!("more stays mapped than is needed: {error:#}");
        }
    }

    fn unmap(&self) -> anyhow::Result<()> {
        let maps = self.0.as_ref().map_err(|error| anyhow!("/proc/self/smaps: {error}"))?;
        maps.iter().try_for_each(unmap).context("madvise")
    }
}

/// The kernel's type information took tens of megabytes in small pieces, which glibc keeps although memmon does not need
/// them again.
fn give_heap_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether the mapping has the same content as its file: it is not writable, and was never written to (as the dynamic
/// linker does before it removes the write permission). A page that was written to may be on swap by now.
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
    let start = NonNull::new(with_exposed_provenance_mut(start)).ok_or(io::ErrorKind::InvalidData)?;
    // SAFETY: a private mapping with the same content as its file, which stays mapped until the end because it was mapped
    // at the start: the next access finds the same bytes, at the cost of a page fault.
    Ok(unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) }?)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, num::NonZero, path::Path};

    use nix::sys::mman::{MapFlags, ProtFlags, mmap};
    use procfs::{FromBufRead as _, process::MemoryMaps};

    use super::*;

    const SIZE: usize = 1 << 16;

    /// Maps a file as a library is mapped, until the end of the tests.
    fn mapped(path: &Path) {
        std::fs::write(path, [1; SIZE]).unwrap();
        let file = File::open(path).unwrap();
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        // SAFETY: a new mapping that no other code uses.
        unsafe { mmap(None, NonZero::new(SIZE).unwrap(), ProtFlags::PROT_READ, flags, file, 0) }.unwrap();
    }

    fn resident(path: &Path) -> u64 {
        let maps = Process::myself().unwrap().smaps().unwrap();
        let of_file = |map: &&MemoryMap| is_at(map, path);
        maps.iter().filter(of_file).map(|map| map.extension.map["Rss"]).sum()
    }

    fn is_at(map: &MemoryMap, path: &Path) -> bool {
        matches!(&map.pathname, MMapPath::Path(mapped) if mapped == path)
    }

    #[test]
    fn mappings_made_after_the_start_stay() {
        let folder = tempfile::tempdir().unwrap();
        let [early, late] = ["early", "late"].map(|name| folder.path().join(name));
        mapped(&early);
        let Startup(maps) = Startup::look();
        // The threads of other tests map and unmap at any time.
        let ours = maps.unwrap().into_iter().filter(|map| is_at(map, &early) || is_at(map, &late));
        let startup = Startup(Ok(ours.collect()));
        mapped(&late);
        startup.give_back();
        assert_eq!([&early, &late].map(|path| resident(path)), [0, SIZE as u64]);
    }

    #[test]
    fn mappings_that_were_written_to_stay() {
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
        let without_figures =
            "7f0000000000-7f0000002000 r-xp 00000000 08:01 42 /usr/lib/libc.so.6\nRss: 8 kB\n";
        let maps = MemoryMaps::from_buf_read(without_figures.as_bytes()).unwrap();
        assert!(!maps.iter().any(is_only_the_file));
    }
}

//! Figures that show how much memory came back at the end of a process: those of the machine, and of the memory cgroup of a
//! process that is alone in it.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use super::freezer::folder;
use super::long_cgroup::CGROUPS;
use super::{ProcRoot, pages as pages_of, parse};
use crate::model::{Bytes, FreeAndShared, Pid};

/// The memory cgroup of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCgroup {
    directory: PathBuf,
    usage: &'static str,
}

impl OwnCgroup {
    /// Its memory now; `None` if it is gone. The kernel's count may be off by 64 pages for each CPU.
    pub fn memory(&self) -> Option<Bytes> {
        parse::single_value(&fs::read(self.directory.join(self.usage)).ok()?).map(Bytes)
    }

    /// Whether `pid` is the only process in it and below it.
    fn is_of(&self, pid: Pid) -> bool {
        // Most processes are not alone, and this is read right after a signal: of many, only the first ones are read.
        let mut first = [0; 32];
        let is_alone = self
            .first_of_processes(&mut first)
            .is_some_and(|first| first.trim_ascii() == pid.to_string().as_bytes());
        let has_child = || {
            fs::read_dir(&self.directory).is_ok_and(|entries| {
                entries.flatten().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            })
        };
        is_alone && !has_child()
    }

    fn first_of_processes<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let length = File::open(self.directory.join("cgroup.procs")).ok()?.read(buffer).ok()?;
        buffer.get(..length)
    }
}

impl ProcRoot {
    /// The machine's memory that an end changes. `free_per_cpu` is that part of it if it was read a moment ago.
    pub fn free_and_shared(&self, free_per_cpu: Option<Bytes>) -> Option<FreeAndShared> {
        let text = self.piece("meminfo").ok()?;
        let amount = |label| parse::kib(&text, label);
        Some(FreeAndShared {
            available: amount("MemAvailable:")?,
            free_per_cpu: free_per_cpu.or_else(|| self.free_per_cpu()),
            shmem: amount("Shmem:")?,
        })
    }

    /// Free pages that the kernel keeps for each processor. `None` if zoneinfo (proc_zoneinfo(5)) cannot be read.
    pub fn free_per_cpu(&self) -> Option<Bytes> {
        // A screenful for each zone, and more for each processor.
        let mut text = String::with_capacity(8192);
        File::open(self.path.join("zoneinfo")).ok()?.read_to_string(&mut text).ok()?;
        let counts = text.lines().filter_map(|line| line.trim_start().strip_prefix("count:"));
        let pages: u64 = counts.map(|count| count.trim().parse::<u64>().ok()).sum::<Option<u64>>()?;
        Some(pages_of(pages, self.page_size))
    }

    /// The memory cgroup of `pid` and its memory, if no other process is in it and `pid` has all of its memory still.
    pub fn own_cgroup(&self, pid: Pid) -> Option<(OwnCgroup, Bytes)> {
        self.own_cgroup_below(pid, Path::new(CGROUPS))
    }

    fn own_cgroup_below(&self, pid: Pid, mounts: &Path) -> Option<(OwnCgroup, Bytes)> {
        let text = self.process(pid).ok()?.read("", "cgroup").ok()?;
        let cgroup = |mount: &str, controller: &[u8], usage| {
            // In the root nobody is alone, and the list of its processes is long.
            let path = parse::hierarchy(&text, controller).filter(|path| *path != b"/")?;
            let directory = folder(&mounts.join(mount), path)?;
            let cgroup = OwnCgroup { directory, usage };
            // Its memory only counts if it is not exiting after that.
            let memory = cgroup.is_of(pid).then(|| cgroup.memory())??;
            self.has_memory(pid).then_some((cgroup, memory))
        };
        cgroup("", b"", "memory.current").or_else(|| cgroup("memory", b"memory", "memory.usage_in_bytes"))
    }

    /// Whether `pid` still has its address space: one that is exiting has none by the time its memory is freed.
    pub fn has_memory(&self, pid: Pid) -> bool {
        self.process(pid).is_ok_and(|directory| directory.place().is_ok_and(|place| place.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn a_cgroup_counts_if_its_process_is_alone_in_it() {
        let (tree, mounts) = (Tree::new(), tempfile::tempdir().unwrap());
        tree.cat(42);
        tree.write("42/cgroup", "5:memory:/old\n0::/a/job\n");
        let put = |path: &str, text: &str| {
            let path = mounts.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let found = || tree.root().own_cgroup_below(Pid(42), mounts.path()).map(|(_, memory)| memory);
        assert_eq!(found(), None);
        put("cgroup.procs", "42\n");
        put("memory.current", "4096\n");
        tree.write("42/cgroup", "0::/\n");
        assert_eq!(found(), None, "it is in the root");
        tree.write("42/cgroup", "5:memory:/old\n0::/a/job\n");
        put("memory/old/memory.usage_in_bytes", "4096\n");
        put("memory/old/cgroup.procs", "42\n");
        assert_eq!(found(), Some(Bytes(4096)));
        put("a/job/memory.current", "8192\n");
        put("a/job/cgroup.procs", "42\n43\n");
        assert_eq!(found(), Some(Bytes(4096)), "another process is in the newer one");
        put("a/job/cgroup.procs", "42\n");
        assert_eq!(found(), Some(Bytes(8192)));
        put("a/job/below/cgroup.procs", "");
        assert_eq!(found(), Some(Bytes(4096)));
        for dead in ["42/statm", "42/task/42/statm"] {
            tree.write(dead, "0 0 0 0 0 0 0\n");
        }
        assert_eq!(found(), None, "it is exiting");
    }

    #[test]
    fn the_machine_has_available_and_shared_memory() {
        let tree = Tree::new();
        tree.write("meminfo", "MemTotal:  9 kB\nMemAvailable:  2 kB\nShmem:  1 kB\n");
        let mut expected = FreeAndShared { available: Bytes(2048), free_per_cpu: None, shmem: Bytes(1024) };
        assert_eq!(tree.root().free_and_shared(None), Some(expected));
        let zones = "Node 0, zone   DMA32\n  pages free     5\n  pagesets\n    cpu: 0\n              count:    16\n\
             \n              high:     1443\n    cpu: 1\n              count:    74\n  vm stats threshold: 12\n";
        tree.write("zoneinfo", zones);
        expected.free_per_cpu = Some(Bytes(90 * tree.root().page_size));
        assert_eq!(tree.root().free_and_shared(None), Some(expected));
    }
}

//! Memory that a process has freed with madvise(MADV_FREE), and that the kernel takes when it needs it: until then it
//! counts in the RSS like any other.

use super::ProcRoot;
use super::blocking_pool::{JobOwner, Lock, run_blocking};
use super::parse;
use crate::model::{Bytes, ProcessId, Uid};

impl ProcRoot {
    /// The exact resident memory of `process`, which belongs to `uid`, and how much of that is free already, from one walk
    /// over its pages. `None` if the process is gone, or if they cannot be counted: the kernel refuses, or it takes too long.
    pub fn lazy_free(&self, process: ProcessId, uid: Uid) -> Option<(Bytes, Bytes)> {
        // From here on a file of another process with this number cannot be read through it.
        let directory = self.process(process.pid).ok()?;
        if parse::stat(&directory.read("", "stat").ok()?)?.start != process.start {
            return None;
        }
        let owner = JobOwner { pid: process.pid, uid, onlooks: self.onlooks, lock: Lock::Mmap };
        let (mut place, _) = directory.place().ok()??;
        let text = directory.through(&mut place, |at| {
            directory.reading(at, "smaps_rollup").and_then(|read| run_blocking(owner, read)?)
        });
        let text = text.ok()?;
        let amount = |label| parse::kib(&text, label);
        Some((amount("Rss:")?, amount("LazyFree:")?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;
    use crate::model::{Pid, StartTime};

    const UID: Uid = Uid(1000);
    const PROCESS: ProcessId = ProcessId { pid: Pid(42), start: StartTime(777) };

    #[test]
    fn both_figures_come_from_the_process_that_was_meant() {
        let tree = Tree::new();
        tree.cat(42);
        let text = "7f00-7fff ---p 00000000 00:00 0 [rollup]\nRss: 4000 kB\nLazyFree: 3000 kB\n";
        tree.write("42/smaps_rollup", text);
        let root = tree.root();
        let found = (Bytes::from_kib(4000), Bytes::from_kib(3000));
        assert_eq!(root.lazy_free(PROCESS, UID), Some(found));
        assert_eq!(root.lazy_free(ProcessId { start: StartTime(778), ..PROCESS }, UID), None);
        assert_eq!(root.lazy_free(ProcessId { pid: Pid(43), ..PROCESS }, UID), None);

        for dead in ["42/statm", "42/task/42/statm"] {
            tree.write(dead, "0 0 0 0 0 0 0\n");
        }
        tree.write("42/task/44/statm", "900 800 0 0 0 0 0\n");
        tree.write("42/task/44/smaps_rollup", text.replace("3000", "2000"));
        let through_a_thread = root.lazy_free(PROCESS, UID).map(|(_, free)| free);
        assert_eq!(through_a_thread, Some(Bytes::from_kib(2000)));
    }

    #[test]
    fn pages_that_cannot_be_counted_are_not_free() {
        let tree = Tree::new();
        tree.cat(42);
        assert_eq!(tree.root().lazy_free(PROCESS, UID), None);
        tree.write("42/smaps_rollup", "Rss: 4000 kB\n");
        assert_eq!(tree.root().lazy_free(PROCESS, UID), None);
        tree.spoil("42/smaps_rollup");
        assert_eq!(tree.root().lazy_free(PROCESS, UID), None);
    }
}

//! The parts of a process's memory.

use std::io;

use nix::errno::Errno;

use super::{ProcRoot, parse};
use crate::model::{Bytes, Parts, Pid, Reading};

impl ProcRoot {
    /// Adds swapped-out memory to those `readings` that a pass over /proc made: it reads a file that does not have it. A
    /// figure that cannot be read counts as zero.
    pub fn add_swap(&self, readings: &mut [Reading]) {
        for reading in readings.iter_mut().filter(|reading| reading.start.is_none()) {
            let swap = self.parts(reading.pid).map_or(Bytes::ZERO, |parts| parts.swap);
            reading.held = reading.held + swap;
        }
    }

    /// The parts of `pid`'s memory, from /proc/PID/status.
    ///
    /// # Errors
    /// The process is gone or has no memory, or the kernel is older than 4.5 and does not show the parts.
    pub fn parts(&self, pid: Pid) -> io::Result<Parts> {
        let directory = self.process(pid)?;
        let (place, _) = directory.place()?.ok_or(Errno::ESRCH)?;
        Ok(parts(&directory.read(&place, "status")?).ok_or(Errno::ENODATA)?)
    }
}

impl ProcRoot {
    /// Huge pages of hugetlbfs that `pid` maps, which no other figure includes (`HugetlbPages`, Linux 4.4).
    ///
    /// # Errors
    /// The process is gone or has no memory, or the kernel does not show them.
    pub fn hugetlb(&self, pid: Pid) -> io::Result<Bytes> {
        let directory = self.process(pid)?;
        let (place, _) = directory.place()?.ok_or(Errno::ESRCH)?;
        let status = directory.read(&place, "status")?;
        Ok(parse::kib(&status, "HugetlbPages:").ok_or(Errno::ENODATA)?)
    }
}

/// The parts in the text of /proc/PID/status; `None` if the kernel is older than 4.5.
pub(super) fn parts(status: &[u8]) -> Option<Parts> {
    let amount = |label| parse::kib(status, label);
    Some(Parts {
        anon: amount("RssAnon:")?,
        file: amount("RssFile:")?,
        shmem: amount("RssShmem:")?,
        // A kernel without swap omits this line.
        swap: amount("VmSwap:").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn swap_is_added_to_what_a_pass_over_proc_found() {
        let tree = Tree::new();
        tree.cat(7);
        tree.write("7/status", "RssAnon:\t 12 kB\nRssFile:\t 3 kB\nRssShmem:\t 0 kB\nVmSwap:\t 5 kB\n");
        let kib = Bytes::from_kib;
        let reading = |pid, start| Reading {
            pid: Pid(pid),
            start,
            rss: kib(15),
            held: kib(12),
            shmem: Bytes::ZERO,
            error: Bytes::ZERO,
        };
        // The second one is from the map, which counts swap, and the third one has ended.
        let mut readings = [reading(7, None), reading(7, Some(crate::model::StartTime(1))), reading(8, None)];
        tree.root().add_swap(&mut readings);
        assert_eq!(readings.map(|reading| reading.held), [kib(17), kib(12), kib(12)]);
    }

    #[test]
    fn the_parts_come_from_a_living_thread() {
        let tree = Tree::new();
        tree.cat(7);
        let status = "Name:\tRssAnon: 9\nRssAnon:\t 12 kB\nRssFile:\t 3 kB\nRssShmem:\t 0 kB\nVmSwap:\t 5 kB\n\
             HugetlbPages:\t 2048 kB\n";
        tree.write("7/status", status);
        let kib = Bytes::from_kib;
        let parts = Parts { anon: kib(12), file: kib(3), shmem: kib(0), swap: kib(5) };
        assert_eq!(tree.root().parts(Pid(7)).unwrap(), parts);
        assert_eq!(tree.root().hugetlb(Pid(7)).unwrap(), kib(2048));

        for dead in ["7/statm", "7/task/7/statm"] {
            tree.write(dead, "0 0 0 0 0 0 0\n");
        }
        tree.write("7/task/9/statm", "9 7 0 0 0 0 0\n");
        tree.write("7/task/9/status", status.replace("12", "13"));
        assert_eq!(tree.root().parts(Pid(7)).unwrap().anon, kib(13));
    }

    #[test]
    fn a_missing_part_is_an_error_and_not_zero() {
        let tree = Tree::new();
        tree.cat(7);
        tree.write("7/status", "Name:\tx\n");
        assert!(tree.root().parts(Pid(7)).is_err());
        assert!(tree.root().parts(Pid(8)).is_err());
    }
}

//! The cheap pass over every process: two numbers from one short file each, without an allocation per process.
//!
//! This pass determines the cost of polling /proc, so it opens statm relative to the /proc directory and reads it once
//! into a buffer on the stack. `confirm` reads everything else about a process.

use std::fmt::Write;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::parse::{self, Statm};
use super::{Accuracy, ProcRoot, ended, head, numbered, pages, with_path};
use crate::model::{Bytes, Pid, Reading, Survey};

impl ProcRoot {
    /// One pass over all visible processes that have memory.
    ///
    /// The child of a vfork has the same reading as its parent, because it runs in the parent's memory;
    /// [`ProcRoot::confirm`] distinguishes them. Processes that end during the pass, and those that hidepid hides (see
    /// [`ProcRoot::hidden`]), are left out. An error of memmon itself (no file descriptor left) fails the pass, because
    /// otherwise the machine would look empty.
    pub fn survey(&self, accuracy: &Accuracy) -> io::Result<Survey> {
        let memory = self.memory()?;
        let mut readings = Vec::new();
        self.each(accuracy, |reading| readings.extend(reading))?;
        Ok(Survey { memory, readings })
    }

    /// The same pass for the pids alone, with a call of `rest` after every so many processes.
    pub fn pids_with_memory(&self, between_rests: usize, rest: impl Fn()) -> io::Result<Vec<Pid>> {
        let (mut pids, mut met) = (Vec::new(), 0);
        self.each(&Accuracy::StatmExact, |reading| {
            pids.extend(reading.map(|reading| reading.pid));
            met += 1;
            if met % between_rests == 0 {
                rest();
            }
        })?;
        Ok(pids)
    }

    /// Calls `met` for every process, with its reading if it has memory.
    fn each(&self, accuracy: &Accuracy, mut met: impl FnMut(Option<Reading>)) -> io::Result<()> {
        let mut path = String::new();
        let failed = |path: &str, errno: Errno| with_path(&self.path.join(path), errno);
        for pid in numbered(self.directory.as_fd(), ".").map_err(|errno| failed("", errno))? {
            let pid = Pid(pid.map_err(|errno| failed("", errno))?);
            match self.reading(pid, accuracy, &mut path) {
                Ok(reading) => met(reading),
                Err(errno) if ended(errno) || matches!(errno, Errno::EACCES | Errno::EPERM) => met(None),
                Err(errno) => return Err(failed(&path, errno)),
            }
        }
        Ok(())
    }

    /// Readings of `pids` only, for processes that another source does not see. Processes that ended or are not
    /// accessible are left out.
    pub fn readings(&self, pids: &[Pid], accuracy: &Accuracy) -> Vec<Reading> {
        let mut path = String::new();
        pids.iter().filter_map(|pid| self.reading(*pid, accuracy, &mut path).ok().flatten()).collect()
    }

    /// One process; `None` if it has no memory: it is a kernel thread, or is ending. `path` is scratch space, and names
    /// the file if this fails.
    fn reading(&self, pid: Pid, accuracy: &Accuracy, path: &mut String) -> nix::Result<Option<Reading>> {
        let mut statm = self.statm(path, format_args!("{pid}/statm"))?;
        let mut threads = None;
        if statm.size == 0 {
            threads = Some(self.threads(pid, path)?);
            if threads == Some(1) {
                return Ok(None);
            }
            let directory = self.process(pid)?;
            let Some((_, of_thread)) = directory.place()? else { return Ok(None) };
            statm = of_thread;
        }
        let threads = match (accuracy, threads) {
            (_, Some(threads)) => threads,
            (Accuracy::PerThread { .. }, None) => self.threads(pid, path)?,
            (Accuracy::StatmExact | Accuracy::StatmLags { .. }, None) => 1,
        };
        let rss = pages(statm.resident, self.page_size);
        let held = pages(statm.resident.saturating_sub(statm.shared), self.page_size);
        Ok(Some(Reading { pid, start: None, rss, held, shmem: Bytes::ZERO, error: accuracy.error(threads) }))
    }

    /// Number of threads of a process: its task directory has two links more (`proc_task_getattr`, since Linux 2.6.0).
    /// This is much cheaper than listing the directory.
    fn threads(&self, pid: Pid, path: &mut String) -> nix::Result<u64> {
        rewrite(path, format_args!("{pid}/task"));
        let links = fstatat(&self.directory, path.as_str(), AtFlags::empty())?.st_nlink;
        Ok(links.saturating_sub(2))
    }

    fn statm(&self, path: &mut String, file: std::fmt::Arguments<'_>) -> nix::Result<Statm> {
        rewrite(path, file);
        parse::statm(head(self.directory.as_fd(), path, &mut [0; 128])?).ok_or(Errno::EBADMSG)
    }
}

fn rewrite(path: &mut String, text: std::fmt::Arguments<'_>) {
    path.clear();
    // Writing to a String does not fail.
    let _ = path.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    /// pid, resident pages, error in pages; by pid.
    fn readings(tree: &Tree, accuracy: Accuracy) -> Vec<(u32, u64, u64)> {
        let root = tree.root();
        let mut readings: Vec<_> = root.survey(&accuracy).unwrap().readings;
        readings.sort_by_key(|reading| reading.pid);
        let pages = |amount: Bytes| amount.0 / root.page_size;
        readings.iter().map(|reading| (reading.pid.0, pages(reading.rss), pages(reading.error))).collect()
    }

    fn machine() -> Tree {
        let tree = Tree::new();
        tree.write("meminfo", "MemTotal: 16777216 kB\nMemAvailable: 9437184 kB\n");
        tree.write("uptime", "1.00 1.00\n");
        tree
    }

    #[test]
    fn every_process_with_memory_is_read() {
        let tree = machine();
        tree.cat(41);
        tree.cat(42);
        tree.write("42/statm", "9 7 0 0 0 0 0\n");
        assert_eq!(readings(&tree, Accuracy::StatmExact), [(41, 1000, 0), (42, 7, 0)]);
        assert_eq!(
            tree.root().survey(&Accuracy::StatmExact).unwrap().memory.available,
            Bytes(9 * Bytes::GIB)
        );
    }

    #[test]
    fn kernel_threads_and_exited_processes_have_no_reading() {
        let tree = machine();
        tree.write("2/statm", "0 0 0 0 0 0 0\n");
        tree.write("2/task/2/statm", "0 0 0 0 0 0 0\n");
        for thread in [3, 4] {
            tree.write("3/statm", "0 0 0 0 0 0 0\n");
            tree.write(&format!("3/task/{thread}/statm"), "0 0 0 0 0 0 0\n");
        }
        std::fs::create_dir(tree.path().join("5")).unwrap();
        assert_eq!(readings(&tree, Accuracy::StatmExact), []);
    }

    #[test]
    fn a_process_that_is_swapped_out_has_a_reading() {
        let tree = machine();
        tree.write("6/statm", "500 0 0 0 0 0 0\n");
        assert_eq!(readings(&tree, Accuracy::StatmExact), [(6, 0, 0)]);
    }

    #[test]
    fn memory_outlives_the_first_thread() {
        let tree = machine();
        tree.cat(7);
        for dead in ["7/statm", "7/task/7/statm", "7/task/8/statm"] {
            tree.write(dead, "0 0 0 0 0 0 0\n");
        }
        std::fs::create_dir(tree.path().join("7/task/9")).unwrap();
        tree.write("7/task/10/statm", "9000 8000 0 0 0 0 0\n");
        assert_eq!(readings(&tree, Accuracy::StatmExact), [(7, 8000, 0)]);
        let bound = Bytes(64 * tree.root().page_size);
        assert_eq!(readings(&tree, Accuracy::PerThread { bound }), [(7, 8000, 4 * 64)]);
    }

    #[test]
    fn the_error_is_the_kernels_own() {
        let tree = machine();
        tree.cat(7);
        tree.write("7/task/8/statm", "2000 1000 300 1 0 99 0\n");
        let bound = Bytes(5 * tree.root().page_size);
        assert_eq!(readings(&tree, Accuracy::StatmLags { bound }), [(7, 1000, 5)]);
        assert_eq!(readings(&tree, Accuracy::PerThread { bound }), [(7, 1000, 10)]);
    }

    #[test]
    fn only_the_given_pids_are_read() {
        let tree = machine();
        tree.cat(41);
        tree.cat(42);
        let readings = tree.root().readings(&[Pid(42), Pid(43)], &Accuracy::StatmExact);
        assert_eq!(readings.iter().map(|reading| reading.pid).collect::<Vec<_>>(), [Pid(42)]);
    }

    #[test]
    fn an_error_of_memmon_itself_fails_the_pass() {
        let tree = machine();
        tree.cat(7);
        tree.spoil("7/statm");
        let message = tree.root().survey(&Accuracy::StatmExact).unwrap_err().to_string();
        assert!(message.contains("/7/statm: "), "{message}");
        let tree = Tree::new();
        let message = tree.root().survey(&Accuracy::StatmExact).unwrap_err().to_string();
        assert!(message.contains("/meminfo: "), "{message}");
    }
}

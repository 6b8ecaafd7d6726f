//! Memory that a forked process still shares with an older one, which is charged for it.
//!
//! Until it calls exec, a forked process has a copy of its parent's memory: each page is shared until either process
//! writes to it, and counts in the RSS of both. The elder, a running older process with that memory, is charged for all
//! its memory; the younger process only for memory that the elder does not have. If the elder ends, the younger process
//! is charged for everything.

use std::{
    fs::File,
    io::{self, BufReader},
};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

use super::blocking_pool::{JobOwner, run_blocking};
use super::directory::ProcessDirectory;
use super::failure::is_the_machines;
use super::parse::{self, Layout};
use super::smaps::{self, SharedRegion};
use super::{ProcRoot, pages};
use crate::model::{Bytes, Fact, Inherited, Measure, Parts, Pid, StartTime};

/// A forked process that is over its limit and has not called exec.
pub(super) struct Forked<'a> {
    pub(super) about: JobOwner,
    pub(super) parent: Pid,
    pub(super) start: StartTime,
    pub(super) layout: Option<Layout>,
    pub(super) directory: &'a ProcessDirectory,
    pub(super) at: &'a str,
    pub(super) rss: Bytes,
    /// The parts of its memory, if the kernel shows them. A fork copies nothing but anonymous memory.
    pub(super) parts: Option<Parts>,
    /// Less inherited memory decides nothing, so it is not counted.
    pub(super) decisive: Bytes,
}

/// An older process with the same layout.
struct Elder {
    pid: Pid,
    rss: Bytes,
    directory: ProcessDirectory,
    at: String,
}

impl ProcRoot {
    /// Memory that `process` shares with its elder, if it has one; at most `most`, its memory when it was forked.
    ///
    /// The pages of both are counted (smaps) only if the result decides whether the process is over `limit`.
    ///
    /// # Errors
    /// Another process could not be read for a reason of the machine: it may be the elder.
    pub(super) fn inherited(
        &self,
        process: &Forked<'_>,
        limit: Bytes,
        most: Option<Bytes>,
    ) -> io::Result<Fact<Inherited>> {
        let Some(layout) = process.layout else { return Ok(Fact::Unreadable) };
        let needed = process.decisive;
        // The shared amount is at most the younger process's memory at its fork, its anonymous memory, the elder's memory, and
        // what both share with any process at the same addresses.
        let anon = process.parts.map_or(Bytes::MAX, |parts| parts.anon);
        let most = most.unwrap_or(Bytes::MAX).min(anon);
        // The amount that must be the elder's for the rest to be within the limit. If no elder decides anything, as for a database's
        // workers, which have much shared memory and little else, none is searched among all processes.
        let over = (most >= needed).then(|| process.rss.saturating_sub(limit));
        let Some(elder) = self.elder(process, layout, over)? else { return Ok(Fact::Absent) };
        let inherited = |bytes| Ok(Fact::Known(Inherited { bytes, elder: elder.pid }));
        let most = most.min(elder.rss);
        if most < needed {
            return inherited(most);
        }
        // A lock or the size may prevent counting. A process that cannot be counted is looked at again.
        let Some(own) = shared(process.about, process.directory, process.at) else { return inherited(most) };
        let most = most.min(sum(&own));
        if most < needed {
            return inherited(most);
        }
        let about = JobOwner { pid: elder.pid, ..process.about };
        // Only what both have at the same addresses can be the same memory: a fork does not move it.
        inherited(
            shared_by(about, &elder)
                .map_or(most, |elders| most.min(sum(&elders)).min(smaps::in_common(&own, &elders))),
        )
    }

    /// The least inherited memory that can decide about a process over `limit`. Less than a twentieth of the limit does not
    /// count, so that the pages of a process that has inherited little are not counted at each look.
    pub(super) fn decisive(&self, rss: Bytes, parts: Option<&Parts>, limit: Bytes) -> Bytes {
        let (by_rss, least) = (rss.saturating_sub(limit), Bytes(limit.0 / 20));
        match parts {
            // The figure is displayed.
            Some(_) if self.onlooks => by_rss.min(least),
            Some(Parts { anon, swap, .. }) if self.measure == Measure::Charged => {
                let by_charged = (*anon + *swap).saturating_sub(Measure::least_charged(limit));
                by_rss.min(by_charged.max(least))
            }
            _ => by_rss,
        }
    }

    /// The process that `process` can have inherited memory from: its parent, if that has at least `needed`, otherwise the
    /// largest older process with the same layout. That one is not the parent if the processes between them ended. If nothing
    /// is needed, no other process than the parent is asked.
    fn elder(
        &self,
        process: &Forked<'_>,
        layout: Layout,
        needed: Option<Bytes>,
    ) -> io::Result<Option<Elder>> {
        let parent = self.kin(process.parent, layout)?.filter(|(_, start)| *start <= process.start);
        let Some(needed) = needed else { return Ok(parent.map(|(parent, _)| parent)) };
        match parent {
            Some((parent, _)) if parent.rss >= needed => return Ok(Some(parent)),
            _ => {}
        }
        let mut largest = parent.map(|(parent, _)| parent);
        for pid in self.pids()?.into_iter().filter(|pid| *pid != process.about.pid) {
            // Processes that started in the same tick may be its own children.
            let older = self.kin(pid, layout)?.filter(|(_, start)| *start < process.start);
            largest = largest.into_iter().chain(older.map(|(elder, _)| elder)).max_by_key(|elder| elder.rss);
        }
        Ok(largest)
    }

    /// The process `pid` and its start time, if its memory has this layout.
    fn kin(&self, pid: Pid, layout: Layout) -> io::Result<Option<(Elder, StartTime)>> {
        match self.kin_if_readable(pid, layout) {
            // It has ended, or is not for memmon to see.
            Err(error) if !is_the_machines(&error) => Ok(None),
            found => found,
        }
    }

    fn kin_if_readable(&self, pid: Pid, layout: Layout) -> io::Result<Option<(Elder, StartTime)>> {
        let directory = self.process(pid)?;
        let text = directory.read("", "stat")?;
        let Some(stat) = parse::stat(&text) else { return Ok(None) };
        let (at, its_layout) = match stat.layout {
            Some(layout) => (String::new(), Some(layout)),
            // Its first thread has ended, but others still run.
            None if stat.threads > 1 => {
                let Some((at, _)) = directory.place()? else { return Ok(None) };
                let layout = parse::stat(&directory.read(&at, "stat")?).and_then(|stat| stat.layout);
                (at, layout)
            }
            None => return Ok(None),
        };
        if its_layout != Some(layout) {
            return Ok(None);
        }
        let rss = pages(directory.statm(&at)?.resident, self.page_size);
        Ok(Some((Elder { pid, rss, directory, at }, stat.start)))
    }
}

fn shared_by(about: JobOwner, elder: &Elder) -> Option<Vec<SharedRegion>> {
    let (uid, _) = parse::uids(&elder.directory.read(&elder.at, "status").ok()?)?;
    shared(JobOwner { uid, ..about }, &elder.directory, &elder.at)
}

/// Resident anonymous memory that at least one other process has as well; `None` if it cannot be counted.
fn shared(about: JobOwner, directory: &ProcessDirectory, at: &str) -> Option<Vec<SharedRegion>> {
    let (directory, path) = (directory.try_clone().ok()?, format!("{at}smaps"));
    let read = move || -> io::Result<_> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = openat(&directory, path.as_str(), flags, Mode::empty())?;
        smaps::shared_anonymous(BufReader::with_capacity(16 << 10, File::from(file)))
    };
    run_blocking(about, read).ok()?.ok()
}

fn sum(regions: &[SharedRegion]) -> Bytes {
    regions.iter().map(|region| region.bytes).sum()
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::super::{Accuracy, ProcRoot};
    use super::*;
    use crate::model::Process;

    const LIMIT: Bytes = Bytes(2000 * 1024);

    /// `pid`, forked or not, with these KiB resident and shared, started at `tick` by `parent`, of the layout `stack`.
    fn process(
        tree: &Tree,
        pid: u32,
        (parent, tick): (u32, u64),
        stack: u64,
        (rss, shared): (u64, u64),
        forked: bool,
    ) {
        tree.cat(pid);
        let flags = if forked { 0x0040_0040 } else { 0x0040_0000 };
        let zeros = "0 ".repeat(18);
        let stat = format!(
            "{pid} (x) S {parent} {pid} {pid} 0 -1 {flags} 9 0 1 0 2 3 0 0 20 0 1 0 {tick} 8192000 1 1 4096 2 \
             {stack} {zeros}7340032 8 8 8 8 0\n"
        );
        tree.write(&format!("{pid}/stat"), stat);
        let pages = rss * 1024 / tree.root().page_size;
        tree.write(&format!("{pid}/statm"), format!("900000 {pages} 0 0 0 0 0\n"));
        tree.write(&format!("{pid}/smaps"), region(0x7f00_0000, shared));
    }

    /// Anonymous memory of 16 MiB at `start`, of which `shared` KiB are shared.
    fn region(start: u64, shared: u64) -> String {
        format!(
            "{start:x}-{:x} rw-p 00000000 00:00 0\nShared_Clean: 0 kB\nShared_Dirty: {shared} kB\nAnonymous: 16384 kB\n",
            start + (16 << 20)
        )
    }

    fn look(root: &ProcRoot, most: Option<Bytes>) -> Process {
        root.confirm_forked(Pid(50), None, LIMIT, &Accuracy::StatmExact, most).unwrap()
    }

    fn inherited(tree: &Tree) -> Fact<(u64, u32)> {
        match look(&tree.root(), None).inherited {
            Fact::Known(Inherited { bytes, elder }) => Fact::Known((bytes.0 / 1024, elder.0)),
            Fact::Absent => Fact::Absent,
            Fact::Unreadable | Fact::Withheld => Fact::Unreadable,
        }
    }

    /// 40, of 3000 KiB, has forked 50, which has 3200 and shares 2900 of it.
    fn family() -> Tree {
        let tree = Tree::new();
        process(&tree, 40, (1, 700), 99_000, (3000, 2900), false);
        process(&tree, 50, (40, 800), 99_000, (3200, 2900), true);
        tree
    }

    #[test]
    fn shared_memory_is_charged_to_the_parent() {
        let tree = family();
        assert_eq!(inherited(&tree), Fact::Known((2900, 40)));
        assert_eq!(look(&tree.root(), None).charged(), Bytes::from_kib(300));
        // It shares at most its memory at the fork.
        assert_eq!(look(&tree.root(), Some(Bytes::from_kib(100))).charged(), Bytes::from_kib(3100));
    }

    #[test]
    fn shared_memory_of_siblings_is_not_inherited() {
        let tree = family();
        let status =
            "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nRssAnon:\t200 kB\nRssFile:\t0 kB\nRssShmem:\t3000 kB\n";
        tree.write("50/status", status);
        assert_eq!(inherited(&tree), Fact::Known((200, 40)));
    }

    /// A database has many such processes, and a machine many others.
    #[test]
    fn with_little_anonymous_memory_no_other_process_than_the_parent_is_asked() {
        let tree = family();
        process(&tree, 45, (40, 750), 99_000, (100, 100), true);
        process(&tree, 50, (45, 800), 99_000, (3200, 2900), true);
        assert_eq!(inherited(&tree), Fact::Known((2900, 40)));
        let status =
            "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nRssAnon:\t50 kB\nRssFile:\t0 kB\nRssShmem:\t3150 kB\n";
        tree.write("50/status", status);
        assert_eq!(inherited(&tree), Fact::Known((50, 45)));
    }

    #[test]
    fn memory_written_since_the_fork_is_its_own() {
        let tree = family();
        process(&tree, 50, (40, 800), 99_000, (3200, 100), true);
        assert_eq!(inherited(&tree), Fact::Known((100, 40)));
        // Shared with other processes, for example with its own children.
        let tree = family();
        process(&tree, 40, (1, 700), 99_000, (3000, 200), false);
        assert_eq!(inherited(&tree), Fact::Known((200, 40)));
        process(&tree, 40, (1, 700), 99_000, (700, 700), false);
        assert_eq!(inherited(&tree), Fact::Known((700, 40)));
    }

    /// It has freed what it inherited, and shares other memory with its own children.
    #[test]
    fn memory_at_other_addresses_is_its_own() {
        let tree = family();
        tree.write("50/smaps", region(0x7f00_0000, 500) + &region(0x8f00_0000, 2400));
        assert_eq!(inherited(&tree), Fact::Known((500, 40)));
        tree.write("50/smaps", region(0x8f00_0000, 2900));
        assert_eq!(inherited(&tree), Fact::Known((0, 40)));
    }

    /// Its own pages are gone when they are counted, while its other figures are those of before.
    #[test]
    fn a_process_that_calls_exec_while_it_is_read_is_read_again() {
        let as_it_is_now = || {
            let tree = family();
            std::fs::remove_file(tree.path().join("50/smaps")).unwrap();
            let fifo = tree.path().join("50/smaps");
            nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let counted = std::fs::File::options().write(true).open(&fifo).unwrap();
                    std::fs::rename(&fifo, fifo.with_extension("old")).unwrap();
                    process(&tree, 50, (40, 800), 98_000, (300, 0), false);
                    drop(counted);
                });
                let found = look(&tree.root(), None);
                (found.charged().0 / 1024, found.inherited) == (300, Fact::Absent)
            })
        };
        // On a busy machine this writer may take longer than a read may.
        assert!((0..20).any(|_| as_it_is_now()));
    }

    #[test]
    fn without_an_elder_all_memory_is_its_own() {
        let tree = family();
        process(&tree, 50, (40, 800), 99_000, (3200, 2900), false);
        assert_eq!(inherited(&tree), Fact::Absent, "it called exec");
        let tree = family();
        process(&tree, 40, (1, 700), 98_000, (3000, 2900), false);
        assert_eq!(inherited(&tree), Fact::Absent, "its parent did");
        let tree = family();
        std::fs::remove_dir_all(tree.path().join("40")).unwrap();
        process(&tree, 60, (50, 801), 99_000, (3200, 2900), true);
        process(&tree, 61, (1, 800), 99_000, (3200, 2900), true);
        assert_eq!(inherited(&tree), Fact::Absent, "its parent ended, and the others are no older");
    }

    #[test]
    fn an_elder_is_found_after_the_processes_between_ended() {
        let tree = family();
        process(&tree, 50, (1, 800), 99_000, (3200, 2900), true);
        process(&tree, 41, (1, 600), 99_000, (10, 10), true);
        process(&tree, 1, (0, 1), 97_000, (9000, 9000), false);
        assert_eq!(inherited(&tree), Fact::Known((2900, 40)));
    }

    /// Its memory may be the elder's. Without a descriptor the read fails as that of a directory does.
    #[test]
    fn an_elder_that_the_machine_cannot_read_leaves_a_doubt_that_does_not_end() {
        let settled = |fails: &dyn Fn(&Tree)| {
            let tree = family();
            fails(&tree);
            let mut process = look(&tree.root(), None);
            process.settle();
            process.inherited
        };
        let unreadable = |file: &'static str| move |tree: &Tree| tree.spoil(file);
        assert_eq!(settled(&unreadable("40/stat")), Fact::Unreadable);
        assert_eq!(settled(&unreadable("40/statm")), Fact::Unreadable);
        let hidden = |tree: &Tree| process(tree, 50, (40, 800), 0, (3200, 2900), true);
        assert_eq!(settled(&hidden), Fact::Withheld, "not the machine's");
        let ended = |tree: &Tree| std::fs::remove_dir_all(tree.path().join("40")).unwrap();
        assert_eq!(settled(&ended), Fact::Absent);
        let another = |tree: &Tree| {
            process(tree, 30, (1, 600), 99_000, (10, 10), false);
            tree.spoil("30/stat");
            process(tree, 40, (1, 700), 99_000, (100, 100), false);
        };
        assert_eq!(settled(&another), Fact::Unreadable, "it may be an older one");
    }

    #[test]
    fn an_uncounted_amount_is_at_most_the_elders_memory() {
        let tree = family();
        tree.spoil("50/smaps");
        tree.spoil("40/smaps");
        assert_eq!(inherited(&tree), Fact::Known((3000, 40)));
        std::fs::remove_dir(tree.path().join("40/smaps")).unwrap();
        process(&tree, 40, (1, 700), 99_000, (1100, 1000), false);
        assert_eq!(inherited(&tree), Fact::Known((1100, 40)));
    }

    #[test]
    fn without_access_to_layouts_it_is_unreadable() {
        let tree = family();
        process(&tree, 50, (40, 800), 0, (3200, 2900), true);
        assert_eq!(inherited(&tree), Fact::Unreadable);
    }
}

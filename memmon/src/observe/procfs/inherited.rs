//! What a process that was forked still shares with an older one, which is charged for it.
//!
//! Until it calls exec, a process has a copy of the memory of the process that forked it, page by page the same memory
//! until either writes to it. Whoever reads RSS sees it twice. The elder, an older process that lives and has that memory,
//! is charged for all that it has; the younger one for what the elder does not have. If the elder ends, the younger one is
//! charged for all.

use super::blocking_pool::{JobOwner, run_blocking};
use super::directory::ProcessDirectory;
use super::parse::{self, Layout};
use super::{ProcRoot, pages};
use crate::model::{Bytes, Fact, Inherited, Pid, StartTime};

/// A process that is over its limit, was forked, and has not called exec.
pub(super) struct Forked<'a> {
    pub(super) about: JobOwner,
    pub(super) parent: Pid,
    pub(super) start: StartTime,
    pub(super) layout: Option<Layout>,
    pub(super) directory: &'a ProcessDirectory,
    pub(super) at: &'a str,
    pub(super) rss: Bytes,
}

/// An older process of the same layout.
struct Elder {
    pid: Pid,
    rss: Bytes,
    directory: ProcessDirectory,
    at: String,
}

impl ProcRoot {
    /// What `process` shares with its elder, if it has one; never more than `most`, what it had when it was forked.
    ///
    /// The pages of both are only counted (smaps_rollup) where the answer decides whether the process is over `limit`.
    pub(super) fn inherited(
        &self,
        process: &Forked<'_>,
        limit: Bytes,
        most: Option<Bytes>,
    ) -> Fact<Inherited> {
        let Some(layout) = process.layout else { return Fact::Unreadable };
        // What must be the elder's so that the rest is within the limit.
        let needed = process.rss.saturating_sub(limit);
        let Some(elder) = self.elder(process, layout, needed) else { return Fact::Absent };
        let inherited = |bytes| Fact::Known(Inherited { bytes, elder: elder.pid });
        // What both have is no more than what the younger one had at its fork, than what the elder has, and than what
        // either shares with anybody.
        let most = elder.rss.min(most.unwrap_or(Bytes::MAX));
        if most < needed {
            return inherited(most);
        }
        // A lock or the sheer size may be in the way of counting. A process that cannot be counted is looked at again.
        let most =
            shared(process.about, process.directory, process.at).map_or(most, |shared| most.min(shared));
        if most < needed {
            return inherited(most);
        }
        let about = JobOwner { pid: elder.pid, ..process.about };
        inherited(shared_by(about, &elder).map_or(most, |shared| most.min(shared)))
    }

    /// The oldest memory that `process` can have a part of: its parent's if that has as much as is `needed`, else that of
    /// the largest older process of the same layout, which is no parent any more where those between them ended.
    fn elder(&self, process: &Forked<'_>, layout: Layout, needed: Bytes) -> Option<Elder> {
        let parent = self.kin(process.parent, layout).filter(|(_, start)| *start <= process.start);
        match parent {
            Some((parent, _)) if parent.rss >= needed => return Some(parent),
            _ => {}
        }
        // Those of the same tick may be its own children.
        let older = |pid| self.kin(pid, layout).filter(|(_, start)| *start < process.start);
        let others = self.pids().ok()?.into_iter().filter(|pid| *pid != process.about.pid).filter_map(older);
        others.chain(parent).map(|(elder, _)| elder).max_by_key(|elder| elder.rss)
    }

    /// `pid`, and when it started, if its memory has this layout.
    fn kin(&self, pid: Pid, layout: Layout) -> Option<(Elder, StartTime)> {
        let directory = self.process(pid).ok()?;
        let text = directory.read("", "stat").ok()?;
        let stat = parse::stat(&text)?;
        let (at, its_layout) = match stat.layout {
            Some(layout) => (String::new(), layout),
            // Its first thread has ended, and the others have not.
            None if stat.threads > 1 => {
                let at = directory.place().ok()??;
                let layout = parse::stat(&directory.read(&at, "stat").ok()?)?.layout?;
                (at, layout)
            }
            None => return None,
        };
        if its_layout != layout {
            return None;
        }
        let rss = pages(directory.statm(&at).ok()?.resident, self.page_size);
        Some((Elder { pid, rss, directory, at }, stat.start))
    }
}

fn shared_by(about: JobOwner, elder: &Elder) -> Option<Bytes> {
    let (uid, _) = parse::uids(&elder.directory.read(&elder.at, "status").ok()?)?;
    shared(JobOwner { uid, ..about }, &elder.directory, &elder.at)
}

/// Resident pages that at least one other process maps as well; none if they cannot be counted.
fn shared(about: JobOwner, directory: &ProcessDirectory, at: &str) -> Option<Bytes> {
    let read = directory.reading(at, "smaps_rollup").ok()?;
    let text = run_blocking(about, read).ok()?.ok()?;
    let amount = |label| parse::kib(&text, label);
    let private = amount("Private_Clean:")? + amount("Private_Dirty:")?;
    Some(amount("Rss:")?.saturating_sub(private))
}

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
        let private = rss - shared;
        tree.write(
            &format!("{pid}/smaps_rollup"),
            format!("Rss: {rss} kB\nPrivate_Clean: 4 kB\nPrivate_Dirty: {} kB\n", private.saturating_sub(4)),
        );
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
    fn what_the_parent_has_too_is_the_parents() {
        let tree = family();
        assert_eq!(inherited(&tree), Fact::Known((2900, 40)));
        assert_eq!(look(&tree.root(), None).charged(), Bytes::from_kib(300));
        // It never had more of it than at its fork.
        assert_eq!(look(&tree.root(), Some(Bytes::from_kib(100))).charged(), Bytes::from_kib(3100));
    }

    #[test]
    fn what_was_written_since_is_its_own() {
        let tree = family();
        process(&tree, 50, (40, 800), 99_000, (3200, 100), true);
        assert_eq!(inherited(&tree), Fact::Known((100, 40)));
        // Shared, but with others: with its own children, say.
        let tree = family();
        process(&tree, 40, (1, 700), 99_000, (3000, 200), false);
        assert_eq!(inherited(&tree), Fact::Known((200, 40)));
        process(&tree, 40, (1, 700), 99_000, (700, 700), false);
        assert_eq!(inherited(&tree), Fact::Known((700, 40)));
    }

    #[test]
    fn without_an_elder_all_is_its_own() {
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
    fn an_elder_is_found_though_those_between_ended() {
        let tree = family();
        process(&tree, 50, (1, 800), 99_000, (3200, 2900), true);
        process(&tree, 41, (1, 600), 99_000, (10, 10), true);
        process(&tree, 1, (0, 1), 97_000, (9000, 9000), false);
        assert_eq!(inherited(&tree), Fact::Known((2900, 40)));
    }

    #[test]
    fn what_cannot_be_counted_is_no_more_than_what_the_elder_has() {
        let tree = family();
        tree.spoil("50/smaps_rollup");
        tree.spoil("40/smaps_rollup");
        assert_eq!(inherited(&tree), Fact::Known((3000, 40)));
        std::fs::remove_dir(tree.path().join("40/smaps_rollup")).unwrap();
        process(&tree, 40, (1, 700), 99_000, (1100, 1000), false);
        assert_eq!(inherited(&tree), Fact::Known((1100, 40)));
    }

    #[test]
    fn without_the_right_to_see_layouts_it_stays_open() {
        let tree = family();
        process(&tree, 50, (40, 800), 0, (3200, 2900), true);
        assert_eq!(inherited(&tree), Fact::Unreadable);
    }
}

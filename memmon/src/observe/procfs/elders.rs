//! The older processes that map the same objects of shared memory as a process. They are charged for them.
//!
//! An elder may be any process of the machine, so each is asked, which takes 0.1 ms, unless the kernel's own trees of mappings
//! show that no other process maps an object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

use super::{
    blocking_pool::{JobOwner, Lock, hangs_since, run_blocking},
    directory::place,
    failure::{is_denied, is_withheld, unless_gone},
    kcmp,
    lookups::{Heartbeat, Holder},
    mapped_alone::KernelMappings,
    numbered, parse,
    smaps::{self, FileId},
    whole,
};
use crate::model::{Bytes, Pid, ProcessId, StartTime};

/// The processes that are older than one, the holder of shared memory.
pub(super) struct OlderProcesses {
    /// A descriptor of /proc.
    pub root: Arc<OwnedFd>,
    /// Whether its pids are those that system calls of this process understand.
    pub own: bool,
    /// Where it is known that no other process maps a file, without asking any.
    pub mappings: Option<KernelMappings>,
    pub owner: JobOwner,
    pub holder: Holder,
    pub hangs_after: Duration,
    pub deadline: Option<Instant>,
}

/// The answers of older processes.
#[derive(Default)]
pub(super) struct Elders {
    /// The objects that were asked for.
    files: BTreeSet<FileId>,
    /// Number of processes that were asked.
    pub asked: usize,
    /// For each object, one of them and how much of it that one maps.
    pub found: BTreeMap<FileId, (ProcessId, Bytes)>,
    /// The reason why one of them gave no answer.
    pub unread: Option<String>,
}

impl Elders {
    /// Whether the answers are those about `objects`, of which so much is resident: all of these were asked for, and no other
    /// elder could hold more of one.
    pub(super) fn cover(&self, objects: &BTreeMap<FileId, Bytes>) -> bool {
        let is_known = |(file, resident): (&FileId, &Bytes)| {
            let elder = self.found.get(file);
            self.files.contains(file) && elder.is_none_or(|(_, mapped)| mapped >= resident)
        };
        self.unread.is_none() && objects.iter().all(is_known)
    }
}

impl OlderProcesses {
    /// For each of `missing` that an older process maps, the one that maps the most of it, or one that maps as much as is
    /// given there. Ancestors are asked first: they are most often the ones.
    pub(super) fn asked_for(
        &self,
        mut missing: BTreeMap<FileId, Bytes>,
        beat: &Heartbeat,
    ) -> io::Result<Elders> {
        let root = self.root.as_fd();
        let mut elders = Elders { files: missing.keys().copied().collect(), ..Elders::default() };
        let mappings = self.mappings.as_ref().filter(|_| !missing.is_empty());
        // Where they cannot be read, as before Linux 6.1, all are asked.
        let alone = mappings.and_then(|mappings| mappings.of_alone(self.holder.pid).ok()).unwrap_or_default();
        missing.retain(|file, _| !alone.contains(file));
        let mut asked = BTreeSet::from([self.holder.pid]);
        let mut ask = |pid: Pid, is_ancestor: bool, missing: &mut BTreeMap<FileId, Bytes>| {
            if !asked.insert(pid) {
                return;
            }
            match self.mapped_by(pid, is_ancestor, missing.keys().copied().collect()) {
                Ok((start, files)) => {
                    missing.retain(|file, resident| files.get(file).is_none_or(|mapped| *mapped < *resident));
                    let elder = ProcessId { pid, start };
                    for (file, mapped) in files {
                        let best = elders.found.entry(file).or_insert((elder, mapped));
                        if best.1 < mapped {
                            *best = (elder, mapped);
                        }
                    }
                }
                Err(error) => {
                    elders.unread.get_or_insert(format!("pid {pid} could not be asked for it: {error}"));
                }
            }
        };
        let mut ancestor = self.holder.parent;
        while !missing.is_empty() && ancestor > Pid::INIT {
            ask(ancestor, true, &mut missing);
            ancestor = parent(root, ancestor).filter(|next| *next != ancestor).unwrap_or(Pid::INIT);
        }
        // The list of all processes alone takes a millisecond for 2,000 of them.
        let others = if missing.is_empty() { None } else { Some(numbered(root, ".")?) };
        for pid in others.into_iter().flatten() {
            if missing.is_empty() {
                break;
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            beat.beat();
            ask(Pid(pid?), false, &mut missing);
        }
        elders.asked = asked.len() - 1;
        Ok(elders)
    }

    /// The part of `files` that an older process maps which has memory of its own, and the start of that process. `None` if
    /// its owner keeps that from being read.
    ///
    /// # Errors
    /// It is not known yet.
    pub(super) fn mapped_by(
        &self,
        pid: Pid,
        is_ancestor: bool,
        files: BTreeSet<FileId>,
    ) -> io::Result<(StartTime, BTreeMap<FileId, Bytes>)> {
        let root = self.root.as_fd();
        let none = Ok((StartTime(0), BTreeMap::new()));
        let text = unless_gone(whole(root, &format!("{pid}/stat")))?;
        let Some(stat) = text.as_deref().and_then(parse::stat) else { return none };
        let is_older = (stat.start, pid) < (self.holder.start, self.holder.pid);
        if !is_older || stat.kernel_thread() {
            return none;
        }
        let text = unless_gone(whole(root, &format!("{pid}/status")))?;
        let Some((uid, _)) = text.as_deref().and_then(parse::uids) else { return none };
        let owner = JobOwner { pid, uid, lock: Lock::Mmap, ..self.owner };
        let (root, own, holder) = (Arc::clone(&self.root), self.own, self.holder.pid);
        let read = run_blocking(owner, move || mapped(root.as_fd(), own, holder, pid, &files));
        match read.and_then(|read| read) {
            // For so long its owner alone can hold a lock.
            Err(error)
                if error.kind() == io::ErrorKind::TimedOut && hangs_since(owner) >= self.hangs_after =>
            {
                none
            }
            Err(error) if is_withheld(&error, uid) => none,
            // A stranger that memmon may not read, such as pid 1 of a container, is no reason to doubt for ever.
            Err(error) if is_denied(&error) && !is_ancestor && uid != self.owner.uid => none,
            read => Ok((stat.start, unless_gone(read)?.unwrap_or_default())),
        }
    }
}

fn parent(root: BorrowedFd<'_>, pid: Pid) -> Option<Pid> {
    Some(parse::stat(&whole(root, &format!("{pid}/stat")).ok()?)?.parent)
}

/// The part of `files` that the process `pid` maps; `None` if it shares the address space of `holder`, and so counts as the
/// same user of it.
fn mapped(
    root: BorrowedFd<'_>,
    own: bool,
    holder: Pid,
    pid: Pid,
    files: &BTreeSet<FileId>,
) -> io::Result<BTreeMap<FileId, Bytes>> {
    let mut mapped = BTreeMap::new();
    if own && kcmp::same_memory(pid, holder) {
        return Ok(mapped);
    }
    let maps = format!("{}maps", place(root, pid)?);
    let file = openat(root, maps.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    for found in smaps::files(BufReader::with_capacity(16 << 10, File::from(file))) {
        let (file, size) = found?;
        if files.contains(&file) {
            let all: &mut Bytes = mapped.entry(file).or_default();
            *all = *all + size;
        }
    }
    Ok(mapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_cover_what_was_asked_for_and_no_elder_can_hold_more_of() {
        let file = |inode| FileId { device: 1, inode };
        let elder = ProcessId { pid: Pid(3), start: StartTime(4) };
        let elders = Elders {
            files: BTreeSet::from([file(7), file(8)]),
            asked: 2,
            found: BTreeMap::from([(file(8), (elder, Bytes(100)))]),
            unread: None,
        };
        let cover = |objects: &[(u64, u64)]| {
            elders.cover(&objects.iter().map(|(inode, bytes)| (file(*inode), Bytes(*bytes))).collect())
        };
        assert!(cover(&[]) && cover(&[(7, 900)]) && cover(&[(7, 900), (8, 100)]));
        assert!(!cover(&[(8, 101)]), "another one may map more than this elder");
        assert!(!cover(&[(7, 900), (9, 1)]), "nobody was asked for it");
        let unread = Elders { unread: Some("EMFILE".to_owned()), ..elders };
        assert!(!unread.cover(&BTreeMap::new()));
    }
}

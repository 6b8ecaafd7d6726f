//! How much of a process's shared memory its end would give back: the objects that it maps, and the processes that hold
//! them besides.
//!
//! An object that several processes hold is charged to the eldest of them. A database's workers map the same segment as
//! the process that forked them, and ending one worker gives nothing of it back.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::OnceLock,
    time::Instant,
};

use nix::{
    fcntl::{AtFlags, OFlag, openat},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::{Mode, fstat, fstatat},
    },
};

use super::{
    ProcRoot,
    blocking_pool::start_blocking,
    ended, kcmp,
    lookups::{Answer, CONDEMNS_FOR, Holder, Lookup, ONLOOKERS_TIME_LIMIT, Question, TIME_LIMIT},
    numbered, parse,
    shared_objects::{self, Devices, Kind, SharedObject},
    smaps::{self, FileId},
    whole,
};
use crate::model::{Fact, KeptObject, KeptWhy, Name, Pid, SharedMemory};

impl ProcRoot {
    /// The shared memory of a process, if the answer to `question` depends on it. `Unreadable` while the lookup is under way;
    /// `Withheld` if it failed, because the owner of a process can cause that.
    pub(super) fn shared_memory(&self, question: Question<'_>) -> Fact<SharedMemory> {
        let now = Instant::now();
        if !question.depends_on_shared_memory() {
            return Fact::Absent;
        }
        if question.owner.onlooks {
            let found = look_up(self.directory.as_fd(), question.holder, now + ONLOOKERS_TIME_LIMIT);
            return found.map_or(Fact::Unreadable, Fact::Known);
        }
        let Holder { pid, start, .. } = question.holder;
        match self.lookups.get(pid, start) {
            Some(Lookup { answer: Some(answer), .. }) if answer.holds(&question, now) => {
                answer.found.map_or(Fact::Withheld, Fact::Known)
            }
            // One that hangs for so long is taken for one that cannot be read.
            Some(Lookup { answer: None, began, .. }) => {
                let hangs = now.saturating_duration_since(began) > TIME_LIMIT + CONDEMNS_FOR;
                if hangs { Fact::Withheld } else { Fact::Unreadable }
            }
            // One that cannot be started, as too many run, is no answer either: it is tried again.
            _ => {
                if self.start_lookup(&question, now).is_err() {
                    self.lookups.forget(pid);
                }
                Fact::Unreadable
            }
        }
    }

    fn start_lookup(&self, question: &Question<'_>, now: Instant) -> io::Result<()> {
        let directory = self.directory.try_clone()?;
        let (holder, memory, lookups) = (question.holder, question.memory(), self.lookups.clone());
        self.lookups.begin(holder, now);
        start_blocking(question.owner, move || {
            let found = look_up(directory.as_fd(), holder, now + TIME_LIMIT).ok();
            lookups.end(holder, Answer { at: Instant::now(), memory, found });
        })
    }
}

/// Looks up the shared memory of `holder` through `root`, a descriptor of /proc. This takes about 20 ms per GiB for the
/// walk over its pages, and 0.1 ms for each older process; the search ends at `deadline`.
///
/// # Errors
/// A file of `holder` cannot be read, or the deadline has passed (`TimedOut`).
pub(super) fn look_up(root: BorrowedFd<'_>, holder: Holder, deadline: Instant) -> io::Result<SharedMemory> {
    let own = holder.pid.to_string();
    let tmpfs = shared_objects::tmpfs_devices(&whole(root, &format!("{own}/mountinfo"))?);
    let devices = Devices { internal: internal_device()?, tmpfs };
    let smaps = reader(root, &format!("{own}/smaps"))?;
    let mappings = smaps::mappings(smaps, |file| devices.hold(file))?;
    let objects = shared_objects::objects(&mappings, &devices);
    drop(mappings);

    let mut found = SharedMemory::default();
    let mut searched = Vec::new();
    let segments = whole(root, "sysvipc/shm").unwrap_or_default();
    for object in objects {
        match object.kind {
            Kind::Named => keep(&mut found, &object, KeptWhy::Named),
            Kind::SystemV if stays(&segments, &object) => keep(&mut found, &object, KeptWhy::SystemV),
            Kind::SystemV | Kind::Unlinked => searched.push(object),
        }
    }
    let files: BTreeSet<FileId> = searched.iter().map(|object| object.file).collect();
    let elders = elders(root, holder, &files, deadline)?;
    for object in searched {
        match elders.iter().find(|(file, _)| *file == object.file) {
            Some((_, elder)) => keep(&mut found, &object, KeptWhy::Elder { pid: *elder }),
            // What a younger process has touched as well stays with that.
            None => found.returned = found.returned + object.resident.saturating_sub(object.shared),
        }
    }
    Ok(found)
}

/// Notes an object that stays, and remembers the largest.
fn keep(found: &mut SharedMemory, object: &SharedObject, why: KeptWhy) {
    let bytes = object.resident;
    found.kept = found.kept + bytes;
    if found.largest.as_ref().is_none_or(|largest| largest.bytes < bytes) {
        found.largest = Some(KeptObject { name: Name::new(object.name.as_slice()), bytes, why });
    }
}

/// Whether a segment outlives every process that attaches it. One that is not in the list belongs to another IPC namespace,
/// and nothing is known of it.
fn stays(segments: &[u8], object: &SharedObject) -> bool {
    shared_objects::segment(segments, object.file.inode).is_none_or(|segment| !segment.destroyed)
}

/// For each of `files` that an older process maps or holds open, one such process. Ancestors are asked first: they are
/// most often the ones.
fn elders(
    root: BorrowedFd<'_>,
    holder: Holder,
    files: &BTreeSet<FileId>,
    deadline: Instant,
) -> io::Result<Vec<(FileId, Pid)>> {
    let mut missing = files.clone();
    let mut elders = Vec::new();
    let mut asked = BTreeSet::from([holder.pid]);
    let mut ask = |pid: Pid, missing: &mut BTreeSet<FileId>, elders: &mut Vec<(FileId, Pid)>| {
        if asked.insert(pid) && is_elder(root, pid, holder) {
            for file in held(root, pid, missing) {
                missing.remove(&file);
                elders.push((file, pid));
            }
        }
    };
    let mut ancestor = holder.parent;
    while !missing.is_empty() && ancestor > Pid::INIT {
        ask(ancestor, &mut missing, &mut elders);
        ancestor = parent(root, ancestor).filter(|next| *next != ancestor).unwrap_or(Pid::INIT);
    }
    for pid in numbered(root, ".")? {
        if missing.is_empty() {
            break;
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        ask(Pid(pid?), &mut missing, &mut elders);
    }
    Ok(elders)
}

/// Whether `pid` started before `holder`, and has memory of its own: one that shares the address space is the same user of
/// it.
fn is_elder(root: BorrowedFd<'_>, pid: Pid, holder: Holder) -> bool {
    let start = whole(root, &format!("{pid}/stat")).ok().and_then(|text| Some(parse::stat(&text)?.start));
    start.is_some_and(|start| (start, pid) < (holder.start, holder.pid))
        && !kcmp::same_memory(pid, holder.pid)
}

fn parent(root: BorrowedFd<'_>, pid: Pid) -> Option<Pid> {
    Some(parse::stat(&whole(root, &format!("{pid}/stat")).ok()?)?.parent)
}

/// Which of `files` a process maps or holds open. One that cannot be read holds none: its owner could make it so.
fn held(root: BorrowedFd<'_>, pid: Pid, files: &BTreeSet<FileId>) -> BTreeSet<FileId> {
    let mut held = BTreeSet::new();
    if let Ok(maps) = reader(root, &format!("{pid}/maps")) {
        held.extend(smaps::files(maps).map_while(Result::ok).filter(|file| files.contains(file)));
    }
    if held.len() < files.len() {
        let _ = add_open(root, pid, files, &mut held);
    }
    held
}

fn add_open(
    root: BorrowedFd<'_>,
    pid: Pid,
    files: &BTreeSet<FileId>,
    held: &mut BTreeSet<FileId>,
) -> nix::Result<()> {
    let folder = format!("{pid}/fd");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = openat(root, folder.as_str(), flags, Mode::empty())?;
    for number in numbered(root, &folder)? {
        match fstatat(&directory, number?.to_string().as_str(), AtFlags::empty()) {
            Ok(stat) => {
                let file = FileId { device: stat.st_dev, inode: stat.st_ino };
                if files.contains(&file) {
                    held.insert(file);
                }
            }
            Err(errno) if ended(errno) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn reader(root: BorrowedFd<'_>, path: &str) -> io::Result<BufReader<File>> {
    let file = openat(root, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(BufReader::with_capacity(16 << 10, File::from(file)))
}

/// The device of the kernel's own mount for shared memory, which no file system in sight has: a memfd is asked for it.
///
/// # Errors
/// Those of memfd_create(2).
pub(super) fn internal_device() -> io::Result<u64> {
    static DEVICE: OnceLock<u64> = OnceLock::new();
    if let Some(device) = DEVICE.get() {
        return Ok(*device);
    }
    let probe: OwnedFd = memfd_create(c"memmon", MFdFlags::MFD_CLOEXEC)?;
    let device = fstat(probe.as_fd())?.st_dev;
    Ok(*DEVICE.get_or_init(|| device))
}

//! The part of a process's shared memory that its end would give back, found by the objects that it maps, and the older
//! processes that map them as well.
//!
//! An object that several processes map is charged to the eldest of them, for as much of it as that process has touched. A
//! database's workers map the same segment as the process that forked them, and ending one worker gives nothing of it back.
//! A process that only holds an object open, and does not map it, does not reduce the charge of another one: a hog could
//! start one.
//!
//! A failure that the machine causes (no descriptor left, no memory, a slow /proc) leaves the question open. One that the
//! owner of a process can cause, a lock that is held for ever, leaves it open for a bounded time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{OFlag, openat},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::{Mode, fstat},
    },
    unistd::geteuid,
};

use super::{
    ProcRoot,
    asked_ahead::AskedAhead,
    blocking_pool::{JobOwner, Lock, hangs_since, run_blocking, start_blocking},
    directory::ProcessDirectory,
    failure::gone,
    kcmp,
    lookups::{Failure, Found, Heartbeat, Holder, ONLOOKERS_TIME_LIMIT, Question, Step},
    numbered, parse,
    parts::parts,
    shared_objects::{self, Devices, Kind, SharedObject},
    smaps::{self, FileId},
    whole,
};
use crate::model::{
    Bytes, Fact, KeptObject, KeptWhy, Measure, Name, Parts, Pid, Process, ProcessId, SharedMemory, StartTime,
    Uid,
};

impl ProcRoot {
    /// The shared memory of a process, if the answer to `question` depends on it. `Unreadable` while it is not known, with
    /// the reason if that is trouble; `Withheld` if the process's owner keeps it from being read.
    pub(super) fn shared_memory(&self, question: Question<'_>) -> (Fact<SharedMemory>, Option<String>) {
        let now = Instant::now();
        if !question.depends_on_shared_memory() {
            return (Fact::Absent, None);
        }
        if question.owner.onlooks {
            return self.look_once(&question, now);
        }
        match self.lookups.step(&question, now, |elder| lives(self.directory.as_fd(), elder)) {
            Step::Take(fact, trouble) => (fact, trouble),
            Step::Start => {
                // One that cannot be started, as too many run, is no answer: it is tried again.
                let trouble = self.start_lookup(&question, now).err().and_then(|error| {
                    self.lookups.wait(question.holder, now, &format!("it could not be started: {error}"))
                });
                (Fact::Unreadable, trouble)
            }
        }
    }

    /// The shared memory of a process that consists of `parts`, for a caller that only displays it. Waits for a second at
    /// most.
    pub fn shared_memory_of(&self, process: &Process, parts: &Parts) -> Fact<SharedMemory> {
        let Process { id, parent, real_uid, .. } = *process;
        let owner = JobOwner { pid: id.pid, uid: real_uid, onlooks: true, lock: Lock::Pages };
        let holder = Holder { pid: id.pid, parent, start: id.start };
        self.look_once(&Question { owner, holder, parts, least: Bytes::ZERO }, Instant::now()).0
    }

    /// Asks the older processes about the shared memory of a process that comes near its limit, unless any were asked about
    /// another one a moment ago, and does not wait for the answers. Returns whether they are asked.
    ///
    /// # Errors
    /// The process is gone, or no job can be started for it. Then the answer waits for all of them at its limit.
    pub fn look_ahead(&self, process: ProcessId) -> io::Result<bool> {
        let (root, pid, now) = (self.directory.as_fd(), process.pid, Instant::now());
        let (stat, status) = (whole(root, &format!("{pid}/stat"))?, whole(root, &format!("{pid}/status"))?);
        let stat = parse::stat(&stat).filter(|stat| stat.start == process.start);
        let (Some(stat), Some((uid, _)), Some(parts)) = (stat, parse::uids(&status), parts(&status)) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let holder = Holder { pid, parent: stat.parent, start: stat.start };
        if self.measure != Measure::Charged || !self.lookups.may_look_ahead(holder, now) {
            return Ok(false);
        }
        let owner = JobOwner { pid, uid, onlooks: false, lock: Lock::Pages };
        let lookup = self.lookup(&Question { owner, holder, parts: &parts, least: Bytes::ZERO }, None)?;
        let (beat, lookups) = (Heartbeat::new(now), self.lookups.clone());
        self.lookups.begin_ahead(holder, beat.clone(), now);
        let job = move || lookups.looked_ahead(holder, lookup.ask_ahead(&beat).ok(), Instant::now());
        start_blocking(owner, job).inspect_err(|_| self.lookups.looked_ahead(holder, None, now))?;
        Ok(true)
    }

    /// A lookup whose caller waits for it.
    fn look_once(&self, question: &Question<'_>, now: Instant) -> (Fact<SharedMemory>, Option<String>) {
        let found = self.lookup(question, Some(now + ONLOOKERS_TIME_LIMIT));
        match found.map(|lookup| lookup.run(&Heartbeat::new(now), None)) {
            Ok(Ok(found)) => (Fact::Known(found.memory), None),
            Ok(Err(Failure::Machine(why))) => (Fact::Unreadable, Some(why)),
            Ok(Err(Failure::Withheld)) => (Fact::Withheld, None),
            Err(error) => (Fact::Unreadable, Some(error.to_string())),
        }
    }

    fn start_lookup(&self, question: &Question<'_>, now: Instant) -> io::Result<()> {
        let lookup = self.lookup(question, None)?;
        let (holder, memory, lookups) = (question.holder, question.memory(), self.lookups.clone());
        let (aged, ahead) = (self.lookups.aged(question, now), self.lookups.take_ahead(holder, now));
        let beat = Heartbeat::new(now);
        self.lookups.begin(holder, beat.clone(), now);
        start_blocking(question.owner, move || {
            let renewed = aged.filter(|answer| {
                let found = answer.found.as_ref();
                found.is_some_and(|found| lookup.still_holds(found, &beat).unwrap_or(false))
            });
            match renewed {
                Some(answer) => lookups.renew(holder, answer, Instant::now()),
                None => lookups.end(holder, memory, lookup.run(&beat, ahead), Instant::now()),
            }
        })
    }

    fn lookup(&self, question: &Question<'_>, deadline: Option<Instant>) -> io::Result<SharedMemoryLookup> {
        Ok(SharedMemoryLookup {
            root: Arc::new(self.directory.try_clone()?),
            own: self.own,
            owner: question.owner,
            holder: question.holder,
            needed: question.needed(),
            hangs_after: self.lookups.hangs_after,
            deadline,
        })
    }
}

/// A lookup of the shared memory of one process. It takes about 20 ms per GiB for the walk over its pages, and 0.1 ms for
/// each older process.
struct SharedMemoryLookup {
    /// A descriptor of /proc.
    root: Arc<OwnedFd>,
    /// Whether its pids are those that system calls of this process understand.
    own: bool,
    owner: JobOwner,
    holder: Holder,
    /// The amount that must be the process's own for it to be over its limit.
    needed: Bytes,
    hangs_after: Duration,
    deadline: Option<Instant>,
}

impl SharedMemoryLookup {
    /// `ahead`: the answers of older processes that were asked a moment ago.
    fn run(&self, beat: &Heartbeat, ahead: Option<AskedAhead>) -> Result<Found, Failure> {
        let Objects { mut memory, stays, searched } =
            self.objects("smaps", beat).map_err(|error| self.failure(&error))?;
        let files: BTreeMap<_, _> = searched.iter().map(|object| (object.file, object.resident)).collect();
        let all_searched = files.keys().copied().collect();
        let elders = match ahead.and_then(|ahead| ahead.elders_of(&files)) {
            Some(found) => Elders { found, unread: None },
            None => self.elders(files, beat).map_err(|error| self.failure(&error))?,
        };
        let mut open = Bytes::ZERO;
        for object in searched {
            // An elder that maps a part of it holds no more than that.
            let held = elders.found.get(&object.file).map_or(Bytes::ZERO, |(elder, mapped)| {
                let resident = object.resident.min(*mapped);
                let part = SharedObject { resident, ..object.clone() };
                keep(&mut memory, &part, KeptWhy::Elder { pid: elder.pid });
                resident
            });
            open = open + object.resident.saturating_sub(held);
        }
        match elders.unread {
            // An elder of which nothing is known could hold all of the rest, and the rest decides.
            Some(why) if open >= self.needed => Err(Failure::Machine(why)),
            _ => {
                memory.returned = open;
                let held = elders.found;
                let elders: BTreeSet<_> = held.values().map(|(elder, _)| *elder).collect();
                let elders = elders.into_iter().collect();
                Ok(Found { memory, elders, stays, searched: all_searched, held })
            }
        }
    }

    /// The answers of older processes about what it maps now.
    fn ask_ahead(&self, beat: &Heartbeat) -> io::Result<AskedAhead> {
        let at = Instant::now();
        let Objects { searched, .. } = self.objects("maps", beat)?;
        let mapped: BTreeMap<_, _> = searched.iter().map(|object| (object.file, object.mapped)).collect();
        let files = mapped.keys().copied().collect();
        let Elders { found, unread } = self.elders(mapped, beat)?;
        match unread {
            None => Ok(AskedAhead { at, files, found }),
            Some(why) => Err(io::Error::other(why)),
        }
    }

    /// Whether the process maps the same objects still, of which the same ones outlive it, and each elder as much of them as
    /// before. Walks over no pages.
    fn still_holds(&self, before: &Found, beat: &Heartbeat) -> io::Result<bool> {
        let Objects { stays, searched, .. } = self.objects("maps", beat)?;
        let files =
            |objects: &[SharedObject]| -> BTreeSet<_> { objects.iter().map(|object| object.file).collect() };
        if files(&stays) != files(&before.stays) || files(&searched) != before.searched {
            return Ok(false);
        }
        for elder in &before.elders {
            let held = before.held.iter().filter(|(_, (holder, _))| holder == elder);
            let held: BTreeMap<_, _> = held.map(|(file, (_, mapped))| (*file, *mapped)).collect();
            let (start, now) = self.mapped_by(elder.pid, false, held.keys().copied().collect())?;
            let is_held = |(file, before): (&FileId, &Bytes)| now.get(file).is_some_and(|now| now >= before);
            if start != elder.start || !held.iter().all(is_held) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The shared memory of the process, object by object; by its smaps, or, without resident pages, by its maps.
    fn objects(&self, file: &str, beat: &Heartbeat) -> io::Result<Objects> {
        let root = self.root.as_fd();
        let own = place(root, self.holder.pid)?;
        let tmpfs = shared_objects::tmpfs_devices(reader(root, &format!("{own}mountinfo"), beat)?)?;
        let devices = Devices { internal: internal_device()?, tmpfs };
        let text = reader(root, &format!("{own}{file}"), beat)?;
        let mappings = smaps::mappings(text, |file| devices.hold(file))?;
        let segments = match reader(root, "sysvipc/shm", beat) {
            Ok(text) => shared_objects::segments(text)?,
            // A kernel without System V IPC.
            Err(error) if gone(&error) => Default::default(),
            Err(error) => return Err(error),
        };
        // A segment that is not in the list belongs to another IPC namespace, and nothing is known of it.
        let stays =
            |object: &SharedObject| segments.get(&object.file.inode).is_none_or(|segment| !segment.freed);

        let mut found = Objects::default();
        for object in shared_objects::objects(&mappings, &devices) {
            let why = match object.kind {
                Kind::Named => KeptWhy::Named,
                Kind::SystemV if stays(&object) => KeptWhy::SystemV,
                Kind::SystemV | Kind::Unlinked => {
                    found.searched.push(object);
                    continue;
                }
            };
            keep(&mut found.memory, &object, why);
            found.stays.push(object);
        }
        Ok(found)
    }

    /// For each of `missing` that an older process maps, the one that maps the most of it, or one that maps as much as is
    /// resident here. Ancestors are asked first: they are most often the ones.
    fn elders(&self, mut missing: BTreeMap<FileId, Bytes>, beat: &Heartbeat) -> io::Result<Elders> {
        let root = self.root.as_fd();
        let mut elders = Elders::default();
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
        for pid in numbered(root, ".")? {
            if missing.is_empty() {
                break;
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            beat.beat();
            ask(Pid(pid?), false, &mut missing);
        }
        Ok(elders)
    }

    /// The part of `files` that an older process maps which has memory of its own, and the start of that process. `None` if
    /// its owner keeps that from being read.
    ///
    /// # Errors
    /// It is not known yet.
    fn mapped_by(
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

    fn failure(&self, error: &io::Error) -> Failure {
        if is_withheld(error, self.owner.uid) {
            Failure::Withheld
        } else {
            Failure::Machine(error.to_string())
        }
    }
}

/// The shared memory of a process.
#[derive(Default)]
struct Objects {
    /// Memory that is known to stay.
    memory: SharedMemory,
    /// The objects of that.
    stays: Vec<SharedObject>,
    /// The objects that an older process may hold.
    searched: Vec<SharedObject>,
}

/// The answers of older processes.
#[derive(Default)]
struct Elders {
    /// For each object, one of them and how much of it that one maps.
    found: BTreeMap<FileId, (ProcessId, Bytes)>,
    /// The reason why one of them gave no answer.
    unread: Option<String>,
}

/// Whether the owner of a process keeps memmon from reading it. Root's memmon may read everything, so for it only root, or
/// a security module, can be the reason; for memmon as a user it is prctl(PR_SET_DUMPABLE) of that user.
fn is_withheld(error: &io::Error, owner: Uid) -> bool {
    let own = geteuid();
    is_denied(error) && !own.is_root() && own.as_raw() == owner.0
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Nothing of what ended meanwhile.
fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if gone(&error) => Ok(None),
        read => read.map(Some),
    }
}

/// Notes an object that stays, and remembers the largest.
fn keep(found: &mut SharedMemory, object: &SharedObject, why: KeptWhy) {
    let bytes = object.resident;
    found.kept = found.kept + bytes;
    if found.largest.as_ref().is_none_or(|largest| largest.bytes < bytes) {
        found.largest = Some(KeptObject { name: Name::new(object.name.as_slice()), bytes, why });
    }
}

/// Whether an elder still has memory.
fn lives(root: BorrowedFd<'_>, elder: ProcessId) -> bool {
    let text = whole(root, &format!("{}/stat", elder.pid)).unwrap_or_default();
    let state = parse::stat(&text).filter(|stat| stat.start == elder.start);
    state.is_some_and(|stat| stat.threads > 1 || !matches!(stat.state, 'Z' | 'X'))
}

/// The place to read a process's memory from: its own files are empty if its main thread has ended, and those of others are
/// not.
fn place(root: BorrowedFd<'_>, pid: Pid) -> nix::Result<String> {
    let place = ProcessDirectory::open(root, pid)?.place()?;
    Ok(format!("{pid}/{}", place.map(|(place, _)| place).unwrap_or_default()))
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

/// A file that shows the progress of reading it.
struct Beating<'a>(File, &'a Heartbeat);

impl Read for Beating<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.beat();
        self.0.read(buffer)
    }
}

fn reader<'a>(root: BorrowedFd<'_>, path: &str, beat: &'a Heartbeat) -> io::Result<BufReader<Beating<'a>>> {
    let file = openat(root, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(BufReader::with_capacity(16 << 10, Beating(File::from(file), beat)))
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

#[cfg(test)]
mod tests;

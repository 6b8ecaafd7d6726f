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
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{OFlag, openat},
    sys::{
        memfd::{MFdFlags, memfd_create},
        stat::{Mode, fstat},
    },
};

use tracing::debug;

use super::{
    ProcRoot,
    blocking_pool::{JobOwner, Lock, start_blocking},
    directory::place,
    elders::{Elders, OlderProcesses},
    failure::{gone, is_withheld},
    lookups::{Failure, Found, Heartbeat, Holder, ONLOOKERS_TIME_LIMIT, Question, Step},
    parse,
    parts::parts,
    shared_objects::{self, Devices, Kind, Segment, SharedObject},
    smaps::{self, FileId, Mapping},
    whole,
};
use crate::model::{Bytes, Fact, KeptObject, KeptWhy, Name, Parts, Process, ProcessId, SharedMemory};

/// Number of times that a process which grows is looked at before its pages are counted, and the time between two of them: by
/// then it may have so much more that there is no doubt.
const GLANCES: u32 = 4;
const GLANCE_PAUSE: Duration = Duration::from_millis(1);

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
        self.look_once(&Question { owner, holder, parts, least: Bytes::ZERO, error: None }, Instant::now()).0
    }

    /// A lookup whose caller waits for it.
    fn look_once(&self, question: &Question<'_>, now: Instant) -> (Fact<SharedMemory>, Option<String>) {
        let found = self.lookup(question, Some(now + ONLOOKERS_TIME_LIMIT));
        match found.map(|lookup| lookup.run(&Heartbeat::new(now))) {
            Ok(Ok(found)) => (Fact::Known(found.memory), None),
            Ok(Err(Failure::Machine(why))) => (Fact::Unreadable, Some(why)),
            Ok(Err(Failure::Withheld)) => (Fact::Withheld, None),
            Err(error) => (Fact::Unreadable, Some(error.to_string())),
        }
    }

    fn start_lookup(&self, question: &Question<'_>, now: Instant) -> io::Result<()> {
        let lookup = self.lookup(question, None)?;
        let (holder, memory, lookups) = (question.holder, question.memory(), self.lookups.clone());
        let aged = self.lookups.aged(question, now);
        let beat = Heartbeat::new(now);
        self.lookups.begin(holder, beat.clone(), now);
        start_blocking(question.owner, move || {
            let renewed = aged.filter(|answer| {
                let found = answer.found.as_ref();
                found.is_some_and(|found| lookup.still_holds(found, &beat).unwrap_or(false))
            });
            match renewed {
                Some(answer) => lookups.renew(holder, answer, Instant::now()),
                None => lookups.end(holder, memory, lookup.run(&beat), Instant::now()),
            }
        })
    }

    fn lookup(&self, question: &Question<'_>, deadline: Option<Instant>) -> io::Result<SharedMemoryLookup> {
        let (root, owner, holder) = (Arc::new(self.directory.try_clone()?), question.owner, question.holder);
        let older = OlderProcesses {
            root: Arc::clone(&root),
            own: self.own,
            mappings: self.mappings.clone().filter(|_| self.own),
            owner,
            holder,
            hangs_after: self.lookups.hangs_after,
            deadline,
        };
        let (needed, error) = (question.needed(), question.error);
        Ok(SharedMemoryLookup { root, owner, holder, older, needed, error })
    }
}

/// A lookup of the shared memory of one process. It takes about 20 ms per GiB if it walks over the pages, and 0.1 ms for each
/// older process that it asks.
struct SharedMemoryLookup {
    /// A descriptor of /proc.
    root: Arc<OwnedFd>,
    owner: JobOwner,
    holder: Holder,
    older: OlderProcesses,
    /// The amount that must be the process's own for it to be over its limit.
    needed: Bytes,
    /// See [`Question::error`].
    error: Option<Bytes>,
}

impl SharedMemoryLookup {
    fn run(&self, beat: &Heartbeat) -> Result<Found, Failure> {
        let mut asked = None;
        // An error comes again in the walk.
        if let Some(found) = self.without_walk(&mut asked, beat).unwrap_or_default() {
            self.looked_up(asked.as_ref(), false);
            return Ok(found);
        }
        let Objects { mut memory, stays, searched, .. } =
            self.objects("smaps", beat).map_err(|error| self.failure(&error))?;
        let files: BTreeMap<_, _> = searched.iter().map(|object| (object.file, object.resident)).collect();
        let all_searched = files.keys().copied().collect();
        let elders = match asked.filter(|asked| asked.cover(&files)) {
            Some(asked) => asked,
            None => self.older.asked_for(files, beat).map_err(|error| self.failure(&error))?,
        };
        self.looked_up(Some(&elders), true);
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
                Ok(Found::new(memory, stays, all_searched, elders.found))
            }
        }
    }

    /// The same without a walk over the pages, if so much of the process's shared memory as is needed must be in objects that no
    /// older process maps, even if it had all of the others. `asked`: the answers of older processes, if they were asked.
    fn without_walk(&self, asked: &mut Option<Elders>, beat: &Heartbeat) -> io::Result<Option<Found>> {
        let Some(error) = self.error else { return Ok(None) };
        let known = self.surroundings(beat)?;
        let objects = self.objects_by("maps", &known, beat)?;
        let mapped: BTreeMap<_, _> =
            objects.searched.iter().map(|object| (object.file, object.mapped)).collect();
        let all: BTreeSet<_> = mapped.keys().copied().collect();
        // If only the error leaves a doubt, a process that grows is beyond it in a moment.
        if self.resident(Bytes::ZERO)?.saturating_sub(objects.beside(&all)) < self.needed {
            return Ok(None);
        }
        let elders = asked.insert(self.older.asked_for(mapped, beat)?);
        if elders.unread.is_some() {
            return Ok(None);
        }
        let held = elders.found.clone();
        let own = all.iter().copied().filter(|file| !held.contains_key(file)).collect();
        let returned =
            self.glance(error, &own, (&objects, &known), beat)?.filter(|returned| *returned >= self.needed);
        let memory = returned.map(|returned| SharedMemory { returned, ..SharedMemory::default() });
        Ok(memory.map(|memory| Found::new(memory, objects.stays, all, held)))
    }

    /// Resident memory that must be in the objects `own`, by its mappings before and after that was read. Waits for a moment
    /// while that is less than needed.
    fn glance(
        &self,
        error: Bytes,
        own: &BTreeSet<FileId>,
        (before, known): (&Objects, &Surroundings),
        beat: &Heartbeat,
    ) -> io::Result<Option<Bytes>> {
        let beside = before.beside(own);
        for _ in 0..GLANCES {
            let resident = self.resident(error)?;
            if resident.saturating_sub(beside) >= self.needed {
                // A file system that was mounted meanwhile counts as beside them.
                let after = self.objects_by("maps", known, beat)?.beside(own);
                return Ok(Some(resident.saturating_sub(beside.max(after))));
            }
            thread::sleep(GLANCE_PAUSE);
        }
        Ok(None)
    }

    fn looked_up(&self, elders: Option<&Elders>, walk: bool) {
        let (pid, asked) = (self.holder.pid.0, elders.map_or(0, |elders| elders.asked));
        debug!(pid, asked, walk, "shared memory is looked up");
    }

    /// The shared memory that the process has at least now, by figures that may be off by `error`.
    fn resident(&self, error: Bytes) -> io::Result<Bytes> {
        let root = self.root.as_fd();
        let status = whole(root, &format!("{}status", place(root, self.holder.pid)?))?;
        let parts = parts(&status).ok_or(io::ErrorKind::InvalidData)?;
        Ok(parts.shmem.saturating_sub(error))
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
            let (start, now) = self.older.mapped_by(elder.pid, false, held.keys().copied().collect())?;
            let is_held = |(file, before): (&FileId, &Bytes)| now.get(file).is_some_and(|now| now >= before);
            if start != elder.start || !held.iter().all(is_held) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn surroundings(&self, beat: &Heartbeat) -> io::Result<Surroundings> {
        let root = self.root.as_fd();
        let mounts = format!("{}mountinfo", place(root, self.holder.pid)?);
        let tmpfs = shared_objects::tmpfs_devices(reader(root, &mounts, beat)?)?;
        let devices = Devices { internal: internal_device()?, tmpfs };
        let segments = match reader(root, "sysvipc/shm", beat) {
            Ok(text) => shared_objects::segments(text)?,
            // A kernel without System V IPC.
            Err(error) if gone(&error) => Default::default(),
            Err(error) => return Err(error),
        };
        Ok(Surroundings { devices, segments })
    }

    /// The shared memory of the process, object by object; by its smaps, or, without resident pages, by its maps.
    fn objects(&self, file: &str, beat: &Heartbeat) -> io::Result<Objects> {
        self.objects_by(file, &self.surroundings(beat)?, beat)
    }

    fn objects_by(&self, file: &str, known: &Surroundings, beat: &Heartbeat) -> io::Result<Objects> {
        let Surroundings { devices, segments } = known;
        let root = self.root.as_fd();
        let text = reader(root, &format!("{}{file}", place(root, self.holder.pid)?), beat)?;
        let mappings = smaps::mappings(text, |file| devices.hold(file) || Devices::may_hold(file))?;
        // A segment that is not in the list belongs to another IPC namespace, and nothing is known of it.
        let stays =
            |object: &SharedObject| segments.get(&object.file.inode).is_none_or(|segment| !segment.freed);

        let others = mappings.iter().filter(|mapping| !devices.hold(mapping.file)).map(Mapping::size).sum();
        let mut found = Objects { others, ..Objects::default() };
        for object in shared_objects::objects(&mappings, devices) {
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

    fn failure(&self, error: &io::Error) -> Failure {
        if is_withheld(error, self.owner.uid) {
            Failure::Withheld
        } else {
            Failure::Machine(error.to_string())
        }
    }
}

/// The facts by which objects of shared memory are known.
struct Surroundings {
    devices: Devices,
    /// The System V segments, by inode.
    segments: BTreeMap<u64, Segment>,
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
    /// The size of other mappings that may hold shared memory.
    others: Bytes,
}

impl Objects {
    /// The most that may be resident beside the objects `own`, and again in these if they are mapped several times.
    fn beside(&self, own: &BTreeSet<FileId>) -> Bytes {
        let beside = |object: &SharedObject| {
            let once = if own.contains(&object.file) { object.covered } else { Bytes::ZERO };
            object.mapped.saturating_sub(once)
        };
        self.others + self.stays.iter().chain(&self.searched).map(beside).sum()
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

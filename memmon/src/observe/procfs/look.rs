//! One look at a process, in this order: its identity, its names and surroundings, its memory, and its identity again.
//!
//! Memory comes after the names: a program that is replaced (exec) in between takes its memory with it, so that a large figure
//! is never that of another program than the one named.

use std::io;

use super::blocking_pool::{JobOwner, Lock, run_blocking};
use super::called::is_same;
use super::directory::ProcessDirectory;
use super::failure::{gone, is_the_machines, missing, read, unconfirmed, understood, withheld_or};
use super::inherited::Forked;
use super::launch::launch;
use super::lookups::{Holder, Question};
use super::parse::{self, Stat};
use super::parts::parts;
use super::script::script;
use super::session::session;
use super::{Accuracy, ProcRoot, pages, pod_container};
use crate::model::{
    Bytes, Fact, Holdings, Inherited, Launch, MatchFacts, Measure, Name, Names, Parts, Pid, Process,
    ProcessId, StartTime, Uid, Unconfirmed, Workload,
};

/// The purpose of a close look.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// To know whether a process exceeds this limit.
    Limit(Bytes),
    /// To know what it holds in a sum; `exact` if its pages are to be counted.
    Sum { exact: bool },
}

/// The question that a look answers.
#[derive(Clone, Copy)]
pub(super) struct Goal<'a> {
    pub(super) purpose: Purpose,
    pub(super) accuracy: &'a Accuracy,
    /// Memory that the process had at most when it was forked, if it was forked and has not called exec.
    pub(super) at_fork: Option<Bytes>,
}

/// A look that has begun.
pub(super) struct Look<'a> {
    root: &'a ProcRoot,
    directory: &'a ProcessDirectory,
    owner: JobOwner,
    stat: Stat<'a>,
    status: Vec<u8>,
    effective_uid: Uid,
    /// Where its files are read: see [`ProcessDirectory::place`].
    place: String,
    has_memory: bool,
}

/// The names of a process, and its surroundings.
struct Description {
    names: Names,
    facts: MatchFacts,
    cgroup: Fact<Name>,
    oom_score_adj: Fact<i16>,
    launch: Launch,
}

/// The memory of a process.
struct Memory {
    rss: Bytes,
    error: Bytes,
    /// Whether it is more than the limit, or anything at all in a sum. Otherwise nothing but `rss` is read.
    is_over: bool,
    parts: Option<Parts>,
    inherited: Fact<Inherited>,
    holdings: Option<Holdings>,
}

impl<'a> Look<'a> {
    /// Begins to look at `pid`, which must have started at `expected` if that is known, by its /proc/PID/stat.
    pub(super) fn begin(
        root: &'a ProcRoot,
        directory: &'a ProcessDirectory,
        (pid, expected): (Pid, Option<StartTime>),
        stat: &'a [u8],
    ) -> Result<Self, Unconfirmed> {
        let stat = understood("stat", parse::stat(stat))?;
        same_start(pid, expected.unwrap_or(stat.start), stat.start)?;
        let place = if stat.has_memory {
            Some(String::new())
        } else {
            let place = directory.place().map_err(|errno| unconfirmed("statm", errno))?;
            place.map(|(place, _)| place)
        };
        let has_memory = place.is_some();
        let mut place = place.unwrap_or_default();
        let status = directory.through(&mut place, |at| directory.read(at, "status"));
        let status = status.map_err(|error| unconfirmed("status", error))?;
        if let Some(process) = parse::process_of(&status).filter(|process| *process != pid) {
            return Err(Unconfirmed::Thread { process });
        }
        let (uid, effective_uid) = understood("status", parse::uids(&status))?;
        let owner = JobOwner { pid, uid, onlooks: root.onlooks, lock: Lock::Mmap };
        Ok(Self { root, directory, owner, stat, status, effective_uid, place, has_memory })
    }

    /// Returns the process, and whether it has the same name and program still.
    pub(super) fn finish(mut self, goal: Goal<'_>) -> Result<(Process, bool), Unconfirmed> {
        let Description { names, mut facts, cgroup, oom_score_adj, mut launch } = self.describe()?;
        let Memory { rss, error, is_over, parts, inherited, holdings } =
            self.measure(goal, &mut facts.machine_fails)?;
        let container = cgroup.known().filter(|_| is_over).and_then(|cgroup| self.container(cgroup));
        // A container has namespaces of both kinds, and the signal waits for this read.
        if is_over && launch.inside.pid.is_some() {
            launch.inside.uid = self.uid_inside();
        }
        let is_same = self.is_same()?;
        let process = Process {
            id: ProcessId { pid: self.owner.pid, start: self.stat.start },
            parent: self.stat.parent,
            rss,
            error,
            real_uid: self.owner.uid,
            effective_uid: self.effective_uid,
            facts,
            names,
            cgroup,
            container,
            oom_score_adj,
            launch,
            parts,
            kernel_thread: self.stat.kernel_thread(),
            inherited,
            holdings,
        };
        Ok((process, is_same))
    }

    fn describe(&mut self) -> Result<Description, Unconfirmed> {
        let Self { root, directory, owner, .. } = *self;
        let (line, borrows) =
            root.command_line(directory, owner, &self.stat, (&mut self.place, self.has_memory));
        if borrows {
            return Err(Unconfirmed::Borrowed { owner: self.stat.parent });
        }
        let slurm_job_id = line.as_ref().ok().and_then(|line| line.slurm_job_id);
        let cmdline = line.map(|line| line.text);
        let exe = self.through(|directory, at| directory.link(at, "exe"));
        let group = self.read("cgroup");
        let mut facts = self.facts(cmdline.as_deref());
        let errors = [cmdline.as_ref().err(), exe.as_ref().err(), group.as_ref().err()];
        facts.machine_fails |= errors.into_iter().flatten().any(is_the_machines);
        let exe = withheld_or(exe, |target| Some(Name::new(parse::strip_deleted_suffix(target))));
        let mut launch = launch(&self.stat, &self.status, cmdline.as_deref().ok());
        let script = cmdline.as_deref().ok().and_then(|text| script(exe.known().map(Name::as_bytes), text));
        let names = Names {
            comm: Name::new(self.stat.comm),
            script: script.map(Name::new),
            exe,
            argv0: withheld_or(cmdline, |text| parse::argv0(text).map(Name::new)),
        };
        let cgroup = root.cgroup(group, owner, self.stat.start);
        if slurm_job_id.is_some() {
            let job = cgroup.known().and_then(Workload::of).and_then(|workload| workload.slurm);
            launch.slurm_job_id = slurm_job_id.filter(|_| job.is_none());
        }
        let oom_score_adj = match directory.read("", "oom_score_adj") {
            Ok(text) => parse::single_value(&text).map_or(Fact::Unreadable, Fact::Known),
            Err(error) if gone(&error) => Fact::Absent,
            Err(_) => Fact::Unreadable,
        };
        Ok(Description { names, facts, cgroup, oom_score_adj, launch })
    }

    /// The facts that rules ask for.
    fn facts(&mut self, cmdline: Result<&[u8], &io::Error>) -> MatchFacts {
        let Self { root, directory, owner, .. } = *self;
        let args = match cmdline {
            _ if !root.wanted.args => Fact::Absent,
            Ok(text) => Fact::Known(parse::args(text)),
            Err(error) => missing(error),
        };
        let mut machine_fails = false;
        let exe_file = if root.wanted.exe_file {
            root.exe_file(directory, owner, &mut self.place, &mut machine_fails)
        } else {
            Fact::Absent
        };
        let session =
            if root.wanted.session { session(directory.read("", "sessionid")) } else { Fact::Absent };
        MatchFacts { groups: parse::groups(&self.status), args, exe_file, session, machine_fails }
    }

    fn measure(&mut self, goal: Goal<'_>, machine_fails: &mut bool) -> Result<Memory, Unconfirmed> {
        let error = goal.accuracy.error(self.stat.threads);
        let (rss, error, counted) = if self.has_memory {
            self.resident(goal.purpose, error)?
        } else {
            (Bytes::ZERO, Bytes::ZERO, None)
        };
        if !goal.purpose.is_exceeded(rss, error) {
            let inherited = Fact::Absent;
            return Ok(Memory { rss, error, is_over: false, parts: None, inherited, holdings: None });
        }
        let parts = parts(&self.status);
        let parts = parts.map(|parts| Parts { anon: counted.unwrap_or(parts.anon), ..parts });
        let inherited = match self.stat.is_forked().then(|| self.inherited(goal, rss, parts)) {
            Some(Ok(inherited)) => inherited,
            Some(Err(error)) => {
                *machine_fails |= is_the_machines(&error);
                Fact::Unreadable
            }
            None => Fact::Absent,
        };
        let is_measured =
            self.root.measure == Measure::Charged || matches!(goal.purpose, Purpose::Sum { .. });
        let holdings = parts.filter(|_| is_measured).map(|parts| self.holdings(goal, parts, &inherited));
        Ok(Memory { rss, error, is_over: true, parts, inherited, holdings })
    }

    /// Resident memory and how far that may be off, where statm may be off by `error`; and its anonymous memory, if its pages
    /// were counted.
    fn resident(
        &mut self,
        purpose: Purpose,
        error: Bytes,
    ) -> Result<(Bytes, Bytes, Option<Bytes>), Unconfirmed> {
        let statm = self.through(|directory, at| Ok(directory.statm(at)?));
        let statm = statm.map_err(|error| unconfirmed("statm", error))?;
        if statm.size == 0 {
            return Err(Unconfirmed::Gone);
        }
        let rss = pages(statm.resident, self.root.page_size);
        if error == Bytes::ZERO || purpose.suffices(rss, error) {
            return Ok((rss, error, None));
        }
        // Not available without PTRACE_MODE_READ or CONFIG_PROC_PAGE_MONITOR: then the doubt stays.
        let owner = self.owner;
        let rollup = self.through(|directory, at| {
            directory.reading(at, "smaps_rollup").and_then(|read| run_blocking(owner, read)?)
        });
        let exact =
            rollup.ok().and_then(|text| Some((parse::kib(&text, "Rss:")?, parse::kib(&text, "Anonymous:"))));
        Ok(exact.map_or((rss, error, None), |(exact, anon)| (exact, Bytes::ZERO, anon)))
    }

    /// Memory that is its elder's.
    fn inherited(&mut self, goal: Goal<'_>, rss: Bytes, parts: Option<Parts>) -> io::Result<Fact<Inherited>> {
        let Self { root, directory, owner: about, .. } = *self;
        let layout = parse::stat(&self.read("stat")?).and_then(|stat| stat.layout);
        let limit = goal.purpose.limit(rss);
        let (parent, start, at) = (self.stat.parent, self.stat.start, self.place.as_str());
        let decisive = root.decisive(rss, parts.as_ref(), limit);
        let forked = Forked { about, parent, start, layout, directory, at, rss, parts, decisive };
        root.inherited(&forked, limit, goal.at_fork)
    }

    /// The memory that its end would give back.
    fn holdings(&self, goal: Goal<'_>, parts: Parts, inherited: &Fact<Inherited>) -> Holdings {
        let Stat { parent, start, .. } = self.stat;
        let holder = Holder { pid: self.owner.pid, parent, start };
        let owner = JobOwner { lock: Lock::Pages, ..self.owner };
        let elders = inherited.known().map_or(Bytes::ZERO, |inherited| inherited.bytes);
        let own = Parts { anon: parts.anon.saturating_sub(elders), ..parts };
        let least = goal.purpose.least(&own);
        let error = match goal.purpose {
            Purpose::Limit(_) => Some(goal.accuracy.error(self.stat.threads)),
            Purpose::Sum { .. } => None,
        };
        let (shared, trouble) =
            self.root.shared_memory(Question { owner, holder, parts: &own, least, error });
        Holdings { parts, shared, trouble }
    }

    /// The name of its container in a pod. One that cannot be read is no doubt: no verdict depends on it.
    fn container(&mut self, cgroup: &Name) -> Option<Name> {
        let pod = pod_container::pod(cgroup)?;
        self.through(|directory, at| pod_container::name(directory, at, &pod)).ok()?
    }

    /// Its real uid in its user namespace.
    fn uid_inside(&mut self) -> Option<Uid> {
        let map = self.read("uid_map").ok()?;
        parse::uid_inside(&map, self.owner.uid.0).map(Uid)
    }

    /// Whether it has the name and the program still that it had at first.
    fn is_same(&self) -> Result<bool, Unconfirmed> {
        let text = read(self.directory, "", "stat")?;
        let now = understood("stat", parse::stat(&text))?;
        same_start(self.owner.pid, self.stat.start, now.start)?;
        if self.stat.is_forked() && !now.is_forked() {
            // It has called exec meanwhile, and some of what was read is of a program that is gone. It can do that once.
            return Err(Unconfirmed::Gone);
        }
        Ok(is_same(&self.stat, &now))
    }

    fn read(&mut self, file: &str) -> io::Result<Vec<u8>> {
        self.through(|directory, at| directory.read(at, file))
    }

    /// Reads what any living thread shows: see [`ProcessDirectory::through`].
    fn through<T>(
        &mut self,
        mut read: impl FnMut(&ProcessDirectory, &str) -> io::Result<T>,
    ) -> io::Result<T> {
        let directory = self.directory;
        directory.through(&mut self.place, |at| read(directory, at))
    }
}

impl Purpose {
    /// Whether `rss` answers it, although that may be off by `error`.
    const fn suffices(self, rss: Bytes, error: Bytes) -> bool {
        match self {
            Self::Limit(limit) => rss.0.abs_diff(limit.0) > error.0,
            Self::Sum { exact } => !exact,
        }
    }

    fn is_exceeded(self, rss: Bytes, error: Bytes) -> bool {
        match self {
            Self::Limit(limit) => rss.saturating_sub(error) > limit,
            Self::Sum { .. } => rss > Bytes::ZERO,
        }
    }

    /// The limit for a process with `rss`. In a sum each page counts that is its own.
    const fn limit(self, rss: Bytes) -> Bytes {
        match self {
            Self::Limit(limit) => limit,
            Self::Sum { .. } => rss.saturating_sub(Bytes(1)),
        }
    }

    /// The least memory for which it matters who else has the shared part of a process's `own` memory.
    fn least(self, own: &Parts) -> Bytes {
        match self {
            Self::Limit(limit) => Measure::least_charged(limit),
            // Any of its shared memory, if it has some.
            Self::Sum { .. } => own.anon + own.swap + Bytes(own.shmem.0.min(1)),
        }
    }
}

fn same_start(pid: Pid, expected: StartTime, found: StartTime) -> Result<(), Unconfirmed> {
    if expected == found { Ok(()) } else { Err(Unconfirmed::AnotherProcess { pid, expected, found }) }
}

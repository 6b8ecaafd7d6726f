//! The parts of events: their severity, the process that they are about, and their destination.

use std::{fmt, os::unix::ffi::OsStrExt, path::PathBuf};

use jiff::Zoned;
use serde::{Serialize, Serializer};

use crate::model::{
    Bytes, Escaped, Fact, Inside, Launch, Name, NamespaceInit, NotifyUser, Pid, Process, ProcessId, Reason,
    Uid, Workload, words,
};

words! {
    /// The severity of an event. The words are v1's.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    pub enum Level {
        /// For people who look for a fault of memmon's own.
        Debug = "DEBUG",
        /// Everyday life.
        #[default]
        Info = "INFO",
        /// A process is being terminated, or something is degraded.
        Warning = "WARNING",
        /// Something that was asked for could not be done.
        Error = "ERROR",
    }
}

/// The process that an event is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subject {
    /// The identity.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its comm.
    #[serde(rename = "comm")]
    pub name: Name,
    /// The real uid; the sinks look up the user's name, because that may be slow.
    pub uid: Uid,
    /// The path of its executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<Name>,
    /// The cgroup, which names the unit that may start it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Name>,
    /// The job, container and unit that the cgroup names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Its start.
    #[serde(flatten)]
    pub launched: Option<Launched>,
    /// The times at which its user is notified, if its rule sets them.
    #[serde(skip)]
    pub notify_user: Option<NotifyUser>,
}

impl Subject {
    /// The user's name, by `look_up`; only the uid for a container's user, because the user of this machine with the same
    /// uid is another one.
    pub fn user(&self, look_up: &mut dyn FnMut(Uid) -> String) -> String {
        let is_foreign = self.workload.as_ref().is_some_and(Workload::has_users_of_its_own);
        if is_foreign && self.uid != Uid::ROOT { self.uid.0.to_string() } else { look_up(self.uid) }
    }
}

/// The start of a process, which distinguishes one `python3` from another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Launched {
    /// The beginning of its command line, unless `log.command_lines` leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<Name>,
    /// Its parent.
    #[serde(rename = "parent_pid")]
    pub parent: Pid,
    /// The parent's comm, if the parent still lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_comm: Option<Name>,
    /// Its session, which has the pid of its leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Pid>,
    /// Its controlling terminal: `pts/3`.
    #[serde(rename = "tty", skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
    /// Set if it is the first process of a pid namespace.
    #[serde(rename = "namespace_init", skip_serializing_if = "Option::is_none")]
    pub init: Option<NamespaceInit>,
    /// Its pid and uid in namespaces of its own.
    #[serde(flatten)]
    pub inside: Inside,
    /// `SLURM_JOB_ID` in its environment, which its user can set, if its cgroup is not that of a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slurm_job_id: Option<u32>,
    /// The time of its start, in local time.
    #[serde(serialize_with = "as_seconds_of_day")]
    pub started: Zoned,
}

impl Launched {
    /// The facts of `process`, with its parent's name and its start as a time of day.
    pub fn new(process: &Process, parent_comm: Option<Name>, started: Zoned) -> Self {
        let Launch { command_line, session, terminal, init, inside, slurm_job_id } = process.launch.clone();
        let parent = process.parent;
        Self { command_line, parent, parent_comm, session, terminal, init, inside, slurm_job_id, started }
    }
}

fn as_seconds_of_day<S: Serializer>(time: &Zoned, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.strftime("%Y-%m-%dT%H:%M:%S%:z"))
}

impl From<&Process> for Subject {
    fn from(process: &Process) -> Self {
        let known = |fact: &Fact<Name>| fact.known().cloned();
        Self {
            id: process.id,
            name: process.names.comm.clone(),
            uid: process.real_uid,
            exe: known(&process.names.exe),
            cgroup: known(&process.cgroup),
            workload: workload(process),
            launched: None,
            notify_user: None,
        }
    }
}

/// The workload of a process. The container's name is the only one that the process's mounts have; the others follow from
/// the runtime's files, if these can be read.
fn workload(process: &Process) -> Option<Workload> {
    let mut workload = process.cgroup.known().and_then(Workload::of)?;
    if let Some(container) = &mut workload.container {
        container.names.name.clone_from(&process.container);
    }
    Some(workload)
}

/// Destinations of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    /// Standard error.
    Console,
    /// `settings.log_file`.
    File,
    /// The systemd journal.
    Journal,
    /// syslog(3)'s socket.
    Syslog,
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Console => "the console",
            Self::File => "the log file",
            Self::Journal => "the systemd journal",
            Self::Syslog => "syslog",
        })
    }
}

/// The action if a sum exceeds its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SumThen {
    /// Processes of it are terminated, one after the other, until it is within its limit; a dry run shows them.
    Terminate,
    /// Nothing: the rule only warns.
    Warn,
    /// Its cgroup is slowed down, or there is a report why not.
    Throttle,
    /// Nothing: processes that are protected, or cannot be signalled, hold more than the limit alone.
    Protected,
    /// Nothing yet: it is in doubt how much of it is theirs, or whether the processes that would end are protected.
    Unsure,
}

/// A process of a sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SumPart {
    /// Its pid.
    pub pid: Pid,
    /// Its comm.
    pub comm: Name,
    /// The memory that it holds of the sum.
    pub bytes: Bytes,
}

/// The actions that a dry run would have taken on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DryRunCounts {
    /// Terminations that would have been.
    pub times: u64,
    /// Processes that would have been stopped.
    pub stops: u64,
    /// Cgroups that would have been slowed down.
    pub throttles: u64,
}

/// The terminations of one program and user that a dry run would have made on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryRunProgram {
    /// The comm.
    pub comm: Name,
    /// The real uid.
    pub uid: Uid,
    /// Number of terminations.
    pub times: u64,
    /// The largest of them.
    #[serde(rename = "largest_bytes")]
    pub largest: Bytes,
}

/// The levels that were reached: `available,swap_free`. The figures are those of the machine's memory.
pub(super) fn as_kinds<S: Serializer>(reasons: &[Reason], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&reasons.iter().map(Reason::kind).collect::<Vec<_>>().join(","))
}

/// A path need not be UTF-8, and JSON must be.
pub(super) fn as_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| Escaped(path.as_os_str().as_bytes()).to_string()).serialize(serializer)
}

pub(super) fn as_paths<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| Escaped(path.as_os_str().as_bytes()).to_string()))
}

//! Everything that memmon ever tells anyone, as data. The sinks decide how it is written, never what.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use crate::model::{
    Breach, Bytes, Doubt, Fact, Name, Process, ProcessId, Protection, Record, Signal, SystemMemory, Uid,
    Unconfirmed,
};

/// How urgent an event is; the words are v1's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// For those who look for a fault of memmon's own.
    Debug,
    /// Everyday life.
    Info,
    /// A process is being terminated, or something is degraded.
    Warning,
    /// Something that was asked for could not be done.
    Error,
}

/// The process that an event is about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subject {
    /// Who it is.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its comm.
    pub name: Name,
    /// The real uid; the sinks look up the user's name, because that may be slow.
    pub uid: Uid,
    /// What it is called on disk.
    pub exe: Option<Name>,
    /// The cgroup, which names the unit that may start it again.
    pub cgroup: Option<Name>,
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
        }
    }
}

/// Where events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sink {
    /// Standard output or error.
    Console,
    /// `settings.log_file`.
    File,
    /// The systemd journal.
    Journal,
    /// syslog(3)'s socket.
    Syslog,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The daemon watches now.
    Started {
        /// memmon's version.
        version: &'static str,
        /// The configuration file, or none for the built-in defaults.
        config: Option<PathBuf>,
        /// `ebpf` or `proc`.
        source: &'static str,
        /// Why this source.
        reason: String,
        /// Whether nothing is going to be signalled.
        dry_run: bool,
        /// The lower of the two limits.
        limit: Bytes,
        /// Time between scans.
        #[serde(serialize_with = "as_seconds")]
        interval: Duration,
    },
    /// Something works less well than it could, or nothing is done where something was asked for.
    Degraded {
        /// What is missing, and what would help.
        what: String,
    },
    /// The first line of a scan.
    SystemMemory {
        /// The machine's memory.
        #[serde(flatten)]
        memory: SystemMemory,
    },
    /// A process is sent SIGTERM (or would be).
    Killing {
        /// Whom.
        #[serde(flatten)]
        subject: Subject,
        /// Why.
        #[serde(flatten)]
        breach: Breach,
        /// Nothing is sent.
        dry_run: bool,
    },
    /// The grace is over: SIGKILL.
    GraceOver {
        /// Whom.
        #[serde(flatten)]
        subject: Subject,
        /// What it has resident now.
        rss: Bytes,
        /// How long it had.
        #[serde(serialize_with = "as_seconds")]
        grace: Duration,
    },
    /// A victim is gone.
    Terminated {
        /// Who it was.
        #[serde(flatten)]
        subject: Subject,
        /// How it went.
        #[serde(flatten)]
        record: Record,
    },
    /// A victim is left alone after all: it shrank below its limit.
    Spared {
        /// Whom.
        #[serde(flatten)]
        subject: Subject,
        /// What it has resident now.
        rss: Bytes,
        /// Its limit.
        limit: Bytes,
        /// Whether it had been sent SIGTERM.
        after_term: bool,
    },
    /// A victim turned out to be protected when its facts were read again.
    NowProtected {
        /// Whom.
        #[serde(flatten)]
        subject: Subject,
        /// By which rule.
        protection: Protection,
    },
    /// Over a limit, but not everything that might protect it could be read: no signal.
    Unsure {
        /// Who is left alone.
        #[serde(flatten)]
        subject: Subject,
        /// Why.
        doubt: Doubt,
    },
    /// A candidate could not be confirmed: no signal.
    Unconfirmed {
        /// Who it was thought to be.
        pid: crate::model::Pid,
        /// Why.
        #[serde(flatten)]
        why: Unconfirmed,
    },
    /// A signal could not be sent.
    SignalFailed {
        /// To whom.
        #[serde(flatten)]
        subject: Subject,
        /// Which.
        signal: Signal,
        /// Why.
        error: String,
    },
    /// SIGKILL was sent and the process is still there.
    Lingers {
        /// Who.
        #[serde(flatten)]
        subject: Subject,
        /// How long ago SIGKILL was sent.
        #[serde(serialize_with = "as_seconds")]
        since: Duration,
        /// The state letter of /proc/PID/stat, `D` for an uninterruptible wait.
        state: Option<char>,
        /// Where in the kernel it waits (/proc/PID/wchan).
        wchan: Option<String>,
    },
    /// The kernel map and /proc differ by more than the counters' error.
    Disagreement {
        /// Whom they disagree about.
        #[serde(flatten)]
        id: ProcessId,
        /// What the map says.
        map: Bytes,
        /// What /proc says, which decides.
        exact: Bytes,
        /// What the counters may be off.
        error: Bytes,
    },
    /// The slow sweep found processes that the map had missed, or entries of processes that are gone.
    MapDefect {
        /// Processes with memory that were not in the map.
        missed: usize,
        /// Entries without a process.
        stale: usize,
    },
    /// The last line of a scan.
    ScanComplete {
        /// Processes looked at.
        scanned: usize,
        /// Processes sent SIGTERM because of this scan; always 0 in dry run.
        killed: usize,
    },
    /// A new configuration is in force.
    Reloaded {
        /// The file.
        config: Option<PathBuf>,
    },
    /// A new configuration was refused, the old one stays.
    ReloadFailed {
        /// The error as `check` prints it.
        error: String,
    },
    /// A sink does not take events, or takes them again.
    SinkTrouble {
        /// Which.
        sink: Sink,
        /// What is wrong; none when it works again.
        error: Option<String>,
        /// Events that it did not get.
        lost: u64,
    },
    /// Something a library or a BPF program said.
    Diagnostic {
        /// How urgent.
        #[serde(skip)]
        severity: Level,
        /// Who says so.
        origin: String,
        /// What.
        text: String,
    },
    /// The daemon ends.
    Stopping {
        /// Why: the signal's name, or an error.
        reason: String,
    },
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

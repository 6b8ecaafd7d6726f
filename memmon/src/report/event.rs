//! Everything that memmon reports, as data. The sinks decide how it is written, never what.
//!
//! A new kind of event has its fields here, a row in [`spec`], its words in `text.rs`, a sample in `samples.rs`, and an
//! explanation in `systemd/memmon.catalog`.

mod parts;
mod spec;

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

pub use self::parts::{DryRunCounts, DryRunProgram, Launched, Level, Sink, Subject, SumPart, SumThen};
use self::parts::{as_kinds, as_path, as_paths};
use crate::model::{
    Action, Breach, Bytes, Culprit, Doubt, Elsewhere, Exemption, ExemptionEnd, GivenBack, GroupKey,
    MachineMemory, MemoryFiles, MemoryWriter, Name, Pid, ProcessId, Protection, Reason, Record, RuleName,
    Signal, SumFigures, SystemMemory, ThrottleEnd, Uid, Uncharged, Unconfirmed, Urgency, WhyNot,
    seconds::{as_seconds, as_seconds_if_any},
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The daemon watches now.
    Started {
        /// memmon's version.
        version: &'static str,
        /// The configuration file; `None` for the built-in defaults.
        #[serde(serialize_with = "as_path")]
        config: Option<PathBuf>,
        /// The files in `conf.d` that were read after it.
        #[serde(serialize_with = "as_paths", skip_serializing_if = "Vec::is_empty")]
        fragments: Vec<PathBuf>,
        /// `ebpf` or `proc`.
        source: &'static str,
        /// The reason for this source.
        reason: String,
        /// Whether nothing is going to be signalled.
        dry_run: bool,
        /// Whether that ends with `memmon enable`.
        awaits_enable: bool,
        /// The lower of the two limits.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// Time between scans.
        #[serde(rename = "interval_seconds", serialize_with = "as_seconds")]
        interval: Duration,
    },
    /// Something works less well than it could, or nothing is done where something was asked for.
    Degraded {
        /// The missing feature, and the remedy.
        what: String,
    },
    /// The configuration is in force, and a part of it may be a mistake.
    ConfigWarning {
        /// The part, and the remedy.
        what: String,
    },
    /// The first line of a scan.
    SystemMemory {
        /// The machine's memory.
        #[serde(flatten)]
        memory: SystemMemory,
    },
    /// The machine has come near to a shortage of memory, or is short of it: a level of `[machine]` is reached.
    MemoryLow {
        /// The machine's memory.
        #[serde(flatten)]
        machine: MachineMemory,
        /// The cgroup whose limit binds, if it is not the machine's memory that runs out first.
        #[serde(skip_serializing_if = "Option::is_none")]
        cgroup: Option<Name>,
        /// The levels that are reached.
        #[serde(serialize_with = "as_kinds")]
        reasons: Vec<Reason>,
        /// Whether they are those at which memmon ends a process, and not those for a warning.
        acts: bool,
    },
    /// The machine is short of memory, and this process ends next: SIGTERM follows.
    Culprit {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The culprit that it is a part of.
        #[serde(flatten)]
        culprit: Culprit,
        /// The rule that prefers it.
        #[serde(skip_serializing_if = "Option::is_none")]
        preferred: Option<RuleName>,
        /// The memory that its end gives back at least.
        #[serde(rename = "gives_back_bytes")]
        gives_back: Bytes,
        /// The part of that which came since the machine was well.
        #[serde(rename = "growth_bytes")]
        growth: Bytes,
        /// Time since then.
        #[serde(rename = "growth_seconds", serialize_with = "as_seconds")]
        within: Duration,
        /// The levels that are reached.
        #[serde(serialize_with = "as_kinds")]
        reasons: Vec<Reason>,
        /// Whether no signal is sent.
        dry_run: bool,
    },
    /// The machine is short of memory, and no process's end would help.
    NoCulprit {
        /// Decrease of available memory since the machine was well.
        #[serde(rename = "lost_bytes")]
        lost: Bytes,
        /// Growth of processes since then.
        #[serde(rename = "grown_bytes")]
        grown: Bytes,
        /// Time since then.
        #[serde(rename = "growth_seconds", serialize_with = "as_seconds")]
        within: Duration,
        /// Growth of memory that belongs to no process.
        elsewhere: Elsewhere,
        /// The file systems whose files are in memory, the largest first.
        file_systems: Vec<MemoryFiles>,
        /// The processes that have written to a large one of these files and have it open; the first has written most.
        writers: Vec<MemoryWriter>,
    },
    /// The machine has enough memory again.
    MemoryBack {
        /// Its memory.
        #[serde(flatten)]
        memory: SystemMemory,
        /// For how long it had not.
        #[serde(rename = "lasted_seconds", serialize_with = "as_seconds")]
        lasted: Duration,
    },
    /// A process that nothing protects has grown to nearly its limit.
    Approaching {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// Its resident memory.
        #[serde(rename = "rss_bytes")]
        rss: Bytes,
        /// Its limit.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// The action on it if it exceeds that.
        action: Action,
        /// Its growth rate, in bytes per second, if that is known.
        #[serde(rename = "growth_bytes_per_second")]
        growth: Option<f64>,
        /// The time until it reaches its limit at this rate.
        #[serde(rename = "time_to_limit_seconds", serialize_with = "as_seconds_if_any")]
        time_to_limit: Option<Duration>,
    },
    /// A process is sent its first signal (or would be).
    Killing {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The reason.
        #[serde(flatten)]
        breach: Breach,
        /// The signal: SIGTERM, or that of its rule.
        signal: Signal,
        /// Whether this is a dry run, in which nothing is sent.
        dry_run: bool,
        /// The sum that exceeds its limit, if it is that of a sum.
        #[serde(skip_serializing_if = "Option::is_none")]
        sum: Option<SumFigures>,
    },
    /// The grace is over: SIGKILL.
    GraceOver {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// Its resident memory now.
        #[serde(rename = "rss_bytes")]
        rss: Bytes,
        /// The first signal.
        #[serde(rename = "first_signal")]
        first: Signal,
        /// The length of its grace period.
        #[serde(rename = "grace_seconds", serialize_with = "as_seconds")]
        grace: Duration,
        /// The reason why that was shorter than usual, if it was.
        urgency: Option<Urgency>,
    },
    /// A process is over its limit and left alone for a while: its program comes back after each termination.
    #[serde(rename = "held_back")]
    Delayed {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The script or module that it runs, if it is an interpreter.
        #[serde(skip_serializing_if = "Option::is_none")]
        script: Option<Name>,
        /// systemd's unit, which most likely starts it again.
        unit: Option<Name>,
        /// Number of terminations of the same origin.
        times: u32,
        /// Time from the last termination to the next.
        #[serde(rename = "wait_seconds", serialize_with = "as_seconds")]
        wait: Duration,
        /// Whether this is the first report of its program.
        first: bool,
        /// The `[[rule]]` whose limit it exceeds; `None`: `[thresholds]`.
        #[serde(rename = "rule_name", skip_serializing_if = "Option::is_none")]
        by: Option<RuleName>,
    },
    /// A process is over its limit by resident memory only, and is left alone.
    Uncharged {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// Its resident memory.
        #[serde(rename = "rss_bytes")]
        rss: Bytes,
        /// Its limit.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// The memory that its end would give back, and the memory that would stay.
        #[serde(flatten)]
        uncharged: Uncharged,
    },
    /// A victim is gone.
    Terminated {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The course of the termination.
        #[serde(flatten)]
        record: Record,
        /// The memory that its end gave back, if it was sent SIGTERM.
        #[serde(skip_serializing_if = "Option::is_none")]
        given_back: Option<Box<GivenBack>>,
        /// The sum because of which it ended, as it was before, if it was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        sum: Option<SumFigures>,
    },
    /// The kernel's OOM killer ended a process that memmon had not: the machine, or that process's cgroup, was out of memory.
    /// Whether memmon might have acted is not known.
    OomKilled {
        /// The process, gone by now.
        pid: Pid,
        /// Its comm.
        #[serde(rename = "comm")]
        name: Name,
        /// Its largest resident memory.
        #[serde(rename = "peak_bytes")]
        peak: Bytes,
    },
    /// A victim is left alone after all: it shrank below its limit.
    Spared {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// Its resident memory now.
        #[serde(rename = "rss_bytes")]
        rss: Bytes,
        /// Its limit.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// Whether it had been sent its first signal.
        after_term: bool,
        /// The signal, if it was sent.
        signal: Option<Signal>,
        /// Whether it was to end because the machine was short of memory, and is not the one to end any more.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        relieved: bool,
    },
    /// A victim is left alone after all: the configuration asks for a dry run now.
    LetGo {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// Whether it had been sent its first signal.
        after_term: bool,
        /// The signal, if it was sent.
        signal: Option<Signal>,
    },
    /// A victim turned out to be protected when its facts were read again.
    NowProtected {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The rule that protects it.
        protection: Protection,
    },
    /// A process is over its limit, and stays because a rule protects it. Reported once per process.
    OverButProtected {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// Its resident memory.
        #[serde(rename = "rss_bytes")]
        rss: Bytes,
        /// Its limit.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// The rule.
        protection: Protection,
    },
    /// From now on these processes are exempt: `memmon exempt`.
    Exempted {
        /// The exemption.
        #[serde(flatten)]
        exemption: Exemption,
    },
    /// An exemption is over.
    ExemptionEnded {
        /// The exemption.
        #[serde(flatten)]
        exemption: Exemption,
        /// The way in which it ended.
        end: ExemptionEnd,
    },
    /// A process is over the limit of a rule with `action = "warn"`. Reported once per process.
    OverRule {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The limit.
        #[serde(flatten)]
        breach: Breach,
    },
    /// A process over the limit of a rule with `action = "stop"` gets SIGSTOP (or would).
    Stopped {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The breach.
        #[serde(flatten)]
        breach: Breach,
        /// Number of times that memmon has stopped it, including this one.
        times: u32,
        /// Whether somebody else had stopped it already, so that nothing was sent.
        already: bool,
        /// Whether this is a dry run, in which nothing is sent.
        dry_run: bool,
    },
    /// Someone has continued a process that memmon had stopped, and that is still over its limit.
    Continued {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// Its resident memory.
        #[serde(rename = "rss_bytes")]
        rss: Bytes,
        /// Its limit.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// Memory above which it is stopped again.
        #[serde(rename = "may_have_bytes")]
        may_have: Bytes,
    },
    /// The memory that several processes hold together exceeds the limit of a rule. Reported once while that lasts.
    SumOver {
        /// The sum.
        #[serde(flatten)]
        sum: SumFigures,
        /// The action.
        then: SumThen,
        /// Memory of its processes that stay: those that are protected, and those that cannot be signalled.
        #[serde(rename = "protected_bytes")]
        protected: Bytes,
        /// The largest of its processes.
        largest: Vec<SumPart>,
    },
    /// The cgroup of a sum over the limit of a rule with `action = "throttle"` is slowed down (or would be).
    Throttled {
        /// The sum.
        #[serde(flatten)]
        sum: SumFigures,
        /// The path of the cgroup.
        throttled_cgroup: Name,
        /// The `memory.high` that memmon sets.
        #[serde(rename = "high_bytes")]
        high: Bytes,
        /// Its former `memory.high`; `None`: `max`.
        #[serde(rename = "before_bytes")]
        before: Option<Bytes>,
        /// Number of times that memmon has set it: more than once if somebody else has written another value since.
        times: u32,
        /// Whether this is a dry run, in which nothing is set.
        dry_run: bool,
    },
    /// The cgroup of a sum over the limit of a rule with `action = "throttle"` is not slowed down.
    NotThrottled {
        /// The sum.
        #[serde(flatten)]
        sum: SumFigures,
        /// The reason.
        #[serde(flatten)]
        why: WhyNot,
    },
    /// A cgroup is slowed down no longer.
    ThrottleEnded {
        /// The rule.
        #[serde(rename = "rule_name")]
        rule: RuleName,
        /// The group.
        #[serde(flatten)]
        group: GroupKey,
        /// The path of the cgroup.
        throttled_cgroup: Name,
        /// The `memory.high` that it has now: the former one, or that of somebody else; `None`: `max`.
        #[serde(rename = "high_bytes")]
        high: Option<Bytes>,
        /// The reason.
        why: ThrottleEnd,
    },
    /// The terminations that a dry run would have made on a day that is over.
    DryRunDay {
        /// The day, as `2025-10-06`.
        day: String,
        /// The counts of each action.
        #[serde(flatten)]
        counts: DryRunCounts,
        /// The programs, the most frequent first.
        programs: Vec<DryRunProgram>,
    },
    /// A process is over its limit, but a fact that might protect it could not be read: no signal.
    Unsure {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The doubt.
        doubt: Doubt,
    },
    /// A fact that the process's owner can keep from being read stayed unreadable: the process is judged by what is known
    /// for certain.
    DoubtEnded {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The fact.
        doubt: Doubt,
        /// For how long.
        #[serde(rename = "lasted_seconds", serialize_with = "as_seconds")]
        lasted: Duration,
    },
    /// A candidate could not be confirmed: no signal.
    Unconfirmed {
        /// The pid that was to be confirmed.
        pid: Pid,
        /// The reason.
        why: Unconfirmed,
    },
    /// A victim could not be opened: nothing is sent, and opening it is tried again.
    OutOfReach {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The error.
        error: String,
    },
    /// A signal could not be sent.
    SignalFailed {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// The signal.
        signal: Signal,
        /// The error.
        error: String,
    },
    /// SIGKILL was sent and the process is still there.
    Lingers {
        /// The process.
        #[serde(flatten)]
        subject: Subject,
        /// Time since SIGKILL was sent.
        #[serde(rename = "since_seconds", serialize_with = "as_seconds")]
        since: Duration,
        /// The state letter of /proc/PID/stat, `D` for an uninterruptible wait.
        state: Option<char>,
        /// The place in the kernel at which it waits (/proc/PID/wchan).
        wchan: Option<Name>,
        /// The frozen cgroup that holds it, if a freezer does.
        #[serde(rename = "frozen_cgroup")]
        frozen: Option<Name>,
        /// Its resident memory, if it still has any.
        #[serde(rename = "rss_bytes")]
        rss: Option<Bytes>,
    },
    /// The kernel map and /proc differ by more than the counters' error.
    Disagreement {
        /// The process.
        #[serde(flatten)]
        id: ProcessId,
        /// The figure of the map.
        #[serde(rename = "map_bytes")]
        map: Bytes,
        /// The figure of /proc, which decides.
        #[serde(rename = "exact_bytes")]
        exact: Bytes,
        /// The possible error of the counters.
        #[serde(rename = "error_bytes")]
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
        /// Processes sent SIGTERM since the scan before; always 0 in dry run.
        killed: usize,
    },
    /// The time has come for other limits, or another interval: `[[schedule]]`.
    Scheduled {
        /// The lower of the two limits.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// Time between scans.
        #[serde(rename = "interval_seconds", serialize_with = "as_seconds")]
        interval: Duration,
    },
    /// A new configuration is in force.
    Reloaded {
        /// The file.
        #[serde(serialize_with = "as_path")]
        config: Option<PathBuf>,
        /// The files in `conf.d` that were read after it.
        #[serde(serialize_with = "as_paths", skip_serializing_if = "Vec::is_empty")]
        fragments: Vec<PathBuf>,
        /// Whether nothing is going to be signalled.
        dry_run: bool,
    },
    /// A new configuration was refused, the old one stays.
    ReloadFailed {
        /// The error as `check` prints it; the text format joins its lines into one.
        error: String,
    },
    /// A sink does not take events, or takes them again.
    SinkTrouble {
        /// The sink.
        sink: Sink,
        /// The problem; `None` when the sink works again.
        error: Option<String>,
        /// Events that it did not get.
        lost: u64,
    },
    /// Events came faster than the sinks could take them. Enforcement does not wait for its log.
    Overflow {
        /// Events that no sink got.
        lost: u64,
    },
    /// A warning that came again, word for word, and was held back.
    Repeated {
        /// The severity of the warning.
        #[serde(skip)]
        severity: Level,
        /// Number of repetitions since it was last written.
        times: u64,
        /// Its text.
        text: String,
    },
    /// More lines of one kind about one user's processes than `log.lines_per_minute` allows.
    LeftOut {
        /// The severity of the events.
        #[serde(skip)]
        severity: Level,
        /// The user; `None` for events without one, and if there are too many users at once.
        #[serde(rename = "uid", skip_serializing_if = "Option::is_none")]
        about: Option<Uid>,
        /// Number of events that were left out.
        times: u64,
        /// The last of them.
        text: String,
    },
    /// A diagnostic of a library, a BPF program, or memmon itself.
    Diagnostic {
        /// The severity.
        #[serde(skip)]
        severity: Level,
        /// The library or program.
        origin: String,
        /// The text.
        text: String,
    },
    /// The daemon ends.
    Stopping {
        /// The reason: the signal's name, or an error.
        reason: String,
    },
}

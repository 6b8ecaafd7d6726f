//! The types that all modules share. No system calls, no clock, no files.

mod bytes;
mod capability;
mod exemption;
mod given_back;
mod group;
mod guard;
mod history;
mod listen;
mod log;
mod machine;
mod measure;
mod notify;
mod origin;
mod process;
mod rule_name;
mod sample;
pub(crate) mod seconds;
mod shortage;
mod signal;
mod source;
mod supervision;
mod termination;
mod text;
mod throttle;
mod unit;
pub mod units;
mod verdict;
mod words;
mod workload;

pub use bytes::{Bytes, SystemMemory};
pub use capability::{Capabilities, Capability};
pub use exemption::{Exempt, Exemption, ExemptionEnd, Phrase, PhraseError, UnixTime};
pub use given_back::{FreeAndShared, GivenBack, LeftBehind};
pub use group::{GroupKey, KernelSum, Per, SumFigures};
pub use guard::{Guard, GuardKind, Strikes};
pub use history::{Entry, Happened, History, Samples, Select, Total};
pub use listen::Listen;
pub use log::LogFormat;
pub use machine::{Elsewhere, MachineMemory, Paging, Pressure};
pub use measure::Measure;
pub use notify::{Hook, Mail, Notify, NotifyUser, OWNER};
pub use origin::Origin;
pub use process::{
    Fact, Gid, Holdings, Inherited, Inside, KeptObject, KeptWhy, Launch, MatchFacts, Names, NamespaceInit,
    Parts, Pid, Process, ProcessId, Reading, SharedMemory, Snapshot, StartTime, Survey, Uid, Unconfirmed,
    WantedFacts,
};
pub use rule_name::RuleName;
pub use sample::{Decided, Sample, Seen};
pub use shortage::{Culprit, Group, MemoryFiles, MemoryWriter, Reason};
pub use signal::Signal;
pub use source::{Gear, GearChoice, Source, SourceChoice};
pub use supervision::{Restarted, is_restarted};
pub use termination::{Action, Cause, Crossed, ExitStatus, Record, Urgency};
pub use text::{Escaped, Name, configuration_files};
pub use throttle::{Lowered, ThrottleEnd, WhyNot};
pub use unit::{Unit, unit_cgroup, unit_path};
pub use verdict::{Breach, Doubt, Limit, MatchKey, NameField, Protection, Uncharged, Verdict};
pub(crate) use words::words;
pub use workload::{Container, ContainerNames, Runtime, SlurmJob, Workload};

#[cfg(test)]
pub(crate) mod testing {
    use super::{Bytes, Fact, Launch, MatchFacts, Names, Pid, Process, ProcessId, StartTime, Uid};

    /// A process without special properties.
    pub(crate) fn process(pid: u32, start: u64) -> Process {
        Process {
            id: ProcessId { pid: Pid(pid), start: StartTime(start) },
            parent: Pid::INIT,
            rss: Bytes(10),
            error: Bytes::ZERO,
            real_uid: Uid(1000),
            effective_uid: Uid(1000),
            names: Names { comm: "hog".into(), exe: Fact::Absent, argv0: Fact::Absent, script: None },
            cgroup: Fact::Absent,
            container: None,
            oom_score_adj: Fact::Known(0),
            kernel_thread: false,
            inherited: Fact::Absent,
            holdings: None,
            launch: Launch::default(),
            parts: None,
            facts: MatchFacts::default(),
        }
    }
}

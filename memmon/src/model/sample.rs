//! A process as it was judged, in a form that is kept on the disk, so that other rules can judge it again later.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Bytes, Fact, Gid, Holdings, Inherited, Launch, MatchFacts, Name, Names, Parts, Pid, Process, ProcessId,
    Protection, SharedMemory, SystemMemory, Uid, Verdict, WantedFacts,
};

/// One process at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Time of the sample.
    pub at_unix_seconds: f64,
    /// The process.
    #[serde(flatten)]
    pub id: ProcessId,
    /// The facts; `None` if the process was no longer above a quarter of its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Box<Seen>>,
}

/// The facts that a verdict depends on, and the verdict of that time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The machine's memory.
    pub memory: SystemMemory,
    /// The verdict.
    pub then: Decided,
    /// Whether that was in dry run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Whether its arguments, its executable in the mounts of pid 1, and its audit session were read.
    pub read: (bool, bool, bool),
    parent: Pid,
    rss_bytes: Bytes,
    error_bytes: Bytes,
    uids: (Uid, Uid),
    comm: Exact,
    exe: Fact<Exact>,
    argv0: Fact<Exact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    script: Option<Exact>,
    cgroup: Fact<Exact>,
    oom_score_adj: Fact<i16>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    kernel_thread: bool,
    groups: Vec<Gid>,
    args: Fact<Vec<Exact>>,
    exe_file: Fact<Exact>,
    session: Fact<u32>,
    inherited: Fact<(Bytes, Pid)>,
    holdings: Option<Held>,
}

/// [`Holdings`]: its parts, how much shared memory would be returned and kept, and what is wrong.
type Held = (Parts, Fact<(Bytes, Bytes)>, Option<String>);

/// A verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// It stays, as it is within its limit.
    Within,
    /// It stays, for another reason.
    Protected,
    /// It stays, by `memmon exempt`.
    Exempt,
    /// It stays, as something was not known.
    Unsure,
    /// It is over the limit of a rule that only warns.
    Warned,
    /// It is over its limit, and stays for now: `for` of its rule, or the delay of a repeat offender.
    Waits,
    /// It is to be stopped.
    Stop,
    /// It is to be terminated.
    Terminate,
}

impl From<&Verdict> for Decided {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Within | Verdict::Inherits(_) | Verdict::Uncharged(_) => Self::Within,
            Verdict::Protected(Protection::Exempt(_)) => Self::Exempt,
            Verdict::Protected(_) => Self::Protected,
            Verdict::Unsure(_) => Self::Unsure,
            Verdict::Warn(_) => Self::Warned,
            Verdict::Stop(_) => Self::Stop,
            Verdict::Terminate(_) => Self::Terminate,
        }
    }
}

impl Decided {
    /// Whether the process got a signal, if that was no dry run.
    pub const fn is_signal(self) -> bool {
        matches!(self, Self::Stop | Self::Terminate)
    }
}

/// A name, byte by byte: each byte is one character, so that every name comes back as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exact(Name);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.as_bytes().iter().copied().map(char::from).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        bytes.map(|bytes| Self(Name::new(bytes))).map_err(serde::de::Error::custom)
    }
}

impl Seen {
    /// The facts on which the verdict on `process` depended. `wanted`: the facts that were read for it.
    pub fn new(
        process: &Process,
        memory: SystemMemory,
        then: Decided,
        dry_run: bool,
        wanted: WantedFacts,
    ) -> Self {
        let Process {
            id: _,
            parent,
            rss,
            error,
            real_uid,
            effective_uid,
            facts,
            names,
            cgroup,
            container: _,
            oom_score_adj,
            launch: _,
            parts: _,
            kernel_thread,
            inherited,
            holdings,
        } = process;
        let exact = |fact: &Fact<Name>| fact.clone().map(Exact);
        Self {
            memory,
            then,
            dry_run,
            read: (wanted.args, wanted.exe_file, wanted.session),
            parent: *parent,
            rss_bytes: *rss,
            error_bytes: *error,
            uids: (*real_uid, *effective_uid),
            comm: Exact(names.comm.clone()),
            exe: exact(&names.exe),
            argv0: exact(&names.argv0),
            script: names.script.clone().map(Exact),
            cgroup: exact(cgroup),
            oom_score_adj: oom_score_adj.clone(),
            kernel_thread: *kernel_thread,
            groups: facts.groups.iter().copied().collect(),
            args: facts.args.clone().map(|args| args.into_iter().map(Exact).collect()),
            exe_file: exact(&facts.exe_file),
            session: facts.session.clone(),
            inherited: inherited.clone().map(|inherited| (inherited.bytes, inherited.elder)),
            holdings: holdings.clone().map(|Holdings { parts, shared, trouble }| {
                (parts, shared.map(|shared| (shared.returned, shared.kept)), trouble)
            }),
        }
    }

    /// The process, for rules that want these facts. One that was not read is unreadable, so that a verdict which depends on
    /// it is in doubt.
    pub fn process(self, id: ProcessId, wanted: WantedFacts) -> Process {
        let name = |fact: Fact<Exact>| fact.map(|name| name.0);
        let (args, exe_file, session) = self.read;
        Process {
            id,
            parent: self.parent,
            rss: self.rss_bytes,
            error: self.error_bytes,
            real_uid: self.uids.0,
            effective_uid: self.uids.1,
            facts: MatchFacts {
                groups: self.groups.into_iter().collect(),
                args: if args || !wanted.args {
                    self.args.map(|args| args.into_iter().map(|name| name.0).collect())
                } else {
                    Fact::Unreadable
                },
                exe_file: if exe_file || !wanted.exe_file { name(self.exe_file) } else { Fact::Unreadable },
                session: if session || !wanted.session { self.session } else { Fact::Unreadable },
                machine_fails: false,
            },
            names: Names {
                comm: self.comm.0,
                exe: name(self.exe),
                argv0: name(self.argv0),
                script: self.script.map(|name| name.0),
            },
            cgroup: name(self.cgroup),
            container: None,
            oom_score_adj: self.oom_score_adj,
            launch: Launch::default(),
            parts: None,
            kernel_thread: self.kernel_thread,
            inherited: self.inherited.map(|(bytes, elder)| Inherited { bytes, elder }),
            holdings: self.holdings.map(|(parts, shared, trouble)| {
                let shared =
                    shared.map(|(returned, kept)| SharedMemory { returned, kept, ..SharedMemory::default() });
                Holdings { parts, shared, trouble }
            }),
        }
    }

    /// Drops the texts that a process can make long, which leaves rules that need them in doubt.
    pub fn shorten(&mut self) {
        for name in [&mut self.exe, &mut self.argv0, &mut self.cgroup, &mut self.exe_file] {
            *name = Fact::Unreadable;
        }
        self.args = Fact::Unreadable;
        self.script = None;
        self.groups.truncate(8);
    }
}

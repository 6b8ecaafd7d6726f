//! The walk over the rules, in the order in which they are asked. `judge` stops at the first rule that decides;
//! `explain` takes the same walk to its end.

use serde::{Serialize, Serializer};

use super::{
    LimitRule, Matched, Rules,
    choice::Candidate,
    exemptions,
    matcher::{self, KeyMatched},
};
use crate::model::{
    Action, Breach, Bytes, Doubt, Fact, Holdings, Inherited, Measure, Pid, Process, Protection, Reading,
    Snapshot, Survey, SystemMemory, Uid, Uncharged, Verdict,
};

/// Each process of a snapshot, in its order, with what is to become of it.
pub type Verdicts<'a> = Vec<(&'a Process, Verdict)>;

/// The verdict on each process. No process's verdict depends on another process.
pub fn decide<'a>(rules: &Rules, snapshot: &'a Snapshot) -> Verdicts<'a> {
    snapshot.processes.iter().map(|process| (process, judge(rules, process, &snapshot.memory))).collect()
}

/// The verdict on one process.
pub fn judge(rules: &Rules, process: &Process, memory: &SystemMemory) -> Verdict {
    conclude(WALK.iter().map(|(_, check)| check(rules, process, memory)))
}

/// The readings that may be over a limit, as far as their error allows: these processes must be confirmed before anything
/// is decided. It uses no other fact about a process, so that the smallest limit of all rules counts.
pub fn suspects(rules: &Rules, survey: &Survey) -> Vec<Reading> {
    let limit = rules.least_limit(&survey.memory);
    survey.readings.iter().filter(|reading| reading.rss + reading.error > limit).copied().collect()
}

/// Whether a process would be terminated or stopped if it went over its limit: nothing protects it, and nothing is in doubt.
pub fn could_be_terminated(rules: &Rules, process: &Process, memory: &SystemMemory) -> bool {
    matches!(judge_as_over(rules, process, memory), Verdict::Terminate(_) | Verdict::Stop(_))
}

/// The verdict on a process if it exceeded its limit: the result of all rules but the limits.
pub fn judge_as_over(rules: &Rules, process: &Process, memory: &SystemMemory) -> Verdict {
    let over = Process {
        rss: Bytes::MAX,
        error: Bytes::ZERO,
        inherited: Fact::Absent,
        holdings: None,
        launch: crate::model::Launch::default(),
        parts: None,
        ..process.clone()
    };
    judge(rules, &over, memory)
}

/// The result of all rules but the limits for a process: [`Verdict::Within`] if nothing protects it.
pub fn guard(rules: &Rules, process: &Process, memory: &SystemMemory) -> Verdict {
    let steps = WALK.iter().filter(|(rule, _)| *rule != Rule::Limits);
    conclude(steps.map(|(_, check)| check(rules, process, memory)))
}

/// A step of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their keys say it")]
pub enum Rule {
    Init,
    KernelThread,
    Memmon,
    Scope,
    Pids,
    Names,
    Users,
    Matches,
    ProtectRoot,
    OomScoreAdj,
    Exempt,
    Limits,
}

impl Rule {
    /// The name that an administrator knows it by: its place in the configuration, if it has one.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Init => "pid 1",
            Self::KernelThread => "kernel thread",
            Self::Memmon => "memmon itself",
            Self::Scope => "scope",
            Self::Pids => "whitelist.pids",
            Self::Names => "whitelist.names",
            Self::Users => "whitelist.users",
            Self::Matches => "whitelist (other keys)",
            Self::ProtectRoot => "whitelist.protect_root",
            Self::OomScoreAdj => "oom_score_adj",
            Self::Exempt => "memmon exempt",
            Self::Limits => "thresholds",
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

/// The finding of one rule about a process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Nothing: the next rule is asked.
    Clear,
    /// It is never to be touched.
    Protects(Protection),
    /// It is not known. That matters only where the process would be terminated otherwise.
    Doubts(Doubt),
    /// It is within its limits.
    Within,
    /// It is over its limit with what it inherited, and within it without that.
    Inherits(Inherited),
    /// It is over its limit by resident memory, and its end would give back less.
    Uncharged(Uncharged),
    /// It is over the limit of a rule that only warns.
    Warns(Breach),
    /// It is over the limit of a rule that stops it.
    Stops(Breach),
    /// It is over its limit.
    Exceeds(Breach),
}

impl Finding {
    /// The severity for the process.
    const fn severity(&self) -> u8 {
        match self {
            Self::Exceeds(_) => 4,
            Self::Stops(_) => 3,
            Self::Warns(_) => 2,
            Self::Doubts(_) => 1,
            Self::Clear | Self::Protects(_) | Self::Within | Self::Inherits(_) | Self::Uncharged(_) => 0,
        }
    }
}

type Check = fn(&Rules, &Process, &SystemMemory) -> Finding;

/// The rules in their order: first what can never be otherwise, then what was configured, the limits last.
pub(super) const WALK: [(Rule, Check); 12] = [
    (Rule::Init, |_, process, _| protects_if(process.id.pid == Pid::INIT, Protection::Init)),
    (Rule::KernelThread, |_, process, _| protects_if(process.kernel_thread, Protection::KernelThread)),
    (Rule::Memmon, |rules, process, _| protects_if(process.id.pid == rules.own_pid, Protection::Memmon)),
    (Rule::Scope, |rules, process, _| scope(rules, process)),
    (Rule::Pids, |rules, process, _| {
        let pid = process.id.pid;
        protects_if(rules.whitelist.pids.contains(&pid), Protection::Pid { pid })
    }),
    (Rule::Names, |rules, process, _| names(rules, process)),
    (Rule::Users, |rules, process, _| users(rules, process)),
    (Rule::Matches, |rules, process, _| matches(rules, process)),
    (Rule::ProtectRoot, |rules, process, _| {
        protects_if(rules.whitelist.protect_root && uids(process).contains(&Uid::ROOT), Protection::Root)
    }),
    (Rule::OomScoreAdj, |rules, process, _| oom_score_adj(rules, process)),
    (Rule::Exempt, |rules, process, _| exempt(rules, process)),
    (Rule::Limits, limits),
];

/// The verdict of findings in the order of the walk. Asks for no more of them than it needs.
pub(super) fn conclude(findings: impl IntoIterator<Item = Finding>) -> Verdict {
    let mut first_doubt = None;
    for finding in findings {
        match finding {
            Finding::Clear => {}
            // A later rule may still protect beyond doubt, or the process be within its limits.
            Finding::Doubts(doubt) => _ = first_doubt.get_or_insert(doubt),
            Finding::Protects(protection) => return Verdict::Protected(protection),
            Finding::Within => return Verdict::Within,
            Finding::Inherits(inherited) => return Verdict::Inherits(inherited),
            Finding::Uncharged(uncharged) => return Verdict::Uncharged(uncharged),
            // A warning does no harm.
            Finding::Warns(breach) => return Verdict::Warn(breach),
            Finding::Stops(breach) => {
                return first_doubt.map_or(Verdict::Stop(breach), Verdict::Unsure);
            }
            Finding::Exceeds(breach) => {
                return first_doubt.map_or(Verdict::Terminate(breach), Verdict::Unsure);
            }
        }
    }
    first_doubt.map_or(Verdict::Within, Verdict::Unsure)
}

fn protects_if(condition: bool, protection: Protection) -> Finding {
    if condition { Finding::Protects(protection) } else { Finding::Clear }
}

const fn uids(process: &Process) -> [Uid; 2] {
    [process.real_uid, process.effective_uid]
}

/// Both uids must be in scope: a set-user-ID program is touched only where its owner and its starter both may be.
///
/// The scope is no favour but a promise, so a cgroup that cannot be read leaves a doubt that does not end. Only root and
/// the kernel cause that: a path that is too long for /proc is found in the tree of cgroups.
fn scope(rules: &Rules, process: &Process) -> Finding {
    if let Some(ranges) = &rules.scope.uids
        && !uids(process).iter().all(|uid| ranges.contains(*uid))
    {
        return Finding::Protects(Protection::OutOfScope);
    }
    match (&rules.scope.cgroups, &process.cgroup) {
        (None, _) => Finding::Clear,
        (Some(patterns), Fact::Known(path)) => {
            protects_if(!patterns.matches(path.as_bytes()), Protection::OutOfScope)
        }
        (Some(_), Fact::Absent) => Finding::Protects(Protection::OutOfScope),
        (Some(_), Fact::Unreadable | Fact::Withheld) => Finding::Doubts(Doubt::CgroupUnreadable),
    }
}

/// A process chooses its names, so a listed name is a favour, and a name that the owner withholds gets none. A name that
/// could not be read for another reason leaves a doubt.
fn names(rules: &Rules, process: &Process) -> Finding {
    let (patterns, names) = (&rules.whitelist.names, &process.names);
    if let Some((pattern, field, name)) = patterns.find_in(names) {
        return Finding::Protects(Protection::Name { pattern: pattern.to_owned(), field, name });
    }
    match matcher::of_names(patterns, process) {
        KeyMatched::Unknown(doubt) if !patterns.is_empty() => Finding::Doubts(doubt),
        _ => Finding::Clear,
    }
}

/// Each key protects on its own. A fact that the owner of a process withholds protects nothing.
fn matches(rules: &Rules, process: &Process) -> Finding {
    let mut doubt = None;
    for (key, matched) in rules.whitelist.also.each(process) {
        match matched {
            KeyMatched::Yes(pattern) => return Finding::Protects(Protection::Match { key, pattern }),
            KeyMatched::Unknown(unread) => _ = doubt.get_or_insert(unread),
            KeyMatched::No | KeyMatched::Withheld => {}
        }
    }
    doubt.map_or(Finding::Clear, Finding::Doubts)
}

/// One of the two uids suffices: a set-user-ID program belongs to its starter as well as to its owner. `protect_root` decides
/// about root.
fn users(rules: &Rules, process: &Process) -> Finding {
    uids(process)
        .into_iter()
        .find(|uid| *uid != Uid::ROOT && rules.whitelist.users.contains(uid))
        .map_or(Finding::Clear, |uid| Finding::Protects(Protection::User { uid }))
}

/// The least that the kernel allows (`OOM_SCORE_ADJ_MIN` in linux/oom.h) switches its own killer off for a process.
fn oom_score_adj(rules: &Rules, process: &Process) -> Finding {
    const NEVER: i16 = -1000;
    match process.oom_score_adj {
        _ if !rules.honour_oom_score_adj => Finding::Clear,
        Fact::Known(score) => protects_if(score <= NEVER, Protection::OomScoreAdj),
        // Every process has one, so an absent one counts as unread.
        Fact::Absent | Fact::Unreadable | Fact::Withheld => Finding::Doubts(Doubt::OomScoreAdjUnreadable),
    }
}

/// The last rule before the limits, so that what it protects would have been terminated.
fn exempt(rules: &Rules, process: &Process) -> Finding {
    match exemptions::find(&rules.exemptions, process) {
        Ok(Some(exemption)) => Finding::Protects(Protection::Exempt(exemption.clone())),
        Ok(None) => Finding::Clear,
        Err(doubt) => Finding::Doubts(doubt),
    }
}

/// Judges by the rule that decides, or by `[thresholds]`. Rules that may match and would decide otherwise leave a doubt; if
/// the owner of the process withholds whether they match, the harshest decides.
fn limits(rules: &Rules, process: &Process, memory: &SystemMemory) -> Finding {
    if rules.rules.is_empty() {
        return limits_under(rules, None, process, memory);
    }
    let mut candidates = rules.candidates(process);
    let Some(decisive) = candidates.pop() else { return limits_under(rules, None, process, memory) };
    let decisive = limits_under(rules, decisive.rule, process, memory);
    let mut harshest = decisive.clone();
    for Candidate { rule, matched } in candidates {
        let finding = limits_under(rules, rule, process, memory);
        match matched {
            Matched::Unknown(doubt) if finding.severity() != decisive.severity() => {
                return Finding::Doubts(doubt);
            }
            Matched::Withheld(_) if finding.severity() > harshest.severity() => harshest = finding,
            _ => {}
        }
    }
    harshest
}

/// A process is over the limit if it exceeds it even with all of the error taken off. Memory that it inherited at its fork,
/// and that an older process which lives is charged for, never makes it exceed the limit.
fn limits_under(rules: &Rules, by: Option<&LimitRule>, process: &Process, memory: &SystemMemory) -> Finding {
    let Some((rule, limit)) = rules.limit_under(by, memory) else { return Finding::Within };
    let Process { rss, error, .. } = *process;
    if rss.saturating_sub(error) > limit {
        match process.inherited {
            Fact::Known(inherited) if process.own().saturating_sub(error) <= limit => {
                Finding::Inherits(inherited)
            }
            Fact::Unreadable => Finding::Doubts(Doubt::InheritanceUnreadable),
            Fact::Known(_) | Fact::Absent | Fact::Withheld => uncharged(rules, process, limit)
                .unwrap_or_else(|| {
                    let (percent, name) = (rss.percent_of(memory.total), by.map(|by| by.name));
                    let breach = Breach { rule, limit, rss, percent, by: name };
                    match by.map(|by| by.action).unwrap_or_default() {
                        Action::Terminate => Finding::Exceeds(breach),
                        // A configuration has `throttle` for sums only; alone, a process has no cgroup to slow down.
                        Action::Warn | Action::Throttle => Finding::Warns(breach),
                        Action::Stop if is_beyond_ceiling(by, process.own().saturating_sub(error), limit) => {
                            Finding::Exceeds(breach)
                        }
                        Action::Stop => Finding::Stops(breach),
                    }
                }),
        }
    } else if rss + error > limit {
        Finding::Doubts(Doubt::WithinError { limit, rss, error })
    } else {
        Finding::Within
    }
}

/// Whether `rss` is above the hard ceiling of a rule.
fn is_beyond_ceiling(rule: Option<&LimitRule>, rss: Bytes, limit: Bytes) -> bool {
    let times = rule.and_then(|rule| rule.hard_ceiling).filter(|times| *times > 0.0);
    times.is_some_and(|times| rss > limit.times(times))
}

/// Whether the end of a process that is over `limit` by resident memory would give back too little, or that is not known
/// yet. `None` if it gives back enough, or if resident memory alone counts.
fn uncharged(rules: &Rules, process: &Process, limit: Bytes) -> Option<Finding> {
    let Some(Holdings { parts, shared, trouble }) = &process.holdings else { return None };
    let least = Measure::least_charged(limit);
    if rules.measure == Measure::Rss || process.charged_at_least() >= least {
        return None;
    }
    if process.charged() >= least {
        let failed = |reason: &String| Doubt::SharedMemoryUnreadable { reason: reason.clone() };
        return Some(Finding::Doubts(trouble.as_ref().map_or(Doubt::SharedMemoryUnknown, failed)));
    }
    let (kept, largest) =
        shared.known().map_or((Bytes::ZERO, None), |shared| (shared.kept, shared.largest.clone()));
    Some(Finding::Uncharged(Uncharged { charged: process.charged(), page_cache: parts.file, kept, largest }))
}

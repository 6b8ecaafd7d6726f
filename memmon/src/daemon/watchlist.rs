//! The processes that the daemon watches closely, for a query: those that grow towards their limit, that are over it and
//! stay, and that come back too often; and what several hold together.

use std::{cmp::Reverse, collections::HashMap, io};

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::over_limit::{Standing, Stays};
use crate::daemon::engine::state::sum_trends::{SumPart, SumState};
use crate::enforce;
use crate::inspect::Basis;
use crate::model::{Bytes, GroupKey, ProcessId, Uid, Unit, Verdict};
use crate::observe::procfs::ProcRoot;
use crate::policy::{self, Rate};
use crate::status::{GrowingProcess, Growth, OverLimit, Row, SumInForce, SumMember, Text, Waiting};

/// Maximum number of sums, and of processes over the limit, in one answer.
const MOST_LISTED: usize = 50;

/// Maximum number of close looks for one answer.
const MOST: usize = 10;

/// The processes of `growths` that grow towards their limit and could be terminated there, the first to reach it first. Looks at
/// them closely, and a look may hang: not for the event loop.
///
/// # Errors
/// /proc cannot be read.
pub(super) fn growing_processes(
    basis: &Basis,
    growths: HashMap<ProcessId, Growth>,
) -> io::Result<Vec<GrowingProcess>> {
    let rules = &basis.rules;
    let proc = ProcRoot::real()?.onlooking().measuring(rules.measure).wanting(rules.wanted());
    let memory = proc.memory()?;
    let mut growths: Vec<_> = growths.into_iter().collect();
    let left = |growth: &Growth| growth.seconds_to_limit.unwrap_or(f64::INFINITY);
    growths.sort_by(|(_, one), (_, other)| left(one).total_cmp(&left(other)));
    let growing = |(id, growth): (ProcessId, Growth)| {
        let process = proc.confirm(id.pid, Some(id.start), Bytes::MAX, &basis.accuracy).ok()?;
        let grows_there = process.rss < rules.limit_of(&process, &memory)
            && policy::could_be_terminated(&basis.rules, &process, &memory);
        grows_there.then(|| GrowingProcess {
            id,
            comm: Text::from(&process.names.comm),
            uid: process.real_uid,
            rss_bytes: process.rss,
            growth,
        })
    };
    Ok(growths.into_iter().take(MOST).filter_map(growing).collect())
}

/// The growth rate of each process that has one.
pub(super) fn growths(engine: &Engine<'_>, now: Now) -> HashMap<ProcessId, Growth> {
    engine.growth_rates(now).into_iter().map(|(id, rate)| (id, growth(&rate))).collect()
}

/// The processes that are over their limit and stay, with that limit, as the last look found them.
pub(super) fn over_limit(engine: &Engine<'_>) -> Vec<(OverLimit, Bytes)> {
    let (rules, memory) = (&engine.settings().rules, engine.memory());
    let entry = |standing: &Standing| {
        let (would_terminate, verdict) = match &standing.stays {
            Stays::Protected(protection) => (false, Verdict::Protected(protection.clone())),
            Stays::DryRun(breach) => (true, Verdict::Terminate(*breach)),
        };
        let Row { id, comm, uid, rss_bytes, why, .. } = Row::new(&standing.process, None, &verdict);
        let limit = rules.limit_of(&standing.process, &memory);
        (OverLimit { id, comm, uid, rss_bytes, would_terminate, why }, limit)
    };
    engine.over_limit().largest().into_iter().take(MOST_LISTED).map(entry).collect()
}

/// Those of `listed` that are over their limit now, with the memory that they have now: between two scans memmon looks at
/// none of them again.
pub(super) fn over_limit_now(basis: &Basis, listed: Vec<(OverLimit, Bytes)>) -> Vec<OverLimit> {
    let pids: Vec<_> = listed.iter().map(|(over, _)| over.id.pid).collect();
    let Ok(proc) = ProcRoot::real() else { return listed.into_iter().map(|(over, _)| over).collect() };
    let readings = proc.readings(&pids, &basis.accuracy);
    let now = |(mut over, limit): (OverLimit, Bytes)| {
        let reading = readings.iter().find(|reading| reading.pid == over.id.pid)?;
        over.rss_bytes = reading.rss;
        let is_another = reading.start.is_some_and(|start| start != over.id.start);
        (!is_another && reading.rss > limit).then_some(over)
    };
    let mut over: Vec<_> = listed.into_iter().filter_map(now).collect();
    over.sort_by_key(|over| Reverse(over.rss_bytes));
    over
}

/// The sums with the largest shares of their limits, and the number of all of them.
pub(super) fn sums(engine: &mut Engine<'_>, now: Now) -> (Vec<SumInForce>, usize) {
    let all = engine.sums_in_force(now);
    (all.iter().take(MOST_LISTED).map(sum).collect(), all.len())
}

/// The sums that have only processes of the user.
pub(super) fn sums_of(engine: &mut Engine<'_>, user: Uid, now: Now) -> Vec<SumInForce> {
    let is_the_users = |state: &&SumState| match &state.figures.group {
        GroupKey::User { uid } | GroupKey::Program { uid, .. } => *uid == user,
        GroupKey::Unit { .. }
        | GroupKey::Cgroup { .. }
        | GroupKey::Session { .. }
        | GroupKey::Tree { .. } => false,
    };
    engine.sums_in_force(now).iter().filter(is_the_users).take(MOST_LISTED).map(sum).collect()
}

fn sum(state: &SumState) -> SumInForce {
    let member = |part: &SumPart| SumMember {
        id: part.id,
        comm: Text::from(&part.comm),
        uid: part.uid,
        bytes: part.bytes,
    };
    SumInForce {
        rule: Text::from(state.figures.rule.as_str()),
        group: (&state.figures.group).into(),
        members: state.figures.members,
        total_bytes: state.figures.total,
        limit_bytes: state.figures.limit,
        share_percent: state.share(),
        growth: Growth { bytes_per_second: state.growth, seconds_to_limit: state.seconds_to_limit() },
        action: state.action.as_str().into(),
        largest: state.largest.iter().map(member).collect(),
    }
}

/// The programs whose next termination is delayed, because they were terminated too often.
pub(super) fn delayed(engine: &Engine<'_>, now: Now) -> Vec<Waiting> {
    let waiting = engine.delayed(now).into_iter();
    // It may be code from the command line.
    let shows_scripts = engine.settings().log.command_lines;
    let waiting = waiting.map(|enforce::Waiting { origin, rule, times, wait, left, since }| Waiting {
        program: Text::from(&origin.program),
        script: origin.script.as_ref().filter(|_| shows_scripts).map(Text::from),
        cgroup: origin.cgroup.as_ref().map(Text::from),
        container: origin.container.as_ref().map(Text::from),
        unit: origin.cgroup.as_ref().and_then(Unit::of).map(|unit| Text::from(&unit.name)),
        uid: origin.uid,
        rule: rule.map(|rule| Text::from(rule.as_str())),
        times,
        wait_seconds: wait.as_secs_f64(),
        left_seconds: left.as_secs_f64(),
        since_boot_seconds: since.as_secs_f64(),
    });
    waiting.collect()
}

fn growth(rate: &Rate) -> Growth {
    Growth {
        bytes_per_second: Some(rate.bytes_per_second),
        seconds_to_limit: rate.time_to_limit.map(|left| left.as_secs_f64()),
    }
}

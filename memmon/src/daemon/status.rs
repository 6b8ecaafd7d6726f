//! Answers queries about the daemon: from the engine as it is, and from its own status.

use std::time::Instant;

use jiff::Zoned;
use tokio::{sync::oneshot, task};

use crate::daemon::announcer::Announcer;
use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::stopped::Stopped;
use crate::daemon::engine::state::throttled::Throttled;
use crate::daemon::watchlist::{
    delayed, growing_processes, growths, over_limit, over_limit_now, sums, sums_of,
};
use crate::{
    config::Settings,
    enforce::Phase,
    inspect::{Basis, nearest, of_user},
    model::{Bytes, Pid, Process, Uid},
    status::{self, Body, Query, Text, answer as reply},
};

/// Answers a query. Another thread does the part that takes long.
pub(super) fn answer(
    engine: &mut Engine<'_>,
    announcer: &Announcer<'_>,
    now: Now,
    get: Query,
    answer: oneshot::Sender<String>,
) {
    let growths = growths(engine, now);
    let rules = engine.settings().rules.clone();
    let mut basis = Basis { rules, accuracy: engine.sources().accuracy(), survey: None };
    match get {
        Query::Status => {
            engine.check_stopped(now);
            let mut status = Box::new(status(engine, announcer, now));
            (status.sums, status.sums_in_force) = sums(engine, now);
            let over = over_limit(engine);
            task::spawn_blocking(move || {
                status.over_limit = over_limit_now(&basis, over);
                status.climbing = growing_processes(&basis, growths).unwrap_or_default();
                // The client may have left.
                let _ = answer.send(reply(&Body::Status(status)));
            });
        }
        Query::Machine => {
            let order = engine.machine_order(now).map(Box::new);
            let _ = answer.send(reply(&Body::Machine(order)));
        }
        Query::Processes => {
            basis.survey = engine.kernel_survey();
            let phases: Vec<_> =
                engine.victims().iter().map(|(process, phase)| (process.id, word(phase))).collect();
            task::spawn_blocking(move || {
                let Ok(mut table) = nearest(basis) else { return };
                for row in &mut table.rows {
                    row.growth = growths.get(&row.id).copied().unwrap_or_default();
                    row.phase = phases.iter().find(|(id, _)| *id == row.id).map(|(_, phase)| (*phase).into());
                }
                let _ = answer.send(reply(&Body::Processes(table)));
            });
        }
    }
}

/// Answers a user about that user's own processes. Another thread does the part that takes long.
pub(super) fn answer_mine(engine: &mut Engine<'_>, now: Now, uid: Uid, answer: oneshot::Sender<String>) {
    engine.check_stopped(now);
    let growths = growths(engine, now);
    let rules = engine.settings().rules.clone();
    let (dry_run, memory) = (engine.settings().dry_run, engine.memory());
    let in_flight = engine.victims().iter().map(|(process, phase)| victim(process, phase));
    let mut mine = Box::new(status::Mine {
        version: env!("CARGO_PKG_VERSION").into(),
        uid,
        dry_run,
        limit_bytes: rules.limit(&memory).1,
        processes: 0,
        rows: Vec::new(),
        in_flight: in_flight.filter(|victim| victim.uid == uid).collect(),
        stopped: engine.stopped().iter().map(|one| stopped(one, now)).collect(),
        held_back: delayed(engine, now),
        sums: sums_of(engine, uid, now),
    });
    mine.stopped.retain(|stopped| stopped.uid == uid);
    mine.held_back.retain(|waiting| waiting.uid == uid);
    let basis = Basis { rules, accuracy: engine.sources().accuracy(), survey: None };
    task::spawn_blocking(move || {
        // Without an answer the client is asked to try again.
        let Ok((processes, rows)) = of_user(basis, uid) else { return };
        (mine.processes, mine.rows) = (processes, rows);
        for row in &mut mine.rows {
            row.growth = growths.get(&row.id).copied().unwrap_or_default();
            let phase = mine.in_flight.iter().find(|victim| victim.id == row.id);
            row.phase = phase.map(|victim| victim.phase.clone());
        }
        // The client may have left.
        let _ = answer.send(reply(&Body::Mine(mine)));
    });
}

/// The status without growing processes, which need close looks, without those over their limit, which are read again, and
/// without sums, which may have to be taken.
fn status(engine: &Engine<'_>, announcer: &Announcer<'_>, now: Now) -> status::Status {
    let Settings { rules, check_interval, dry_run, awaits_enable, .. } = engine.settings();
    let (own_status, conditions) = (announcer.own_status(), announcer.conditions());
    let memory = engine.memory();
    let (rule, limit_bytes) = rules.limit(&memory);
    let (map, mut lost) = engine.sources().map_state();
    lost.log_events = announcer.events_lost();
    let about = own_status.about();
    let degraded = own_status.limitations();
    let degraded = degraded.chain(engine.conditions().texts()).chain(conditions.texts());
    let victims: Vec<_> = engine.victims().iter().map(|(process, phase)| victim(process, phase)).collect();
    status::Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: Pid(std::process::id()),
        uptime_seconds: own_status.uptime().as_secs_f64(),
        dry_run: *dry_run,
        awaits_enable: *awaits_enable,
        source: status::Source {
            name: engine.sources().source(),
            reason: Text::harmless(&about.reason),
            gear: engine.sources().gear(),
        },
        degraded: degraded.map(Text::harmless).collect(),
        config: own_status.configuration(rules),
        limit: status::Thresholds {
            rule,
            limit_bytes,
            ram_percent_threshold: rules.limits.percent(),
            ram_gb_threshold_bytes: rules.limits.bytes(),
        },
        check_interval_seconds: check_interval.as_secs_f64(),
        memory: Some(memory),
        counts: own_status.counts(victims.len()),
        last_scan: own_status.last_scan(),
        in_flight: victims,
        climbing: Vec::new(),
        held_back: delayed(engine, now),
        over_limit: Vec::new(),
        sums: Vec::new(),
        sums_in_force: 0,
        stopped: engine.stopped().iter().map(|one| stopped(one, now)).collect(),
        throttled: engine.throttled().iter().map(|one| throttled(engine, one, now)).collect(),
        dry_run_days: own_status.dry_run_days(Zoned::now().date()),
        recent: own_status.recent(),
        map,
        lost,
    }
}

fn victim(process: &Process, phase: Phase) -> status::Victim {
    let now = Instant::now();
    let (since, until) = match phase {
        Phase::Grace { since, until } => (Some(since), Some(until)),
        Phase::Killed { since } => (Some(since), None),
        Phase::Confirming | Phase::Unopened | Phase::OutOfReach => (None, None),
    };
    status::Victim {
        id: process.id,
        comm: Text::from(&process.names.comm),
        uid: process.real_uid,
        phase: word(phase).into(),
        since_seconds: since.map(|since| now.saturating_duration_since(since).as_secs_f64()),
        left_seconds: until.map(|until| until.saturating_duration_since(now).as_secs_f64()),
    }
}

fn stopped(stopped: &Stopped, now: Now) -> status::StoppedProcess {
    let Stopped { process, breach, since, times, continued } = stopped;
    status::StoppedProcess {
        id: process.id,
        comm: Text::from(&process.names.comm),
        uid: process.real_uid,
        rss_bytes: breach.rss,
        limit_bytes: breach.limit,
        rule: breach.by.map(|rule| Text::from(rule.as_str())),
        times: *times,
        since_seconds: now.instant().saturating_duration_since(*since).as_secs_f64(),
        continued: *continued,
        may_have_bytes: stopped.may_have(),
    }
}

fn throttled(engine: &Engine<'_>, throttled: &Throttled, now: Now) -> status::ThrottledCgroup {
    let Throttled { lowered, group, limit, since, times, .. } = throttled;
    status::ThrottledCgroup {
        rule: Text::from(lowered.rule.as_str()),
        group: group.into(),
        throttled_cgroup: Text::from(&lowered.name()),
        limit_bytes: *limit,
        high_bytes: lowered.high,
        before_bytes: (lowered.before != Bytes::MAX).then_some(lowered.before),
        times: *times,
        since_seconds: now.instant().saturating_duration_since(*since).as_secs_f64(),
        slowed: engine.times_slowed(&lowered.name()),
    }
}

const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Confirming => "confirming",
        Phase::Grace { .. } => "grace",
        Phase::Killed { .. } => "killed",
        Phase::Unopened | Phase::OutOfReach => "out_of_reach",
    }
}

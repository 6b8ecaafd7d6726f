//! The state of the daemon, on one screen.

use std::{fmt::Write as _, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use crate::{
    cli::{
        exempt,
        explain::{joined_lines, wrapped},
    },
    config::Users,
    model::{
        Bytes, Limit, Uid, configuration_files,
        units::{Rate, Span, processes},
    },
    status::{
        DryRunDay, DryRunProgram, GrowingProcess, OverLimit, Status, StoppedProcess, SumInForce, Text,
        ThrottledCgroup, Victim, Waiting,
    },
};

/// Column of the values.
const VALUES: usize = 13;
/// Number of terminations, and of sums, that leave room for the rest of the screen.
const RECENT: usize = 5;
/// Headings that the screen of a user has, too.
pub(super) const TERMINATING: &str = "Being terminated:";
pub(super) const STOPPED: &str = "Stopped by a rule (kill -CONT PID continues one):";
pub(super) const HELD_BACK: &str = "Held back, as they come back each time:";
/// A longer time to the limit is no news.
const A_DAY: f64 = 86_400.0;

/// The state of the daemon, as text for one screen.
pub(super) fn render(status: &Status, users: &dyn Users, zone: &TimeZone) -> String {
    let mut lines = vec![format!(
        "memmon {}, pid {}, has been watching for {}",
        status.version,
        status.pid,
        Span::from_seconds(status.uptime_seconds)
    )];
    for (name, value) in facts(status) {
        lines.extend(wrapped(format!("  {name:<9}  "), &value, VALUES));
    }
    let texts = |texts: &[Text]| texts.iter().map(ToString::to_string).collect();
    let exemptions = status.config.rules.iter().flat_map(|rules| &rules.exemptions);
    let exemptions = exemptions.map(|one| exempt::shown(one, users)).collect();
    section(&mut lines, "Exempt:", exemptions);
    section(&mut lines, "Degraded:", texts(&status.degraded));
    section(&mut lines, "Warnings of the configuration:", texts(&status.config.warnings));
    let victims = status.in_flight.iter().map(|one| victim(one, users)).collect();
    section(&mut lines, TERMINATING, victims);
    let stopped = status.stopped.iter().map(|one| stopped(one, users)).collect();
    section(&mut lines, STOPPED, stopped);
    let throttled = status.throttled.iter().map(|one| throttled(one, users)).collect();
    section(&mut lines, "Slowed down by a rule (memory.high of the cgroup):", throttled);
    let climbing = status.climbing.iter().map(|one| growing_process(one, users)).collect();
    section(&mut lines, "Growing towards the limit:", climbing);
    section(&mut lines, &sums_heading(status), sums(status, users));
    section(&mut lines, HELD_BACK, status.held_back.iter().map(|one| waiting(one, users)).collect());
    let over = |would_terminate| {
        let of_kind = status.over_limit.iter().filter(move |one| one.would_terminate == would_terminate);
        of_kind.map(|one| over_limit(one, users)).collect()
    };
    section(&mut lines, "Would be terminated, if this was not a dry run:", over(true));
    section(&mut lines, "Over the limit, but protected:", over(false));
    let days = status.dry_run_days.iter().map(|day| dry_run_day(day, users)).collect();
    section(&mut lines, "Would have been terminated:", days);
    let recent: Vec<_> = status.recent.iter().take(RECENT).map(|one| terminated(one, users, zone)).collect();
    let heading = match status.recent.len() {
        all if all > RECENT => format!("Last terminations ({all} in --json):"),
        _ => "Last terminations:".to_owned(),
    };
    section(&mut lines, &heading, recent);
    joined_lines(lines)
}

/// Adds the entries under their heading, if there are any.
pub(super) fn section(lines: &mut Vec<String>, heading: &str, entries: Vec<String>) {
    if !entries.is_empty() {
        lines.extend([String::new(), heading.to_owned()]);
        lines.extend(entries.into_iter().flat_map(|entry| wrapped("  ".to_owned(), &entry, 4)));
    }
}

const fn mode(status: &Status) -> &'static str {
    match status {
        Status { awaits_enable: true, .. } => {
            "dry run until `memmon enable`, which shows first what it would terminate"
        }
        Status { dry_run: true, .. } => "dry run: nothing is signalled",
        Status { dry_run: false, .. } => "enforcing",
    }
}

fn facts(status: &Status) -> Vec<(&'static str, String)> {
    let Status { source, config, limit, counts, last_scan, map, lost, memory, .. } = status;
    let mut facts = vec![
        ("source", format!("{} ({}){}", source.name, source.reason, in_gear(source.gear))),
        ("mode", mode(status).to_owned()),
        (
            "limit",
            match limit.rule {
                Limit::Percent => format!(
                    "{} = ram_percent_threshold {}% (ram_gb_threshold: {})",
                    limit.limit_bytes, limit.ram_percent_threshold, limit.ram_gb_threshold_bytes
                ),
                Limit::Gb | Limit::Machine => format!(
                    "{} = ram_gb_threshold (ram_percent_threshold: {}%)",
                    limit.limit_bytes, limit.ram_percent_threshold
                ),
            },
        ),
    ];
    if let Some(memory) = memory {
        let used = memory.used();
        facts.push((
            "memory",
            format!("{:.1}% used ({used} / {})", used.percent_of(memory.total), memory.total),
        ));
    }
    let main = config.file.as_ref().map_or("built-in defaults", Text::as_str);
    let file = configuration_files(main, config.fragments.iter().map(ToString::to_string));
    facts.push(("config", format!("{file}, generation {}", config.generation)));
    if let Some(error) = &config.last_error {
        let first: Vec<_> = error.as_str().split("\\n").map(str::trim).collect();
        facts.push(("", format!("the last reload failed, the one before stays: {}", first.join(" "))));
    }
    facts.push((
        "processes",
        format!(
            "{}, {} being terminated, {} terminated so far",
            counts.processes, counts.in_flight, counts.terminated
        ),
    ));
    if let Some(scan) = last_scan {
        facts.push((
            "last scan",
            format!(
                "{} ago, {} (CPU {}): {} scanned, {} killed; every {}",
                Span::from_seconds(scan.seconds_ago),
                Span::from_seconds(scan.wall_seconds),
                Span::from_seconds(scan.cpu_seconds),
                scan.scanned,
                scan.killed,
                Span::from_seconds(status.check_interval_seconds)
            ),
        ));
    }
    if let Some(map) = map {
        let share = Bytes(map.entries as u64).percent_of(Bytes(map.capacity.into()));
        facts.push(("map", format!("{} of {} entries ({share:.1}%)", map.entries, map.capacity)));
    }
    let losses = [
        (lost.log_events, "log events"),
        (lost.crossings, "crossings"),
        (lost.map_entries, "entries of the map"),
    ];
    let losses: Vec<_> = losses
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    facts.push(("lost", if losses.is_empty() { "nothing".to_owned() } else { losses.join(", ") }));
    facts
}

/// The gear in use, after the reason for the source.
const fn in_gear(gear: Option<crate::model::Gear>) -> &'static str {
    match gear {
        None => "",
        Some(crate::model::Gear::Calm) => ", calm gear",
        Some(crate::model::Gear::Exact) => ", exact gear",
    }
}

fn growing_process(process: &GrowingProcess, users: &dyn Users) -> String {
    let GrowingProcess { id, comm, uid, rss_bytes, growth } = process;
    let mut text = format!("PID={id}, Name={comm}, User={}: {rss_bytes}", users.shown(*uid));
    if let Some(rate) = growth.bytes_per_second {
        _ = write!(text, ", {} more", Rate(rate));
    }
    if let Some(left) = growth.seconds_to_limit {
        _ = write!(text, ", at its limit in {}", Span::from_seconds(left));
    }
    text
}

/// The sums that the screen has room for.
fn sums(status: &Status, users: &dyn Users) -> Vec<String> {
    status.sums.iter().take(RECENT).map(|one| sum(one, users)).collect()
}

fn sums_heading(status: &Status) -> String {
    let (listed, all) = (status.sums.len(), status.sums_in_force.max(status.sums.len()));
    match (listed.min(RECENT), all) {
        (shown, all) if shown == all => "Together, by rule:".to_owned(),
        (shown, all) => format!("Together, by rule (the {shown} nearest to their limit of {all}):"),
    }
}

pub(super) fn sum(sum: &SumInForce, users: &dyn Users) -> String {
    let SumInForce { rule, group, members, total_bytes, limit_bytes, share_percent, growth, action, .. } =
        sum;
    let mut text = format!(
        "{rule}: {}, {members} {}: {total_bytes} of {limit_bytes} ({share_percent:.0}%)",
        group.shown(|uid| users.shown(uid)),
        processes(*members)
    );
    // A rate that would be shown as zero is left out.
    if let Some(rate) = growth.bytes_per_second.filter(|rate| rate.abs() >= 1024.0) {
        _ = write!(text, ", {} {}", Rate(rate.abs()), if rate < 0.0 { "less" } else { "more" });
    }
    if let Some(left) = growth.seconds_to_limit.filter(|left| *left < A_DAY) {
        _ = write!(text, ", at its limit in {}", Span::from_seconds(left));
    }
    if action.as_str() != "terminate" {
        _ = write!(text, ", action {action}");
    }
    text
}

pub(super) fn waiting(waiting: &Waiting, users: &dyn Users) -> String {
    let Waiting { program, script, uid, rule, times, left_seconds, .. } = waiting;
    let rule = rule.as_ref().map(|rule| format!(", Rule={rule}")).unwrap_or_default();
    let script = script.as_ref().map(|script| format!(" {script}")).unwrap_or_default();
    let place = waiting.place().map(|place| format!(" of {place}")).unwrap_or_default();
    let (user, left) = (users.shown(*uid), Span::from_seconds(*left_seconds));
    format!("{program}{script}{place}, User={user}{rule}: terminated {times} times, for another {left}")
}

fn over_limit(over: &OverLimit, users: &dyn Users) -> String {
    let OverLimit { id, comm, uid, rss_bytes, why, .. } = over;
    format!("PID={id}, Name={comm}, User={}: {rss_bytes}, {why}", users.shown(*uid))
}

pub(super) fn stopped(stopped: &StoppedProcess, users: &dyn Users) -> String {
    let StoppedProcess { id, comm, uid, rss_bytes, limit_bytes, rule, since_seconds, continued, .. } =
        stopped;
    let rule = rule.as_ref().map(|rule| format!(", rule {rule}")).unwrap_or_default();
    let state = if *continued {
        format!("continued by somebody else, may grow to {}", stopped.may_have_bytes)
    } else {
        format!("for {}", Span::from_seconds(*since_seconds))
    };
    format!("PID={id}, Name={comm}, User={}: {rss_bytes} of {limit_bytes}{rule}, {state}", users.shown(*uid))
}

fn throttled(one: &ThrottledCgroup, users: &dyn Users) -> String {
    let ThrottledCgroup { rule, group, high_bytes, before_bytes, since_seconds, slowed, .. } = one;
    let before = before_bytes.map_or_else(|| "max".to_owned(), |before| before.to_string());
    let slowed = slowed.map(|times| format!(", slowed down {times} times")).unwrap_or_default();
    format!(
        "{rule}: {}: {high_bytes}, before {before}, for {}{slowed}",
        group.shown(|uid| users.shown(uid)),
        Span::from_seconds(*since_seconds)
    )
}

fn dry_run_day(day: &DryRunDay, users: &dyn Users) -> String {
    let program = |program: &DryRunProgram| {
        let DryRunProgram { comm, uid, times, largest_bytes } = program;
        format!("{comm} ({}) {times}, up to {largest_bytes}", users.shown(*uid))
    };
    let mut programs: Vec<_> = day.programs.iter().take(RECENT).map(program).collect();
    if day.programs.len() > RECENT {
        programs.push(format!("{} more programs", day.programs.len() - RECENT));
    }
    for (count, what) in [(day.stops, "stopped"), (day.throttles, "slowed down (cgroups)")] {
        if count > 0 {
            programs.push(format!("{count} {what}"));
        }
    }
    format!("{}  {}: {}", day.day, day.times, programs.join("; "))
}

pub(super) fn victim(victim: &Victim, users: &dyn Users) -> String {
    let Victim { id, comm, uid, phase, since_seconds, left_seconds } = victim;
    let mut text = format!("PID={id}, Name={comm}, User={}: {phase}", users.shown(*uid));
    if let Some(left) = left_seconds {
        _ = write!(text, ", {} left", Span::from_seconds(*left));
    } else if let Some(since) = since_seconds {
        _ = write!(text, " {} ago", Span::from_seconds(*since));
    }
    text
}

/// One termination, from what the JSON log has of it: a daemon of another minor version may have less, or more.
fn terminated(event: &Value, users: &dyn Users, zone: &TimeZone) -> String {
    let number = |key: &str| event.get(key).and_then(Value::as_f64);
    let bytes = |key: &str| event.get(key).and_then(Value::as_u64).map(Bytes);
    let word = |key: &str| event.get(key).and_then(Value::as_str).map(Text::harmless).unwrap_or_default();
    let at = number("at_unix_seconds")
        .and_then(|at| Duration::try_from_secs_f64(at).ok())
        .and_then(|at| Timestamp::UNIX_EPOCH.checked_add(at).ok())
        .map(|at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string());
    let uid = event.get("uid").and_then(Value::as_u64).and_then(|uid| u32::try_from(uid).ok()).map(Uid);
    let mut text = format!(
        "{} {} {} ({})",
        at.unwrap_or_default(),
        event.get("pid").and_then(Value::as_u64).unwrap_or_default(),
        word("comm"),
        uid.map(|uid| users.shown(uid)).unwrap_or_default()
    );
    if let (Some(peak), Some(limit)) = (bytes("peak_bytes"), bytes("limit_bytes")) {
        _ = write!(text, ": {peak} over {limit}");
    }
    match word("cause").as_str() {
        "" => {}
        cause => _ = write!(text, ", {cause}"),
    }
    if let Some(seconds) = number("signal_to_exit_seconds") {
        _ = write!(text, ", {}", Span::from_seconds(seconds));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::FakeUsers,
        model::{self, Pid, ProcessId, StartTime, SystemMemory},
        status::{Configuration, Counts, Dropped, Growth, MapUsage, Scan, Source, Thresholds},
    };

    const USERS: FakeUsers = FakeUsers(&[("root", 0), ("john", 1000)]);
    const GB: u64 = Bytes::GIB;

    fn status() -> Status {
        Status {
            version: "2.0.0".into(),
            pid: Pid(812),
            uptime_seconds: 12_345.0,
            dry_run: false,
            awaits_enable: false,
            source: Source { name: model::Source::Ebpf, reason: "the best there is".into(), gear: None },
            degraded: vec![],
            config: Configuration {
                file: Some("/etc/memmon/config.toml".into()),
                fragments: vec![],
                generation: 1,
                warnings: vec![],
                last_error: None,
                rules: None,
            },
            limit: Thresholds {
                rule: Limit::Percent,
                limit_bytes: Bytes(16 * GB / 10),
                ram_percent_threshold: 10.0,
                ram_gb_threshold_bytes: Bytes(2 * GB),
            },
            check_interval_seconds: 30.0,
            memory: Some(SystemMemory { total: Bytes(16 * GB), available: Bytes(9 * GB) }),
            counts: Counts { processes: 245, in_flight: 0, terminated: 0, scans: 1 },
            last_scan: Some(Scan {
                seconds_ago: 3.2,
                wall_seconds: 0.0012,
                cpu_seconds: 0.0009,
                scanned: 245,
                killed: 0,
            }),
            in_flight: vec![],
            climbing: vec![],
            held_back: vec![],
            over_limit: vec![],
            sums: vec![],
            sums_in_force: 0,
            stopped: vec![],
            throttled: vec![],
            dry_run_days: vec![],
            recent: vec![],
            map: Some(MapUsage { entries: 245, capacity: 32_768 }),
            lost: Dropped::default(),
        }
    }

    fn text(status: &Status) -> String {
        let text = render(status, &USERS, &TimeZone::UTC);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        text
    }

    #[test]
    fn a_quiet_daemon() {
        insta::assert_snapshot!(text(&status()), @"
        memmon 2.0.0, pid 812, has been watching for 3h 25m
          source     ebpf (the best there is)
          mode       enforcing
          limit      1.60GB = ram_percent_threshold 10% (ram_gb_threshold: 2.00GB)
          memory     43.8% used (7.00GB / 16.00GB)
          config     /etc/memmon/config.toml, generation 1
          processes  245, 0 being terminated, 0 terminated so far
          last scan  3.2s ago, 1.2ms (CPU 900µs): 245 scanned, 0 killed; every 30s
          map        245 of 32768 entries (0.7%)
          lost       nothing
        ");
    }

    #[test]
    fn a_daemon_with_much_to_say() {
        let mut status = status();
        status.dry_run = true;
        status.config.generation = 3;
        let error = "error: unknown key `levle` in [log]\n --> /etc/memmon/config.toml:2:1\n  |";
        status.config.last_error = Some(Text::harmless(error));
        status.config.warnings = vec!["line 5: root is listed but not protected, as in v1".into()];
        status.degraded = vec![Text::harmless(
            "the kernel map has no room for every process, so that scans read /proc as well: raise \
             kernel.max_processes",
        )];
        status.lost = Dropped { log_events: 7, crossings: 0, map_entries: 12 };
        let id = ProcessId { pid: Pid(4242), start: StartTime(7) };
        status.in_flight = vec![
            Victim {
                id,
                comm: "chr\u{1b}me".into(),
                uid: Uid(1000),
                phase: "grace".into(),
                since_seconds: Some(1.8),
                left_seconds: Some(3.2),
            },
            Victim {
                id,
                comm: "stuck".into(),
                uid: Uid(47_001),
                phase: "killed".into(),
                since_seconds: Some(65.0),
                left_seconds: None,
            },
        ];
        status.climbing = vec![GrowingProcess {
            id,
            comm: "python3".into(),
            uid: Uid(1000),
            rss_bytes: Bytes(GB),
            growth: Growth { bytes_per_second: Some(2.5e6), seconds_to_limit: Some(258.0) },
        }];
        status.held_back = vec![Waiting {
            program: "/usr/sbin/leaky".into(),
            script: None,
            cgroup: Some("/system.slice/leaky.service".into()),
            container: None,
            unit: Some("leaky.service".into()),
            uid: Uid(1000),
            rule: None,
            times: 5,
            wait_seconds: 60.0,
            left_seconds: 43.0,
            since_boot_seconds: 1000.0,
        }];
        let over = |comm: &str, would_terminate, why: &str| OverLimit {
            id,
            comm: comm.into(),
            uid: Uid(1000),
            rss_bytes: Bytes(3 * GB),
            would_terminate,
            why: why.into(),
        };
        let stopped = |comm: &str, times, continued| StoppedProcess {
            id,
            comm: comm.into(),
            uid: Uid(1000),
            rss_bytes: Bytes(2 * GB),
            limit_bytes: Bytes(GB),
            rule: Some("batch".into()),
            times,
            since_seconds: 65.0,
            continued,
            may_have_bytes: Bytes(9 * GB / 4),
        };
        status.stopped = vec![stopped("sim", 1, false), stopped("solver", 2, true)];
        let build: model::GroupKey = model::GroupKey::Unit { unit: "build.service".into() };
        status.throttled = vec![ThrottledCgroup {
            rule: "builds".into(),
            group: (&build).into(),
            throttled_cgroup: "/system.slice/build.service".into(),
            limit_bytes: Bytes(GB),
            high_bytes: Bytes(GB),
            before_bytes: None,
            times: 1,
            since_seconds: 12.0,
            slowed: Some(17),
        }];
        status.over_limit =
            vec![over("python3", true, "ram_gb_threshold"), over("tar", false, "whitelist.names")];
        let sum = SumInForce {
            rule: "students".into(),
            group: (&model::GroupKey::User { uid: Uid(1000) }).into(),
            members: 20,
            total_bytes: Bytes(3 * GB),
            limit_bytes: Bytes(4 * GB),
            share_percent: 75.0,
            growth: Growth { bytes_per_second: Some(2.5e6), seconds_to_limit: Some(429.0) },
            action: "terminate".into(),
            largest: vec![],
        };
        let unit = SumInForce {
            group: (&model::GroupKey::Unit { unit: "a\u{1b}.service".into() }).into(),
            members: 1,
            growth: Growth { bytes_per_second: Some(-4e6), seconds_to_limit: None },
            action: "warn".into(),
            ..sum.clone()
        };
        (status.sums, status.sums_in_force) = (vec![sum, unit], 7);
        let program = |comm: &str, times| DryRunProgram {
            comm: comm.into(),
            uid: Uid(1000),
            times,
            largest_bytes: Bytes(3 * GB),
        };
        let programs = vec![program("python3", 4), program("chrome", 1)];
        status.dry_run_days =
            vec![DryRunDay { day: "2025-10-06".into(), times: 5, stops: 2, throttles: 0, programs }];
        let record = serde_json::json!({
            "event": "terminated", "at_unix_seconds": 1_759_486_531.5, "pid": 12_345, "start": 7,
            "comm": "chrome", "uid": 1000, "limit_bytes": GB, "peak_bytes": 7 * GB / 2,
            "signal_to_exit_seconds": 0.31, "cause": "term"
        });
        status.recent = vec![record; 9];
        status.recent.push(serde_json::json!({}));
        insta::assert_snapshot!(text(&status), @r"
        memmon 2.0.0, pid 812, has been watching for 3h 25m
          source     ebpf (the best there is)
          mode       dry run: nothing is signalled
          limit      1.60GB = ram_percent_threshold 10% (ram_gb_threshold: 2.00GB)
          memory     43.8% used (7.00GB / 16.00GB)
          config     /etc/memmon/config.toml, generation 3
                     the last reload failed, the one before stays: error: unknown key
                     `levle` in [log] --> /etc/memmon/config.toml:2:1 |
          processes  245, 0 being terminated, 0 terminated so far
          last scan  3.2s ago, 1.2ms (CPU 900µs): 245 scanned, 0 killed; every 30s
          map        245 of 32768 entries (0.7%)
          lost       7 log events, 12 entries of the map

        Degraded:
          the kernel map has no room for every process, so that scans read /proc as
            well: raise kernel.max_processes

        Warnings of the configuration:
          line 5: root is listed but not protected, as in v1

        Being terminated:
          PID=4242, Name=chr\u{1b}me, User=john: grace, 3.2s left
          PID=4242, Name=stuck, User=47001: killed 65s ago

        Stopped by a rule (kill -CONT PID continues one):
          PID=4242, Name=sim, User=john: 2.00GB of 1.00GB, rule batch, for 65s
          PID=4242, Name=solver, User=john: 2.00GB of 1.00GB, rule batch, continued by
            somebody else, may grow to 2.25GB

        Slowed down by a rule (memory.high of the cgroup):
          builds: unit build.service: 1.00GB, before max, for 12s, slowed down 17 times

        Growing towards the limit:
          PID=4242, Name=python3, User=john: 1.00GB, 2.4MB/s more, at its limit in 4m
            18s

        Together, by rule (the 2 nearest to their limit of 7):
          students: user john, 20 processes: 3.00GB of 4.00GB (75%), 2.4MB/s more, at
            its limit in 7m 9s
          students: unit a\u{1b}.service, 1 process: 3.00GB of 4.00GB (75%), 3.8MB/s
            less, action warn

        Held back, as they come back each time:
          /usr/sbin/leaky of leaky.service, User=john: terminated 5 times, for another
            43s

        Would be terminated, if this was not a dry run:
          PID=4242, Name=python3, User=john: 3.00GB, ram_gb_threshold

        Over the limit, but protected:
          PID=4242, Name=tar, User=john: 3.00GB, whitelist.names

        Would have been terminated:
          2025-10-06  5: python3 (john) 4, up to 3.00GB; chrome (john) 1, up to 3.00GB;
            2 stopped

        Last terminations (10 in --json):
          2025-10-03 10:15:31 12345 chrome (john): 3.50GB over 1.00GB, term, 310ms
          2025-10-03 10:15:31 12345 chrome (john): 3.50GB over 1.00GB, term, 310ms
          2025-10-03 10:15:31 12345 chrome (john): 3.50GB over 1.00GB, term, 310ms
          2025-10-03 10:15:31 12345 chrome (john): 3.50GB over 1.00GB, term, 310ms
          2025-10-03 10:15:31 12345 chrome (john): 3.50GB over 1.00GB, term, 310ms
        ");
    }
}

//! One user's own processes, on one screen.

use std::fmt::Write as _;

use super::screen::{HELD_BACK, STOPPED, TERMINATING, section, stopped, sum, victim, waiting};
use crate::{
    cli::explain::joined_lines,
    config::Users,
    model::units::{Rate, Span, processes},
    status::{Mine, Row, VerdictKind},
};

/// Number of processes that leave room for the rest of the screen.
const ROWS: usize = 10;

/// The user's processes, as text for one screen.
pub(super) fn render(mine: &Mine, users: &dyn Users) -> String {
    let dry_run = if mine.dry_run { " (dry run: it terminates nothing)" } else { "" };
    let name = users.shown(mine.uid);
    let mut lines = vec![format!(
        "memmon {}{dry_run}, {name}: {} {}",
        mine.version,
        mine.processes,
        processes(mine.processes)
    )];
    let heading = match mine.rows.len() {
        all if all > ROWS => format!("The largest ({all} in --json):"),
        _ => "The largest:".to_owned(),
    };
    section(&mut lines, &heading, mine.rows.iter().take(ROWS).map(|one| row(one, mine)).collect());
    section(&mut lines, "Together, by rule:", mine.sums.iter().map(|one| sum(one, users)).collect());
    section(&mut lines, TERMINATING, mine.in_flight.iter().map(|one| victim(one, users)).collect());
    section(&mut lines, STOPPED, mine.stopped.iter().map(|one| stopped(one, users)).collect());
    section(&mut lines, HELD_BACK, mine.held_back.iter().map(|one| waiting(one, users)).collect());
    joined_lines(lines)
}

fn row(row: &Row, mine: &Mine) -> String {
    let Row { id, comm, rss_bytes, verdict, why, rule, growth, .. } = row;
    let mut text = format!("PID={id}, Name={comm}: {rss_bytes}");
    match row.limit(mine.limit_bytes) {
        Some(limit) => _ = write!(text, " of {limit} ({:.0}%)", rss_bytes.percent_of(limit)),
        None => text.push_str(", no limit"),
    }
    if let Some(rule) = rule {
        _ = write!(text, ", rule {rule}");
    }
    if let Some(rate) = growth.bytes_per_second.filter(|rate| *rate >= 1024.0) {
        _ = write!(text, ", {} more", Rate(rate));
    }
    if let Some(left) = growth.seconds_to_limit {
        _ = write!(text, ", at its limit in {}", Span::from_seconds(left));
    }
    let outcome = match verdict {
        VerdictKind::Within => "",
        VerdictKind::Protected => "protected",
        VerdictKind::Unsure => "unsure",
        VerdictKind::Terminate if mine.dry_run => "would be terminated",
        VerdictKind::Terminate => "over its limit",
    };
    for part in [outcome, why.as_str()].into_iter().filter(|part| !part.is_empty()) {
        _ = write!(text, ", {part}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::FakeUsers,
        model::{Bytes, Pid, ProcessId, StartTime, Uid},
        status::{Growth, Sharing, Text, Victim},
    };

    const GB: u64 = Bytes::GIB;

    #[test]
    fn a_users_own_processes_on_a_screen() {
        let id = ProcessId { pid: Pid(4242), start: StartTime(7) };
        let growing = Row {
            id,
            comm: "py\u{1b}thon".into(),
            uid: Uid(1000),
            rss_bytes: Bytes(GB),
            error_bytes: Bytes::ZERO,
            parts: None,
            charged_bytes: None,
            sharing: Sharing::default(),
            verdict: VerdictKind::Within,
            why: Text::default(),
            phase: None,
            growth: Growth { bytes_per_second: Some(1e7), seconds_to_limit: Some(107.0) },
            rule: None,
            limit_bytes: Some(Bytes(2 * GB)),
            unit: None,
        };
        let protected = Row {
            comm: "postgres".into(),
            verdict: VerdictKind::Protected,
            why: "whitelist.names: postgres".into(),
            growth: Growth::default(),
            rule: Some("db".into()),
            limit_bytes: None,
            ..growing.clone()
        };
        let mine = Mine {
            version: "2.0.0".into(),
            uid: Uid(1000),
            dry_run: false,
            limit_bytes: Bytes(2 * GB),
            processes: 2,
            rows: vec![growing, protected],
            in_flight: vec![Victim {
                id,
                comm: "worker".into(),
                uid: Uid(1000),
                phase: "grace".into(),
                since_seconds: Some(1.0),
                left_seconds: Some(4.0),
            }],
            stopped: vec![],
            held_back: vec![],
            sums: vec![],
        };
        insta::assert_snapshot!(render(&mine, &FakeUsers(&[("john", 1000)])), @r"
        memmon 2.0.0, john: 2 processes

        The largest:
          PID=4242, Name=py\u{1b}thon: 1.00GB of 2.00GB (50%), 9.5MB/s more, at its
            limit in 107s
          PID=4242, Name=postgres: 1.00GB, no limit, rule db, protected,
            whitelist.names: postgres

        Being terminated:
          PID=4242, Name=worker, User=john: grace, 4s left
        ");
    }
}

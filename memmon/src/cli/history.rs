//! `memmon history`: what was terminated, what a dry run would have terminated, and warnings, weeks back.

use std::{io::Write, path::PathBuf};

use jiff::{Timestamp, Zoned, tz::TimeZone};

use super::{exempt::uid, exit::Exit, times};
use crate::{
    config::Users,
    daemon,
    model::{Entry, Happened, History, Select, Total, units::Span},
    status::{Body, Client, ClientError, MINE_SOCKET, SOCKET, Text},
};

/// Show terminations, those that a dry run would have made, and warnings, with totals by program and user
///
/// The running memmon keeps them, for as long as [history] says. If none runs, root reads its file.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Since then: monday, yesterday, 2026-11-20, or a length of time such as 2h or 7d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Of your own processes, which every user may ask for
    #[arg(long, conflicts_with = "user")]
    mine: bool,
    /// Of this user, by name or uid
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Of this systemd unit
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Of this Slurm job
    #[arg(long, value_name = "NUMBER")]
    job: Option<u64>,
    /// Of this container: its name, the name of its pod, or the beginning of its id
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Only what a dry run would have terminated
    #[arg(long)]
    would: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The socket of the daemon
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// Asks, and prints the answer.
///
/// # Errors
/// The arguments make no sense, or there is no answer.
pub(super) fn run(asked: &Args, users: &dyn Users, now: &Zoned, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Args { since, mine, user, unit, job, container, would, json, socket } = asked;
    let since = since.as_deref().map(|text| times::since(text, now)).transpose()?;
    let select = Select {
        since_unix_seconds: since.map(|time| time.timestamp().as_duration().as_secs_f64()),
        user: user.as_deref().map(|user| uid(user, users)).transpose()?,
        unit: unit.clone(),
        job: *job,
        container: container.clone(),
        would: *would,
    };
    // The daemon answers there about the user that asks, whatever is asked for.
    let socket = if *mine { &socket.with_file_name(MINE_SOCKET) } else { socket };
    let history = match Client::connect(socket).and_then(|mut client| client.history(&select)) {
        Ok(Body::History(history)) => *history,
        Ok(_) => return Err(ClientError::other_query().into()),
        Err(ClientError::NoDaemon(_)) if !mine => daemon::history_on_disk(&select)?,
        Err(error) => return Err(error.into()),
    };
    if *json {
        writeln!(out, "{}", serde_json::to_string_pretty(&history)?)?;
    } else {
        out.write_all(render(&history, users, now.time_zone()).as_bytes())?;
    }
    Ok(Exit::Ok)
}

fn render(history: &History, users: &dyn Users, zone: &TimeZone) -> String {
    let History { entries, matched, totals, oldest_unix_seconds } = history;
    let mut lines = Vec::new();
    let left_out = matched.saturating_sub(entries.len() as u64);
    if left_out > 0 {
        lines.push(format!("({left_out} earlier ones are left out here; the totals have them)"));
    }
    lines.extend(entries.iter().map(|entry| line(entry, users, zone)));
    if totals.is_empty() {
        lines.push("No matching termination or warning is recorded.".to_owned());
    } else {
        lines.extend([String::new(), "By program and user:".to_owned()]);
        lines.extend(totals.iter().map(|one| format!("  {}", total(one, users))));
    }
    if let Some(oldest) = oldest_unix_seconds {
        lines.extend([String::new(), format!("The history begins on {}.", time(*oldest, zone))]);
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn line(entry: &Entry, users: &dyn Users, zone: &TimeZone) -> String {
    let Entry { at_unix_seconds, what, pid, comm, uid, unit, job, container, rule, .. } = entry;
    let Entry { container_name, pod_name, namespace, .. } = entry;
    let what = match what {
        Happened::Terminated => "terminated",
        Happened::WouldTerminate => "would terminate",
        Happened::Exempt => "exempt",
        Happened::Warned => "over a warning",
        Happened::NearLimit => "near its limit",
    };
    let mut text = format!(
        "{}  {what:<15}  {} ({}) PID={pid}, {}",
        time(*at_unix_seconds, zone),
        Text::harmless(comm),
        users.shown(*uid),
        entry.peak_bytes
    );
    let limit = entry.limit_bytes.map(|limit| format!(" of {limit}"));
    text.extend(limit);
    let seconds = entry.signal_to_exit_seconds.map(|seconds| Span::from_seconds(seconds).to_string());
    let parts = [
        ("Rule", rule.clone()),
        ("Job", job.map(|job| job.to_string())),
        ("Container", container_name.as_ref().or(container.as_ref()).cloned()),
        ("Pod", pod_name.clone()),
        ("Namespace", namespace.clone()),
        ("Unit", unit.clone()),
        ("By", entry.cause.clone()),
        ("After", seconds),
    ];
    for (key, value) in parts {
        text.extend(value.map(|value| format!(", {key}={}", Text::harmless(&value))));
    }
    text
}

fn total(total: &Total, users: &dyn Users) -> String {
    let Total { comm, uid, terminated, would_terminate, warned, peak_bytes } = total;
    let program = match (comm, uid) {
        (Some(comm), Some(uid)) => format!("{} ({})", Text::harmless(comm), users.shown(*uid)),
        _ => "all others".to_owned(),
    };
    let counts = [
        (terminated, "terminated"),
        (would_terminate, "would have been"),
        (warned, if *warned == 1 { "warning" } else { "warnings" }),
    ];
    let counts: Vec<_> = counts
        .iter()
        .filter(|(count, _)| **count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    format!("{program:<24}  {}, up to {peak_bytes}", counts.join(", "))
}

pub(super) fn time(seconds: f64, zone: &TimeZone) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    let time = Timestamp::from_second(seconds as i64).unwrap_or(Timestamp::MAX);
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::FakeUsers,
        model::{Bytes, Pid, Uid},
    };

    #[test]
    fn an_answer_on_a_screen() {
        let terminated = Entry {
            at_unix_seconds: 1_764_385_200.25,
            what: Happened::Terminated,
            pid: Pid(4242),
            comm: "chr\u{1b}[2Jome".to_owned(),
            uid: Uid(1000),
            unit: Some("app-x.scope".to_owned()),
            job: None,
            container: None,
            container_name: None,
            pod_name: None,
            namespace: None,
            rule: Some("gb".to_owned()),
            limit_bytes: Some(Bytes(2 * Bytes::GIB)),
            peak_bytes: Bytes(3 * Bytes::GIB),
            cause: Some("term".to_owned()),
            signal_to_exit_seconds: Some(0.42),
        };
        let near = Entry {
            what: Happened::NearLimit,
            comm: "job".to_owned(),
            uid: Uid(7),
            unit: None,
            job: Some(12),
            container: Some("0123456789abcdef".to_owned()),
            container_name: Some("we\u{7}b".to_owned()),
            pod_name: Some("shop".to_owned()),
            namespace: Some("default".to_owned()),
            rule: None,
            cause: None,
            signal_to_exit_seconds: None,
            ..terminated.clone()
        };
        let total = |comm: Option<&str>, terminated, warned| Total {
            comm: comm.map(str::to_owned),
            uid: comm.map(|_| Uid(1000)),
            terminated,
            would_terminate: 2,
            warned,
            peak_bytes: Bytes(3 * Bytes::GIB),
        };
        let history = History {
            entries: vec![terminated, near],
            matched: 7,
            totals: vec![total(Some("chrome"), 4, 1), total(None, 0, 0)],
            oldest_unix_seconds: Some(1_764_000_000.0),
        };
        let shown = render(&history, &FakeUsers(&[("john", 1000)]), &TimeZone::UTC);
        insta::assert_snapshot!(shown, @r"
        (5 earlier ones are left out here; the totals have them)
        2025-11-29 03:00:00  terminated       chr\u{1b}[2Jome (john) PID=4242, 3.00GB of 2.00GB, Rule=gb, Unit=app-x.scope, By=term, After=420ms
        2025-11-29 03:00:00  near its limit   job (7) PID=4242, 3.00GB of 2.00GB, Job=12, Container=we\u{7}b, Pod=shop, Namespace=default

        By program and user:
          chrome (john)             4 terminated, 2 would have been, 1 warning, up to 3.00GB
          all others                2 would have been, up to 3.00GB

        The history begins on 2025-11-24 16:00:00.
        ");
        let nothing = render(&History::default(), &FakeUsers(&[]), &TimeZone::UTC);
        assert_eq!(nothing, "No matching termination or warning is recorded.\n");
    }
}

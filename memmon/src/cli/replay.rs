//! `memmon replay`: what another configuration would have done with what memmon has seen.

use std::{fmt::Write as _, io::Write, path::PathBuf, time::Duration};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use serde_json::{Value, json};

use super::{exit::Exit, history::time, times};
use crate::{
    config::{self, Settings, Users},
    daemon,
    model::{Bytes, Decided, Pid, Sample, Samples, Verdict, units},
    policy::{
        self,
        replay::{Fate, Replay, replay},
    },
    status::{Body, Client, ClientError, SOCKET, Text, why},
};

/// Show what another configuration would have done: which processes would have been ended, when and by which rule, and which
/// would have lived
///
/// memmon keeps what it sees of processes above a quarter of their limit, as long as [history] says and its file has room.
/// The configuration judges that again, as the daemon does. It needs root, or the group in `status.group`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Since then: monday, yesterday, 2026-11-20, or a length of time such as 2h or 7d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The other configuration [default: /etc/memmon/config.toml if it exists, else the built-in defaults]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The socket of the daemon
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// Reads the samples, judges them, and prints the outcome.
///
/// # Errors
/// The configuration is wrong, the arguments make no sense, or there is no answer.
pub(super) fn run(asked: &Args, users: &dyn Users, now: &Zoned, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Args { since, config, json, socket } = asked;
    let since = since.as_deref().map(|text| times::since(text, now)).transpose()?;
    let settings = config::load(config.as_deref(), users)?.settings;
    let samples = samples(since.as_ref(), socket)?;
    let untried = untried(&settings);
    let outcome = judge(samples, settings, now.time_zone());
    if *json {
        writeln!(out, "{:#}", as_json(&outcome, &untried))?;
    } else {
        out.write_all(render(&outcome, &untried, users, now.time_zone()).as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// All samples since then, from the running memmon or, if none runs, from its file.
fn samples(since: Option<&Zoned>, socket: &std::path::Path) -> anyhow::Result<Vec<Sample>> {
    let first = since.map_or(0, |time| time.timestamp().as_microsecond());
    let mut next = Some(u64::try_from(first).unwrap_or_default());
    let mut client = match Client::connect(socket) {
        Ok(client) => Some(client),
        Err(ClientError::NoDaemon(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let mut all = Vec::new();
    while let Some(first) = next {
        let page = match &mut client {
            None => daemon::samples_on_disk(first)?,
            Some(client) => match client.samples(first)? {
                Body::Samples(page) => *page,
                _ => return Err(ClientError::other_query().into()),
            },
        };
        let Samples { samples, next: after } = page;
        all.extend(samples);
        // Whatever answers, this ends.
        next = after.filter(|after| *after > first);
    }
    Ok(all)
}

/// Judges the samples by the settings as they are at each time.
fn judge(samples: Vec<Sample>, mut settings: Settings, zone: &TimeZone) -> Replay {
    // The pid of this process was another one's.
    settings.rules.own_pid = Pid(0);
    let wanted = settings.rules.wanted();
    let follows = !settings.schedule.windows.is_empty();
    replay(
        samples,
        |seen, id| seen.process(id, wanted),
        |process, memory, at| {
            if follows {
                settings.follow(&timestamp(at).to_zoned(zone.clone()));
            }
            let verdict = policy::judge(&settings.rules, process, memory);
            let lasting = match &verdict {
                Verdict::Terminate(breach) | Verdict::Stop(breach) => {
                    settings.must_last(process, breach, memory)
                }
                _ => Duration::ZERO,
            };
            (verdict, lasting)
        },
    )
}

/// The settings that a replay does not try, as they take more than single processes above a quarter of their limit.
fn untried(settings: &Settings) -> Vec<&'static str> {
    let mut untried = Vec::new();
    if !settings.rules.sums.is_empty() {
        untried.push("rules with per");
    }
    if settings.machine.is_some() {
        untried.push("[machine]");
    }
    if settings.termination.repeat_limit > 0 {
        untried.push("delays of repeat offenders");
    }
    untried
}

fn timestamp(seconds: f64) -> Timestamp {
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
    let microseconds = (seconds * 1e6) as i64;
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MAX)
}

fn render(outcome: &Replay, untried: &[&str], users: &dyn Users, zone: &TimeZone) -> String {
    let Replay { judged, processes, first, ended, lived, unsure } = outcome;
    let Some(first) = first else {
        return "Nothing is recorded of that time: memmon records processes above a quarter of their limit.\n"
            .to_owned();
    };
    let mut text = format!(
        "Judged again: {judged} {} at {processes} {} since {}.\n",
        if *judged == 1 { "look" } else { "looks" },
        units::processes(*processes),
        time(*first, zone)
    );
    let section = |text: &mut String, heading: &str, fates: &[Fate], shown: &dyn Fn(&Fate) -> String| {
        if !fates.is_empty() {
            _ = writeln!(text, "\n{heading}");
            for fate in fates {
                _ = writeln!(
                    text,
                    "  {}  {} ({}) PID={}, {}{}",
                    time(fate.at_unix_seconds, zone),
                    fate.comm,
                    users.shown(fate.uid),
                    fate.id,
                    fate.rss,
                    shown(fate)
                );
            }
        }
    };
    section(&mut text, "Would have been ended:", ended, &|fate| {
        format!("{}; then: {}", over(&fate.verdict), then(fate))
    });
    section(&mut text, "Would have lived:", lived, &|fate| {
        format!("; then: {}; now: {}", then(fate), now_within(&fate.verdict))
    });
    section(&mut text, "Not known:", unsure, &|fate| {
        let then = if fate.then.is_signal() { format!("; then: {}", then(fate)) } else { String::new() };
        format!("{then}; {}", why(&fate.verdict))
    });
    if ended.is_empty() && lived.is_empty() && unsure.is_empty() {
        text.push_str("\nNo process would have been ended, and none would have lived that was ended.\n");
    }
    if !untried.is_empty() {
        _ = writeln!(text, "\nNot tried: {}.", untried.join(", "));
    }
    text
}

/// The limit that is exceeded, and the rule that has it.
fn over(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Terminate(breach) => format!(" of {}, Rule={}", breach.limit, breach.rule_name()),
        Verdict::Stop(breach) => format!(" of {}, Rule={}, stopped", breach.limit, breach.rule_name()),
        _ => String::new(),
    }
}

const fn then(fate: &Fate) -> &'static str {
    match (fate.then, fate.dry_run) {
        (Decided::Within, _) => "within its limit",
        (Decided::Protected, _) => "protected",
        (Decided::Exempt, _) => "exempt",
        (Decided::Unsure, _) => "in doubt",
        (Decided::Warned, _) => "warned of",
        (Decided::Waits, _) => "over its limit, and waiting",
        (Decided::Stop, false) => "stopped",
        (Decided::Stop, true) => "would have been stopped",
        (Decided::Terminate, false) => "terminated",
        (Decided::Terminate, true) => "would have been terminated",
    }
}

fn now_within(verdict: &Verdict) -> String {
    match why(verdict) {
        why if why.is_empty() => "within its limit".to_owned(),
        why => why,
    }
}

fn as_json(outcome: &Replay, untried: &[&str]) -> Value {
    let fates = |fates: &[Fate]| {
        let fate = |fate: &Fate| {
            let limit: Option<Bytes> = match &fate.verdict {
                Verdict::Terminate(breach) | Verdict::Stop(breach) | Verdict::Warn(breach) => {
                    Some(breach.limit)
                }
                _ => None,
            };
            json!({
                "at_unix_seconds": fate.at_unix_seconds,
                "pid": fate.id.pid,
                "start": fate.id.start,
                "comm": fate.comm,
                "uid": fate.uid,
                "rss_bytes": fate.rss,
                "verdict": Decided::from(&fate.verdict),
                "why": Text::harmless(&why(&fate.verdict)),
                "limit_bytes": limit,
                "then": fate.then,
                "dry_run": fate.dry_run,
            })
        };
        fates.iter().map(fate).collect::<Vec<_>>()
    };
    json!({
        "judged": outcome.judged,
        "processes": outcome.processes,
        "first_unix_seconds": outcome.first,
        "ended": fates(&outcome.ended),
        "lived": fates(&outcome.lived),
        "unsure": fates(&outcome.unsure),
        "not_tried": untried,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::FakeUsers,
        model::{Process, ProcessId, Seen, StartTime, SystemMemory, Uid},
        policy::fixtures::{hog, rules},
    };

    const MEMORY: SystemMemory = SystemMemory { total: Bytes(64 << 30), available: Bytes(32 << 30) };
    /// A Saturday, 03:00 UTC.
    const THEN: f64 = 1_764_385_200.0;

    /// The samples of a memmon with a limit of 2 GB: one process that it terminated, and one that it let live.
    fn samples() -> Vec<Sample> {
        let sample = |at: f64, pid: u32, rss: f64| {
            let id = ProcessId { pid: Pid(pid), start: StartTime(pid.into()) };
            let process = Process { id, rss: Bytes(Bytes::GIB).times(rss), real_uid: Uid(1000), ..hog() };
            let mut then = rules();
            then.limits = policy::Limits::new(100.0, Bytes(2 * Bytes::GIB)).unwrap();
            let verdict = policy::judge(&then, &process, &MEMORY);
            let seen = Seen::new(&process, MEMORY, (&verdict).into(), false, then.wanted());
            Sample { at_unix_seconds: at, id, seen: Some(Box::new(seen)) }
        };
        vec![sample(THEN, 70, 1.5), sample(THEN + 30.0, 71, 2.5), sample(THEN + 60.0, 70, 1.75)]
    }

    fn shown(configuration: &str) -> String {
        let users = FakeUsers(&[("john", 1000)]);
        let parsed = config::parse(configuration, std::path::Path::new("new.toml"), &users).unwrap();
        let untried = untried(&parsed.settings);
        let outcome = judge(samples(), parsed.settings, &TimeZone::UTC);
        render(&outcome, &untried, &users, &TimeZone::UTC)
    }

    #[test]
    fn a_lower_limit_for_one_user_and_a_higher_one_for_all() {
        insta::assert_snapshot!(shown(
            "thresholds = { ram_percent_threshold = 100, ram_gb_threshold = 9 }\n\
             [[rule]]\nname = 'jobs'\nusers = ['john']\ngb = 1.6\n"
        ), @r"
        Judged again: 3 looks at 2 processes since 2025-11-29 03:00:00.

        Would have been ended:
          2025-11-29 03:00:30  Isolated Web Co (john) PID=71, 2.50GB of 1.60GB, Rule=jobs; then: terminated
          2025-11-29 03:01:00  Isolated Web Co (john) PID=70, 1.75GB of 1.60GB, Rule=jobs; then: within its limit

        Not tried: delays of repeat offenders.
        ");
        insta::assert_snapshot!(shown(
            "thresholds = { ram_percent_threshold = 100, ram_gb_threshold = 9 }\ntermination.repeat_limit = 0\n"
        ), @r"
        Judged again: 3 looks at 2 processes since 2025-11-29 03:00:00.

        Would have lived:
          2025-11-29 03:00:30  Isolated Web Co (john) PID=71, 2.50GB; then: terminated; now: within its limit
        ");
    }

    #[test]
    fn a_schedule_holds_at_the_time_of_each_look() {
        let at_night = shown(
            "thresholds = { ram_percent_threshold = 100, ram_gb_threshold = 9 }\ntermination.repeat_limit = 0\n\
             [[schedule]]\nfrom = '02:00'\nto = '04:00'\nram_gb_threshold = 1\n",
        );
        assert_eq!(at_night.matches("Rule=gb").count(), 2, "{at_night}");
        let by_day = shown(
            "thresholds = { ram_percent_threshold = 100, ram_gb_threshold = 9 }\ntermination.repeat_limit = 0\n\
             [[schedule]]\nfrom = '12:00'\nto = '14:00'\nram_gb_threshold = 1\n",
        );
        assert!(by_day.contains("Would have lived:") && !by_day.contains("Rule=gb"), "{by_day}");
    }

    #[test]
    fn a_limit_that_must_last_does_not_above_the_hard_ceiling() {
        let shown = shown(
            "thresholds = { ram_percent_threshold = 100, ram_gb_threshold = 9 }\n\
             [[rule]]\nname = 'jobs'\nusers = ['john']\ngb = 1\nfor = 300\n",
        );
        let ended: Vec<_> = shown.lines().filter(|line| line.contains("Rule=jobs")).collect();
        assert!(matches!(ended[..], [line] if line.contains("PID=71, 2.50GB of 1.00GB")), "{shown}");
    }

    #[test]
    fn one_look_at_one_process_is_counted_as_one() {
        let one = Replay { judged: 1, processes: 1, first: Some(THEN), ..Replay::default() };
        let shown = render(&one, &[], &FakeUsers(&[]), &TimeZone::UTC);
        assert!(
            shown.starts_with("Judged again: 1 look at 1 process since 2025-11-29 03:00:00.\n"),
            "{shown}"
        );
    }

    #[test]
    fn nothing_was_recorded() {
        let nothing = render(&Replay::default(), &[], &FakeUsers(&[]), &TimeZone::UTC);
        assert!(nothing.starts_with("Nothing is recorded of that"), "{nothing}");
    }
}

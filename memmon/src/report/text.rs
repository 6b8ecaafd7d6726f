//! Formats events as lines of text: v1's lines to the letter, the others in the same style.

use std::{
    fmt::{self, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    time::Duration,
};

use jiff::Zoned;

use super::event::{DryRunProgram, Event, Level, Subject};
use crate::model::{
    Breach, Bytes, Cause, Doubt, Escaped, Name, NameField, Protection, Record, Signal, Uid, Urgency,
};

/// Formats `event` as one line, without time and level, with everything in it escaped.
///
/// `user` returns the name of a uid, already escaped.
pub fn message(event: &Event, user: &mut dyn FnMut(Uid) -> String) -> String {
    match event {
        Event::Started { version, config, source, reason, dry_run, awaits_enable, limit, interval } => {
            format!(
                "{}memmon {version} started. Limit: {limit} per process, Interval: {}, Source: {source} ({}), Config: {}{}",
                dry_run_mark(*dry_run),
                Span(*interval),
                one_line(reason),
                config_name(config.as_deref()),
                if *awaits_enable { ". It terminates nothing until `memmon enable` is run" } else { "" },
            )
        }
        Event::Degraded { what } => format!("Degraded: {}", one_line(what)),
        Event::SystemMemory { memory } => format!(
            "System Memory: {:.1}% used ({} / {})",
            memory.used().percent_of(memory.total),
            memory.used(),
            memory.total
        ),
        Event::Killing { subject, breach: Breach { rss, percent, .. }, dry_run } => format!(
            "{}Killing process: {}, RAM={rss} ({percent:.2}%)",
            dry_run_mark(*dry_run),
            who(subject, user)
        ),
        Event::Approaching { subject, rss, limit, growth, time_to_limit } => format!(
            "Near its limit: {}, RAM={rss}, Limit={limit}{}",
            who(subject, user),
            climb(*growth, *time_to_limit)
        ),
        Event::OomKilled { pid, name, peak } => format!(
            "Killed by the kernel's OOM killer: PID={pid}, Name={}, Peak={peak}. The machine or its cgroup was out of \
             memory. Lower limits would let memmon act earlier",
            Field(name)
        ),
        Event::GraceOver { subject, rss, grace, urgency } => format!(
            "Still running {} after SIGTERM{}, sending SIGKILL: {}, RAM={rss}",
            Span(*grace),
            match urgency {
                None => "",
                Some(Urgency::Ceiling) => " and growing past its ceiling",
                Some(Urgency::Reserve) => " and the machine is nearly out of memory",
            },
            who(subject, user)
        ),
        Event::HeldBack { subject, script, unit, times, wait, first: _ } => format!(
            "Repeat offender, termination delayed by up to {} unless memory runs short: {}{}, Unit={}, Terminated {times} times. Stop or fix the service that restarts it",
            Span(*wait),
            who(subject, user),
            script.as_ref().map(|script| format!(", Script={}", Field(script))).unwrap_or_default(),
            unit.as_ref().map_or_else(|| "none".to_owned(), |unit| Field(unit).to_string())
        ),
        Event::Uncharged { subject, rss, limit, uncharged } => format!(
            "Over the limit by RSS only, left alone: {}, RAM={rss}, Limit={limit}. Its end would give back {uncharged}",
            who(subject, user)
        ),
        Event::Terminated { subject, record } => terminated(&who(subject, user), record),
        Event::Spared { subject, rss, limit, after_term } => format!(
            "Spared, its memory fell below the limit: {}, RAM={rss}, Limit={limit}. {}",
            who(subject, user),
            signals_sent(*after_term)
        ),
        Event::LetGo { subject, after_term } => format!(
            "Termination cancelled, dry run is now enabled: {}. {}",
            who(subject, user),
            signals_sent(*after_term)
        ),
        Event::NowProtected { subject, protection } => {
            let who = who(subject, user);
            format!("Protected, no further signal: {who}, by {}", rule(protection, user))
        }
        Event::OverButProtected { subject, rss, limit, protection } => format!(
            "Over its limit, but protected: {}, RAM={rss}, Limit={limit}, by {}",
            who(subject, user),
            rule(protection, user)
        ),
        Event::DryRunDay { day, times, programs } => dry_run_day(day, *times, programs, user),
        Event::Unsure { subject, doubt } => {
            format!("No signal, in doubt: {}. {}", who(subject, user), why(doubt))
        }
        Event::DoubtEnded { subject, doubt, lasted } => format!(
            "Doubt ended after {}, judged by what is known: {}. {}",
            Span(*lasted),
            who(subject, user),
            why(doubt)
        ),
        Event::Unconfirmed { pid, why } => format!("No signal to PID={pid}: {}", one_line(&why.to_string())),
        Event::OutOfReach { subject, error } => {
            format!(
                "Cannot open the process, so no signal is sent yet: {}: {}",
                who(subject, user),
                one_line(error)
            )
        }
        Event::SignalFailed { subject, signal, error } => {
            format!("Cannot send {}: {}: {}", signal_name(*signal), who(subject, user), one_line(error))
        }
        Event::Lingers { subject, since, state, wchan, frozen, rss } => {
            let text = format!("Still there {} after SIGKILL: {}", Span(*since), who(subject, user));
            text + &lingers(*state, wchan.as_ref(), frozen.as_ref(), *rss)
        }
        Event::Disagreement { id, map, exact, error } => format!(
            "Kernel map and /proc disagree: PID={id}, Map={}, Proc={}, Expected error={}. /proc decides",
            Kib(*map),
            Kib(*exact),
            Kib(*error)
        ),
        Event::MapDefect { missed, stale } => format!(
            "Repaired inconsistent kernel map (a memmon bug, please report). Processes missing: {missed}, Stale entries: {stale}"
        ),
        Event::ScanComplete { scanned, killed } => {
            format!("Scan complete. Scanned: {scanned}, Killed: {killed}")
        }
        Event::Scheduled { limit, interval } => {
            format!("Schedule: from now on Limit: {limit} per process, Interval: {}", Span(*interval))
        }
        Event::Reloaded { config, dry_run } => {
            format!("{}Configuration reloaded: {}", dry_run_mark(*dry_run), config_name(config.as_deref()))
        }
        Event::ReloadFailed { error } => {
            format!("Configuration not reloaded, the old one stays in force: {}", one_line(error))
        }
        Event::SinkTrouble { sink, error: Some(error), lost } => {
            format!("Cannot write to {sink}: {}. Lost so far: {lost}", one_line(error))
        }
        Event::SinkTrouble { sink, error: None, lost } => {
            format!("Writing to {sink} again. Lost: {lost}")
        }
        Event::Overflow { lost } => format!("The log could not keep up. Lost: {lost}"),
        Event::Repeated { times, text, .. } => format!("Repeated {times} times: {}", one_line(text)),
        Event::LeftOut { about, times, text, severity: _ } => format!(
            "Left out {times} more lines like this of the last minute{}: {}",
            about.map_or_else(String::new, |uid| format!(", User={}", user(uid))),
            one_line(text)
        ),
        Event::Diagnostic { origin, text, .. } => format!("{}: {}", one_line(origin), one_line(text)),
        Event::Stopping { reason } => format!("memmon stops: {}", one_line(reason)),
    }
}

/// Formats the whole line as v1's logger did, in local time, without the line feed.
pub(super) fn line(at: &Zoned, level: Level, message: &str) -> String {
    format!("{} - {level} - {message}", at.strftime("%Y-%m-%d %H:%M:%S"))
}

fn signals_sent(after_term: bool) -> &'static str {
    if after_term { "SIGTERM was already sent; no SIGKILL will follow" } else { "No signal was sent" }
}

fn dry_run_mark(dry_run: bool) -> &'static str {
    if dry_run { "[DRY RUN] " } else { "" }
}

fn who(subject: &Subject, user: &mut dyn FnMut(Uid) -> String) -> String {
    let Subject { id, name, uid, exe: _, cgroup: _ } = subject;
    format!("PID={id}, Name={}, User={}", Field(name), user(*uid))
}

fn config_name(path: Option<&Path>) -> String {
    path.map_or_else(
        || "built-in defaults".to_owned(),
        |path| Escaped(path.as_os_str().as_bytes()).to_string(),
    )
}

fn climb(growth: Option<f64>, time_to_limit: Option<Duration>) -> String {
    let growth = growth.map(|rate| format!(", Growth={:.1}MB/s", rate / Bytes::MIB as f64));
    let left = time_to_limit.map(|left| format!(", Time to limit={}", Span(left)));
    growth.into_iter().chain(left).collect()
}

fn terminated(who: &str, record: &Record) -> String {
    let Record { breach, peak, overshoot, crossing_to_signal, signal_to_exit, signal_to_memory, .. } = record;
    let mut text = match record.cause {
        Cause::Term => "Terminated",
        Cause::Kill => "Killed",
        Cause::Itself => "Ended by itself",
        Cause::OomKiller => "Killed by the kernel's OOM killer",
        Cause::SomebodyElse => "Ended by somebody else",
    }
    .to_owned();
    // Writing to a String cannot fail.
    let _ = write!(text, ": {who}, Peak={peak}, Limit={}", breach.limit);
    let Some(overshoot) = overshoot else { return text + ", no signal was sent" };
    let _ = write!(text, ", Overshoot={}", Kib(*overshoot));
    if let Some(reaction) = crossing_to_signal {
        let _ = write!(text, ", SIGTERM {} after the crossing", Span(*reaction));
    }
    let _ = write!(text, ", gone {} after SIGTERM", Span(*signal_to_exit));
    if record.reclaimed {
        let _ = write!(text, ", memory freed after {}", Span(*signal_to_memory));
    } else if let Some(left) = record.rss_after_reclaim {
        let _ = write!(text, ", {left} of its memory freed only at exit");
    }
    text
}

fn lingers(state: Option<char>, wchan: Option<&Name>, frozen: Option<&Name>, rss: Option<Bytes>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(rss) = rss {
        let _ = write!(text, ", RAM={rss}");
    }
    if let Some(state) = state {
        let _ = write!(text, ", State={}", Escaped(state.encode_utf8(&mut [0; 4]).as_bytes()));
    }
    if let Some(place) = wchan {
        let _ = write!(text, ", Waits in={place}");
    }
    if let Some(cgroup) = frozen {
        let _ = write!(text, ". Its cgroup {} is frozen; it exits when the cgroup is thawed", Field(cgroup));
        return text;
    }
    text.push_str(match state {
        Some('D') => ". It waits uninterruptibly inside the kernel: check its disk or network file system",
        Some('Z') => ". It is dead, but its parent has not reaped it",
        _ => ". The kernel has not removed it yet",
    });
    text
}

fn rule(protection: &Protection, user: &mut dyn FnMut(Uid) -> String) -> String {
    match protection {
        Protection::Init => "being PID 1".to_owned(),
        Protection::KernelThread => "being a kernel thread".to_owned(),
        Protection::Memmon => "being memmon itself".to_owned(),
        Protection::OutOfScope => "being outside [scope]".to_owned(),
        Protection::Pid { pid } => format!("whitelist.pids entry {pid}"),
        Protection::Name { pattern, field, name } => format!(
            "whitelist.names entry \"{}\", which matches its {} {}",
            Escaped(pattern.as_bytes()),
            field_name(*field),
            Field(name)
        ),
        Protection::User { uid } => format!("whitelist.users entry {}", user(*uid)),
        Protection::Root => "whitelist.protect_root".to_owned(),
        Protection::OomScoreAdj => "its oom_score_adj of -1000".to_owned(),
    }
}

/// The programs that are named in one line.
const PROGRAMS: usize = 5;

fn dry_run_day(
    day: &str,
    times: u64,
    programs: &[DryRunProgram],
    user: &mut dyn FnMut(Uid) -> String,
) -> String {
    let shown = programs.iter().take(PROGRAMS).map(|DryRunProgram { comm, uid, times, largest }| {
        format!("{} ({}) {times}, up to {largest}", Field(comm), user(*uid))
    });
    let shown: Vec<_> = shown.collect();
    let rest = times - programs.iter().take(PROGRAMS).map(|program| program.times).sum::<u64>().min(times);
    let rest = if rest > 0 { format!("; others {rest}") } else { String::new() };
    format!("Dry run on {day}: {times} would have been terminated: {}{rest}", shown.join("; "))
}

fn why(doubt: &Doubt) -> String {
    match doubt {
        Doubt::NameUnreadable(field) => format!(
            "Its {} cannot be read, so whitelist.names cannot be checked; {}",
            field_name(*field),
            match field {
                NameField::Comm | NameField::Exe => "memmon needs CAP_SYS_PTRACE",
                // Every user may read it, but that takes a lock which such a process holds.
                NameField::Argv0 => "the process is busy, or waits in the kernel, for example for a file server",
            }
        ),
        Doubt::CgroupUnreadable => {
            "Its cgroup cannot be read, so scope.cgroups cannot be checked; memmon needs to see /proc/PID/cgroup"
                .to_owned()
        }
        Doubt::OomScoreAdjUnreadable => {
            "Its oom_score_adj cannot be read; memmon needs to see /proc/PID/oom_score_adj".to_owned()
        }
        Doubt::SharedMemoryUnknown => "The lookup of its shared memory is under way".to_owned(),
        Doubt::InheritanceUnreadable => {
            "The memory that it shares with the process that forked it cannot be read; the process is busy, or memmon \
             needs CAP_SYS_PTRACE"
                .to_owned()
        }
        Doubt::WithinError { limit, rss, error } => format!(
            "{} is within the measuring error ({}) of the limit, {}",
            Kib(*rss),
            Kib(*error),
            Kib(*limit)
        ),
    }
}

const fn field_name(field: NameField) -> &'static str {
    match field {
        NameField::Comm => "comm",
        NameField::Exe => "exe",
        NameField::Argv0 => "argv[0]",
    }
}

const fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Term => "SIGTERM",
        Signal::Kill => "SIGKILL",
    }
}

/// Joins the lines of any text into one: each is trimmed and escaped, and empty ones are left out.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| Printable(line).to_string()).collect::<Vec<_>>().join(" / ")
}

/// Text that is shown as [`Escaped`] does, except that a backslash stays, so that an escaped name is not escaped twice.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.split('\\').enumerate() {
            if i > 0 {
                f.write_char('\\')?;
            }
            Escaped(part.as_bytes()).fmt(f)?;
        }
        Ok(())
    }
}

/// A name as the value of a `Key=value` list: quoted if it could be read as more than one value.
struct Field<'a>(&'a Name);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.to_string();
        if shown.is_empty() || shown.trim() != shown || shown.contains([',', '=', '"']) {
            write!(f, "\"{}\"", shown.replace('"', "\\\""))
        } else {
            f.write_str(&shown)
        }
    }
}

/// A time span, to the millisecond: `30s`, `420ms`, `1.5s`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX) {
            0 if self.0.is_zero() => f.write_str("0s"),
            0 => write!(
                f,
                "{:?}",
                Duration::from_micros(u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX))
            ),
            milliseconds => write!(f, "{:?}", Duration::from_millis(milliseconds)),
        }
    }
}

/// An amount in KiB, for differences that two decimals of a gigabyte would hide.
struct Kib(Bytes);

impl fmt::Display for Kib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}KiB", self.0.0 / Bytes::KIB)
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{ProcessId, StartTime, SystemMemory},
        report::samples,
    };

    fn said(event: &Event) -> String {
        message(event, &mut samples::user)
    }

    fn at(time: &str) -> Zoned {
        time.parse::<Timestamp>().unwrap().to_zoned(TimeZone::fixed(jiff::tz::offset(2)))
    }

    #[test]
    fn v1_lines_to_the_letter() {
        let memory = SystemMemory { total: Bytes(16 * Bytes::GIB), available: Bytes(9_406_219_714) };
        for (time, event, expected) in [
            (
                "2025-10-03T08:15:30Z",
                Event::SystemMemory { memory },
                "2025-10-03 10:15:30 - INFO - System Memory: 45.2% used (7.24GB / 16.00GB)",
            ),
            (
                "2025-10-03T08:15:31.999Z",
                Event::Killing { subject: samples::chrome(), breach: samples::BREACH, dry_run: false },
                "2025-10-03 10:15:31 - WARNING - Killing process: PID=12345, Name=chrome, User=john, \
                 RAM=3.50GB (21.88%)",
            ),
            (
                "2025-10-03T08:15:31Z",
                Event::ScanComplete { scanned: 245, killed: 1 },
                "2025-10-03 10:15:31 - INFO - Scan complete. Scanned: 245, Killed: 1",
            ),
        ] {
            assert_eq!(line(&at(time), event.level(), &said(&event)), expected);
        }
    }

    #[test]
    fn every_event_in_words() {
        let told: Vec<_> =
            samples::samples().iter().map(|event| format!("{} - {}", event.level(), said(event))).collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        INFO - memmon 2.0.0 started. Limit: 2.00GB per process, Interval: 30s, Source: ebpf (BTF and CAP_BPF are there), Config: /etc/memmon/config.toml
        INFO - [DRY RUN] memmon 2.0.0 started. Limit: 2.00GB per process, Interval: 30s, Source: ebpf (BTF and CAP_BPF are there), Config: built-in defaults. It terminates nothing until `memmon enable` is run
        WARNING - Degraded: no process_mrelease before Linux 5.15, memory is freed at exit
        INFO - System Memory: 45.2% used (7.24GB / 16.00GB)
        WARNING - Killing process: PID=12345, Name=chrome, User=john, RAM=3.50GB (21.88%)
        WARNING - [DRY RUN] Killing process: PID=12345, Name=chrome, User=john, RAM=3.50GB (21.88%)
        WARNING - Near its limit: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=4.00GB, Growth=100.0MB/s, Time to limit=5.12s
        WARNING - Near its limit: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=4.00GB
        WARNING - Killed by the kernel's OOM killer: PID=12345, Name=chrome, Peak=4.00GB. The machine or its cgroup was out of memory. Lower limits would let memmon act earlier
        WARNING - Still running 5s after SIGTERM, sending SIGKILL: PID=12345, Name=chrome, User=john, RAM=4.00GB
        WARNING - Still running 1s after SIGTERM and growing past its ceiling, sending SIGKILL: PID=12345, Name=chrome, User=john, RAM=4.00GB
        WARNING - Still running 1s after SIGTERM and the machine is nearly out of memory, sending SIGKILL: PID=12345, Name=chrome, User=john, RAM=4.00GB
        WARNING - Repeat offender, termination delayed by up to 60s unless memory runs short: PID=12345, Name=chrome, User=john, Script=/srv/app.py, Unit=app.service, Terminated 5 times. Stop or fix the service that restarts it
        INFO - Over the limit by RSS only, left alone: PID=12345, Name=chrome, User=john, RAM=4.00GB, Limit=2.00GB. Its end would give back 14.0 MiB; page cache stays (56.0 MiB), and so does shared memory (3072.0 MiB, of it 3072.0 MiB in "/dev/zero": pid 77 holds it as well)
        INFO - Terminated: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1572864KiB, gone 420ms after SIGTERM
        INFO - Killed: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1572864KiB, gone 420ms after SIGTERM
        INFO - Killed: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1572864KiB, SIGTERM 173µs after the crossing, gone 420ms after SIGTERM, memory freed after 400ms
        INFO - Killed: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1572864KiB, SIGTERM 173µs after the crossing, gone 420ms after SIGTERM, 1.00GB of its memory freed only at exit
        INFO - Ended by itself: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, no signal was sent
        INFO - Spared, its memory fell below the limit: PID=12345, Name=chrome, User=john, RAM=1.00GB, Limit=2.00GB. SIGTERM was already sent; no SIGKILL will follow
        INFO - Spared, its memory fell below the limit: PID=12345, Name=chrome, User=john, RAM=1.00GB, Limit=2.00GB. No signal was sent
        INFO - Termination cancelled, dry run is now enabled: PID=12345, Name=chrome, User=john. SIGTERM was already sent; no SIGKILL will follow
        INFO - Termination cancelled, dry run is now enabled: PID=12345, Name=chrome, User=john. No signal was sent
        WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by being PID 1
        WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by being a kernel thread
        WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by being memmon itself
        WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by being outside [scope]
        WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by whitelist.pids entry 12345
        WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by whitelist.names entry "chrom*", which matches its exe chrome
        WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by whitelist.users entry john
        WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by whitelist.protect_root
        WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by its oom_score_adj of -1000
        WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. Its argv[0] cannot be read, so whitelist.names cannot be checked; the process is busy, or waits in the kernel, for example for a file server
        INFO - Over its limit, but protected: PID=12345, Name=chrome, User=john, RAM=4.00GB, Limit=2.00GB, by whitelist.protect_root
        INFO - Dry run on 2025-10-06: 4 would have been terminated: chrome (john) 3, up to 4.00GB; others 1
        WARNING - Doubt ended after 1.5s, judged by what is known: PID=12345, Name=chrome, User=john. Its argv[0] cannot be read, so whitelist.names cannot be checked; the process is busy, or waits in the kernel, for example for a file server
        WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. Its cgroup cannot be read, so scope.cgroups cannot be checked; memmon needs to see /proc/PID/cgroup
        WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. Its oom_score_adj cannot be read; memmon needs to see /proc/PID/oom_score_adj
        WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. The memory that it shares with the process that forked it cannot be read; the process is busy, or memmon needs CAP_SYS_PTRACE
        WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. The lookup of its shared memory is under way
        WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. 2097156KiB is within the measuring error (64KiB) of the limit, 2097152KiB
        DEBUG - No signal to PID=12345: it is gone, or hidden from memmon
        INFO - No signal to PID=12345: pid 12345 started at tick 999999 now, not 987654
        DEBUG - No signal to PID=12345: its memory is that of pid 12000, which started it
        WARNING - No signal to PID=12345: status: Permission denied
        ERROR - Cannot open the process, so no signal is sent yet: PID=12345, Name=chrome, User=john: EMFILE: Too many open files
        ERROR - Cannot send SIGTERM: PID=12345, Name=chrome, User=john: EPERM: Operation not permitted
        ERROR - Still there 10s after SIGKILL: PID=12345, Name=chrome, User=john, State=D, Waits in=rpc_wait_bit_killable. It waits uninterruptibly inside the kernel: check its disk or network file system
        ERROR - Still there 10s after SIGKILL: PID=12345, Name=chrome, User=john, State=Z. It is dead, but its parent has not reaped it
        ERROR - Still there 10s after SIGKILL: PID=12345, Name=chrome, User=john, RAM=3.00GB. The kernel has not removed it yet
        ERROR - Still there 10s after SIGKILL: PID=12345, Name=chrome, User=john, RAM=1.00GB, State=D, Waits in=__refrigerator. Its cgroup /slurm/job_7 is frozen; it exits when the cgroup is thawed
        WARNING - Kernel map and /proc disagree: PID=12345, Map=3145728KiB, Proc=3146752KiB, Expected error=64KiB. /proc decides
        WARNING - Repaired inconsistent kernel map (a memmon bug, please report). Processes missing: 2, Stale entries: 1
        INFO - Scan complete. Scanned: 245, Killed: 1
        INFO - Schedule: from now on Limit: 1.00GB per process, Interval: 15s
        INFO - Configuration reloaded: /etc/memmon/config.toml
        ERROR - Configuration not reloaded, the old one stays in force: /etc/memmon/config.toml:3:1: unknown key "ram_gb_treshold" / did you mean ram_gb_threshold?
        WARNING - Cannot write to the log file: /var/log/memmon.log: No space left on device (os error 28). Lost so far: 1
        WARNING - Writing to the log file again. Lost: 17
        WARNING - The log could not keep up. Lost: 99
        WARNING - Repeated 41 times: Degraded: the map is full
        INFO - Left out 312 more lines like this of the last minute, User=john: Terminated: PID=7, Name=x, User=john
        ERROR - aya_log: a BPF word
        INFO - memmon stops: SIGTERM
        "#);
    }

    #[test]
    fn a_name_cannot_pass_for_more_than_a_name() {
        for (name, shown) in [
            (&b"chrome"[..], "chrome"),
            (b"Web Content", "Web Content"),
            (b"kworker/0:1-eve", "kworker/0:1-eve"),
            (b"x, User=root", r#""x, User=root""#),
            (b"a\", b=\"", r#""a\", b=\"""#),
            (b"a\\\", b=\"", r#""a\\\", b=\"""#),
            (b"", r#""""#),
            (b"\n2025-10-03", r"\n2025-10-03"),
            (b"\x1b[2J", r"\u{1b}[2J"),
            (b"trailing ", r#""trailing ""#),
        ] {
            assert_eq!(Field(&Name::new(name)).to_string(), shown);
        }
        let told = said(&Event::HeldBack {
            subject: samples::chrome(),
            script: Some(Name::from("a, Unit=b")),
            unit: Some(Name::from("x, Terminated 0 times.service")),
            times: 5,
            wait: Duration::from_secs(60),
            first: true,
        });
        assert!(
            told.contains(
                r#", Script="a, Unit=b", Unit="x, Terminated 0 times.service", Terminated 5 times."#
            ),
            "{told}"
        );
    }

    #[test]
    fn spans() {
        for (micros, shown) in
            [(0, "0s"), (400, "400µs"), (420_123, "420ms"), (5_000_000, "5s"), (1_500_999, "1.5s")]
        {
            assert_eq!(Span(Duration::from_micros(micros)).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_process_calls_itself_is_one_visible_line(raw: Vec<u8>, text in ".{0,60}") {
            let subject = Subject {
                id: ProcessId { pid: crate::model::Pid(7), start: StartTime(1) },
                name: Name::new(raw),
                ..samples::chrome()
            };
            for event in [
                Event::Killing { subject: subject.clone(), breach: samples::BREACH, dry_run: false },
                Event::SignalFailed { subject, signal: Signal::Kill, error: text.clone() },
                Event::Diagnostic { severity: Level::Warning, origin: text.clone(), text: format!("{text}\r\n\x1b{text}") },
                Event::ReloadFailed { error: text },
            ] {
                let said = said(&event);
                prop_assert!(!said.contains(char::is_control), "{said:?}");
                prop_assert!(!said.contains(['\u{2028}', '\u{202e}', '\u{200b}']), "{said:?}");
            }
        }
    }
}

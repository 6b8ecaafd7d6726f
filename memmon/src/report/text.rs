//! Formats events as lines of text: v1's lines to the letter, the others in the same style.

mod given_back;
mod shortage;
mod sums;
mod words;

use std::{fmt::Write, time::Duration};

use jiff::Zoned;

use self::sums::{held, not_throttled, sum_over, throttle_ended, throttles};
use self::words::{
    Field, INDENTED_LINE, config_name, dry_run_mark, exempt, exempted, how_launched, indented, one_line,
    rule, who, why,
};
use super::event::{DryRunCounts, DryRunProgram, Event, Level};
use crate::model::{
    Breach, Bytes, Cause, Escaped, ExemptionEnd, Limit, Name, Protection, Record, Signal, Uid, Urgency,
    units::{Gb, Rate, Span, apart},
};

/// Returns the name of a uid, already escaped.
type Users<'a> = &'a mut dyn FnMut(Uid) -> String;

/// Formats `event` as one line, without time and level, with everything in it escaped.
pub(super) fn message(event: &Event, user: Users<'_>) -> String {
    words(event, user, one_line)
}

/// Formats `event` as [`message`] does, but with the lines of a text that has several indented below the first one, and
/// below an event that names a process how that was started.
pub(super) fn paragraph(event: &Event, user: Users<'_>) -> String {
    let mut text = words(event, user, indented);
    let launched = match event {
        // The line about the SIGTERM of the same process has it.
        Event::GraceOver { .. } | Event::Spared { .. } | Event::LetGo { .. } | Event::NowProtected { .. } => {
            None
        }
        _ => {
            event.subject().and_then(|subject| Some((subject.launched.as_ref()?, subject.workload.as_ref())))
        }
    };
    if let Some((launched, workload)) = launched {
        text.push_str(INDENTED_LINE);
        text.push_str(&how_launched(launched, workload));
    }
    text
}

/// `several` lays out a text that may have several lines.
fn words(event: &Event, user: Users<'_>, several: fn(&str) -> String) -> String {
    match event {
        Event::Started {
            version,
            config,
            fragments,
            source,
            reason,
            dry_run,
            awaits_enable,
            limit,
            interval,
        } => {
            format!(
                "{}memmon {version} started. Limit: {limit} per process, Interval: {}, Source: {source} ({}), Config: {}{}",
                dry_run_mark(*dry_run),
                Span(*interval),
                one_line(reason),
                config_name(config.as_deref(), fragments),
                if *awaits_enable { ". It terminates nothing until `memmon enable` is run" } else { "" },
            )
        }
        Event::Degraded { what } => format!("Degraded: {}", several(what)),
        Event::ConfigWarning { what } => format!("Warning about the configuration: {}", several(what)),
        Event::SystemMemory { memory } => format!(
            "System Memory: {:.1}% used ({} / {})",
            memory.used().percent_of(memory.total),
            Gb(memory.used()),
            Gb(memory.total)
        ),
        Event::Killing { subject, breach: Breach { rule, rss, percent, by, .. }, signal, dry_run, sum } => {
            format!(
                "{}Killing process: {}, RAM={} ({percent:.2}%){}{}{}{}",
                dry_run_mark(*dry_run),
                who(subject, user),
                Gb(*rss),
                by.map(|rule| format!(", Rule={rule}")).unwrap_or_default(),
                sum.as_ref().map(|sum| format!(", Sum={}", held(sum, user))).unwrap_or_default(),
                if *signal == Signal::Term { String::new() } else { format!(", Signal={signal}") },
                if *rule == Limit::Machine { ", Machine short of memory" } else { "" }
            )
        }
        Event::MemoryLow { machine, cgroup, reasons, acts } => {
            shortage::low(machine, cgroup.as_ref(), reasons, *acts)
        }
        Event::Culprit { subject, culprit, preferred, gives_back, growth, within, reasons, dry_run } => {
            let who = who(subject, user);
            let growth = shortage::growth(*growth, *within, culprit, user);
            format!(
                "{}Machine short of memory, ending {}: {who}, Gives back={gives_back}, {growth}. {}",
                dry_run_mark(*dry_run),
                preferred.map_or_else(
                    || "the culprit".to_owned(),
                    |rule| format!("a process that rule {rule} prefers")
                ),
                shortage::reasons(reasons)
            )
        }
        Event::NoCulprit { lost, grown, within, elsewhere, file_systems, writers } => {
            shortage::nobody(*lost, *grown, *within, elsewhere, file_systems)
                + &shortage::writers(writers, user)
        }
        Event::MemoryBack { memory, lasted } => format!(
            "Machine has enough memory again after {}: {} of {} available",
            Span(*lasted),
            memory.available,
            memory.total
        ),
        Event::Approaching { subject, rss, limit, growth, time_to_limit, action: _ } => format!(
            "Near its limit: {}, RAM={rss}, Limit={limit}{}",
            who(subject, user),
            growth_rate(*growth, *time_to_limit)
        ),
        Event::OomKilled { pid, name, peak } => format!(
            "Killed by the kernel's OOM killer: PID={pid}, Name={}, Peak={peak}. The machine or its cgroup was out of \
             memory. Lower limits would let memmon act earlier",
            Field(name)
        ),
        Event::GraceOver { subject, rss, first, grace, urgency } => format!(
            "Still running {} after {first}{}, sending SIGKILL: {}, RAM={rss}",
            Span(*grace),
            match urgency {
                None => "",
                Some(Urgency::Ceiling) => " and growing past its ceiling",
                Some(Urgency::Reserve) => " and the machine is nearly out of memory",
            },
            who(subject, user)
        ),
        Event::Delayed { subject, script, unit, times, wait, first: _, by } => format!(
            "Repeat offender, termination delayed by up to {} unless memory runs short: {}{}, Unit={}{}, Terminated {times} times. Stop or fix the service that restarts it",
            Span(*wait),
            who(subject, user),
            script.as_ref().map(|script| format!(", Script={}", Field(script))).unwrap_or_default(),
            unit.as_ref().map_or_else(|| "none".to_owned(), |unit| Field(unit).to_string()),
            by.map(|rule| format!(", Rule={rule}")).unwrap_or_default()
        ),
        Event::Uncharged { subject, rss, limit, uncharged } => format!(
            "Over the limit by RSS only, left alone: {}, RAM={rss}, Limit={limit}. Its end would give back {uncharged}",
            who(subject, user)
        ),
        Event::Terminated { subject, record, given_back, sum } => {
            let mut text = terminated(&who(subject, user), record);
            if let Some(sum) = sum {
                _ = write!(text, ", Sum={}", held(sum, user));
            }
            text + &given_back.as_deref().map(|back| given_back::came_back(back, user)).unwrap_or_default()
        }
        Event::Spared { subject, rss, signal, relieved: true, limit: _, after_term: _ } => format!(
            "Spared, the machine has enough memory or another process comes first: {}, RAM={rss}. {}",
            who(subject, user),
            signals_sent(*signal)
        ),
        Event::Spared { subject, rss, limit, signal, relieved: false, after_term: _ } => format!(
            "Spared, its memory fell below the limit: {}, RAM={rss}, Limit={limit}. {}",
            who(subject, user),
            signals_sent(*signal)
        ),
        Event::LetGo { subject, signal, after_term: _ } => format!(
            "Termination cancelled, dry run is now enabled: {}. {}",
            who(subject, user),
            signals_sent(*signal)
        ),
        Event::NowProtected { subject, protection } => {
            let who = who(subject, user);
            format!("Protected, no further signal: {who}, by {}", rule(protection, user))
        }
        Event::Exempted { exemption } => {
            let of = exempted(&exemption.of, user);
            format!("Exempt from now on: {of}, {}", exempt(exemption, user))
        }
        Event::ExemptionEnded { exemption, end } => {
            let how = match end {
                ExemptionEnd::Expired => ", its time is over".to_owned(),
                ExemptionEnd::EndedBy(uid) => format!(" by {}", user(*uid)),
                ExemptionEnd::ProcessGone => ", its process is gone".to_owned(),
            };
            format!("Exemption {} ended{how}: {}", exemption.id, exempted(&exemption.of, user))
        }
        Event::OverButProtected { subject, rss, limit, protection: Protection::Exempt(exemption) } => {
            format!(
                "Would have been terminated, but is exempt {}: {}, RAM={rss}, Limit={limit}",
                exempt(exemption, user),
                who(subject, user)
            )
        }
        Event::OverButProtected { subject, rss, limit, protection } => format!(
            "Over its limit, but protected: {}, RAM={rss}, Limit={limit}, by {}",
            who(subject, user),
            rule(protection, user)
        ),
        Event::OverRule { subject, breach: Breach { rss, limit, by, .. } } => format!(
            "Over its limit, only a warning: {}, RAM={rss}, Limit={limit}{}",
            who(subject, user),
            by.map(|rule| format!(", Rule={rule}")).unwrap_or_default()
        ),
        Event::Stopped { subject, breach: Breach { rule: Limit::Machine, .. }, already, dry_run, .. } => {
            format!(
                "{}{}: {}, Machine short of memory: it writes files that are in memory. Remove them, then continue it: kill -CONT {}",
                dry_run_mark(*dry_run),
                if *already { "Fills memory, and stopped already" } else { "Stopping process" },
                who(subject, user),
                subject.id.pid
            )
        }
        Event::Stopped { subject, breach: Breach { rss, limit, by, .. }, times, already, dry_run } => {
            format!(
                "{}{}: {}, RAM={rss}, Limit={limit}{}{}. To continue it: kill -CONT {}",
                dry_run_mark(*dry_run),
                if *already { "Over its limit, and stopped already" } else { "Stopping process" },
                who(subject, user),
                by.map(|rule| format!(", Rule={rule}")).unwrap_or_default(),
                if *times > 1 { format!(", Times={times}") } else { String::new() },
                subject.id.pid
            )
        }
        Event::Continued { subject, rss, limit: Bytes::ZERO, .. } => format!(
            "Continued by somebody else: {}, RAM={rss}. It is stopped again if it goes on to fill memory with files",
            who(subject, user)
        ),
        Event::Continued { subject, rss, limit, may_have } => format!(
            "Continued by somebody else: {}, RAM={rss}, Limit={limit}. It is stopped again with more than {may_have}",
            who(subject, user)
        ),
        Event::SumOver { sum, then, protected, largest } => sum_over(sum, *then, *protected, largest, user),
        Event::Throttled { sum, throttled_cgroup: throttled, high, before, times, dry_run } => {
            throttles(sum, throttled, (*high, *before), *times, *dry_run, user)
        }
        Event::NotThrottled { sum, why } => not_throttled(sum, why, user),
        Event::ThrottleEnded { rule, group, throttled_cgroup: throttled, high, why } => {
            throttle_ended(*rule, group, throttled, *high, *why, user)
        }
        Event::DryRunDay { day, counts, programs } => dry_run_day(day, *counts, programs, user),
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
            format!("Cannot send {signal}: {}: {}", who(subject, user), one_line(error))
        }
        Event::Lingers { subject, since, state, wchan, frozen, rss } => {
            let text = format!("Still there {} after SIGKILL: {}", Span(*since), who(subject, user));
            text + &lingers(*state, wchan.as_ref(), frozen.as_ref(), *rss)
        }
        Event::Disagreement { id, map, exact, error } => {
            let (map, exact) = apart(*map, *exact);
            format!(
                "Kernel map and /proc disagree: PID={id}, Map={map}, Proc={exact}, Expected error={error}. /proc decides"
            )
        }
        Event::MapDefect { missed, stale } => format!(
            "Repaired inconsistent kernel map (a memmon bug, please report). Processes missing: {missed}, Stale entries: {stale}"
        ),
        Event::ScanComplete { scanned, killed } => {
            format!("Scan complete. Scanned: {scanned}, Killed: {killed}")
        }
        Event::Scheduled { limit, interval } => {
            format!("Schedule: from now on Limit: {limit} per process, Interval: {}", Span(*interval))
        }
        Event::Reloaded { config, fragments, dry_run } => {
            format!(
                "{}Configuration reloaded: {}",
                dry_run_mark(*dry_run),
                config_name(config.as_deref(), fragments)
            )
        }
        Event::ReloadFailed { error } => {
            format!("Configuration not reloaded, the old one stays in force: {}", several(error))
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
        Event::Diagnostic { origin, text, .. } => format!("{}: {}", one_line(origin), several(text)),
        Event::Stopping { reason } => format!("memmon stops: {}", several(reason)),
    }
}

/// Formats the whole line as v1's logger did, in local time, without the line feed.
pub(super) fn line(at: &Zoned, level: Level, message: &str) -> String {
    format!("{} - {level} - {message}", at.strftime("%Y-%m-%d %H:%M:%S"))
}

fn signals_sent(first: Option<Signal>) -> String {
    match first {
        Some(signal) => format!("{signal} was already sent; no SIGKILL will follow"),
        None => "No signal was sent".to_owned(),
    }
}

fn growth_rate(growth: Option<f64>, time_to_limit: Option<Duration>) -> String {
    let growth = growth.map(|rate| format!(", Growth={}", Rate(rate)));
    let left = time_to_limit.map(|left| format!(", Time to limit={}", Span(left)));
    growth.into_iter().chain(left).collect()
}

fn terminated(who: &str, record: &Record) -> String {
    let Record {
        breach, signal, peak, overshoot, crossing_to_signal, signal_to_exit, signal_to_memory, ..
    } = record;
    let mut text = match record.cause {
        Cause::Term => "Terminated",
        Cause::Kill => "Killed",
        Cause::Itself => "Ended by itself",
        Cause::OomKiller => "Killed by the kernel's OOM killer",
        Cause::SomebodyElse => "Ended by somebody else",
    }
    .to_owned();
    // Writing to a String cannot fail.
    let _ = match breach.rule {
        Limit::Machine => write!(text, ": {who}, Peak={peak}, Machine short of memory"),
        Limit::Percent | Limit::Gb => write!(text, ": {who}, Peak={peak}, Limit={}", breach.limit),
    };
    if let Some(rule) = breach.by {
        _ = write!(text, ", Rule={rule}");
    }
    let (Some(overshoot), Some(signal)) = (overshoot, signal) else {
        return text + ", no signal was sent";
    };
    let _ = match breach.rule {
        Limit::Machine => write!(text, ", Growth={overshoot}"),
        Limit::Percent | Limit::Gb => write!(text, ", Overshoot={overshoot}"),
    };
    if let Some(reaction) = crossing_to_signal {
        let _ = write!(text, ", {signal} {} after the crossing", Span(*reaction));
    }
    let _ = write!(text, ", gone {} after {signal}", Span(*signal_to_exit));
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
        Some('t') => ". A debugger holds it: it exits when that lets it go, or ends",
        // One without a living thread would be gone, whether its parent has reaped it or not.
        Some('Z') => {
            ". It is dead, but not all of its threads are gone: a debugger may hold one until it ends"
        }
        _ => ". The kernel has not removed it yet",
    });
    text
}

/// The programs that are named in one line.
const PROGRAMS: usize = 5;

fn dry_run_day(
    day: &str,
    DryRunCounts { times, stops, throttles }: DryRunCounts,
    programs: &[DryRunProgram],
    user: &mut dyn FnMut(Uid) -> String,
) -> String {
    let shown = programs.iter().take(PROGRAMS).map(|DryRunProgram { comm, uid, times, largest }| {
        format!("{} ({}) {times}, up to {largest}", Field(comm), user(*uid))
    });
    let shown: Vec<_> = shown.collect();
    let rest = times - programs.iter().take(PROGRAMS).map(|program| program.times).sum::<u64>().min(times);
    let rest = if rest > 0 { format!("; others {rest}") } else { String::new() };
    let programs = if shown.is_empty() { String::new() } else { format!(": {}{rest}", shown.join("; ")) };
    let mut text = format!("Dry run on {day}: {times} would have been terminated{programs}");
    for (count, what) in [(stops, "stopped"), (throttles, "slowed down (cgroups)")] {
        if count > 0 {
            _ = write!(text, "; {count} {what}");
        }
    }
    text
}

#[cfg(test)]
mod tests;

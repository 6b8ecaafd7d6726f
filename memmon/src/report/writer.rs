//! Turns events into lines and hands them to every sink. Runs on the writer thread only.

use std::{collections::VecDeque, env, io, time::Instant};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    event::{Event, Level},
    file::LogFile,
    json,
    outputs::{Console, Format, Machine, Outputs},
    repeat_filter::RepeatFilter,
    rotation::Rotation,
    sink::{self, HealthySink, Line, WriteOutcome},
    system_log::SystemLog,
    text,
    users::UserNames,
};

/// All sinks, with what is remembered between events.
pub(super) struct Writer {
    sinks: Vec<HealthySink>,
    /// Hears of a sink in trouble when no other sink does.
    last_resort: Option<HealthySink>,
    format: Format,
    level: Level,
    zone: fn() -> TimeZone,
    users: UserNames,
    fold: RepeatFilter,
}

impl Writer {
    /// Opens nothing yet.
    pub(super) fn new(outputs: Outputs, rotation: &Rotation) -> Self {
        let Outputs { console, file, format, system_log, level, metrics: _, notify: _, machine } = outputs;
        let Machine { clock: _, zone, user_name, journal, syslog, queue: _ } = machine;
        let mut sinks = Vec::new();
        let mut last_resort = None;
        let stderr = || HealthySink::new(sink::Console(Box::new(io::stderr())));
        match console {
            Console::Stderr if system_log && journal.exists() && stderr_is_the_journal() => {
                last_resort = Some(stderr());
            }
            Console::Stderr => sinks.push(stderr()),
            Console::Writer(writer) => sinks.push(HealthySink::new(sink::Console(writer))),
            Console::Off => last_resort = Some(stderr()),
        }
        sinks.extend(file.map(|path| HealthySink::new(LogFile::new(path, rotation.clone()))));
        if system_log {
            sinks.push(HealthySink::new(SystemLog::new(journal, syslog)));
        }
        Self {
            sinks,
            last_resort,
            format,
            level,
            zone,
            users: UserNames::new(user_name),
            fold: RepeatFilter::default(),
        }
    }

    /// Writes `event` to every sink, unless it only repeats a warning.
    pub(super) fn take(&mut self, at: Timestamp, event: Event, now: Instant) {
        let message = self.message(&event, now);
        if !self.fold.holds_back(&event, &message, now) {
            self.deliver(at, News { event, message, broken: None }, now);
        }
    }

    /// When [`Writer::tell_due`] wants to be called.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.fold.next_due()
    }

    /// Tells how often the warnings came again whose time is over.
    pub(super) fn tell_due(&mut self, at: Timestamp, now: Instant) {
        for repeated in self.fold.due(now) {
            self.take(at, repeated, now);
        }
    }

    /// Tells all such counts, and what sinks in trouble lost: nothing follows.
    pub(super) fn end(mut self, at: Timestamp, now: Instant) {
        for repeated in self.fold.all(now) {
            self.take(at, repeated, now);
        }
        for index in 0..self.sinks.len() {
            if let Some(event) = self.sinks[index].trouble() {
                let message = self.message(&event, now);
                self.deliver(at, News { event, message, broken: Some(index) }, now);
            }
        }
    }

    /// Opens files again, and tries sinks in trouble at once.
    pub(super) fn reopen(&mut self, now: Instant) {
        for sink in &mut self.sinks {
            sink.reopen(now);
        }
    }

    fn message(&mut self, event: &Event, now: Instant) -> String {
        text::message(event, &mut |uid| self.users.get(uid, now))
    }

    /// Hands the event to every sink, and then what that did to them: of a sink that broke the others hear, of one
    /// that works again all do. This ends, as a sink that broke is not tried again at the same `now`.
    fn deliver(&mut self, at: Timestamp, first: News, now: Instant) {
        let mut news = VecDeque::from([first]);
        while let Some(News { event, message, broken }) = news.pop_front() {
            let at = at.to_zoned((self.zone)());
            let user = event.subject().map(|subject| self.users.get(subject.uid, now));
            let level = event.level();
            let mut whole = match self.format {
                Format::Text => text::line(&at, level, &message),
                Format::Json => json::line(&at, &event, user.as_deref(), &message),
            };
            whole.push('\n');
            let line = Line {
                at: &at,
                level,
                event: &event,
                user: user.as_deref(),
                message: &message,
                whole: &whole,
            };
            let mut heard = false;
            for (index, sink) in self.sinks.iter_mut().enumerate() {
                if broken == Some(index) {
                    continue;
                }
                let (event, broken) = match sink.offer(&line, now) {
                    WriteOutcome::Lost => continue,
                    WriteOutcome::Failed(event) => (event, Some(index)),
                    WriteOutcome::Recovered(event) => (event, None),
                    WriteOutcome::Taken => {
                        heard = true;
                        continue;
                    }
                };
                heard |= broken.is_none();
                if event.level() >= self.level {
                    let message = text::message(&event, &mut |uid| self.users.get(uid, now));
                    news.push_back(News { event, message, broken });
                }
            }
            if let (Some(sink), false, Event::SinkTrouble { .. }) = (&mut self.last_resort, heard, &event) {
                // Nobody is left to hear of its trouble.
                let _ = sink.offer(&line, now);
            }
        }
    }
}

/// An event on its way to the sinks.
struct News {
    event: Event,
    message: String,
    /// The sink whose trouble it is: it cannot take it.
    broken: Option<usize>,
}

/// Whether standard error is a stream into the journal (systemd.exec(5), `$JOURNAL_STREAM`).
fn stderr_is_the_journal() -> bool {
    let Ok(facts) = nix::sys::stat::fstat(io::stderr()) else { return false };
    env::var("JOURNAL_STREAM").is_ok_and(|stream| names_stream(&stream, facts.st_dev, facts.st_ino))
}

/// Whether `stream`, "device:inode" in decimal, names the file with these numbers.
fn names_stream(stream: &str, device: u64, inode: u64) -> bool {
    stream
        .split_once(':')
        .is_some_and(|(first, second)| first.parse() == Ok(device) && second.parse() == Ok(inode))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_journal_stream_is_known_by_both_numbers() {
        assert!(names_stream("8:131072", 8, 131_072));
        for other in ["8:131073", "9:131072", "8", "", "8:131072:1", "a:b"] {
            assert!(!names_stream(other, 8, 131_072), "{other}");
        }
    }

    #[test]
    fn trouble_reaches_standard_error_when_no_sink_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs {
            console: Console::Off,
            file: Some(folder.path().join("missing/log")),
            system_log: true,
            machine: Machine {
                journal: folder.path().join("journal"),
                syslog: folder.path().join("syslog"),
                zone: || TimeZone::UTC,
                ..Machine::default()
            },
            ..Outputs::default()
        };
        let mut writer = Writer::new(outputs, &Rotation::default());
        let (mut reader, stderr) = io::pipe().unwrap();
        writer.last_resort = Some(HealthySink::new(sink::Console(Box::new(stderr))));
        for scanned in 0..3 {
            writer.take(Timestamp::UNIX_EPOCH, Event::ScanComplete { scanned, killed: 0 }, Instant::now());
        }
        writer.end(Timestamp::UNIX_EPOCH, Instant::now());
        let mut heard = String::new();
        reader.read_to_string(&mut heard).unwrap();
        let lines: Vec<_> = heard.lines().collect();
        assert_eq!(
            lines.len(),
            4,
            "the troubles as they begin, once each, and what they cost in the end: {heard}"
        );
        assert!(
            lines[0].contains("Cannot write to the log file: ") && lines[0].contains("missing/log: No such")
        );
        assert!(lines[1].contains("Cannot write to syslog: neither "), "{heard}");
        // Three scans and the other's trouble; the last to be told of has missed that too.
        assert!(lines[2].contains("missing/log") && lines[2].ends_with("Lost so far: 4"), "{heard}");
        assert!(lines[3].contains("syslog") && lines[3].ends_with("Lost so far: 5"), "{heard}");
    }
}

//! Turns events into lines and hands them to every sink. Runs on the writer thread only.

use std::{
    collections::VecDeque,
    env, io,
    sync::{Arc, mpsc::Sender},
    time::Instant,
};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    event::{Event, Level, Sink},
    file::LogFile,
    flood_limit::FloodLimit,
    json,
    outputs::{Console, Machine, Outputs},
    queued_sink::{Offered, QueuedSink, Setup, Target},
    repeat_filter::RepeatFilter,
    rotation::Rotation,
    sink::{self, HealthySink, Line},
    system_log::SystemLog,
    text,
    users::UserNames,
};
use crate::model::LogFormat;

/// All sinks, with what is remembered between events.
pub(super) struct Writer {
    sinks: Vec<Slot>,
    /// Gets the trouble of a sink when no other sink takes it.
    last_resort: Option<QueuedSink>,
    format: LogFormat,
    level: Level,
    zone: fn() -> TimeZone,
    users: UserNames,
    fold: RepeatFilter,
    flood: FloodLimit,
}

/// A sink, by whether it can block.
enum Slot {
    /// It never blocks, so it needs no thread.
    Direct(HealthySink),
    /// It may block.
    Queued(Box<QueuedSink>),
}

/// The sinks of a writer that has ended, for the next one.
pub(super) struct Ended(Vec<QueuedSink>);

impl Writer {
    /// Opens nothing yet. The last thread of a sink that has written all of its lines drops `done`.
    pub(super) fn new(outputs: Outputs, rotation: &Rotation, users: UserNames, done: Sender<()>) -> Self {
        let Outputs { console, file, format, system_log, level, metrics: _, notify: _, machine, .. } =
            outputs;
        let flood = FloodLimit::new(outputs.lines_per_minute);
        let Machine {
            clock: _,
            zone,
            user_name: _,
            journal,
            syslog,
            containers: _,
            queue: capacity,
            patience,
        } = machine;
        let setup = Setup { capacity, patience, done };
        let queued = |target, name, sink| QueuedSink::new(target, name, sink, &setup);
        let console_to =
            |target, writer| queued(target, Sink::Console, HealthySink::new(sink::Console(writer)));
        let stderr = || console_to(Target::Stderr, Box::new(io::stderr()));
        let mut sinks = Vec::new();
        let mut last_resort = None;
        match console {
            Console::Stderr if system_log && journal.exists() && stderr_is_the_journal() => {
                last_resort = Some(stderr());
            }
            Console::Stderr => sinks.push(Slot::Queued(Box::new(stderr()))),
            Console::Writer(writer) => sinks.push(Slot::Queued(Box::new(console_to(Target::Other, writer)))),
            Console::Off => last_resort = Some(stderr()),
        }
        sinks.extend(file.map(|path| {
            let log = HealthySink::new(LogFile::new(path.clone(), rotation.clone()));
            Slot::Queued(Box::new(queued(Target::File(path), Sink::File, log)))
        }));
        if system_log {
            sinks.push(Slot::Direct(HealthySink::new(SystemLog::new(journal, syslog))));
        }
        Self { sinks, last_resort, format, level, zone, users, fold: RepeatFilter::default(), flood }
    }

    /// Continues with the sinks of the writer before this one that write to the same places: one that is blocked keeps its
    /// thread, and no second thread blocks beside it.
    pub(super) fn adopt(&mut self, Ended(sinks): Ended, now: Instant) {
        let own = self.sinks.iter_mut().filter_map(|slot| match slot {
            Slot::Direct(_) => None,
            Slot::Queued(sink) => Some(&mut **sink),
        });
        let mut own: Vec<_> = own.chain(&mut self.last_resort).collect();
        for mut before in sinks {
            if let Some(sink) = own.iter_mut().find(|sink| sink.is_the_same(&before)) {
                before.reopen(now);
                **sink = before;
            }
        }
    }

    /// Hands `event` to every sink, unless it only repeats a warning, or is one of too many; the journal gets
    /// each termination. [`Writer::settle`] follows what was taken.
    pub(super) fn take(&mut self, at: Timestamp, event: Event, now: Instant) {
        let message = self.message(&event, now);
        if self.fold.holds_back(&event, &message, now) {
            return;
        }
        let too_many = self.flood.holds_back(&event, &message, now);
        if !too_many || event.spec().is_always_written {
            self.deliver(at, News { event, message, broken: None, journal_alone: too_many }, now);
        }
    }

    /// Waits for a moment until the sinks have written what they took, so that the others report the trouble of one at once.
    pub(super) fn settle(&mut self, at: Timestamp, now: Instant) {
        for index in 0..self.sinks.len() {
            let news = self.sinks[index].settle(now).news;
            for event in self.of_sink(news, index, now) {
                self.deliver(at, event, now);
            }
        }
    }

    /// The time at which [`Writer::report_due`] must be called.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.fold.next_due().into_iter().chain(self.flood.next_due()).min()
    }

    /// Reports how often each warning came again whose window is over.
    pub(super) fn report_due(&mut self, at: Timestamp, now: Instant) {
        for repeated in self.fold.due(now).into_iter().chain(self.flood.due(now)) {
            self.take(at, repeated, now);
            self.settle(at, now);
        }
    }

    /// Writes all such counts, and what sinks in trouble lost. Nothing follows, except by way of [`Writer::adopt`].
    pub(super) fn end(mut self, at: Timestamp, now: Instant) -> Ended {
        for repeated in self.fold.all(now).into_iter().chain(self.flood.all()) {
            self.take(at, repeated, now);
        }
        for index in 0..self.sinks.len() {
            if let Some(event) = self.sinks[index].trouble() {
                let message = self.message(&event, now);
                self.deliver(at, News { event, message, broken: Some(index), journal_alone: false }, now);
            }
        }
        let queued = self.sinks.into_iter().filter_map(|slot| match slot {
            Slot::Direct(_) => None,
            Slot::Queued(sink) => Some(*sink),
        });
        Ended(queued.chain(self.last_resort).collect())
    }

    /// Opens files again, and tries sinks in trouble at once.
    pub(super) fn reopen(&mut self, now: Instant) {
        for sink in &mut self.sinks {
            sink.reopen(now);
        }
    }

    fn message(&self, event: &Event, now: Instant) -> String {
        text::message(event, &mut |uid| self.users.get(uid, now))
    }

    /// Hands the event to every sink, and then the news of the sinks themselves: the others get those of a sink that
    /// broke, all get those of one that works again. This ends, as a sink that broke is not tried again at the same `now`.
    fn deliver(&mut self, at: Timestamp, first: News, now: Instant) {
        let mut news = VecDeque::from([first]);
        while let Some(News { event, message, broken, journal_alone }) = news.pop_front() {
            let at = at.to_zoned((self.zone)());
            let user = event.subject().map(|subject| subject.user(&mut |uid| self.users.get(uid, now)));
            let level = event.level();
            let paragraph = text::paragraph(&event, &mut |uid| self.users.get(uid, now));
            let mut whole = match self.format {
                LogFormat::Text => text::line(&at, level, &paragraph),
                LogFormat::Json => json::line(&at, &event, user.as_deref(), &message),
            };
            whole.push('\n');
            let is_trouble = matches!(event, Event::SinkTrouble { .. });
            let line = Arc::new(Line { at, level, event, user, paragraph, whole });
            let mut is_written = false;
            for index in 0..self.sinks.len() {
                let sink = &mut self.sinks[index];
                if broken == Some(index) || (journal_alone && !sink.is_the_journal()) {
                    continue;
                }
                let Offered { mut taken, news: mut learned } = sink.offer(&line, now);
                if is_trouble {
                    // Whether this sink has written it decides whether another one must.
                    let settled = sink.settle(now);
                    taken |= settled.taken;
                    learned.extend(settled.news);
                }
                is_written |= taken;
                news.extend(self.of_sink(learned, index, now));
            }
            if let (Some(sink), false, true) = (&mut self.last_resort, is_written, is_trouble) {
                // No sink is left for its own trouble.
                let _ = sink.offer(&line, now);
            }
        }
    }

    /// The events that the sink with this index reported of itself, for the others.
    fn of_sink(&self, learned: Vec<Event>, index: usize, now: Instant) -> Vec<News> {
        let reported = learned.into_iter().filter(|event| event.level() >= self.level);
        let news = |event| {
            let begins = matches!(event, Event::SinkTrouble { error: Some(_), .. });
            let message = self.message(&event, now);
            News { event, message, broken: begins.then_some(index), journal_alone: false }
        };
        reported.map(news).collect()
    }
}

impl Slot {
    fn offer(&mut self, line: &Arc<Line>, now: Instant) -> Offered {
        match self {
            Self::Direct(sink) => sink.offer(line, now).into(),
            Self::Queued(sink) => sink.offer(line, now),
        }
    }

    /// Nothing, for a sink that has answered already.
    fn settle(&mut self, now: Instant) -> Offered {
        match self {
            Self::Direct(_) => Offered::default(),
            Self::Queued(sink) => sink.settle(now),
        }
    }

    fn is_the_journal(&self) -> bool {
        match self {
            Self::Direct(sink) => sink.name() == Sink::Journal,
            Self::Queued(_) => false,
        }
    }

    fn trouble(&mut self) -> Option<Event> {
        match self {
            Self::Direct(sink) => sink.trouble(),
            Self::Queued(sink) => sink.trouble(),
        }
    }

    fn reopen(&mut self, now: Instant) {
        match self {
            Self::Direct(sink) => sink.reopen(now),
            Self::Queued(sink) => sink.reopen(now),
        }
    }
}

/// An event on its way to the sinks.
struct News {
    event: Event,
    message: String,
    /// The sink whose trouble it is: it cannot take it.
    broken: Option<usize>,
    /// The other sinks have had enough of its kind.
    journal_alone: bool,
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
    use std::{
        io::Read,
        sync::mpsc::{self, RecvTimeoutError},
        time::Duration,
    };

    use super::*;

    /// Nothing in these tests takes that long, however busy the machine.
    const LIMIT: Duration = Duration::from_secs(60);

    fn users() -> UserNames {
        UserNames::start(|_| None).unwrap()
    }

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
                patience: LIMIT,
                ..Machine::default()
            },
            ..Outputs::default()
        };
        let (done, ended) = mpsc::channel();
        let mut writer = Writer::new(outputs, &Rotation::default(), users(), done.clone());
        let (mut reader, stderr) = io::pipe().unwrap();
        let setup = Setup { capacity: 256, patience: LIMIT, done };
        let stderr = HealthySink::new(sink::Console(Box::new(stderr)));
        writer.last_resort = Some(QueuedSink::new(Target::Other, Sink::Console, stderr, &setup));
        drop(setup);
        for scanned in 0..3 {
            let now = Instant::now();
            writer.take(Timestamp::UNIX_EPOCH, Event::ScanComplete { scanned, killed: 0 }, now);
            writer.settle(Timestamp::UNIX_EPOCH, now);
        }
        drop(writer.end(Timestamp::UNIX_EPOCH, Instant::now()));
        assert_eq!(ended.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
        let mut printed = String::new();
        reader.read_to_string(&mut printed).unwrap();
        let lines: Vec<_> = printed.lines().collect();
        assert_eq!(
            lines.len(),
            4,
            "the troubles as they begin, once each, and what they cost in the end: {printed}"
        );
        // The sink without a thread knows first.
        assert!(lines[0].contains("Cannot write to syslog: neither "), "{printed}");
        assert!(
            lines[1].contains("Cannot write to the log file: ") && lines[1].contains("missing/log: No such"),
            "{printed}"
        );
        // Three scans and the other's trouble; the last has missed that one, too.
        assert!(lines[2].contains("missing/log") && lines[2].ends_with("Lost so far: 4"), "{printed}");
        assert!(lines[3].contains("syslog") && lines[3].ends_with("Lost so far: 5"), "{printed}");
    }

    #[test]
    fn a_blocked_sink_goes_on_with_its_thread_after_a_reload() {
        let (reader, blocked) = io::pipe().unwrap();
        let (done, _ended) = mpsc::channel();
        let setup = Setup { capacity: 4, patience: Duration::from_millis(10), done: done.clone() };
        let writer = || {
            let outputs = Outputs { console: Console::Stderr, ..Outputs::default() };
            Writer::new(outputs, &Rotation::default(), users(), done.clone())
        };
        let mut before = writer();
        let stderr = HealthySink::new(sink::Console(Box::new(blocked)));
        before.sinks =
            vec![Slot::Queued(Box::new(QueuedSink::new(Target::Stderr, Sink::Console, stderr, &setup)))];
        for _ in 0..100 {
            let reason = "x".repeat(10_000);
            before.take(Timestamp::UNIX_EPOCH, Event::Stopping { reason }, Instant::now());
        }
        let ended = before.end(Timestamp::UNIX_EPOCH, Instant::now());
        let mut after = writer();
        assert_eq!(after.sinks[0].trouble(), None);
        after.adopt(ended, Instant::now());
        let trouble = after.sinks[0].trouble();
        assert!(matches!(trouble, Some(Event::SinkTrouble { lost: 50.., .. })), "{trouble:?}");
        drop(reader);
    }
}

//! One sink and its health: a sink that fails costs its own lines, which are counted, and nothing else.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use jiff::Zoned;

use super::event::{Event, Level, Sink};

/// The pauses between attempts on a sink in trouble: the first, doubled each time up to the last.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// One event in all the forms that a sink may want.
pub(super) struct Line {
    /// The time of the event, in local time.
    pub(super) at: Zoned,
    /// Its severity.
    pub(super) level: Level,
    /// The event.
    pub(super) event: Event,
    /// The name of the user that it is about.
    pub(super) user: Option<String>,
    /// The text format without time and level: a line, and indented ones that belong to it.
    pub(super) paragraph: String,
    /// The whole of it in the format that was asked for, with its line feed.
    pub(super) whole: String,
}

/// Something that takes lines.
pub(super) trait Output: Send {
    /// Its name in [`Event::SinkTrouble`].
    fn sink(&self) -> Sink;

    /// Takes one line, whole.
    ///
    /// # Errors
    /// It could not be taken; the text names the file or socket.
    fn write(&mut self, line: &Line) -> io::Result<()>;

    /// Lets go of what may have been replaced (log rotation).
    fn reopen(&mut self) {}
}

/// An output with its health.
pub(super) struct HealthySink {
    output: Box<dyn Output>,
    trouble: Option<Trouble>,
}

struct Trouble {
    error: String,
    lost: u64,
    retry: Instant,
    pause: Duration,
}

/// The result of a line.
#[derive(Debug, PartialEq)]
pub(super) enum WriteOutcome {
    /// It was taken.
    Taken,
    /// It was lost and counted; the trouble of the sink was reported before.
    Lost,
    /// It was lost, and this is the first: the other sinks report it.
    Failed(Event),
    /// It was taken, the first after some that were lost: all sinks report it.
    Recovered(Event),
}

impl HealthySink {
    pub(super) fn new(output: impl Output + 'static) -> Self {
        Self { output: Box::new(output), trouble: None }
    }

    /// The name of the output.
    pub(super) fn name(&self) -> Sink {
        self.output.sink()
    }

    /// Hands `line` over, or counts it. An output in trouble is tried again after a pause only.
    pub(super) fn offer(&mut self, line: &Line, now: Instant) -> WriteOutcome {
        if let Some(trouble) = &mut self.trouble
            && now < trouble.retry
        {
            trouble.lost += 1;
            return WriteOutcome::Lost;
        }
        match (self.output.write(line), &mut self.trouble) {
            (Ok(()), None) => WriteOutcome::Taken,
            (Ok(()), Some(Trouble { lost, .. })) => {
                let recovered = Event::SinkTrouble { sink: self.output.sink(), error: None, lost: *lost };
                self.trouble = None;
                WriteOutcome::Recovered(recovered)
            }
            (Err(error), Some(trouble)) => {
                trouble.error = error.to_string();
                trouble.lost += 1;
                trouble.pause = (trouble.pause * 2).min(PAUSE.1);
                trouble.retry = now + trouble.pause;
                WriteOutcome::Lost
            }
            (Err(error), None) => {
                let error = error.to_string();
                self.trouble = Some(Trouble { error, lost: 1, retry: now + PAUSE.0, pause: PAUSE.0 });
                self.trouble().map_or(WriteOutcome::Lost, WriteOutcome::Failed)
            }
        }
    }

    /// The trouble that it is in, with what it cost so far.
    pub(super) fn trouble(&self) -> Option<Event> {
        let Trouble { error, lost, .. } = self.trouble.as_ref()?;
        Some(Event::SinkTrouble { sink: self.output.sink(), error: Some(error.clone()), lost: *lost })
    }

    /// Tries at once, after a log rotation or a repair.
    pub(super) fn reopen(&mut self, now: Instant) {
        self.output.reopen();
        if let Some(trouble) = &mut self.trouble {
            trouble.retry = now;
        }
    }
}

/// Lines for whoever started memmon.
pub(super) struct Console(pub(super) Box<dyn Write + Send>);

impl Output for Console {
    fn sink(&self) -> Sink {
        Sink::Console
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        self.0.write_all(line.whole.as_bytes())?;
        self.0.flush()
    }
}

#[cfg(test)]
pub(super) mod samples {
    use std::sync::Arc;

    use super::*;

    /// A line that reads `whole`.
    pub(in crate::report) fn line(whole: &str) -> Arc<Line> {
        let at = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        let event = Event::Overflow { lost: 0 };
        let (paragraph, whole) = (whole.trim().to_owned(), whole.to_owned());
        Arc::new(Line { at, level: Level::Info, event, user: None, paragraph, whole })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    struct Flaky(Arc<AtomicBool>);

    impl Output for Flaky {
        fn sink(&self) -> Sink {
            Sink::File
        }

        fn write(&mut self, _: &Line) -> io::Result<()> {
            if self.0.load(Ordering::Relaxed) { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
        }
    }

    #[test]
    fn trouble_is_reported_once_and_every_lost_line_is_counted() {
        let works = Arc::new(AtomicBool::new(true));
        let mut outlet = HealthySink::new(Flaky(Arc::clone(&works)));
        let line = samples::line("");
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(outlet.offer(&line, start), WriteOutcome::Taken);
        works.store(false, Ordering::Relaxed);
        let WriteOutcome::Failed(Event::SinkTrouble { sink: Sink::File, error: Some(_), lost: 1 }) =
            outlet.offer(&line, start)
        else {
            panic!("the first failure is reported");
        };
        assert_eq!(outlet.offer(&line, start + second), WriteOutcome::Lost, "tried again: 2 s pause now");
        works.store(true, Ordering::Relaxed);
        assert_eq!(outlet.offer(&line, start + 2 * second), WriteOutcome::Lost, "not tried yet");
        let recovered = Event::SinkTrouble { sink: Sink::File, error: None, lost: 3 };
        assert_eq!(outlet.offer(&line, start + 3 * second), WriteOutcome::Recovered(recovered));
        assert_eq!(outlet.offer(&line, start + 3 * second), WriteOutcome::Taken);
    }

    #[test]
    fn the_pause_grows_to_a_minute_and_rotation_ends_it() {
        let works = Arc::new(AtomicBool::new(false));
        let mut outlet = HealthySink::new(Flaky(Arc::clone(&works)));
        let line = samples::line("");
        let mut now = Instant::now();
        for _ in 0..20 {
            outlet.offer(&line, now);
            now += 2 * PAUSE.1;
        }
        assert_eq!(outlet.trouble.as_ref().map(|trouble| trouble.pause), Some(PAUSE.1));
        outlet.offer(&line, now);
        works.store(true, Ordering::Relaxed);
        assert_eq!(outlet.offer(&line, now), WriteOutcome::Lost);
        outlet.reopen(now);
        assert!(matches!(
            outlet.offer(&line, now),
            WriteOutcome::Recovered(Event::SinkTrouble { lost: 22, .. })
        ));
    }
}

//! A sink with a thread and a bounded queue of its own: a pipe that no process reads, a paused terminal or a file server
//! that hangs costs that sink's lines, which are counted, and delays no other sink.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    event::{Event, Sink},
    sink::{HealthySink, Line, WriteOutcome},
};

/// Lines that wait for one sink at most.
const MOST_WAITING: usize = 512;

/// A sink that let the writer wait in vain is not waited for during this time.
const NOT_WAITED_FOR: Duration = Duration::from_secs(10);

/// A thread that writes lines needs little; locked memory would keep all of it resident.
const STACK: usize = 128 << 10;

/// The identity of a sink: the same one goes on after a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Standard error.
    Stderr,
    /// The log file of this name.
    File(PathBuf),
    /// A writer that was passed in.
    Other,
}

/// The queue to a sink, with what is known of its health.
pub(super) struct QueuedSink {
    target: Target,
    name: Sink,
    /// Until the first line starts the thread.
    idle: Option<HealthySink>,
    thread: Option<Thread>,
    capacity: usize,
    patience: Duration,
    /// Dropped by the last thread that has written what it had.
    done: Sender<()>,
    /// Lines that found the queue full.
    lost: u64,
    /// The trouble that the sink itself reported, with its losses so far.
    trouble: Option<Event>,
    /// It let the writer wait in vain, and still has a line from then.
    overdue: bool,
    impatient_until: Option<Instant>,
}

struct Thread {
    lines: SyncSender<(Arc<Line>, Instant)>,
    answers: Receiver<Answer>,
    /// Lines without an answer.
    waiting: usize,
    reopen: Arc<AtomicBool>,
}

/// The result of one line.
struct Answer {
    outcome: WriteOutcome,
    trouble: Option<Event>,
}

/// The result of a line, as far as that is known, and the trouble of the sink.
#[derive(Default)]
pub(super) struct Offered {
    /// The sink has written the line.
    pub(super) taken: bool,
    /// [`Event::SinkTrouble`], as it begins and ends.
    pub(super) news: Vec<Event>,
}

impl From<WriteOutcome> for Offered {
    fn from(outcome: WriteOutcome) -> Self {
        let taken = matches!(outcome, WriteOutcome::Taken | WriteOutcome::Recovered(_));
        let news = match outcome {
            WriteOutcome::Taken | WriteOutcome::Lost => Vec::new(),
            WriteOutcome::Failed(event) | WriteOutcome::Recovered(event) => vec![event],
        };
        Self { taken, news }
    }
}

/// The settings of a queue.
#[derive(Clone)]
pub(super) struct Setup {
    /// Lines that may wait.
    pub(super) capacity: usize,
    /// Time that the writer waits for a sink that has no old line to write, so that trouble is reported at once.
    pub(super) patience: Duration,
    /// Dropped by the last thread that has written what it had.
    pub(super) done: Sender<()>,
}

impl QueuedSink {
    pub(super) fn new(target: Target, name: Sink, sink: HealthySink, setup: &Setup) -> Self {
        Self {
            target,
            name,
            idle: Some(sink),
            thread: None,
            capacity: setup.capacity.clamp(1, MOST_WAITING),
            patience: setup.patience,
            done: setup.done.clone(),
            lost: 0,
            trouble: None,
            overdue: false,
            impatient_until: None,
        }
    }

    /// Queues `line`, or counts it as lost. Does not wait for what becomes of it: [`QueuedSink::settle`] does.
    pub(super) fn offer(&mut self, line: &Arc<Line>, now: Instant) -> Offered {
        let mut offered = Offered::default();
        if let Err(error) = self.start() {
            self.lose(&format!("no thread: {error}"), &mut offered);
            return offered;
        }
        self.collect(None, &mut offered);
        let Some(thread) = &mut self.thread else { return offered };
        if thread.waiting == 0 && self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            offered.news.push(Event::SinkTrouble { sink: self.name, error: None, lost });
        }
        match thread.lines.try_send((Arc::clone(line), now)) {
            Ok(()) => thread.waiting += 1,
            Err(TrySendError::Full(_)) => self.lose(BLOCKED, &mut offered),
            Err(TrySendError::Disconnected(_)) => self.lose("its thread has ended", &mut offered),
        }
        offered
    }

    /// Waits for a moment for the queued lines, unless the sink let the writer wait in vain before.
    pub(super) fn settle(&mut self, now: Instant) -> Offered {
        let mut offered = Offered::default();
        if !self.overdue && self.impatient_until.is_none_or(|until| until <= now) {
            self.collect(Some(self.patience), &mut offered);
            self.overdue = self.thread.as_ref().is_some_and(|thread| thread.waiting > 0);
            self.impatient_until = self.overdue.then(|| now + NOT_WAITED_FOR);
        }
        offered
    }

    /// The trouble that it is in, with what it cost so far. Waits for a moment for what is being written.
    pub(super) fn trouble(&mut self) -> Option<Event> {
        self.collect(Some(self.patience), &mut Offered::default());
        let blocked = || Event::SinkTrouble { sink: self.name, error: Some(BLOCKED.into()), lost: self.lost };
        (self.lost > 0).then(blocked).or_else(|| self.trouble.clone())
    }

    /// Has the sink opened again before its next line, and tried at once if it is in trouble.
    pub(super) fn reopen(&mut self, now: Instant) {
        if let Some(thread) = &self.thread {
            thread.reopen.store(true, Ordering::Relaxed);
        }
        if let Some(sink) = &mut self.idle {
            sink.reopen(now);
        }
    }

    /// Whether the other one writes to the same place.
    pub(super) fn is_the_same(&self, other: &Self) -> bool {
        self.target == other.target && self.target != Target::Other
    }

    fn start(&mut self) -> io::Result<()> {
        if self.thread.is_some() {
            return Ok(());
        }
        let (lines, queue) = mpsc::sync_channel::<(Arc<Line>, Instant)>(self.capacity);
        let (answer, answers) = mpsc::channel();
        let reopen = Arc::new(AtomicBool::new(false));
        let (must_reopen, done) = (Arc::clone(&reopen), self.done.clone());
        let mut sink = self.idle.take();
        let work = move || {
            // Messages that a library logs while it serves a sink must not come back as lines.
            tracing::dispatcher::with_default(&tracing::Dispatch::none(), || {
                for (line, now) in queue {
                    let Some(sink) = &mut sink else { return };
                    if must_reopen.swap(false, Ordering::Relaxed) {
                        sink.reopen(now);
                    }
                    let outcome = sink.offer(&line, now);
                    // After a reload there may be no receiver.
                    let _ = answer.send(Answer { outcome, trouble: sink.trouble() });
                }
            });
            drop(done);
        };
        thread::Builder::new().name("memmon-sink".into()).stack_size(STACK).spawn(work)?;
        self.thread = Some(Thread { lines, answers, waiting: 0, reopen });
        Ok(())
    }

    /// Takes in the answers that have come; with `patience`, waits for the others, but not longer than that.
    fn collect(&mut self, patience: Option<Duration>, offered: &mut Offered) {
        let Some(thread) = &mut self.thread else { return };
        let deadline = patience.map(|patience| Instant::now() + patience);
        while thread.waiting > 0 {
            let answer = match deadline {
                None => thread.answers.try_recv().ok(),
                Some(deadline) => {
                    thread.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
                }
            };
            let Some(Answer { outcome, trouble }) = answer else { return };
            thread.waiting -= 1;
            self.overdue &= thread.waiting > 0;
            self.trouble = trouble;
            let Offered { taken, news } = outcome.into();
            offered.taken = taken;
            offered.news.extend(news);
        }
    }

    fn lose(&mut self, error: &str, offered: &mut Offered) {
        self.lost += 1;
        if self.lost == 1 {
            let error = Some(error.to_owned());
            offered.news.push(Event::SinkTrouble { sink: self.name, error, lost: 1 });
        }
    }
}

/// The trouble of a sink whose queue is full.
const BLOCKED: &str = "it does not accept lines, and the queue for it is full";

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write},
        sync::mpsc::RecvTimeoutError,
    };

    use super::*;
    use crate::report::sink::{Console, samples::line};

    /// Nothing in these tests takes that long, however busy the machine.
    const LIMIT: Duration = Duration::from_secs(60);

    fn queued(writer: impl Write + Send + 'static, capacity: usize) -> (QueuedSink, Receiver<()>) {
        let (done, ended) = mpsc::channel();
        let setup = Setup { capacity, patience: Duration::from_millis(20), done };
        let sink = HealthySink::new(Console(Box::new(writer)));
        (QueuedSink::new(Target::Other, Sink::Console, sink, &setup), ended)
    }

    #[test]
    fn a_blocked_sink_loses_what_does_not_fit_and_reports_it_when_it_recovers() {
        const OFFERED: u64 = 1000;
        let (mut reader, writer) = io::pipe().unwrap();
        let (mut sink, ended) = queued(writer, 8);
        // Larger than what a pipe holds with the first few.
        let line = line(&("x".repeat(10_000) + "\n"));
        let (start, mut news) = (Instant::now(), Vec::new());
        for _ in 0..OFFERED {
            let offered = sink.offer(&line, start);
            news.extend(offered.news);
        }
        assert!(start.elapsed() < LIMIT / 2, "{:?}", start.elapsed());
        let [Event::SinkTrouble { sink: Sink::Console, error: Some(_), lost: 1 }] = &news[..] else {
            panic!("{news:?}")
        };
        let Some(Event::SinkTrouble { lost, .. }) = sink.trouble() else { panic!("it is in trouble") };
        assert!(lost > OFFERED / 2, "{lost}");

        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text.lines().count()
        });
        let begun = Instant::now();
        let (mut more, mut recovered) = (0, Vec::new());
        while recovered.is_empty() {
            assert!(begun.elapsed() < LIMIT);
            recovered = sink.offer(&line, start).news;
            more += 1;
            thread::sleep(Duration::from_millis(1));
        }
        let [Event::SinkTrouble { error: None, lost, .. }] = recovered[..] else { panic!("{recovered:?}") };
        drop(sink);
        assert_eq!(ended.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
        assert_eq!(reading.join().unwrap() as u64 + lost, OFFERED + more, "written and lost are all");
    }

    #[test]
    fn a_sink_that_works_answers_for_each_line() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (mut sink, ended) = queued(writer, 8);
        sink.patience = LIMIT;
        for text in ["a\n", "b\n"] {
            let offered = sink.offer(&line(text), Instant::now());
            assert!(offered.news.is_empty());
        }
        let offered = sink.settle(Instant::now());
        assert!(offered.taken && offered.news.is_empty() && sink.trouble().is_none());
        drop(sink);
        assert_eq!(ended.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\nb\n");
    }
}

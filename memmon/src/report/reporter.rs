//! The door for everyone who tells something: a bounded queue to one writer thread, so that nobody waits for a disk.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    event::{Event, Level},
    metrics::{Exports, Metrics, MetricsOutputs},
    notify::{LAST_CHANCE, Notifiers, NotifyOutputs},
    outputs::{Machine, Outputs},
    rotation::Rotation,
    writer::Writer,
};

/// While events keep being lost, how often that is said.
const OVERFLOW_EVERY: Duration = Duration::from_secs(10);

/// Takes events from one owner, the daemon; [`Reporter::teller`] gives the door to others.
pub struct Reporter {
    teller: EventSender,
    exports: Mutex<Exports>,
    rotation: Rotation,
    /// Held by each thread that still has lines to write.
    hang_up: Sender<()>,
    /// Disconnected when all of them are done.
    done: Receiver<()>,
}

/// The telling half of a [`Reporter`], to be handed around.
#[derive(Clone)]
pub struct EventSender {
    queue: SyncSender<Item>,
    shared: Arc<Shared>,
}

/// The event is boxed to keep the ring, which stays resident, small.
enum Item {
    Told(Timestamp, Box<Event>),
    /// There are orders.
    Wake,
}

struct Shared {
    clock: fn() -> Timestamp,
    level: AtomicU8,
    /// Events that found the queue full and were not yet told of.
    lost: AtomicU64,
    /// All of them since the start.
    lost_ever: AtomicU64,
    metrics: Metrics,
    notifiers: RwLock<Notifiers>,
    orders: Mutex<Orders>,
}

/// What the writer is to do besides writing: kept apart from the queue, which may be full.
#[derive(Default)]
struct Orders {
    reopen: bool,
    replace: Option<Box<Writer>>,
    finish: bool,
}

impl Reporter {
    /// Starts the writer thread. Sinks are opened with the first event, by that thread: one that cannot be used is
    /// told of on the others and tried again, and never keeps memmon from enforcing.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(outputs: Outputs) -> io::Result<Self> {
        let (queue, items) = mpsc::sync_channel(outputs.machine.queue.max(1));
        let (hang_up, done) = mpsc::channel();
        let shared = Arc::new(Shared {
            clock: outputs.machine.clock,
            level: AtomicU8::new(outputs.level as u8),
            lost: AtomicU64::new(0),
            lost_ever: AtomicU64::new(0),
            metrics: Metrics::default(),
            notifiers: RwLock::default(),
            orders: Mutex::default(),
        });
        let (exports, notify, machine) =
            (outputs.metrics.clone(), outputs.notify.clone(), outputs.machine.clone());
        let rotation = Rotation::default();
        rotation.follow(outputs.file.as_deref());
        let writer = Writer::new(outputs, &rotation, hang_up.clone());
        let (for_writer, for_thread) = (Arc::clone(&shared), hang_up.clone());
        thread::Builder::new().name("memmon-report".into()).spawn(move || {
            // What libraries say while they serve the writer must not come back as something to write.
            tracing::dispatcher::with_default(&tracing::Dispatch::none(), || {
                run(writer, &items, &for_writer);
            });
            drop(for_thread);
        })?;
        let reporter = Self {
            teller: EventSender { queue, shared },
            exports: Mutex::default(),
            rotation,
            hang_up,
            done,
        };
        reporter.export(exports);
        reporter.notify(notify, &machine);
        Ok(reporter)
    }

    /// Tells an event; see [`EventSender::tell`].
    pub fn tell(&self, event: Event) {
        self.teller.tell(event);
    }

    /// Events that found the queue full, and so no sink at all, since the start.
    pub fn lost(&self) -> u64 {
        self.teller.shared.lost_ever.load(Ordering::Relaxed)
    }

    /// A door for others, which goes on working as long as this reporter does.
    pub fn teller(&self) -> EventSender {
        self.teller.clone()
    }

    /// What is known of the log file's rotation, for those that wait for signals.
    pub fn rotation(&self) -> Rotation {
        self.rotation.clone()
    }

    /// Opens the log file again under its name, and tries sinks in trouble at once. Does not wait.
    pub fn reopen(&self) {
        self.order(|orders| orders.reopen = true);
    }

    /// Goes on with other outputs, for a reload; events told before may still go to either. Does not wait. The clock
    /// and the length of the queue stay.
    pub fn replace(&self, outputs: Outputs) {
        self.teller.shared.level.store(outputs.level as u8, Ordering::Relaxed);
        self.export(outputs.metrics.clone());
        self.notify(outputs.notify.clone(), &outputs.machine);
        self.rotation.follow(outputs.file.as_deref());
        let writer = Box::new(Writer::new(outputs, &self.rotation, self.hang_up.clone()));
        self.order(|orders| orders.replace = Some(writer));
    }

    /// Writes what was told, for at most `limit`: a disk that hangs cannot hold the exit. True when all was written.
    ///
    /// Before that, what waits to be sent is, if that takes no longer than [`LAST_CHANCE`].
    #[must_use]
    pub fn finish(self, limit: Duration) -> bool {
        let notifiers = &self.teller.shared.notifiers;
        // Not under the lock: their threads tell how it went.
        let last = std::mem::take(&mut *notifiers.write().unwrap_or_else(PoisonError::into_inner));
        for (channel, count) in last.finish(LAST_CHANCE) {
            let what = format!("lost with the end of memmon: {count} of the notifications by {channel}");
            self.tell(Event::Degraded { what });
        }
        let deadline = Instant::now() + limit;
        self.order(|orders| orders.finish = true);
        self.exports.into_inner().unwrap_or_else(PoisonError::into_inner).finish(deadline);
        drop(self.hang_up);
        self.done.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            == Err(RecvTimeoutError::Disconnected)
    }

    /// The figures, for what no event says.
    pub fn metrics(&self) -> &Metrics {
        &self.teller.shared.metrics
    }

    /// Has metrics go where `outputs` say, from now on. What goes there already goes on.
    fn export(&self, outputs: MetricsOutputs) {
        let mut exports = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = exports.follow(outputs, self.metrics(), &self.teller) {
            self.tell(Event::Degraded { what: format!("no thread for metrics: {error}") });
        }
    }

    /// Has those notified that `outputs` name, from now on. What waits goes there, too; where a channel is not in use any
    /// more, what waits there is sent still.
    fn notify(&self, outputs: NotifyOutputs, machine: &Machine) {
        let notifiers = || self.teller.shared.notifiers.write().unwrap_or_else(PoisonError::into_inner);
        if notifiers().are(&outputs) {
            return;
        }
        // Not under the lock, as whatever is told meanwhile takes it. What matters to them comes from here only.
        let mut own = std::mem::take(&mut *notifiers());
        let followed = own.follow(outputs, machine, &self.teller);
        *notifiers() = own;
        if let Err(error) = followed {
            self.tell(Event::Degraded { what: format!("no thread for notifications: {error}") });
        }
    }

    fn order(&self, give: impl FnOnce(&mut Orders)) {
        give(&mut self.teller.shared.orders.lock().unwrap_or_else(PoisonError::into_inner));
        // Is the queue full, the writer is awake anyway.
        let _ = self.teller.queue.try_send(Item::Wake);
    }
}

impl EventSender {
    /// Tells an event, stamped with the time of this call. Never waits: where the writer cannot keep up, the event
    /// is counted as lost and that is told.
    pub fn tell(&self, event: Event) {
        let Shared { metrics, notifiers, .. } = &*self.shared;
        metrics.observe(&event);
        // Only a reload ever writes to it.
        let notifiers = notifiers.read().unwrap_or_else(PoisonError::into_inner);
        notifiers.offer((self.shared.clock)(), &event, |channel| metrics.notified(channel, "lost", 1));
        drop(notifiers);
        let level = event.level() as u8;
        if level < self.shared.level.load(Ordering::Relaxed) && !event.is_always_written() {
            return;
        }
        let item = Item::Told((self.shared.clock)(), Box::new(event));
        if self.queue.try_send(item).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            self.shared.lost_ever.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The figures that events are counted in.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Whether those who look for a fault of memmon's own want to be told everything.
    pub(super) fn wants_debug(&self) -> bool {
        self.shared.level.load(Ordering::Relaxed) == Level::Debug as u8
    }
}

/// The writer thread, from its start to its end.
fn run(mut writer: Writer, items: &Receiver<Item>, shared: &Shared) {
    let mut overflow_told: Option<Instant> = None;
    loop {
        let orders = std::mem::take(&mut *shared.orders.lock().unwrap_or_else(PoisonError::into_inner));
        let now = Instant::now();
        if let Some(next) = orders.replace {
            let ended = std::mem::replace(&mut writer, *next).end((shared.clock)(), now);
            writer.adopt(ended, now);
        }
        if orders.reopen {
            writer.reopen(now);
        }
        if orders.finish {
            return finish(writer, items, shared);
        }
        let item = match items.try_recv() {
            Err(TryRecvError::Empty) => {
                tell_overflow(&mut writer, shared);
                next_item(items, writer.next_due())
            }
            Err(TryRecvError::Disconnected) => None,
            Ok(item) => Some(item),
        };
        let Some(item) = item else { return finish(writer, items, shared) };
        write(&mut writer, item);
        let now = Instant::now();
        writer.tell_due((shared.clock)(), now);
        if overflow_told.is_none_or(|told| now.saturating_duration_since(told) >= OVERFLOW_EVERY) {
            tell_overflow(&mut writer, shared);
            overflow_told = Some(now);
        }
    }
}

/// Waits for the next item, or until `due`; none when nobody is left to tell anything.
fn next_item(items: &Receiver<Item>, due: Option<Instant>) -> Option<Item> {
    let Some(due) = due else { return items.recv().ok() };
    match items.recv_timeout(due.saturating_duration_since(Instant::now())) {
        Ok(item) => Some(item),
        Err(RecvTimeoutError::Timeout) => Some(Item::Wake),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Writes what is left, counts included.
fn finish(mut writer: Writer, items: &Receiver<Item>, shared: &Shared) {
    for item in items.try_iter() {
        write(&mut writer, item);
    }
    tell_overflow(&mut writer, shared);
    drop(writer.end((shared.clock)(), Instant::now()));
}

fn write(writer: &mut Writer, item: Item) {
    match item {
        Item::Told(at, event) => writer.take(at, *event, Instant::now()),
        Item::Wake => {}
    }
}

fn tell_overflow(writer: &mut Writer, shared: &Shared) {
    let lost = shared.lost.swap(0, Ordering::Relaxed);
    if lost > 0 {
        shared.metrics.observe(&Event::Overflow { lost });
        writer.take((shared.clock)(), Event::Overflow { lost }, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::net::UnixDatagram, path::Path};

    use jiff::tz::TimeZone;
    use serde_json::Value;

    use super::*;
    use crate::report::{
        outputs::{Console, Format, Machine},
        samples,
    };

    /// Nothing in these tests takes that long, however busy the machine.
    const LIMIT: Duration = Duration::from_secs(60);

    fn machine(folder: &Path) -> Machine {
        Machine {
            clock: || Timestamp::UNIX_EPOCH,
            zone: || TimeZone::UTC,
            user_name: |_| Some("john".to_owned()),
            journal: folder.join("journal"),
            syslog: folder.join("syslog"),
            patience: LIMIT,
            ..Machine::default()
        }
    }

    fn scan(scanned: usize) -> Event {
        Event::ScanComplete { scanned, killed: 0 }
    }

    fn read_all(mut reader: io::PipeReader) -> String {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_blocked_sink_delays_neither_callers_nor_other_sinks_and_every_lost_line_is_counted() {
        const TOLD: usize = 20_000;
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let log = folder.path().join("log");
        let outputs = Outputs {
            console: Console::Writer(Box::new(writer)),
            file: Some(log.clone()),
            format: Format::Json,
            machine: Machine { queue: 64, patience: Duration::from_millis(20), ..machine(folder.path()) },
            ..Outputs::default()
        };
        let reporter = Reporter::start(outputs).unwrap();
        let teller = reporter.teller();
        let (told, all_told) = mpsc::channel();
        thread::spawn(move || {
            (0..TOLD).for_each(|i| teller.tell(scan(i)));
            told.send(()).unwrap();
        });
        all_told.recv_timeout(LIMIT).expect("a caller must not wait for a pipe that nobody reads");
        // The rest of them reaches the file although nothing reads from the pipe.
        let start = Instant::now();
        let mut last = 0;
        let in_file = || fs::read_to_string(&log).unwrap_or_default();
        while !in_file().contains("\"sink\":\"console\"") || !in_file().contains("the last") {
            assert!(start.elapsed() < LIMIT, "{}", in_file());
            reporter.tell(Event::Stopping { reason: "the last".to_owned() });
            last += 1;
            thread::sleep(Duration::from_millis(10));
        }

        let reading = thread::spawn(move || read_all(reader));
        assert!(reporter.finish(LIMIT));
        let (mut written, mut overflow, mut begun, mut lost, mut open, mut others) =
            (Vec::new(), 0, 0, 0, 0, 0);
        let in_file = in_file();
        for line in in_file.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let count = |key: &str| event[key].as_u64().unwrap();
            match event["event"].as_str().unwrap() {
                "scan_complete" => written.push(count("scanned")),
                "stopping" => others += 1,
                "overflow" => overflow += count("lost"),
                "sink_trouble" if event["error"].is_null() => {
                    lost += count("lost");
                    open = 0;
                }
                "sink_trouble" => {
                    begun += 1;
                    open = count("lost");
                }
                other => panic!("{other}"),
            }
        }
        assert!(written.is_sorted());
        assert_eq!((written.len() + others) as u64 + overflow, (TOLD + last) as u64);
        let on_console = reading.join().unwrap().lines().count();
        let offered = in_file.lines().count() - begun;
        assert_eq!(on_console as u64 + lost + open, offered as u64, "of the console's lines, too");
        assert!(on_console >= 64 && lost + open > 0);
    }

    #[test]
    fn a_sink_that_hangs_does_not_hold_the_exit() {
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let console = Console::Writer(Box::new(writer));
        let reporter =
            Reporter::start(Outputs { console, machine: machine(folder.path()), ..Outputs::default() })
                .unwrap();
        // Far more than a pipe holds.
        (0..1000).for_each(|_| reporter.tell(Event::Stopping { reason: "x".repeat(1000) }));
        let start = Instant::now();
        assert!(!reporter.finish(Duration::from_millis(50)), "not all can have been written");
        assert!(start.elapsed() < LIMIT / 2);
        drop(reader);
    }

    #[test]
    fn each_sink_gets_each_event_and_hears_of_the_trouble_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        let journald = UnixDatagram::bind(&machine.journal).unwrap();
        journald.set_read_timeout(Some(LIMIT)).unwrap();
        let logged = || {
            let mut buffer = [0; 4096];
            let length = journald.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).lines().next().unwrap().to_owned()
        };
        let (reader, writer) = io::pipe().unwrap();
        let file = folder.path().join("later/log");
        let outputs = Outputs {
            console: Console::Writer(Box::new(writer)),
            file: Some(file.clone()),
            system_log: true,
            machine,
            ..Outputs::default()
        };
        let reporter = Reporter::start(outputs).unwrap();
        reporter.tell(scan(1));
        assert_eq!(logged(), "MESSAGE=Scan complete. Scanned: 1, Killed: 0");
        let trouble = logged();
        assert!(trouble.starts_with("MESSAGE=Cannot write to the log file: "), "{trouble}");
        assert!(trouble.ends_with("later/log: No such file or directory (os error 2). Lost so far: 1"));
        reporter.tell(scan(2));
        assert_eq!(logged(), "MESSAGE=Scan complete. Scanned: 2, Killed: 0", "trouble is told once");
        fs::create_dir(folder.path().join("later")).unwrap();
        reporter.reopen();
        reporter.tell(Event::Killing { subject: samples::chrome(), breach: samples::BREACH, dry_run: false });
        assert!(logged().starts_with("MESSAGE=Killing process: "));
        assert_eq!(logged(), "MESSAGE=Writing to the log file again. Lost: 2");
        assert!(reporter.finish(LIMIT));

        let killing = "1970-01-01 00:00:00 - WARNING - Killing process: PID=12345, Name=chrome, User=john, \
                       RAM=3.50GB (21.88%)";
        let again = "1970-01-01 00:00:00 - WARNING - Writing to the log file again. Lost: 2";
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{killing}\n{again}\n"));
        let console = read_all(reader);
        let lines: Vec<_> = console.lines().collect();
        assert_eq!(lines.len(), 5, "{console}");
        assert_eq!(lines[3..], [killing, again]);
    }

    #[test]
    fn too_many_terminations_are_counted_in_the_file_and_whole_in_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let (machine, log) = (machine(folder.path()), folder.path().join("log"));
        let journald = UnixDatagram::bind(&machine.journal).unwrap();
        journald.set_nonblocking(true).unwrap();
        let outputs = Outputs {
            console: Console::Off,
            file: Some(log.clone()),
            system_log: true,
            level: Level::Error,
            lines_per_minute: Some(2),
            machine,
            ..Outputs::default()
        };
        let reporter = Reporter::start(outputs).unwrap();
        for _ in 0..5 {
            let (subject, breach) = (samples::chrome(), samples::BREACH);
            reporter.tell(Event::Killing { subject, breach, dry_run: false });
        }
        assert!(reporter.finish(LIMIT));
        let text = fs::read_to_string(&log).unwrap();
        let killing = "Killing process: PID=12345, Name=chrome, User=john, RAM=3.50GB (21.88%)";
        let lines: Vec<_> = text.lines().map(|line| line.rsplit_once(" - ").unwrap().1).collect();
        let left_out = format!("Left out 3 more lines like this of the last minute, User=john: {killing}");
        assert_eq!(lines, [killing, killing, &left_out], "at the level of errors, too");
        let mut buffer = [0; 4096];
        let mut entries = Vec::new();
        while let Ok(length) = journald.recv(&mut buffer) {
            entries.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        let starts = format!("MESSAGE={killing}\n");
        assert_eq!(entries.iter().filter(|entry| entry.starts_with(&starts)).count(), 5, "{entries:#?}");
    }

    #[test]
    fn a_reload_changes_sinks_format_and_level_but_not_the_door() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let outputs = |file: &Path, format, level| Outputs {
            console: Console::Off,
            file: Some(file.to_owned()),
            format,
            level,
            system_log: false,
            machine: machine(folder.path()),
            ..Outputs::default()
        };
        let reporter = Reporter::start(outputs(&old, Format::Text, Level::Info)).unwrap();
        let teller = reporter.teller();
        let warning = || Event::Degraded { what: "no BTF".to_owned() };
        for _ in 0..5 {
            teller.tell(warning());
        }
        // The writer must have come to the last of these before it is replaced.
        teller.tell(scan(1));
        let start = Instant::now();
        while !fs::read_to_string(&old).is_ok_and(|text| text.contains("Scan complete")) {
            assert!(start.elapsed() < LIMIT);
            thread::sleep(Duration::from_millis(1));
        }
        reporter.replace(outputs(&new, Format::Json, Level::Warning));
        teller.tell(scan(2));
        teller.tell(warning());
        assert!(reporter.finish(LIMIT));
        let stamp = "1970-01-01 00:00:00 -";
        assert_eq!(
            fs::read_to_string(&old).unwrap(),
            format!(
                "{stamp} WARNING - Degraded: no BTF\n\
                 {stamp} INFO - Scan complete. Scanned: 1, Killed: 0\n\
                 {stamp} WARNING - Repeated 4 times: Degraded: no BTF\n"
            )
        );
        let new = fs::read_to_string(&new).unwrap();
        assert_eq!(new.lines().count(), 1, "the level holds at the door: {new}");
        assert_eq!(serde_json::from_str::<Value>(&new).unwrap()["what"], "no BTF");
    }

    #[test]
    fn telling_after_the_end_is_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        let reporter =
            Reporter::start(Outputs { console: Console::Off, machine, ..Outputs::default() }).unwrap();
        let teller = reporter.teller();
        assert!(reporter.finish(LIMIT));
        teller.tell(scan(1));
    }
}

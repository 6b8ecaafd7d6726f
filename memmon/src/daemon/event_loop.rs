//! The event loop: waits for the first of all events, and never for a single process.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Zoned;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

use crate::daemon::Options;
use crate::daemon::engine::case::Case;
use crate::daemon::engine::doubt::Doubts;
use crate::daemon::engine::growth::{CpuBudget, GrowthTracker};
use crate::daemon::engine::lazy_free::LazilyFreed;
use crate::daemon::engine::outlived::Reseeds;
use crate::daemon::engine::over_limit::OverLimit;
use crate::daemon::engine::recheck::RecheckQueue;
use crate::daemon::engine::report_once::ReportOnce;
use crate::daemon::host::fd_ready::{Readiness, readable};
use crate::daemon::host::instance::Instance;
use crate::daemon::host::memory_trim::Startup;
use crate::daemon::host::supervisor;
use crate::daemon::host::timer::{Pace, ticked};
use crate::daemon::reload::{self, Loading};
use crate::daemon::source::sources::Sources;
use crate::daemon::startup::{self, Enforceable};
use crate::daemon::status::{ScanClock, StatusBoard};
use crate::{
    config::Settings,
    enforce::{Errno, Event as Happened, Reaper, RepeatOffenders, Victims},
    model::{Bytes, ProcessId, SystemMemory},
    policy::WakeLevels,
    report::{Event, Reporter},
    status::Request,
};

/// Interval at which memmon checks victims in their grace period, and the machine's memory, also while a termination is
/// delayed.
const GRACE_WATCH: Duration = Duration::from_millis(100);

/// A practically endless wait, for a timer that has nothing to wait for.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The daemon's state.
pub(super) struct Daemon<'a> {
    pub(super) settings: Settings,
    pub(super) sources: Sources,
    pub(super) victims: Victims,
    pub(super) reaper: Reaper,
    pub(super) offenders: RepeatOffenders,
    pub(super) report_once: ReportOnce,
    pub(super) over_limit: OverLimit,
    pub(super) recheck: RecheckQueue,
    pub(super) reseeds: Reseeds,
    pub(super) doubts: Doubts,
    pub(super) lazily_freed: LazilyFreed,
    pub(super) options: Options,
    /// Whether a reload may turn `dry_run` off.
    pub(super) enforceable: Enforceable,
    /// The lock, unless this is a look beside another memmon.
    pub(super) instance: Option<&'a Instance>,
    /// The settings for victims whose termination began before the last change of settings.
    pub(super) former: HashMap<ProcessId, Rc<Settings>>,
    /// Notes about each victim that was sent a signal.
    pub(super) cases: BTreeMap<ProcessId, Case>,
    pub(super) reporter: &'a Reporter,
    pub(super) memory: SystemMemory,
    pub(super) growth: GrowthTracker,
    pub(super) budget: CpuBudget,
    /// Time to read the ring again, after the budget is used up.
    pub(super) resume: Option<Instant>,
    /// Whether a termination was delayed since the last scan.
    pub(super) lenient: bool,
    /// Number of processes that were sent SIGTERM since the last scan was reported.
    pub(super) asked_to_end: usize,
    seen: BTreeMap<Degradation, String>,
    reclaimed: mpsc::UnboundedReceiver<(ProcessId, Result<(), Errno>)>,
    pub(super) board: RefCell<StatusBoard>,
    asks: mpsc::Receiver<Request>,
}

/// The signals that memmon handles. A signal that arrives before the loop runs is kept for it.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Registers the handlers, so that no signal ends memmon at once and leaves its pin behind. The caller must have
    /// entered a runtime.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// A condition of the daemon that is reported once, and again only after it was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Degradation {
    /// The source could not be read.
    SurveyFailed,
    /// The kernel map is full.
    MapFull,
    /// Wake levels could not be set.
    NoLevels,
    /// The status socket is not available, or not to all users that it should be.
    NoStatus,
    /// The lock is not where a second memmon looks for it.
    NoLock,
    /// Reading a configuration takes long.
    LateReload,
}

impl<'a> Daemon<'a> {
    pub(super) fn new(
        options: Options,
        settings: Settings,
        sources: Sources,
        memory: SystemMemory,
        enforceable: Enforceable,
        reporter: &'a Reporter,
        (board, asks): (StatusBoard, mpsc::Receiver<Request>),
    ) -> anyhow::Result<Self> {
        let (answer, reclaimed) = mpsc::unbounded_channel();
        let reaper = Reaper::start(move |id, outcome| {
            // The receiver is gone once the daemon ends.
            let _ = answer.send((id, outcome));
        });
        let mut daemon = Self {
            victims: Victims::new(startup::timing(&settings)).context("no epoll instance for victims")?,
            reaper: reaper.context("no thread to free memory")?,
            offenders: RepeatOffenders::default(),
            report_once: ReportOnce::default(),
            over_limit: OverLimit::default(),
            recheck: RecheckQueue::default(),
            reseeds: Reseeds::default(),
            doubts: Doubts::default(),
            lazily_freed: LazilyFreed::default(),
            seen: BTreeMap::new(),
            settings,
            sources,
            options,
            enforceable,
            instance: None,
            former: HashMap::new(),
            cases: BTreeMap::new(),
            reporter,
            reclaimed,
            memory,
            // No limit is zero, so the first measurement sets the levels.
            growth: GrowthTracker::new(WakeLevels::new(Bytes::ZERO, Bytes::ZERO, None)),
            budget: CpuBudget::new(Instant::now()),
            resume: None,
            lenient: false,
            asked_to_end: 0,
            board: RefCell::new(board),
            asks,
        };
        daemon.sources.set_measure(daemon.settings.rules.measure);
        daemon.measured(memory);
        Ok(daemon)
    }

    /// Runs until a signal stops it or, for one scan, until its victims are gone.
    pub(super) async fn run(&mut self, signals: Signals, startup: &Startup) -> anyhow::Result<()> {
        let Signals { mut terminate, mut interrupt, mut hangup } = signals;
        let exits = Readiness::of(&self.victims).context("cannot wait for victims")?;
        let kernel_log = self.sources.kernel().map(|kernel| Readiness::of(&kernel.log_fd())).transpose();
        let kernel_log = kernel_log.context("cannot wait for the BPF programs' log")?;
        let drain_kernel_events =
            self.sources.kernel().map(|kernel| Readiness::of(&kernel.wake_fd())).transpose();
        let drain_kernel_events = drain_kernel_events.context("cannot wait for the kernel")?;
        let mut grace_watch = interval(GRACE_WATCH);
        let beat = supervisor::heartbeat().map(Pace::new).transpose()?;
        let mut scans = Pace::new(self.settings.check_interval)?;
        let mut loading = Loading::default();
        let rotation = self.reporter.rotation();
        let mut ready = false;

        let reason = loop {
            if self.options.once && ready && self.victims.in_flight() == 0 {
                break "one scan was asked for";
            }
            if self.follow_schedule() {
                scans = Pace::new(self.settings.check_interval)?;
            }
            let minute = self.next_minute();
            let grace = self.victims.next_deadline().unwrap_or_else(|| Instant::now() + NEVER);
            let doubt = [self.recheck.next(), self.reseeds.next()].into_iter().flatten().min();
            let doubt = doubt.unwrap_or_else(|| Instant::now() + NEVER);
            tokio::select! {
                // In this order: an end before anything new, exits before grace periods, a scan if nothing else waits.
                biased;
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = hangup.recv() => {
                    supervisor::reloading();
                    self.reporter.reopen();
                    loading.ask(&self.options, rotation.clone());
                }
                loaded = loading.loaded(&self.options, &rotation) => {
                    self.works(Degradation::LateReload);
                    if self.reload(loaded) {
                        scans = Pace::new(self.settings.check_interval)?;
                    }
                    if ready && !loading.is_under_way() {
                        supervisor::ready();
                    }
                }
                ready = readable(drain_kernel_events.as_ref()), if self.resume.is_none() => {
                    ready?;
                    self.drain_kernel_events();
                }
                () = time::sleep_until(self.resume.unwrap_or_else(Instant::now).into()), if self.resume.is_some() => {
                    self.drain_kernel_events();
                }
                _ = grace_watch.tick(), if self.in_grace() || self.lenient => {
                    self.check_graces();
                    grace_watch.reset();
                }
                ready = exits.readable() => {
                    ready?;
                    self.wake()?;
                }
                Some((id, outcome)) = self.reclaimed.recv() => {
                    let left = outcome.map(|()| self.left_after_reclaim(id));
                    let orders = self.victims.handle(id, Happened::Reclaimed(left), Instant::now());
                    self.run_orders(orders);
                }
                () = time::sleep_until(grace.into()) => self.wake()?,
                () = time::sleep(minute) => {}
                beat = ticked(beat.as_ref()) => {
                    beat?.reset()?;
                    supervisor::alive();
                }
                tick = scans.tick(), if !(self.options.once && ready) => {
                    tick?;
                    let began = ScanClock::now();
                    self.in_force();
                    self.restore_runtime_files();
                    self.scan();
                    self.board.borrow_mut().scanned(began);
                    scans.reset()?;
                    if loading.is_late() {
                        self.degraded(Degradation::LateReload, || reload::LATE_SAYS.to_owned());
                    }
                    if !ready {
                        // All code that runs repeatedly has run once by now.
                        startup.give_back();
                        self.harden();
                        supervisor::ready();
                        ready = true;
                    }
                }
                ready = readable(kernel_log.as_ref()) => {
                    ready?;
                    if let Some(kernel) = self.sources.kernel() {
                        kernel.forward_log();
                    }
                }
                Some(ask) = self.asks.recv() => self.answer(ask),
                // Last, because each recheck may take long.
                () = time::sleep_until(doubt.into()) => self.recheck_next(),
            }
        };
        supervisor::stopping();
        // Victims that have exited by now must not count as unfinished.
        self.wake()?;
        // The last log lines of the BPF programs, for one scan perhaps all of them.
        if let Some(kernel) = self.sources.kernel() {
            kernel.forward_log();
        }
        let reason = match self.victims.in_flight() {
            0 => reason.to_owned(),
            left => format!("{reason}; {left} terminations are left unfinished"),
        };
        self.tell(Event::Stopping { reason });
        Ok(())
    }

    /// The time until `[[schedule]]` may change a setting. Without a schedule no time zone is read, here as below.
    fn next_minute(&self) -> Duration {
        let schedule = &self.settings.schedule;
        let left = || schedule.next_look(&Zoned::now());
        (!schedule.windows.is_empty()).then(left).flatten().unwrap_or(NEVER)
    }

    /// Applies the settings of `[[schedule]]` for the current time. Returns whether they changed.
    fn follow_schedule(&mut self) -> bool {
        if self.settings.schedule.windows.is_empty() {
            return false;
        }
        let now = Zoned::now();
        if !self.settings.is_behind(&now) {
            return false;
        }
        let before = Rc::new(self.settings.clone());
        self.settings.follow(&now);
        self.hold_victims_to(&before);
        let Settings { rules, check_interval, .. } = &self.settings;
        let limit = self.sources.memory().map_or(rules.limits.bytes(), |memory| rules.limit(&memory).1);
        self.tell(Event::Scheduled { limit, interval: *check_interval });
        true
    }

    pub(super) fn tell(&self, event: Event) {
        self.board.borrow_mut().note(&event);
        self.reporter.tell(event);
    }

    /// Updates the metrics of the settings in force, which change with the configuration, the schedule and the memory.
    fn in_force(&self) {
        let Settings { rules, check_interval, dry_run, .. } = &self.settings;
        self.reporter.metrics().in_force(rules.limit(&self.memory).1, *check_interval, *dry_run);
    }

    /// Reports that something does not work, unless this was reported and has not been resolved since.
    pub(super) fn degraded(&mut self, what: Degradation, text: impl FnOnce() -> String) {
        if !self.seen.contains_key(&what) {
            let text = text();
            self.tell(Event::Degraded { what: text.clone() });
            self.seen.insert(what, text);
        }
    }

    /// Notes that it works: if it fails again, it is reported again.
    pub(super) fn works(&mut self, what: Degradation) {
        self.seen.remove(&what);
    }

    pub(super) fn is_seen(&self, what: Degradation) -> bool {
        self.seen.contains_key(&what)
    }

    /// The reported conditions that are not resolved.
    pub(super) fn conditions(&self) -> impl Iterator<Item = &str> {
        self.seen.values().map(String::as_str)
    }

    pub(super) fn events_lost(&self) -> u64 {
        self.reporter.lost()
    }

    /// Handles exits, and grace periods that are over.
    fn wake(&mut self) -> anyhow::Result<()> {
        // The kernel's event with the exit status comes before the pidfd is readable.
        self.drain_kernel_events();
        let orders = self.victims.wake(Instant::now()).context("cannot wait for victims")?;
        self.run_orders(orders);
        Ok(())
    }
}

/// A timer that ticks at once, and then after the same pause, counted from the last tick or reset. Missed ticks are
/// dropped.
fn interval(pause: Duration) -> time::Interval {
    let mut interval = time::interval(pause);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

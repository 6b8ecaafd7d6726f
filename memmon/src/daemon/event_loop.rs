//! The event loop: waits for the first of all events, and never for a single process. It calls the engine with the time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Zoned;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{self, MissedTickBehavior},
};

use tracing::{debug_span, field::Empty};

use crate::daemon::announcer::Announcer;
use crate::daemon::clock::Now;
use crate::daemon::conditions::Degradation;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::reports::Observer as _;
use crate::daemon::engine::state::stopped::KeptStop;
use crate::daemon::exemption_file::Stored;
use crate::daemon::exemptions::Exemptions;
use crate::daemon::host::claim::Claim;
use crate::daemon::host::fd_ready::{Readiness, readable};
use crate::daemon::host::memory_trim::Startup;
use crate::daemon::host::priority::Priority;
use crate::daemon::host::timer::{Alarm, due};
use crate::daemon::host::{oom_hardening, pressure, supervisor};
use crate::daemon::late_names::LateNames;
use crate::daemon::options::Options;
use crate::daemon::own_status::ScanClock;
use crate::daemon::reload::{self, Hangup, Loading};
use crate::daemon::samples::Sampler;
use crate::daemon::settings::Enforceable;
use crate::daemon::source::sources::Sources;
use crate::daemon::state_file::Writer;
use crate::daemon::status;
use crate::daemon::status_socket::RuntimeFiles;
use crate::daemon::stopped_file::StoppedFile;
use crate::daemon::throttler::Throttler;
use crate::{
    config::{self, Settings},
    enforce::{Errno, Reaper},
    inspect::Basis,
    model::{Capability, Gear, Lowered, ProcessId, SystemMemory},
    report::Event,
    status::{Access, PendingRequest, Request},
};

/// Time for which a single scan waits, at most, for an answer about processes that it could not judge: most answers take some
/// milliseconds, and a doubt that a process's owner can cause ends after 1.5 seconds.
const TO_DECIDE: Duration = Duration::from_secs(2);

/// Interval at which memmon checks victims in their grace period, and the machine's memory, also while a termination is
/// delayed.
const GRACE_WATCH: Duration = Duration::from_millis(100);

/// The event loop, and what it waits for beside the kernel.
pub(super) struct EventLoop<'a> {
    engine: Engine<'a>,
    announcer: &'a Announcer<'a>,
    options: Options,
    /// Whether a reload may turn `dry_run` off.
    enforceable: Enforceable,
    runtime_files: RuntimeFiles<'a>,
    reclaimed: mpsc::UnboundedReceiver<(ProcessId, Result<(), Errno>)>,
    /// Processes about which a lookup of shared memory has ended.
    answers: mpsc::UnboundedReceiver<ProcessId>,
    requests: mpsc::Receiver<PendingRequest>,
    exemptions: Exemptions,
    sampler: Sampler,
    priority: Priority,
    /// Keeps other memmons from enforcing for the same processes, unless this one is a look beside another.
    claim: Option<Arc<Claim>>,
    late_names: Option<LateNames>,
}

/// The times at which something is to be done if no event comes before.
struct Deadlines {
    /// The next scan begins.
    scan: Option<Instant>,
    /// The service manager gets the next sign of life.
    beat: Option<Instant>,
    /// Reports that wait are passed on.
    reports: Option<Instant>,
    /// Events of the kernel are handled again, after too many of them.
    resume: Option<Instant>,
    /// The next look at the machine's memory.
    machine: Option<Instant>,
    /// The next grace period ends.
    grace: Option<Instant>,
    /// `[[schedule]]` may change a setting.
    schedule: Option<Instant>,
    /// The next exemption ends.
    exemption: Option<Instant>,
    /// The next look at sums.
    sums: Option<Instant>,
    /// The next look at a process that could not be judged at once.
    recheck: Option<Instant>,
}

impl Deadlines {
    fn first(&self) -> Option<Instant> {
        let Self { scan, beat, reports, resume, machine, grace, schedule, exemption, sums, recheck } = *self;
        let all = [scan, beat, reports, resume, machine, grace, schedule, exemption, sums, recheck];
        all.into_iter().flatten().min()
    }
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

impl<'a> EventLoop<'a> {
    pub(super) fn new(
        options: Options,
        settings: Settings,
        mut sources: Sources,
        memory: SystemMemory,
        enforceable: Enforceable,
        announcer: &'a Announcer<'a>,
        (runtime_files, requests): (RuntimeFiles<'a>, mpsc::Receiver<PendingRequest>),
    ) -> anyhow::Result<Self> {
        let (answer, reclaimed) = mpsc::unbounded_channel();
        let reaper = Reaper::start(move |id, outcome| {
            // The receiver is gone once the daemon ends.
            let _ = answer.send((id, outcome));
        });
        let reaper = reaper.context("no thread to free memory")?;
        let (answered, answers) = mpsc::unbounded_channel();
        sources.on_answer(move |process| {
            let _ = answered.send(process);
        });
        let engine = Engine::new(settings, sources, memory, options.once, reaper, announcer, Now::read())?;
        let exemptions = Exemptions::none();
        Ok(Self {
            engine,
            announcer,
            options,
            enforceable,
            runtime_files,
            reclaimed,
            answers,
            requests,
            exemptions,
            sampler: Sampler::default(),
            priority: Priority::usual(),
            claim: None,
            late_names: None,
        })
    }

    /// Continues exemptions of before, and has others stored.
    pub(super) fn continue_exemptions(&mut self, (stored, writer): (Stored, Option<Writer<Stored>>)) {
        self.exemptions = Exemptions::new(stored, writer, &mut self.engine, Now::read());
    }

    /// Claims the processes that other settings may terminate before these take effect.
    pub(super) fn continue_claim(&mut self, claim: Option<Arc<Claim>>) {
        self.claim = claim;
    }

    /// Has users and groups that do not exist yet count as soon as they do.
    pub(super) fn await_names(&mut self, names: LateNames) {
        self.late_names = Some(names);
    }

    /// Has cgroups slowed down, and continues with those of before.
    pub(super) fn continue_throttles(&mut self, throttler: Throttler, left: Vec<Lowered>) {
        self.engine.continue_throttles(throttler, left, Now::read());
    }

    /// Continues with the processes that were stopped before, and has others kept.
    pub(super) fn continue_stops(&mut self, (file, left): (StoppedFile, Vec<KeptStop>)) {
        self.engine.continue_stops(file, left, Now::read());
    }

    /// Runs until a signal stops it or, for one scan, until its victims are gone.
    pub(super) async fn run(&mut self, signals: Signals, startup: &Startup) -> anyhow::Result<()> {
        let Signals { mut terminate, mut interrupt, mut hangup } = signals;
        let exits = Readiness::of(self.engine.victims()).context("cannot wait for victims")?;
        let kernel_log = self.engine.kernel().map(|kernel| Readiness::of(&kernel.log_fd())).transpose();
        let kernel_log = kernel_log.context("cannot wait for the BPF programs' log")?;
        let kernel_events = self.engine.kernel().map(|kernel| Readiness::of(&kernel.wake_fd())).transpose();
        let kernel_events = kernel_events.context("cannot wait for the kernel")?;
        let mut grace_watch = interval(GRACE_WATCH);
        let mut pressure = self.pressure();
        self.check_writers();
        let alarm = Alarm::new()?;
        let heartbeat = supervisor::heartbeat();
        let mut next_beat = heartbeat.map(|_| Instant::now());
        let mut next_scan = Instant::now();
        let mut loading = Loading::new(self.claim.clone());
        let rotation = self.announcer.rotation();
        let mut ready = false;
        let mut decided_by = None;
        if !self.engine.settings().dry_run {
            // On a busy machine the first scan, and what follows it, would take tens of milliseconds. If the system does not
            // allow it, that is reported with the other measures, after that scan.
            let _ = self.priority.raise(self.engine.settings().kernel.realtime);
        }

        let reason = loop {
            self.keep_stopped();
            self.engine.begins_to_wait();
            if self.options.once && ready && self.engine.victims().in_flight() == 0 {
                let until = *decided_by.get_or_insert_with(|| Instant::now() + TO_DECIDE);
                if self.engine.undecided() == 0 || Instant::now() >= until {
                    break "one scan was asked for";
                }
            }
            if self.follow_schedule() {
                next_scan = Instant::now();
            }
            let scan = (!(self.options.once && ready)).then_some(next_scan);
            let deadlines = Deadlines { scan, beat: next_beat, ..self.deadlines() };
            tokio::select! {
                // In this order: an end before anything new, exits before grace periods, a scan if nothing else waits.
                biased;
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = hangup.recv() => {
                    supervisor::reloading();
                    self.announcer.reopen();
                    loading.start(&self.options, rotation.clone());
                }
                loaded = loading.loaded(&self.options, &rotation) => {
                    let _unhurried = self.priority.unhurried();
                    self.announcer.works(Degradation::LateReload);
                    let asked = !matches!(loaded, Hangup::NoNews | Hangup::Edited(_));
                    if self.reload(loaded) {
                        next_scan = Instant::now();
                        pressure = self.pressure();
                        self.check_writers();
                    }
                    if asked && ready && !loading.is_under_way() {
                        supervisor::ready();
                    }
                }
                () = due(deadlines.reports) => self.announcer.pass_on_waiting(),
                ready = readable(kernel_events.as_ref()), if deadlines.resume.is_none() => {
                    ready?;
                    self.drain_kernel_events();
                }
                () = due(deadlines.resume) => {
                    self.drain_kernel_events();
                }
                _ = grace_watch.tick(), if self.engine.has_graces() => {
                    self.engine.check_graces(Now::read());
                    grace_watch.reset();
                }
                ready = readable(pressure.as_ref()) => {
                    ready?;
                    self.check_machine();
                }
                () = due(deadlines.machine) => self.check_machine(),
                ready = exits.readable() => {
                    ready?;
                    self.handle_exits()?;
                }
                Some((id, outcome)) = self.reclaimed.recv() => self.engine.reclaimed(id, outcome, Now::read()),
                Some(process) = self.answers.recv() => self.engine.answered(process, Now::read()),
                () = due(deadlines.grace) => self.handle_exits()?,
                () = due(deadlines.beat) => {
                    next_beat = heartbeat.and_then(|pause| Instant::now().checked_add(pause));
                    supervisor::alive();
                }
                () = due(deadlines.scan) => {
                    self.scan();
                    next_scan = Instant::now() + self.engine.settings().check_interval;
                    if let Some(names) = self.late_names.as_mut().filter(|_| !self.options.once)
                        && names.are_due(Instant::now())
                    {
                        loading.look_for(names.clone(), &self.options);
                    }
                    if loading.is_late() {
                        self.announcer.degraded(Degradation::LateReload, || reload::LATE.to_owned());
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
                    self.forward_kernel_log();
                }
                Some(request) = self.requests.recv() => self.answer(request),
                () = due(deadlines.exemption) => self.review_exemptions(),
                () = due(deadlines.sums) => {
                    let _unhurried = self.priority.unhurried();
                    self.engine.look_at_sums(Now::read());
                }
                // Last, because each recheck may take long.
                () = due(deadlines.recheck) => {
                    let _unhurried = self.priority.unhurried();
                    self.engine.recheck_next(Now::read());
                }
                // The next pass finds what is due, in the order above.
                rings = alarm.at(deadlines.first()) => rings?,
            }
        };
        supervisor::stopping();
        // Victims that have exited by now must not count as unfinished.
        self.handle_exits()?;
        self.keep_samples();
        // The last log lines of the BPF programs, for one scan perhaps all of them.
        self.forward_kernel_log();
        self.engine.end_throttles(Now::read());
        self.engine.finish_stops(Now::read());
        let reason = match self.engine.victims().in_flight() {
            0 => reason.to_owned(),
            left => format!("{reason}; {left} terminations are left unfinished"),
        };
        let reason = match self.engine.undecided() {
            undecided @ 1.. if self.options.once => {
                format!("{reason}; it is not known whether {undecided} processes are to be terminated")
            }
            _ => reason,
        };
        let reason = match &self.engine.stopped_now()[..] {
            [] => reason,
            stopped => {
                let pids: Vec<_> = stopped.iter().map(|process| process.pid.to_string()).collect();
                format!(
                    "{reason}; stopped processes stay stopped, to continue them: kill -CONT {}",
                    pids.join(" ")
                )
            }
        };
        self.announcer.event(Event::Stopping { reason });
        Ok(())
    }

    /// The deadlines but for those of the loop itself.
    fn deadlines(&self) -> Deadlines {
        let Self { engine, announcer, exemptions, .. } = self;
        let from_now = |wait| Instant::now().checked_add(wait);
        Deadlines {
            scan: None,
            beat: None,
            reports: announcer.next(),
            resume: engine.resume(),
            machine: engine.next_machine_look(),
            grace: engine.victims().next_deadline(),
            schedule: self.next_minute().and_then(from_now),
            exemption: exemptions.next_end(Now::read()).and_then(from_now),
            sums: engine.next_sums(),
            recheck: engine.next_recheck(),
        }
    }

    fn drain_kernel_events(&mut self) {
        let has_lost_some = self.engine.drain_kernel_events(Now::read());
        // A process on its way to its limit makes several events, and the last one must not be late.
        self.follow_load();
        if has_lost_some {
            self.scan();
        }
    }

    /// Fits the priority, and the work before a signal, to the gear and to whether a processor is idle.
    fn follow_load(&mut self) {
        self.priority.follow(self.engine.sources().gear() == Some(Gear::Calm));
        self.engine.read_ahead(self.priority.is_busy());
    }

    fn check_machine(&mut self) {
        let _unhurried = self.priority.unhurried();
        self.engine.check_machine(Now::read());
    }

    fn answer(&mut self, PendingRequest { request, answer }: PendingRequest) {
        let _unhurried = self.priority.unhurried();
        let Self { engine, announcer, exemptions, .. } = self;
        match request {
            Request::History(select) => announcer.answer_history(select, answer),
            Request::Samples(first) => announcer.answer_samples(first, answer),
            Request::Query(get) => status::answer(engine, announcer, Now::read(), get, answer),
            Request::Mine(uid) => status::answer_mine(engine, Now::read(), uid, answer),
            Request::Order(order, by) => {
                exemptions.carry_out(engine, (order, by), Now::read(), answer);
            }
        }
    }

    fn keep_stopped(&mut self) {
        match self.engine.keep_stopped(Now::read()) {
            Some(error) => self.announcer.degraded(Degradation::NoStoppedFile, || {
                format!("after a restart memmon would not know which processes it has stopped: {error}")
            }),
            None => self.announcer.works(Degradation::NoStoppedFile),
        }
    }

    fn review_exemptions(&mut self) {
        let Self { engine, announcer, exemptions, .. } = self;
        exemptions.review(engine, announcer, Now::read());
    }

    fn scan(&mut self) {
        let unhurried = self.priority.unhurried();
        let began = ScanClock::now();
        self.review_exemptions();
        self.announcer.in_force(self.engine.settings(), self.engine.limit());
        self.restore_runtime_files();
        self.engine.scan(Now::read());
        self.announcer.own_status_mut().scanned(began);
        self.keep_samples();
        drop(unhurried);
        self.follow_load();
    }

    /// Stores the processes that were judged for `memmon replay`, if there are any.
    fn keep_samples(&mut self) {
        let now = Now::read().instant();
        let judged = self.engine.take_judged();
        if judged.is_none() && self.sampler.is_idle() || !self.announcer.keeps_history() {
            return;
        }
        let Settings { rules, dry_run, .. } = self.engine.settings();
        let accuracy = self.engine.sources().accuracy();
        let basis = Basis { rules: rules.clone(), accuracy, survey: None };
        if let Some(job) = self.sampler.job(judged.unwrap_or_default(), basis, *dry_run, now) {
            self.announcer.keep_samples(job);
        }
    }

    /// Has the kernel wake memmon under pressure, if there is a `[machine]`. A missing requirement is reported.
    fn pressure(&mut self) -> Option<Readiness> {
        let trigger = self.engine.settings().machine.map(|_| pressure::trigger());
        self.engine.woken_by_pressure(matches!(trigger, Some(Ok(_))));
        self.announcer.works(Degradation::NoPressure);
        match trigger? {
            Ok(trigger) => Some(trigger),
            Err(error) => {
                self.announcer.degraded(Degradation::NoPressure, || {
                    format!("the kernel does not wake memmon when processes wait for memory, so that memmon looks each second: {error}")
                });
                None
            }
        }
    }

    /// Reports it if `[machine]` cannot find the processes that write files in memory.
    fn check_writers(&self) {
        let is_on = self.engine.settings().machine.is_some();
        let missing = is_on.then(|| self.engine.sources().missing_for_writers()).flatten();
        let Some(missing) = missing else { return self.announcer.works(Degradation::NoWriters) };
        self.announcer.degraded(Degradation::NoWriters, || {
            let since = if missing == Capability::DAC_READ_SEARCH { "before Linux 5.14 " } else { "" };
            format!(
                "memmon does not find the processes that fill memory with files (tmpfs), to name or stop them: {since}this \
                 needs {missing}, by a drop-in with CapabilityBoundingSet={missing}"
            )
        });
    }

    fn handle_exits(&mut self) -> anyhow::Result<()> {
        self.drain_kernel_events();
        self.engine.handle_exits(Now::read()).context("cannot wait for victims")
    }

    fn forward_kernel_log(&mut self) {
        if let Some(kernel) = self.engine.kernel() {
            kernel.forward_log();
        }
    }

    /// Applies another configuration, and returns whether it was applied.
    fn reload(&mut self, hangup: Hangup) -> bool {
        let span = debug_span!("reload", applied = Empty);
        let _entered = span.enter();
        let Settings { dry_run: was_dry_run, kernel: config::Kernel { realtime: was_realtime, .. }, .. } =
            *self.engine.settings();
        let Self { engine, announcer, options, enforceable, .. } = self;
        let names = match &hangup {
            Hangup::Loaded(loaded) => loaded.as_ref().as_ref().ok().map(LateNames::of),
            Hangup::Rotated | Hangup::NoNews | Hangup::Edited(_) => None,
        };
        let applied = reload::apply(engine, announcer, hangup, Now::read(), |settings| {
            // A single dry-run scan stays one: it has not taken the lock that enforcing needs.
            settings.dry_run |= options.once && was_dry_run;
            enforceable.allows(settings)
        });
        span.record("applied", applied);
        // The former settings, if these were refused after all.
        if let Some(Err(error)) = self.claim.as_ref().map(|claim| claim.settle(self.engine.settings())) {
            self.announcer.event(Event::Degraded { what: error.to_string() });
        }
        if applied {
            self.late_names = names;
            self.restore_runtime_files();
            self.runtime_files.admit(access(self.engine.settings()), self.announcer);
        }
        if applied && (was_dry_run || self.engine.settings().kernel.realtime != was_realtime) {
            self.harden();
        }
        applied
    }

    fn restore_runtime_files(&mut self) {
        self.runtime_files.restore(access(self.engine.settings()), self.announcer);
    }

    /// Hardens memmon before it enforces, or again after a setting of it has changed, and reports each measure that failed, but
    /// not twice. Does nothing in dry run.
    fn harden(&mut self) {
        let settings = self.engine.settings();
        if settings.dry_run {
            return;
        }
        let realtime = settings.kernel.realtime;
        let mut missing = oom_hardening::harden();
        missing.extend(self.priority.raise(realtime));
        self.follow_load();
        self.engine.warm_up(Now::read());
        let news = self.announcer.own_status_mut().hardened(missing);
        for what in news {
            self.announcer.event(Event::Degraded { what });
        }
    }

    /// The time until `[[schedule]]` may change a setting. Without a schedule no time zone is read, here as below.
    fn next_minute(&self) -> Option<Duration> {
        let schedule = &self.engine.settings().schedule;
        let left = || schedule.next_look(&Zoned::now());
        (!schedule.windows.is_empty()).then(left).flatten()
    }

    /// Puts the settings of `[[schedule]]` for the current time into force. Returns whether they changed.
    fn follow_schedule(&mut self) -> bool {
        let has_schedule = !self.engine.settings().schedule.windows.is_empty();
        has_schedule && self.engine.follow_schedule(&Zoned::now())
    }
}

/// The access to the status socket that `settings` grant.
pub(super) const fn access(settings: &Settings) -> Access {
    let config::Status { gid, exempt, mine, group: _ } = &settings.status;
    Access { group: *gid, group_may_exempt: *exempt, mine: *mine }
}

/// A timer that ticks at once, and then after the same pause, counted from the last tick or reset. Missed ticks are
/// dropped.
fn interval(pause: Duration) -> time::Interval {
    let mut interval = time::interval(pause);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

//! A machine that is short of memory: `[machine]`. One process ends at a time, and memmon looks again when its memory is
//! back. The process is looked at once more before each signal, like every victim; it must still come first then.

use std::time::{Duration, Instant};

use tracing::{debug, debug_span};

use crate::daemon::clock::Now;
use crate::daemon::conditions::Degradation;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::machine::{PATIENCE, Stage};
use crate::daemon::engine::state::report_once::Condition;
use crate::daemon::engine::terminate::Seen;
use crate::daemon::source::WatchedMemory;
use crate::enforce::Phase;
use crate::model::{
    Bytes, Elsewhere, Fact, MachineMemory, Measure, Name, Process, ProcessId, Reading, Reason, Signal,
    SystemMemory, Unconfirmed, Verdict,
};
use crate::policy::{
    self,
    machine::{
        self, Baseline, Candidate, Candidates, Lost, MachineLimits, Mark, Moment, Order, Place, Shortage,
        Standing,
    },
};
use crate::report::Event;

/// Maximum number of processes that are confirmed for one choice: those that have grown most.
const MOST: usize = 256;

/// An idle process counts for its unit if it holds at least this share of all memory: a percent.
const WORTH_A_LOOK: u64 = 100;

/// A file in memory is a cause of the shortage if it has this share of what is missing: a quarter.
pub(super) const LEAST_FILE: u64 = 4;

/// The longest pause between two looks, in intervals between scans: a scan looks as well, and begins the pause again.
const BEYOND_A_SCAN: f64 = 1.5;

/// The longest pause between two looks if the kernel does not wake memmon under pressure.
const WITHOUT_PRESSURE: Duration = Duration::from_secs(1);

/// The order in which processes end, and what it follows from.
pub(super) struct Choice {
    candidates: Candidates,
    lost: Lost,
    pub(super) order: Order,
    /// The time since the machine was well.
    pub(super) within: Duration,
    /// The growth of memory that no process has.
    elsewhere: Elsewhere,
}

impl Choice {
    /// The candidate that has this place.
    pub(super) fn process(&self, place: &Place) -> Option<&Process> {
        let mut processes = self.candidates.grown.iter().map(|candidate| &candidate.process);
        processes.find(|process| process.id == place.process)
    }
}

impl Engine<'_> {
    /// The time at which [`Engine::check_machine`] is due.
    pub(crate) const fn next_machine_look(&self) -> Option<Instant> {
        self.machine.next()
    }

    /// Notes whether the kernel wakes memmon when processes wait for memory.
    pub(crate) const fn woken_by_pressure(&mut self, is_woken: bool) {
        self.machine.is_woken_by_pressure = is_woken;
    }

    /// After a scan that `began` then: if the machine is well, the present memory of processes becomes the baseline. `seen` is
    /// the machine's memory at the beginning of the scan; if it is short, only a look now says whether it still is.
    pub(super) fn note_machine(
        &mut self,
        mut readings: Vec<Reading>,
        began: Moment,
        seen: Option<MachineMemory>,
        now: Now,
    ) {
        let Some(limits) = self.settings.current().machine else { return };
        self.sources.find_limited_cgroups(now.instant());
        let seen = seen.map(|machine| self.sources.watched(machine));
        let well = seen.filter(|watched| limits.is_well(&watched.memory));
        let Some(mut watched) = well.or_else(|| self.sources.machine_memory().ok()) else { return };
        let machine = watched.memory;
        if self.machine.baseline.is_none() || limits.is_well(&machine) {
            self.sources.add_swap(&mut readings, &machine);
            self.machine.marks = machine::Marks::default();
            self.machine.baseline = Some(
                // A process that began since the readings were taken is younger than these, and has grown by all that it has.
                Baseline::new(began, machine, readings).with_limits(std::mem::take(&mut watched.limits)),
            );
        }
        self.judge_machine(&limits, watched, now);
    }

    /// Looks at the machine's memory. If it is short, the process that comes first ends.
    pub(crate) fn check_machine(&mut self, now: Now) {
        let Some(limits) = self.settings.current().machine else {
            self.machine.stop();
            return;
        };
        match self.sources.machine_memory() {
            Ok(watched) => self.judge_machine(&limits, watched, now),
            Err(_) => self.machine.wait_for_culprit(now.instant()),
        }
    }

    fn judge_machine(&mut self, limits: &MachineLimits, watched: WatchedMemory, now: Now) {
        let WatchedMemory { memory: machine, cgroup, .. } = watched;
        self.machine.is_within_cgroup = cgroup.is_some();
        if limits.is_under_pressure(&machine) && machine.swap_total > Bytes::ZERO {
            self.machine.swapping.note(self.sources.proc().paging(), now.instant());
        }
        let machine = self.machine.judged(machine, now.instant());
        self.mark_growth(limits, &machine, now);
        match limits.shortage(&machine) {
            Shortage::Calm => self.machine_is_calm(limits, &machine, now),
            Shortage::Warn(reasons) => {
                if self.report_shortage(Stage::Warned, machine, cgroup, &reasons, now) && limits.stop_writers
                {
                    self.expect_writers(&machine);
                }
            }
            Shortage::Act(reasons) => {
                self.report_shortage(Stage::Acts, machine, cgroup, &reasons, now);
                if self.awaits_memory(&machine.memory, now.instant()) {
                    self.machine.wait_for_victim(now.instant());
                } else {
                    self.relieve(limits, &machine, &reasons, now);
                }
                return;
            }
        }
        self.look_at_machine_again(limits, &machine, now);
    }

    /// Notes now and then by how much processes have grown since the machine was well.
    fn mark_growth(&mut self, limits: &MachineLimits, machine: &MachineMemory, now: Now) {
        let Some(baseline) = &self.machine.baseline else { return };
        if limits.is_well(machine) || !self.machine.marks.is_due(baseline, now.moment()) {
            return;
        }
        let Ok(mut readings) = self.sources.readings() else { return };
        self.sources.add_swap(&mut readings, machine);
        self.machine.marks.add(baseline, machine, &readings, now.moment());
    }

    fn machine_is_calm(&mut self, limits: &MachineLimits, machine: &MachineMemory, now: Now) {
        // A machine that swings around a level makes one report.
        if limits.is_well(machine)
            && let Some(lasted) = self.machine.recovered(now.instant())
        {
            self.reports.emit(Event::MemoryBack { memory: machine.memory, lasted });
        }
    }

    /// Reports that a stage is reached. Returns whether it was.
    fn report_shortage(
        &mut self,
        stage: Stage,
        machine: MachineMemory,
        cgroup: Option<Name>,
        reasons: &[Reason],
        now: Now,
    ) -> bool {
        let is_news = self.machine.reaches(stage, now.instant());
        if is_news {
            let reasons = reasons.to_vec();
            self.reports.emit(Event::MemoryLow { machine, cgroup, reasons, acts: stage == Stage::Acts });
        }
        is_news
    }

    /// The next look comes before half of the memory up to the next level can be gone.
    fn look_at_machine_again(&mut self, limits: &MachineLimits, machine: &MachineMemory, now: Now) {
        let fall = self.machine.fall(machine.memory.available, now.instant());
        let growth: f64 = self.growth_rates(now).iter().map(|(_, rate)| rate.bytes_per_second).sum();
        let (total, interval) = (machine.memory.total, self.settings.current().check_interval);
        let (longest, least) = if self.machine.is_woken_by_pressure && !self.machine.is_within_cgroup {
            (interval.mul_f64(BEYOND_A_SCAN), machine::unforeseen(total, limits.stop_writers))
        } else {
            (WITHOUT_PRESSURE.min(interval), machine::unseen(total, limits.stop_writers))
        };
        let rate = fall.max(growth).max(least);
        let pause = machine::pause(limits.room(machine), rate, longest);
        self.machine.look_again_after(pause, now.instant());
    }

    /// Whether memmon still waits for the memory of a victim, whatever the reason for its end is.
    fn awaits_memory(&mut self, memory: &SystemMemory, now: Instant) -> bool {
        let (mut confirming, usual) = (Vec::new(), self.settings.timing().grace);
        let Self { terminations, machine, .. } = self;
        let comes_back = terminations.victims.iter().any(|(process, phase)| match phase {
            // Neither has been sent its signal yet; without a descriptor, another one could not be opened either.
            Phase::Confirming | Phase::Unopened => {
                confirming.push(process.id);
                false
            }
            // The machine does not wait for the longer grace that a rule gives a process.
            Phase::Grace { since, .. } => {
                machine.is_victim(process.id) || now.saturating_duration_since(since) < usual
            }
            Phase::Killed { since } => machine.awaits_killed(since, memory, now),
            Phase::OutOfReach => false,
        });
        comes_back || machine.confirming_for(&confirming, now).is_some_and(|since| since < PATIENCE)
    }

    /// Ends the process that comes first.
    fn relieve(&mut self, limits: &MachineLimits, machine: &MachineMemory, reasons: &[Reason], now: Now) {
        let _entered = debug_span!("relieve", available = machine.memory.available.0).entered();
        // The process that ends is reported with the pause that follows.
        self.machine.wait_for_victim(now.instant());
        let readings = match self.sources.readings() {
            Ok(readings) => readings,
            Err(error) => {
                self.reports.degraded(Degradation::SurveyFailed, || format!("nothing was scanned: {error}"));
                self.machine.wait_for_culprit(now.instant());
                return;
            }
        };
        let Some(choice) = self.choose(readings, machine, now) else { return };
        debug!(candidates = choice.candidates.grown.len(), first = ?choice.order.first(), "an order");
        let Some(place) = choice.order.first() else {
            self.machine.wait_for_culprit(now.instant());
            self.leave_all(limits, machine, &choice, now);
            return;
        };
        if self.settings.current().dry_run {
            self.machine.wait_for_culprit(now.instant());
            self.show_culprits(limits, machine, reasons, &choice, now);
            return;
        }
        let Some(process) = choice.process(place).cloned() else { return };
        let Verdict::Terminate(breach) = choice.order.verdict(&process, machine) else { return };
        self.report_culprit(&process, place, choice.within, reasons, now);
        let Self { machine: state, terminations, .. } = self;
        state.keep_victims(|victim| terminations.contains(victim));
        self.machine.chose(process.id, choice.candidates, choice.lost);
        self.start_termination(process, breach, None, None, now);
    }

    /// The order in which processes would end now; `None` before the first scan.
    pub(super) fn choose(
        &mut self,
        mut readings: Vec<Reading>,
        machine: &MachineMemory,
        now: Now,
    ) -> Option<Choice> {
        let baseline = self.machine.baseline.take()?;
        self.sources.add_swap(&mut readings, machine);
        let candidates = self.growers(&baseline, machine, &readings, now);
        let lost = self.machine.marks.lost(&baseline, machine, now.moment());
        let order = machine::order(self.settings.rules(), machine, lost, &candidates);
        let within = now.since_boot().saturating_sub(baseline.at().since_boot);
        let elsewhere = grown(&baseline.of_limit(machine).elsewhere, &machine.elsewhere);
        self.machine.baseline = Some(baseline);
        Some(Choice { candidates, lost, order, within, elsewhere })
    }

    /// No process ends: reports that, and stops one that writes files in memory.
    fn leave_all(&mut self, limits: &MachineLimits, machine: &MachineMemory, choice: &Choice, now: Now) {
        let Choice { candidates: _, lost, ref order, within, elsewhere } = *choice;
        // One that could not be signalled a moment ago may be chosen again.
        let is_news = !self.machine.leaves_any_alone(now.instant())
            && self.machine.reaches(Stage::Helpless, now.instant());
        // As long as the shortage lasts: the next process may write the next file.
        if !self.machine.searches_writers(is_news || limits.stop_writers, now.instant()) {
            return;
        }
        let least = Bytes(lost.bytes.0 / LEAST_FILE);
        let writers = self.memory_writers(least, &elsewhere, machine);
        if limits.stop_writers && !writers.is_empty() {
            self.stop_writer(&writers, least, machine, now);
        }
        if self.machine.names_writers(&writers) || is_news {
            let file_systems = self.sources.proc().memory_files();
            let (lost, grown) = (order.lost, order.grown);
            self.reports.emit(Event::NoCulprit { lost, grown, within, elsewhere, file_systems, writers });
        }
    }

    /// Reports the processes that would end if this were no dry run.
    fn show_culprits(
        &mut self,
        limits: &MachineLimits,
        machine: &MachineMemory,
        reasons: &[Reason],
        choice: &Choice,
        now: Now,
    ) {
        for place in choice.order.enough(limits.needed(machine).max(Bytes(1))) {
            let Some(process) = choice.process(place) else { continue };
            if self.reports.first_time(place.process, Condition::WouldEnd) {
                self.report_culprit(process, place, choice.within, reasons, now);
                if let Verdict::Terminate(breach) = alone(&choice.order, place).verdict(process, machine) {
                    let subject = self.subject(process, now);
                    let (signal, dry_run) = (Signal::Term, true);
                    self.reports.emit(Event::Killing { subject, breach, signal, dry_run, sum: None });
                }
            }
        }
    }

    fn report_culprit(
        &self,
        process: &Process,
        place: &Place,
        within: Duration,
        reasons: &[Reason],
        now: Now,
    ) {
        let Standing::Ends { culprit, preferred } = &place.standing else { return };
        self.reports.emit(Event::Culprit {
            subject: self.subject(process, now),
            culprit: culprit.clone(),
            preferred: *preferred,
            gives_back: place.gives_back,
            growth: place.growth,
            within,
            reasons: reasons.to_vec(),
            dry_run: self.settings.current().dry_run,
        });
    }

    /// The processes that have grown most since `baseline`, confirmed, and what the units of others held. One that could not
    /// be confirmed is none of them.
    pub(super) fn growers(
        &mut self,
        baseline: &Baseline,
        machine: &MachineMemory,
        readings: &[Reading],
        now: Now,
    ) -> Candidates {
        let half = self.machine.marks.half(baseline, machine, now.moment()).cloned();
        let growth = |reading: &Reading| (baseline.growth_of_pid(reading), *reading);
        let (grown, idle): (Vec<_>, Vec<_>) =
            readings.iter().map(growth).partition(|(growth, _)| growth.total() >= Bytes(Bytes::MIB));
        let mut candidates = Candidates::default();
        let (grown, others) = machine::most_grown(grown, MOST);
        for (machine::Growth { private, .. }, reading) in others {
            let counts = half.as_ref().map_or(private, |half| half.weighed(&reading, private));
            let inherited = self.sources.most_inherited(reading.pid, reading.start);
            candidates.add_other(counts, inherited.unwrap_or_default());
        }
        for (_, reading) in grown {
            self.add_candidate(&mut candidates, baseline, half.as_ref(), reading, now);
        }
        let worth_a_look = Bytes(baseline.machine().memory.total.0 / WORTH_A_LOOK);
        for (_, reading @ Reading { pid, start, held, .. }) in idle {
            if held < worth_a_look {
                continue;
            }
            let Ok(process) = self.sources.confirm(pid, start, Bytes::MAX) else { continue };
            if self.settings.rules().decisive(&process).is_some_and(|rule| rule.prefer) {
                self.add_candidate(&mut candidates, baseline, half.as_ref(), reading, now);
            } else if let Some(unit) = machine::blame::service(&process) {
                let sum = candidates.idle.entry(unit).or_default();
                *sum = *sum + held;
            }
        }
        candidates
    }

    fn add_candidate(
        &mut self,
        all: &mut Candidates,
        baseline: &Baseline,
        half: Option<&Mark>,
        reading: Reading,
        now: Now,
    ) {
        let Ok(mut process) = self.with_its_memory(reading) else { return };
        // The first was sent a signal already, and stays.
        if self.terminations.contains(process.id) || self.machine.leaves_alone(process.id, now.instant()) {
            return;
        }
        self.end_old_doubts(&mut process, now);
        let machine::Growth { private: growth, shared: shared_growth, before } =
            baseline.growth(&reading, process.id.start);
        let early = half.map(|half| half.growth(process.id.pid, process.id.start));
        let machine::Growth { private: early, shared: shared_early, .. } = early.unwrap_or_default();
        all.grown.push(Candidate { process, growth, shared_growth, early, shared_early, before });
    }

    /// A doubt that its owner can cause, and that has lasted too long, protects a process no longer.
    fn end_old_doubts(&mut self, process: &mut Process, now: Now) {
        let memory = self.settings.memory();
        let verdict = policy::judge_as_over(self.settings.rules(), process, &memory);
        self.settle(process, verdict, now, |settings, process| {
            policy::judge_as_over(settings.rules(), process, &memory)
        });
    }

    /// A process as /proc shows it, with the memory that its end gives back.
    fn with_its_memory(&self, reading: Reading) -> Result<Process, Unconfirmed> {
        let process = self.sources.confirm(reading.pid, reading.start, Bytes(Bytes::MIB))?;
        let Some(holdings) = &process.holdings else { return Ok(process) };
        // The part of its shared memory that comes back is looked up only if a limit depends on it.
        let parts = holdings.parts;
        if parts.shmem < Bytes(Bytes::MIB) || holdings.shared != Fact::Absent {
            return Ok(process);
        }
        let limit = (parts.anon + parts.shmem + parts.swap).min(process.rss).times(0.95);
        let depends = Measure::least_charged(limit) > parts.anon + parts.swap;
        if !depends {
            return Ok(process);
        }
        let again = self.sources.confirm(reading.pid, Some(process.id.start), limit)?;
        Ok(if again.holdings.is_some() { again } else { process })
    }

    /// The result of /proc and policy for a process that ends for the machine, right before a signal.
    pub(super) fn look_again_for_machine(&mut self, victim: &Process, now: Now) -> Seen {
        let ProcessId { pid, start } = victim.id;
        let Ok(WatchedMemory { memory: machine, .. }) = self.sources.machine_memory() else {
            let error = "unreadable, and without it no shortage is known".to_owned();
            return Seen::nothing(Unconfirmed::Unreadable { file: "/proc/meminfo", error });
        };
        let machine = self.machine.judged(machine, now.instant());
        let reading = Reading {
            pid,
            start: Some(start),
            rss: victim.rss,
            held: victim.rss,
            shmem: Bytes::ZERO,
            error: Bytes::ZERO,
        };
        let mut found = match self.with_its_memory(reading) {
            Ok(found) => found,
            Err(why) => return Seen::nothing(why),
        };
        self.end_old_doubts(&mut found, now);
        let limits = self.settings.current().machine;
        let acts = limits.is_some_and(|limits| matches!(limits.shortage(&machine), Shortage::Act(_)));
        let verdict = if acts {
            let (candidates, lost) = self.machine.chosen_with(&found);
            machine::order(self.settings.rules(), &machine, lost, &candidates).verdict(&found, &machine)
        } else {
            Verdict::Within
        };
        debug!(?verdict, "a second look for the machine");
        // It has no limit that a report could name.
        Seen::judged(victim.id, found, verdict, Bytes::ZERO)
    }
}

/// The order without the processes before `place`, as if these had ended.
fn alone(order: &Order, place: &Place) -> Order {
    let places = order.places.iter().skip_while(|other| *other != place).cloned().collect();
    Order { places, ..*order }
}

/// The growth of each kind.
pub(super) const fn grown(was: &Elsewhere, is: &Elsewhere) -> Elsewhere {
    Elsewhere {
        shmem: is.shmem.saturating_sub(was.shmem),
        slab: is.slab.saturating_sub(was.slab),
        hugetlb: is.hugetlb.saturating_sub(was.hugetlb),
    }
}

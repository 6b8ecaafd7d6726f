//! The way of the data, once: survey → suspects → a close look → verdicts → condemned.

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use crate::daemon::engine::over_limit::Stays;
use crate::daemon::engine::report_once::Condition;
use crate::daemon::engine::wake::monotonic;
use crate::daemon::event_loop::{Daemon, Degradation};
use crate::{
    enforce::{Check, OpenedProcess, urgent_above},
    model::{
        Bytes, Crossed, Doubt, Pid, Process, ProcessId, Reading, Snapshot, StartTime, SystemMemory,
        Unconfirmed, Verdict,
    },
    observe::merge::disagreement,
    policy::{self, WakeLevels},
    report::Event,
};

/// When a process is to be looked at next, beside the scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum NextWake {
    /// When it has so much.
    Level(Bytes),
    /// More memory changes nothing about it.
    Never,
}

impl Daemon<'_> {
    /// One scan, from its first log line to its last.
    pub(in crate::daemon) fn scan(&mut self) {
        let begun = Instant::now();
        let look = match self.sources.survey(begun) {
            Ok(look) => look,
            Err(error) => {
                return self.degraded(Degradation::SurveyFailed, || format!("nothing was scanned: {error}"));
            }
        };
        self.works(Degradation::SurveyFailed);
        let memory = look.survey.memory;
        self.tell(Event::SystemMemory { memory });
        if look.map_full {
            self.degraded(Degradation::MapFull, || {
                "the kernel map has no room for every process, so that scans read /proc as well: raise \
                 kernel.max_processes"
                    .to_owned()
            });
        } else {
            self.works(Degradation::MapFull);
        }
        if look.defects.missed + look.defects.stale > 0 {
            self.tell(Event::MapDefect { missed: look.defects.missed, stale: look.defects.stale });
        }
        self.measured(memory);
        let climbing = self.note(&look.survey.readings);
        let suspects = policy::suspects(&self.settings.rules, &look.survey);
        self.lenient = false;
        self.judge(memory, &suspects);
        self.lower_wake_levels(&climbing);
        self.report_once.scan_complete();
        let seen: HashSet<Pid> = look.survey.readings.iter().map(|reading| reading.pid).collect();
        self.over_limit.scan_complete(|process| seen.contains(&process.pid));
        self.lazily_freed.keep(|whom| self.victims.contains(whom) || seen.contains(&whom.pid));
        self.report_dry_run_day();
        // Those whom a wake has found since the last scan, too: who adds these figures up has them all.
        let killed = std::mem::take(&mut self.asked_to_end);
        self.count(begun.elapsed());
        self.tell(Event::ScanComplete { scanned: look.survey.readings.len(), killed });
    }

    /// Notes what a scan took, and how the kernel map is.
    fn count(&mut self, took: Duration) {
        let metrics = self.reporter.metrics();
        metrics.scanned(took);
        if let Some(map) = self.sources.kernel().and_then(|kernel| kernel.figures()) {
            metrics.map(map);
        }
    }

    /// The machine's memory may have changed (hotplug, ballooning), and with it the limit and every level.
    pub(in crate::daemon) fn measured(&mut self, memory: SystemMemory) {
        self.memory = memory;
        if self.ladder() != self.growth.ladder || self.is_seen(Degradation::NoLevels) {
            self.reset_wake_levels();
        }
    }

    fn ladder(&self) -> WakeLevels {
        let (_, limit) = self.settings.rules.limit(&self.memory);
        WakeLevels::new(limit, self.sources.error(), self.settings.warn_at_percent)
    }

    /// Has the kernel wake memmon at other levels, or at the same ones for other reasons.
    pub(in crate::daemon) fn reset_wake_levels(&mut self) {
        self.growth.move_to(self.ladder());
        let foot = self.settings.kernel.instant.then(|| self.growth.ladder.lowest());
        if let Some(kernel) = self.sources.kernel()
            && let Err(error) = kernel.set_default_level(foot)
        {
            self.degraded(Degradation::NoLevels, || {
                format!("the kernel does not wake memmon, scans are all there is: {error}")
            });
            return;
        }
        self.works(Degradation::NoLevels);
        // Those with a level of their own: it came from limits, and from a verdict, that may be others by now.
        for whom in self.growth.all() {
            if !self.victims.contains(whom) {
                self.reset_wake_level(whom);
            }
        }
    }

    /// Keeps the readings of those who climb, for their slope, and warns of those near their limit. Gives who climbs.
    fn note(&mut self, readings: &[Reading]) -> BTreeSet<ProcessId> {
        let (now, foot) = (monotonic(), self.growth.ladder.lowest());
        let mut climbing = BTreeSet::new();
        for Reading { pid, start, rss, .. } in readings.iter().filter(|reading| reading.rss >= foot) {
            // A /proc pass does not know who has a pid, and few get this far.
            let start = start.or_else(|| Some(self.sources.confirm(*pid, None, Bytes::MAX).ok()?.id.start));
            let Some(start) = start else { continue };
            let whom = ProcessId { pid: *pid, start };
            self.growth.note(whom, now, *rss);
            self.warn(whom, *rss);
            climbing.insert(whom);
        }
        climbing
    }

    /// Looks closely at `suspects` and condemns those that policy condemns.
    fn judge(&mut self, memory: SystemMemory, suspects: &[Reading]) {
        let (_, limit) = self.settings.rules.limit(&memory);
        let confirmed = suspects.iter().filter_map(|reading| {
            if self.is_left_to_elder(reading) {
                return None;
            }
            Some((reading.rss, self.confirm(reading, limit)?))
        });
        let (readings, processes): (Vec<Bytes>, Vec<Process>) = confirmed.unzip();
        let snapshot = Snapshot { memory, processes };
        let verdicts = policy::decide(&self.settings.rules, &snapshot);
        let verdicts: Vec<_> = verdicts.into_iter().map(|(_, verdict)| verdict).collect();
        for ((mut process, verdict), rss) in snapshot.processes.into_iter().zip(verdicts).zip(readings) {
            let whom = process.id;
            let verdict = self.settle(&mut process, verdict, |daemon, process| {
                policy::judge(&daemon.settings.rules, process, &memory)
            });
            let next = self.act_on(process, verdict, rss, None, None);
            if self.settings.kernel.instant {
                self.set_level(whom, next);
            }
        }
    }

    /// Does what a verdict asks for: tells it, or has the process terminated, at once if it is held already. Gives when
    /// to look at it next, by the kernel's counters, which have `rss` for it.
    pub(in crate::daemon) fn act_on(
        &mut self,
        process: Process,
        verdict: Verdict,
        rss: Bytes,
        held: Option<OpenedProcess>,
        crossed: Option<Crossed>,
    ) -> NextWake {
        let whom = process.id;
        let freed = self.lazily_freed.of(whom);
        let next = self.growth.ladder.next_below_limit(rss.saturating_sub(freed), process.rss);
        let closer = NextWake::Level(freed + next);
        match verdict {
            Verdict::Within => closer,
            Verdict::Inherits(inherited) => self.leave_to_elder(whom, rss, inherited),
            Verdict::Uncharged(uncharged) => self.leave_uncharged(&process, uncharged, rss, crossed),
            Verdict::Protected(protection) => {
                let (_, limit) = self.settings.rules.limit(&self.memory);
                if self.over_limit.note(&process, limit, Stays::Protected(protection.clone())) {
                    let subject = self.subject(&process);
                    self.tell(Event::OverButProtected { subject, rss: process.rss, limit, protection });
                }
                NextWake::Never
            }
            Verdict::Unsure(doubt) => {
                let next = if doubt.is_transient() {
                    self.recheck.note(whom.pid, Some(whom.start), crossed, Instant::now());
                    NextWake::Never
                } else {
                    closer
                };
                // A lookup that is under way is a step, and no trouble yet.
                if doubt != Doubt::SharedMemoryUnknown
                    && self.report_once.first_time(process.id, Condition::Unsure)
                {
                    self.tell(Event::Unsure { subject: self.subject(&process), doubt });
                }
                next
            }
            Verdict::Terminate(breach) if self.settings.dry_run => {
                self.over_limit.note(&process, breach.limit, Stays::DryRun(breach));
                if self.report_once.first_time(process.id, Condition::WouldTerminate) {
                    self.tell(Event::Killing { subject: self.subject(&process), breach, dry_run: true });
                }
                NextWake::Never
            }
            Verdict::Terminate(breach)
                if !self.victims.contains(whom) && self.is_held_back(&process, &breach) =>
            {
                // Ever closer to where it waits no longer, and never at what it has already: who looked there would
                // look without end.
                let most = WakeLevels::new(urgent_above(breach.limit), process.error, None);
                NextWake::Level(most.next_below_limit(rss, process.rss))
            }
            Verdict::Terminate(breach) => {
                // Before any signal, as its end may be quick: the kernel tells how somebody ended who has crossed, or has a
                // level of its own. Without one the record is short of that.
                if crossed.is_none()
                    && let Some(kernel) = self.sources.kernel()
                {
                    let _ = kernel.set_level(whom, None);
                }
                let now = Instant::now();
                let orders = match held {
                    None => self.victims.start_termination(process, breach, now),
                    Some(held) => match Check::judged(process.id, &process, verdict, breach.limit) {
                        Check::StillOver(evidence) => {
                            self.victims.start_opened(held, process, evidence, crossed, now)
                        }
                        _ => return NextWake::Never,
                    },
                };
                self.run_orders(orders);
                if self.victims.contains(whom) { self.at_ceiling(whom) } else { closer }
            }
        }
    }

    /// To look again when a process reaches its ceiling.
    fn at_ceiling(&self, whom: ProcessId) -> NextWake {
        self.ceiling(whom)
            .map_or(NextWake::Never, |ceiling| NextWake::Level(ceiling.saturating_sub(self.sources.error())))
    }

    /// A suspect as /proc has it; none if it cannot be confirmed, which is said where it is not everyday life.
    fn confirm(&mut self, reading: &Reading, limit: Bytes) -> Option<Process> {
        match self.sources.confirm(reading.pid, reading.start, limit) {
            Ok(mut process) => {
                self.compare(reading, &process);
                self.take_off_freed(&mut process, limit);
                Some(process)
            }
            Err(why) => {
                self.unconfirmed((reading.pid, reading.start), None, why);
                None
            }
        }
    }

    /// Says why one could not be confirmed, where that is not everyday life. It is looked at again if that may help.
    pub(in crate::daemon) fn unconfirmed(
        &mut self,
        (pid, start): (Pid, Option<StartTime>),
        crossed: Option<Crossed>,
        why: Unconfirmed,
    ) {
        if why.is_transient() {
            self.recheck.note(pid, start, crossed, Instant::now());
        }
        // It ended, or it shows the memory of another process, which is looked at itself.
        if !matches!(why, Unconfirmed::Gone | Unconfirmed::Borrowed { .. }) {
            self.tell(Event::Unconfirmed { pid, why });
        }
    }

    /// Says where the kernel map is wrong about a process that stands still: one that was read before and after the
    /// close look, and was off in the same direction both times.
    fn compare(&mut self, before: &Reading, exact: &Process) {
        let Some(differ) = disagreement(before, exact) else { return };
        let Some(after) = self.sources.again(exact.id) else { return };
        let below = differ.map < exact.rss;
        let repeats = disagreement(&after, exact).is_some_and(|again| (again.map < exact.rss) == below);
        if repeats && self.report_once.first_time(exact.id, Condition::Disagreement) {
            self.tell(Event::Disagreement {
                id: differ.id,
                map: differ.map,
                exact: differ.exact,
                error: differ.allowed,
            });
        }
    }
}

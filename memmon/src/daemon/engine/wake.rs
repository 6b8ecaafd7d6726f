//! Woken by the kernel: what a process that crosses its level costs, and what becomes of it.
//!
//! A crossing below the top of the ladder is a reading for its slope and the next level. At the top the process is
//! opened, looked at once, closely, and judged: that one look, after the pidfd, is what a signal needs.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

use crate::daemon::engine::recheck::Recheck;
use crate::daemon::engine::scan::NextWake;
use crate::daemon::event_loop::{Daemon, Degradation};
use crate::daemon::source::kernel_map::Kernel;
use crate::{
    enforce::{Event as Happened, OpenedProcess},
    model::{Bytes, Crossed, Pid, Process, ProcessId, StartTime},
    observe::decode::KernelEvent,
    policy,
    report::Event,
};

/// How often a process is looked at for one crossing. Who is at its next level each time, and within its limit at each
/// look, swings: the kernel tells of it again, and the budget has a say in that.
const LOOKS_AT_ONCE: usize = 8;

impl Daemon<'_> {
    /// Takes what the kernel has to tell, as long as the budget lasts; what is left stays in the ring.
    pub(in crate::daemon) fn drain_kernel_events(&mut self) {
        self.resume = None;
        loop {
            let begun = Instant::now();
            if let Err(later) = self.budget.left(begun) {
                self.resume = Some(later);
                return;
            }
            let Some(event) = self.sources.kernel().and_then(Kernel::event) else { break };
            match event {
                KernelEvent::Crossed { process, at, rss } => self.crossed(process, at, rss),
                KernelEvent::Outlived => self.reseeds.note(begun),
                KernelEvent::Ended { process, name, peak, status } => {
                    self.growth.forget(process);
                    self.over_limit.forget(process);
                    self.recheck.elder_ended(process.pid, begun);
                    for event in [Happened::Seen(peak), Happened::Ended(status)] {
                        let orders = self.victims.handle(process, event, begun);
                        self.run_orders(orders);
                    }
                    if status.oom {
                        self.tell(Event::OomKilled { pid: process.pid, name, peak });
                    }
                }
            }
            self.budget.spend(begun.elapsed());
        }
        // What did not fit into the ring is found by a scan, at once.
        if self.sources.kernel().is_some_and(Kernel::lost_events) {
            self.scan();
        }
    }

    fn crossed(&mut self, whom: ProcessId, at: Duration, rss: Bytes) {
        let (first, mut at, mut rss) = ((at, rss), at, rss);
        for _ in 0..LOOKS_AT_ONCE {
            self.growth.note(whom, at, rss);
            let next = if self.victims.contains(whom) {
                self.check_ceiling(whom, rss)
            } else if rss >= self.growth.ladder.highest()
                && let Some(inherited) = self.fresh_fork(whom, rss)
            {
                self.leave_to_elder(whom, rss, inherited)
            } else if rss >= self.growth.ladder.highest() {
                // The event's own time, also where the process went on growing before it was looked at: the crossing was
                // then, or between then and now.
                let crossed =
                    Crossed { at: instant(first.0), rss: first.1.max(self.growth.ladder.highest()) };
                let looked = self.look((whom.pid, Some(whom.start)), Some(crossed), Some(rss));
                looked.map_or(NextWake::Never, |(_, next)| next)
            } else {
                self.warn(whom, rss);
                NextWake::Level(self.growth.ladder.above(rss))
            };
            // One that went on growing meanwhile, and then stands still, makes no other event.
            match self.set_level(whom, next) {
                Some(now) => (at, rss) = (monotonic(), now),
                None => return,
            }
        }
    }

    /// Looks again at one of those that were in doubt, and only at one: it may hang.
    pub(in crate::daemon) fn recheck_next(&mut self) {
        if self.reseeds.take_due(Instant::now()) {
            // If it fails, the next sweep is there.
            let _ = self.sources.kernel().map(Kernel::reseed);
            return;
        }
        let Some((pid, Recheck { start, crossed, .. })) = self.recheck.take_due(Instant::now()) else {
            return;
        };
        let begun = Instant::now();
        let seen = start.and_then(|start| self.sources.again(ProcessId { pid, start }));
        if !self.has_called_exec(pid, start)
            && let Some((whom, next)) = self.look((pid, start), crossed, seen.map(|seen| seen.rss))
            && self.settings.kernel.instant
        {
            self.set_level(whom, next);
        }
        self.recheck.looked_at(pid, begun.elapsed(), Instant::now());
    }

    /// Looks closely at one that may be over its limit. Gives who it is, and when to look at it next by the kernel's
    /// counters, which have `rss` for it; none if it cannot be confirmed.
    fn look(
        &mut self,
        (pid, start): (Pid, Option<StartTime>),
        crossed: Option<Crossed>,
        rss: Option<Bytes>,
    ) -> Option<(ProcessId, NextWake)> {
        // Opened first, so that what is found after that is found of whom the pidfd means.
        let held = if self.settings.dry_run { None } else { OpenedProcess::open(pid).ok() };
        let (_, limit) = self.settings.rules.limit(&self.memory);
        let mut process = match self.sources.confirm(pid, start, limit) {
            Ok(process) => process,
            Err(why) => {
                self.unconfirmed((pid, start), crossed, why);
                return None;
            }
        };
        let (whom, rss) = (process.id, rss.unwrap_or(process.rss));
        self.take_off_freed(&mut process, limit);
        self.warn_of(&process, rss);
        let judge =
            |daemon: &Self, process: &Process| policy::judge(&daemon.settings.rules, process, &daemon.memory);
        let verdict = judge(self, &process);
        let verdict = self.settle(&mut process, verdict, judge);
        Some((whom, self.act_on(process, verdict, rss, held, crossed)))
    }

    /// Warns of one that climbs near its limit, unless a rule protects it.
    pub(in crate::daemon) fn warn(&mut self, whom: ProcessId, rss: Bytes) {
        if self.growth.may_warn(whom, rss)
            && self.fresh_fork(whom, rss).is_none()
            && let Ok(process) = self.sources.confirm(whom.pid, Some(whom.start), Bytes::MAX)
        {
            self.warn_of(&process, rss);
        }
    }

    fn warn_of(&mut self, process: &Process, rss: Bytes) {
        let (_, limit) = self.settings.rules.limit(&self.memory);
        // What it was told to have is some time ago: it may have freed it since.
        let has_freed = !self.growth.ladder.warns_at(process.rss + self.sources.error());
        // Beyond the limit there is more to be said than a warning.
        if has_freed
            || !self.growth.warn(process.id, rss)
            || process.rss > limit
            || !policy::could_be_terminated(&self.settings.rules, process, &self.memory)
        {
            return;
        }
        let rate = self.growth.rate(process.id, limit, self.sources.error(), monotonic());
        self.tell(Event::Approaching {
            subject: self.subject(process),
            rss: process.rss,
            limit,
            growth: rate.map(|rate| rate.bytes_per_second),
            time_to_limit: rate.and_then(|rate| rate.time_to_limit),
        });
    }

    /// Has the kernel wake memmon for `whom` at its next level. Gives what it has by now if that is beyond it already.
    pub(in crate::daemon) fn set_level(&mut self, whom: ProcessId, next: NextWake) -> Option<Bytes> {
        let level = match next {
            NextWake::Level(level) => Some(level),
            NextWake::Never => None,
        };
        self.growth.set(whom, level.unwrap_or(Bytes::MAX));
        let now = match self.sources.kernel()?.set_level(whom, level) {
            Ok(now) => now?,
            Err(error) => {
                self.degraded(Degradation::NoLevels, || {
                    format!("the kernel does not wake memmon for every process that grows: {error}")
                });
                // It may be over by then, too.
                if level.is_some() {
                    self.recheck.note(whom.pid, Some(whom.start), None, Instant::now());
                }
                return None;
            }
        };
        level.is_some_and(|level| now >= level).then_some(now)
    }

    /// Has the kernel wake memmon for `whom` at the next rung of the ladder, whatever its level was.
    pub(in crate::daemon) fn reset_wake_level(&mut self, whom: ProcessId) {
        if self.settings.kernel.instant
            && let Some(reading) = self.sources.again(whom)
        {
            self.set_level(whom, NextWake::Level(self.growth.ladder.above(reading.rss)));
        }
    }

    /// Gives those a lower level who fell, and forgets those who are gone: once per scan.
    pub(in crate::daemon) fn lower_wake_levels(&mut self, climbing: &BTreeSet<ProcessId>) {
        let watch = &self.sources;
        self.growth.keep(|whom| climbing.contains(&whom) || watch.again(whom).is_some());
        for (whom, level) in self.growth.fallen(|whom| watch.again(whom).map(|reading| reading.rss)) {
            self.set_level(whom, NextWake::Level(level));
        }
    }
}

/// Now, on the clock that the kernel's events carry.
pub(in crate::daemon) fn monotonic() -> Duration {
    // It cannot fail for this clock; if it did, a time of zero drops the reading.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// A time of the kernel's as one of ours: both run on CLOCK_MONOTONIC.
fn instant(at: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(monotonic().saturating_sub(at)).unwrap_or(now)
}

//! Woken by the kernel: a process crossed its wake level, or a process that had one ended.
//!
//! A crossing below the highest level is a reading for the growth rate, and sets the next level. At the highest level the
//! process is opened, looked at once, closely, and judged: that one look, after the pidfd, is what a signal needs.

use std::time::Duration;

use tracing::{debug, debug_span};

use crate::daemon::clock::{Now, thread_cpu_time};
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::growth::NextWake;
use crate::daemon::source::kernel_map::Kernel;
use crate::{
    enforce,
    model::{Bytes, Crossed, ExitStatus, Name, ProcessId},
    observe::decode::KernelEvent,
    report::Event,
};

/// Maximum number of looks at a process for one crossing. A process that is at its next level each time, and within its
/// limit at each look, swings: the kernel reports it again, and the budget limits that.
const LOOKS_AT_ONCE: usize = 8;

impl Engine<'_> {
    /// Has what takes longest of a victim's record read before the signal, or after it.
    pub(crate) const fn read_ahead(&mut self, reads_ahead: bool) {
        self.sources.read_ahead(reads_ahead);
    }

    /// Marks the time from which the CPU time until the next event counts as the cost of that event's wake-up.
    pub(crate) fn begins_to_wait(&mut self) {
        self.budget.leave_out_until(thread_cpu_time());
    }

    /// Handles the kernel's events. When the budget for looks at processes is used up, crossings wait, and no other event does:
    /// no record may lack an exit status, and sums have a budget of their own. Returns whether a scan is to follow at once: a
    /// process whose event did not fit into the ring is found by that.
    #[must_use]
    pub(crate) fn drain_kernel_events(&mut self, now: Now) -> bool {
        loop {
            let begun = now.instant();
            let has_time = self.budget.allows(begun);
            let next = if has_time { Kernel::event } else { Kernel::event_but_crossing };
            let Some(event) = self.sources.kernel().and_then(next) else {
                if has_time {
                    break;
                }
                return false;
            };
            match event {
                KernelEvent::Crossed { process, at, rss } => {
                    self.crossed(process, at, rss, now);
                    self.gear_after_crossing(process, at, now);
                    self.machine.hasten(now.instant());
                }
                KernelEvent::SumCrossed => {
                    debug!("a sum reached its level");
                    self.sums.hasten(begun);
                }
                KernelEvent::Outlived => self.rechecks.reseeds.note(begun),
                KernelEvent::Ended { process, name, peak, status } => {
                    self.ended(process, name, peak, status, now);
                }
            }
            self.budget.spend_until(thread_cpu_time());
        }
        self.sources.kernel().is_some_and(Kernel::lost_events)
    }

    fn crossed(&mut self, process: ProcessId, at: Duration, rss: Bytes, now: Now) {
        let late = now.monotonic().saturating_sub(at);
        let _entered = debug_span!("wake", pid = process.pid.0, rss_bytes = rss.0, ?late).entered();
        let (first, mut at, mut rss) = ((at, rss), at, rss);
        let mut is_below = false;
        self.find_levels(process);
        for _ in 0..LOOKS_AT_ONCE {
            self.growth.note(process, at, rss);
            let next = if self.terminations.contains(process) {
                self.check_ceiling(process, rss, now)
            } else if rss < self.growth.levels_of(process).highest() {
                self.warn(process, rss, now);
                NextWake::Level(self.growth.levels_of(process).above(rss))
            } else if let Some(inherited) = self.fresh_fork(process, rss) {
                self.leave_to_elder(process, rss, inherited, now)
            } else {
                // The event's own time, even if the process went on growing before the look: the crossing was then, or
                // between then and now.
                let highest = self.growth.levels_of(process).highest();
                let crossed = Crossed { at: now.at(first.0), rss: first.1.max(highest) };
                let looked = self.look((process.pid, Some(process.start)), Some(crossed), Some(rss), now);
                is_below = matches!(looked, Some((_, NextWake::Level(_))));
                looked.map_or(NextWake::Never, |(_, next)| next)
            };
            // A process that went on growing meanwhile, and then stands still, makes no other event.
            match self.set_level(process, next, now) {
                Some(has_now) => (at, rss) = (now.monotonic(), has_now),
                None => break,
            }
        }
        if is_below && !self.settings.current().dry_run && !self.terminations.contains(process) {
            self.sources.read_free_per_cpu(now.instant());
        }
    }

    fn ended(&mut self, process: ProcessId, name: Name, peak: Bytes, status: ExitStatus, now: Now) {
        debug!(pid = process.pid.0, peak_bytes = peak.0, ?status, "a process ended");
        let at = now.instant();
        self.growth.forget(process);
        self.reports.over_limit.forget(process);
        self.rechecks.queue.elder_ended(process.pid, at);
        for event in [enforce::Event::Seen(peak), enforce::Event::Ended(status)] {
            let orders = self.terminations.handle(process, event, at);
            self.run_orders(orders, now);
        }
        if status.oom {
            self.reports.emit(Event::OomKilled { pid: process.pid, name, peak });
        }
    }
}

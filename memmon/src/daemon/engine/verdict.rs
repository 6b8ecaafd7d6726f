//! Acts on a verdict: reports it, or starts a termination. Each verdict also decides when to look at the process next.

use std::time::Duration;

use tracing::debug;

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::growth::NextWake;
use crate::daemon::engine::state::over_limit::Stays;
use crate::daemon::engine::state::report_once::Condition;
use crate::{
    enforce::{Check, OpenedProcess, urgent_above},
    model::{Breach, Bytes, Crossed, Doubt, Process, Protection, Verdict},
    policy::WakeLevels,
    report::Event,
};

impl Engine<'_> {
    /// Does what a verdict asks for: reports it, or has the process terminated, at once if it is `opened` already. Returns
    /// when to look at it next by the kernel's counters, which have `rss` for it.
    pub(super) fn act_on(
        &mut self,
        process: Process,
        verdict: Verdict,
        rss: Bytes,
        opened: Option<OpenedProcess>,
        crossed: Option<Crossed>,
        now: Now,
    ) -> NextWake {
        let id = process.id;
        debug!(pid = id.pid.0, rss_bytes = process.rss.0, ?verdict, "a verdict");
        self.judged.note(&process, self.settings.memory(), &verdict, now.instant());
        let freed = self.terminations.freed.of(id);
        let next = self.growth.levels_of(id).next_below_limit(rss.saturating_sub(freed), process.rss);
        let below_limit = NextWake::Level(freed + next);
        if !matches!(verdict, Verdict::Terminate(_) | Verdict::Stop(_) | Verdict::Unsure(_)) {
            self.rechecks.lasting.end(id);
        }
        match verdict {
            Verdict::Within => below_limit,
            Verdict::Inherits(inherited) => self.leave_to_elder(id, rss, inherited, now),
            Verdict::Uncharged(uncharged) => self.leave_uncharged(&process, uncharged, rss, crossed, now),
            Verdict::Protected(protection) => self.leave_protected(&process, protection, now),
            Verdict::Unsure(doubt) => {
                let next = if doubt.is_transient() { NextWake::Never } else { below_limit };
                self.leave_in_doubt(&process, doubt, crossed, now);
                next
            }
            Verdict::Warn(breach) => {
                if self.reports.first_time(id, Condition::OverRule) {
                    self.reports.emit(Event::OverRule { subject: self.subject(&process, now), breach });
                }
                NextWake::Level(rss + Bytes((breach.limit.0 / 4).max(Bytes::MIB)))
            }
            Verdict::Terminate(breach) | Verdict::Stop(breach)
                if self.waits(&process, &breach, crossed, now) =>
            {
                self.judged.waits(id);
                let ceiling = self.settings.ceiling(&process, None);
                NextWake::Level(ceiling.unwrap_or(Bytes::MAX).saturating_sub(self.sources.error()))
            }
            Verdict::Stop(breach) => self.stop(&process, breach, rss, opened, now),
            Verdict::Terminate(breach) if self.settings.current().dry_run => {
                self.reports.over_limit.note(&process, breach.limit, Stays::DryRun(breach));
                if self.reports.first_time(id, Condition::WouldTerminate) {
                    let (subject, signal) =
                        (self.subject(&process, now), self.settings.course(&breach).signal);
                    self.reports.emit(Event::Killing { subject, breach, signal, dry_run: true, sum: None });
                }
                NextWake::Never
            }
            Verdict::Terminate(breach)
                if !self.terminations.contains(id) && self.is_delayed(&process, &breach, now) =>
            {
                self.judged.waits(id);
                // Ever closer to where it waits no longer, and never at what it has already: looks there would not end.
                let urgent = WakeLevels::new(urgent_above(breach.limit), process.error, None);
                NextWake::Level(urgent.next_below_limit(rss, process.rss))
            }
            Verdict::Terminate(breach) => {
                if !self.start_termination(process, breach, opened, crossed, now) {
                    NextWake::Never
                } else if self.terminations.contains(id) {
                    self.at_ceiling(id)
                } else {
                    below_limit
                }
            }
        }
    }

    fn leave_protected(&mut self, process: &Process, protection: Protection, now: Now) -> NextWake {
        let limit = self.settings.limit_of(process);
        if self.reports.over_limit.note(process, limit, Stays::Protected(protection.clone())) {
            let subject = self.subject(process, now);
            self.reports.emit(Event::OverButProtected { subject, rss: process.rss, limit, protection });
        }
        NextWake::Never
    }

    fn leave_in_doubt(&mut self, process: &Process, doubt: Doubt, crossed: Option<Crossed>, now: Now) {
        let id = process.id;
        if doubt.is_transient() {
            self.rechecks.queue.note(id.pid, Some(id.start), crossed, now.instant());
        }
        if doubt == Doubt::SharedMemoryUnknown {
            self.rechecks.queue.await_answer(id.pid, now.instant());
        }
        // A lookup that is under way is a step, and no trouble yet.
        if doubt != Doubt::SharedMemoryUnknown && self.reports.first_time(id, Condition::Unsure) {
            self.reports.emit(Event::Unsure { subject: self.subject(process, now), doubt });
        }
    }

    /// Starts a termination and takes its first steps. Returns false if that cannot begin.
    pub(super) fn start_termination(
        &mut self,
        process: Process,
        breach: Breach,
        opened: Option<OpenedProcess>,
        crossed: Option<Crossed>,
        now: Now,
    ) -> bool {
        // Before any signal, because its end may be quick: the kernel reports the end of a process that has crossed, or has
        // a level of its own. Without one the record lacks the exit status.
        if crossed.is_none()
            && let Some(kernel) = self.sources.kernel()
        {
            let _ = kernel.set_level(process.id, None);
        }
        let mut course = self.settings.course(&breach);
        if process.launch.never_gets(course.signal) {
            // A grace would pass in vain: the kernel discards the signal.
            course.grace = Some(Duration::ZERO);
        }
        let victims = &mut self.terminations.victims;
        let orders = match opened {
            None => victims.start_termination(process, breach, course, now.instant()),
            Some(opened) => {
                match Check::judged(process.id, &process, Verdict::Terminate(breach), breach.limit) {
                    Check::StillOver(evidence) => {
                        victims.start_opened(opened, process, evidence, crossed, course, now.instant())
                    }
                    _ => return false,
                }
            }
        };
        self.run_orders(orders, now);
        true
    }
}

//! The grace period of victims, and what ends it early: a victim outgrows its ceiling, or the machine is short of memory.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::growth::NextWake;
use crate::enforce::{self, Event};
use crate::model::{Bytes, ProcessId, Urgency};
use crate::policy::WakeLevels;

impl Engine<'_> {
    /// Whether [`Engine::check_graces`] has something to look for: a victim has time left, or a termination is delayed.
    pub(crate) fn has_graces(&self) -> bool {
        self.backoff.delays || self.terminations.in_grace().next().is_some()
    }

    /// Ends the grace of victims that outgrow their ceiling, and of all victims while the machine is nearly out of memory.
    /// Before it is, no termination is delayed any longer.
    pub(crate) fn check_graces(&mut self, now: Now) {
        // With [machine], that of the cgroup which all processes are in, if less of its limit is left.
        let memory = match self.settings.current().machine {
            Some(_) => self.sources.machine_memory().map(|watched| watched.memory.memory),
            None => self.sources.memory(),
        };
        let Ok(memory) = memory else { return };
        if self.backoff.delays && enforce::is_short(&memory) {
            self.scan(now);
        }
        let graces: Vec<ProcessId> = self.terminations.in_grace().map(|process| process.id).collect();
        for victim in graces {
            if self.settings.of_victim(victim).termination.is_short(&memory) {
                self.urge(victim, Urgency::Reserve, now);
            } else if self.may_be_beyond_ceiling(victim) {
                self.check_ceiling(victim, Bytes::ZERO, now);
            }
        }
    }

    /// Whether a close look at a victim could end its grace: not if the kernel's counters show that it is far from that.
    fn may_be_beyond_ceiling(&self, victim: ProcessId) -> bool {
        let (ceiling, seen) = (self.ceiling(victim), self.sources.again(victim));
        ceiling.is_some_and(|ceiling| seen.is_none_or(|seen| seen.rss + seen.error > ceiling))
    }

    /// Ends the grace of a victim that outgrew its ceiling. Returns when to look at it next by the kernel's counters,
    /// which have `rss` for it.
    pub(super) fn check_ceiling(&mut self, victim: ProcessId, rss: Bytes, now: Now) -> NextWake {
        let Some(ceiling) = self.ceiling(victim) else { return NextWake::Never };
        let Ok(mut found) = self.sources.confirm(victim.pid, Some(victim.start), ceiling) else {
            return NextWake::Never;
        };
        let orders = self.terminations.handle(victim, Event::Seen(found.rss), now.instant());
        self.run_orders(orders, now);
        self.take_off_freed(&mut found, ceiling, now);
        if found.rss.saturating_sub(found.error) > ceiling {
            self.urge(victim, Urgency::Ceiling, now);
            return NextWake::Never;
        }
        let freed = self.terminations.freed.of(victim);
        let levels = WakeLevels::new(ceiling, found.error, None);
        NextWake::Level(freed + levels.next_below_limit(rss.saturating_sub(freed), found.rss))
    }

    /// To look again when a victim reaches its ceiling.
    pub(super) fn at_ceiling(&self, victim: ProcessId) -> NextWake {
        self.ceiling(victim)
            .map_or(NextWake::Never, |ceiling| NextWake::Level(ceiling.saturating_sub(self.sources.error())))
    }

    fn ceiling(&self, victim: ProcessId) -> Option<Bytes> {
        let process = self.terminations.victims.process(victim)?;
        self.settings.ceiling(process, self.backoff.offenders.had_when_due(victim))
    }

    pub(super) fn urge(&mut self, victim: ProcessId, urgency: Urgency, now: Now) {
        let orders = self.terminations.handle(victim, Event::Urgent(urgency), now.instant());
        self.run_orders(orders, now);
    }
}

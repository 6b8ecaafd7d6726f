//! The terminations in progress, with what the engine notes for each victim.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::daemon::engine::state::case::Case;
use crate::daemon::engine::state::lazy_free::LazilyFreed;
use crate::enforce::{Errno, EscalationTiming, Event, Order, Phase, Reaper, Victims};
use crate::model::{Bytes, Process, ProcessId};

/// The victims, and what is known about each.
pub(crate) struct Terminations {
    pub(crate) victims: Victims,
    pub(crate) reaper: Reaper,
    /// Memory that processes which were sent SIGTERM have freed without giving it back yet.
    pub(crate) freed: LazilyFreed,
    /// Notes about each victim that was sent a signal.
    cases: BTreeMap<ProcessId, Case>,
    /// Number of processes that were sent SIGTERM since the last scan was reported.
    asked_to_end: usize,
}

impl Terminations {
    /// # Errors
    /// Those of [`Victims::new`].
    pub(crate) fn new(timing: EscalationTiming, reaper: Reaper) -> Result<Self, Errno> {
        Ok(Self {
            victims: Victims::new(timing)?,
            reaper,
            freed: LazilyFreed::default(),
            cases: BTreeMap::new(),
            asked_to_end: 0,
        })
    }

    /// Whether this process is a victim.
    pub(crate) fn contains(&self, process: ProcessId) -> bool {
        self.victims.contains(process)
    }

    /// The victims that cannot be signalled.
    pub(crate) fn out_of_reach(&self) -> BTreeSet<ProcessId> {
        let out_of_reach = |(_, phase): &(_, Phase)| matches!(phase, Phase::OutOfReach);
        self.victims.iter().filter(out_of_reach).map(|(process, _)| process.id).collect()
    }

    /// The orders that follow from an event for a victim.
    pub(crate) fn handle(&mut self, victim: ProcessId, event: Event, now: Instant) -> Vec<Order> {
        self.victims.handle(victim, event, now)
    }

    /// The victims that were sent SIGTERM and have time left.
    pub(crate) fn in_grace(&self) -> impl Iterator<Item = &Process> {
        let in_grace = |(_, phase): &(_, Phase)| matches!(phase, Phase::Grace { .. });
        self.victims.iter().filter(in_grace).map(|(process, _)| process)
    }

    /// Notes that a process was sent SIGTERM, and what was found out about it right after that.
    pub(crate) fn sent_term(&mut self, victim: ProcessId, case: Case) {
        self.asked_to_end += 1;
        self.cases.insert(victim, case);
        self.freed.sent_term(victim);
    }

    /// Whether a victim was sent SIGTERM.
    pub(crate) fn had_term(&self, victim: ProcessId) -> bool {
        self.cases.contains_key(&victim)
    }

    /// Number of processes that were sent SIGTERM since the last call.
    pub(crate) const fn take_asked_to_end(&mut self) -> usize {
        std::mem::replace(&mut self.asked_to_end, 0)
    }

    /// Notes what a victim has of file and shared memory right before SIGKILL.
    pub(crate) fn before_kill(&mut self, victim: ProcessId, shared: Bytes) {
        self.cases.entry(victim).or_default().shared = Some(shared);
    }

    /// The notes about a victim that was sent a signal, to add to them.
    pub(crate) fn case_mut(&mut self, victim: ProcessId) -> Option<&mut Case> {
        self.cases.get_mut(&victim)
    }

    /// The notes about a victim, if it was sent a signal.
    pub(crate) fn case(&self, victim: ProcessId) -> Option<&Case> {
        self.cases.get(&victim)
    }

    /// Forgets what was noted for processes that are no victims any more.
    pub(crate) fn forget_ended(&mut self) {
        let Self { victims, cases, .. } = self;
        cases.retain(|process, _| victims.contains(*process));
    }

    /// Forgets what was freed by processes that are gone.
    pub(crate) fn keep_freed(&mut self, exists: impl Fn(ProcessId) -> bool) {
        let Self { victims, freed, .. } = self;
        freed.keep(|process| victims.contains(process) || exists(process));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        enforce::{Course, testing::process},
        model::{Breach, Limit},
    };

    #[test]
    fn only_a_victim_that_may_not_be_reached_is_out_of_reach() {
        let pause = Duration::from_secs(9);
        let timing = EscalationTiming { grace: pause, lingering: pause, reclaim: false };
        let mut terminations = Terminations::new(timing, Reaper::start(|_, _| {}).unwrap()).unwrap();
        let breach = Breach { rule: Limit::Gb, limit: Bytes(5), rss: Bytes(10), percent: 1.0, by: None };
        let now = Instant::now();
        let refused = [Errno::EPERM, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM].into_iter().zip(41..);
        for (error, pid) in refused {
            let victim = process(pid, 1);
            let id = victim.id;
            terminations.victims.start_termination(victim, breach, Course::default(), now);
            terminations.handle(id, Event::Opened(Err(error)), now);
        }
        assert_eq!(terminations.out_of_reach(), [process(41, 1).id].into());
        assert_eq!(terminations.victims.in_flight(), 4);
    }
}

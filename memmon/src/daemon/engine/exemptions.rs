//! Exemptions begin and end: as a part of the rules in force, so that everything that judges knows of them.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::over_limit::Stays;
use crate::model::{
    Bytes, Exempt, Exemption, ExemptionEnd, Pid, ProcessId, Protection, Unconfirmed, UnixTime,
};
use crate::report::Event;

impl Engine<'_> {
    /// The exemptions that have not ended.
    pub(crate) fn exemptions(&self) -> &[Exemption] {
        &self.settings.rules().exemptions
    }

    /// The process that has a pid now.
    pub(crate) fn identify(&self, pid: Pid) -> Result<ProcessId, Unconfirmed> {
        self.sources.confirm(pid, None, Bytes::MAX).map(|process| process.id)
    }

    /// Takes over exemptions that began before this memmon did.
    pub(crate) fn continue_exemptions(&mut self, exemptions: Vec<Exemption>) {
        *self.settings.exemptions_mut() = exemptions;
    }

    /// Begins an exemption. A victim that it protects gets no further signal.
    pub(crate) fn exempt(&mut self, exemption: Exemption, now: Now) {
        self.settings.exemptions_mut().push(exemption.clone());
        self.reports.emit(Event::Exempted { exemption });
        let orders = self.terminations.victims.rules_changed(self.settings.timing(), now.instant());
        self.run_orders(orders, now);
    }

    /// Ends the exemptions for which `ends` returns how. Returns them.
    pub(crate) fn end_exemptions(
        &mut self,
        ends: impl Fn(&Exemption) -> Option<ExemptionEnd>,
        now: Now,
    ) -> Vec<Exemption> {
        let all = std::mem::take(self.settings.exemptions_mut());
        let (ended, left): (Vec<_>, Vec<_>) =
            all.into_iter().map(|one| (ends(&one), one)).partition(|(end, _)| end.is_some());
        *self.settings.exemptions_mut() = left.into_iter().map(|(_, one)| one).collect();
        let mut over = Vec::new();
        for (end, exemption) in ended {
            if let Some(end) = end {
                self.reports.emit(Event::ExemptionEnded { exemption: exemption.clone(), end });
            }
            over.push(exemption);
        }
        if !over.is_empty() {
            self.look_at_those_that_were_exempt(now);
        }
        over
    }

    /// Ends the exemptions whose time is over. Returns whether there was one.
    pub(crate) fn end_expired(&mut self, is_over: impl Fn(&Exemption) -> bool, now: Now) -> bool {
        !self.end_exemptions(|one| is_over(one).then_some(ExemptionEnd::Expired), now).is_empty()
    }

    /// Shows another end of those exemptions for which `moved` returns one. Returns whether there was one.
    pub(crate) fn move_ends(&mut self, moved: impl Fn(&Exemption) -> Option<UnixTime>) -> bool {
        let ends: Vec<_> = self.exemptions().iter().map(moved).collect();
        let is_moved = ends.iter().any(Option::is_some);
        // Without a change the settings in force stay the same ones.
        if is_moved {
            for (exemption, end) in self.settings.exemptions_mut().iter_mut().zip(ends) {
                exemption.until = end.unwrap_or(exemption.until);
            }
        }
        is_moved
    }

    /// Ends the exemptions whose process is gone. Returns whether there was one.
    pub(crate) fn end_orphaned(&mut self, now: Now) -> bool {
        let is_gone = |id: ProcessId| {
            let found = self.sources.confirm(id.pid, Some(id.start), Bytes::MAX);
            matches!(found, Err(Unconfirmed::Gone | Unconfirmed::AnotherProcess { .. }))
        };
        let processes = self.exemptions().iter().filter_map(|one| match one.of {
            Exempt::Process(id) => Some((one.id, id)),
            Exempt::User(_) | Exempt::Unit(_) | Exempt::Job(_) => None,
        });
        let gone: Vec<u32> = processes.filter(|(_, id)| is_gone(*id)).map(|(number, _)| number).collect();
        let end = |one: &Exemption| gone.contains(&one.id).then_some(ExemptionEnd::ProcessGone);
        !gone.is_empty() && !self.end_exemptions(end, now).is_empty()
    }

    /// The kernel no longer wakes memmon for a protected process, and one over its limit need not grow any more.
    fn look_at_those_that_were_exempt(&mut self, now: Now) {
        self.reset_wake_levels(now);
        let of_exempt = |stays: &Stays| matches!(stays, Stays::Protected(Protection::Exempt(_)));
        let over = self.reports.over_limit.largest().into_iter();
        let over: Vec<_> =
            over.filter(|one| of_exempt(&one.stays)).map(|standing| standing.process.id).collect();
        for id in over {
            self.reports.over_limit.forget(id);
            self.rechecks.queue.note(id.pid, Some(id.start), None, now.instant());
        }
    }
}

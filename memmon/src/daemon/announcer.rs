//! Passes each event on: to the status and to the reporter, with the metrics that no event has.
//!
//! The event of a first signal waits for a moment, and each event after it waits with it: a process that memmon interrupted has
//! the processor back at once, to handle its signal, and not after memmon and the threads that write have reported it.

use std::{
    cell::{Ref, RefCell, RefMut},
    mem,
    time::{Duration, Instant},
};

use jiff::Zoned;
use tokio::sync::oneshot;

use crate::daemon::conditions::{Conditions, Degradation};
use crate::daemon::engine::state::reports::Observer;
use crate::daemon::engine::state::sum_trends::SumState;
use crate::daemon::history::Historian;
use crate::daemon::outputs::outputs;
use crate::daemon::own_status::OwnStatus;
use crate::{
    config::Settings,
    history::Trouble,
    model::{Bytes, RuleName, Sample, Select},
    report::{Event, MapFigures, Reporter, Rotation},
};

/// Time that an event waits after a first signal: long enough to be asleep meanwhile.
const PAUSE: Duration = Duration::from_millis(1);

/// The way from the daemon to all readers of events.
pub(super) struct Announcer<'a> {
    reporter: &'a Reporter,
    own_status: RefCell<OwnStatus>,
    conditions: RefCell<Conditions>,
    history: RefCell<Historian>,
    waiting: RefCell<Waiting>,
}

/// Events that wait, in their order, and until when.
#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    until: Option<Instant>,
}

impl Waiting {
    /// Returns `event` if it need not wait.
    fn take(&mut self, event: Event, now: impl FnOnce() -> Instant) -> Option<Event> {
        if self.until.is_none() {
            if !matches!(event, Event::Killing { dry_run: false, .. }) {
                return Some(event);
            }
            self.until = Some(now() + PAUSE);
        }
        self.events.push(event);
        None
    }
}

impl<'a> Announcer<'a> {
    pub(super) fn new(reporter: &'a Reporter, own_status: OwnStatus, history: Historian) -> Self {
        Self {
            reporter,
            own_status: RefCell::new(own_status),
            conditions: RefCell::default(),
            history: RefCell::new(history),
            waiting: RefCell::default(),
        }
    }

    /// The time to pass on the events that wait.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.borrow().until
    }

    /// Passes on the events that wait.
    pub(super) fn pass_on_waiting(&self) {
        let Waiting { events, until: _ } = mem::take(&mut *self.waiting.borrow_mut());
        events.into_iter().for_each(|event| self.pass_on(event));
    }

    fn pass_on(&self, event: Event) {
        self.own_status.borrow_mut().note(&event);
        self.history.borrow_mut().note(&event);
        match event {
            // The first line of a scan: at least its last line follows.
            Event::SystemMemory { .. } => self.reporter.emit_with_next(event),
            _ => self.reporter.emit(event),
        }
    }

    pub(super) fn own_status(&self) -> Ref<'_, OwnStatus> {
        self.pass_on_waiting();
        self.own_status.borrow()
    }

    pub(super) fn own_status_mut(&self) -> RefMut<'_, OwnStatus> {
        self.own_status.borrow_mut()
    }

    /// Reports that something does not work, unless this was reported and has not been resolved since.
    pub(super) fn degraded(&self, what: Degradation, text: impl FnOnce() -> String) {
        let report = self.conditions.borrow_mut().begins(what, text);
        report.into_iter().for_each(|event| self.event(event));
    }

    /// Notes that it works: if it fails again, it is reported again.
    pub(super) fn works(&self, what: Degradation) {
        self.conditions.borrow_mut().ends(what);
    }

    pub(super) fn is_degraded(&self, what: Degradation) -> bool {
        self.conditions.borrow().lasts(what)
    }

    /// The reported conditions that are not resolved.
    pub(super) fn conditions(&self) -> Ref<'_, Conditions> {
        self.conditions.borrow()
    }

    /// Number of events that no sink got, since the start.
    pub(super) fn events_lost(&self) -> u64 {
        self.reporter.lost()
    }

    /// Updates the metrics of the settings in force, which change with the configuration, the schedule and the memory.
    pub(super) fn in_force(&self, settings: &Settings, limit: Bytes) {
        let (metrics, rules) = (self.reporter.metrics(), &settings.rules);
        metrics.in_force(limit, settings.check_interval, settings.dry_run);
        metrics.rules(rules.rules.iter().chain(rules.sums.iter().map(|sum| &sum.rule)).map(|rule| rule.name));
    }

    pub(super) fn rotation(&self) -> Rotation {
        self.reporter.rotation()
    }

    /// Answers a question about the history.
    pub(super) fn answer_history(&self, select: Select, answer: oneshot::Sender<String>) {
        self.pass_on_waiting();
        self.history.borrow_mut().answer(select, answer);
    }

    /// Answers with a page of samples.
    pub(super) fn answer_samples(&self, first: u64, answer: oneshot::Sender<String>) {
        self.history.borrow_mut().answer_samples(first, answer);
    }

    pub(super) fn keeps_history(&self) -> bool {
        self.history.borrow().is_kept()
    }

    /// Has the samples kept that `look` returns, which another thread calls.
    pub(super) fn keep_samples(&self, look: impl FnOnce() -> Vec<Sample> + Send + 'static) {
        self.history.borrow_mut().look(look);
    }

    /// Waits for a moment until the last entries of the history are written.
    pub(super) fn finish(self) {
        self.pass_on_waiting();
        self.history.into_inner().finish();
    }

    /// Reports a history that cannot be written, once while that lasts.
    fn check_history(&self) {
        let Trouble { failure, lost } = self.history.borrow().trouble();
        self.reporter.metrics().lost_history(lost);
        match failure {
            None => self.works(Degradation::NoHistory),
            Some(error) => self.degraded(Degradation::NoHistory, || {
                format!(
                    "the history cannot be written, so that `memmon history` will lack what happens: {error}"
                )
            }),
        }
    }

    /// Opens the log file again.
    pub(super) fn reopen(&self) {
        self.pass_on_waiting();
        self.reporter.reopen();
    }

    /// Continues with the outputs of other settings.
    pub(super) fn replace(&self, settings: &Settings) {
        self.pass_on_waiting();
        self.reporter.replace(outputs(settings));
        self.history.borrow_mut().replace(settings.history);
    }
}

impl Observer for Announcer<'_> {
    fn event(&self, event: Event) {
        let event = self.waiting.borrow_mut().take(event, Instant::now);
        event.into_iter().for_each(|event| self.pass_on(event));
    }

    fn scanned(&self, took: Duration, map: Option<MapFigures>, dry_run: bool) {
        if dry_run {
            let over = self.own_status_mut().dry_run_day_over(Zoned::now().date());
            over.into_iter().for_each(|event| self.event(event));
        }
        self.check_history();
        let metrics = self.reporter.metrics();
        metrics.scanned(took);
        if let Some(map) = map {
            metrics.map(map);
        }
    }

    fn sums(&self, limits: &[(RuleName, Bytes)], sums: &[SumState]) {
        let sums: Vec<_> = sums.iter().map(|sum| &sum.figures).collect();
        self.reporter.metrics().sums(limits, &sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforce::testing::process;
    use crate::model::{Breach, Limit, Signal};
    use crate::report::Subject;

    #[test]
    fn only_a_first_signal_and_what_follows_it_wait() {
        let mut waiting = Waiting::default();
        let now = Instant::now();
        let breach = Breach { rule: Limit::Gb, limit: Bytes(5), rss: Bytes(10), percent: 1.0, by: None };
        let signal = |dry_run| {
            let subject = Subject::from(&process(4242, 7));
            Event::Killing { subject, breach, signal: Signal::Term, dry_run, sum: None }
        };
        let other = || Event::Stopping { reason: "SIGTERM".to_owned() };
        assert!(waiting.take(other(), || now).is_some());
        assert!(waiting.take(signal(true), || now).is_some(), "nothing was sent");
        assert!(waiting.take(signal(false), || now).is_none());
        assert!(waiting.take(other(), || now + PAUSE).is_none(), "the order stays");
        assert_eq!((waiting.until, waiting.events.len()), (Some(now + PAUSE), 2));
    }
}

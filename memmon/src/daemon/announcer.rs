//! Passes each event on: to the status and to the reporter, with the metrics that no event has.

use std::{
    cell::{Ref, RefCell, RefMut},
    time::Duration,
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

/// The way from the daemon to all readers of events.
pub(super) struct Announcer<'a> {
    reporter: &'a Reporter,
    own_status: RefCell<OwnStatus>,
    conditions: RefCell<Conditions>,
    history: RefCell<Historian>,
}

impl<'a> Announcer<'a> {
    pub(super) fn new(reporter: &'a Reporter, own_status: OwnStatus, history: Historian) -> Self {
        Self {
            reporter,
            own_status: RefCell::new(own_status),
            conditions: RefCell::default(),
            history: RefCell::new(history),
        }
    }

    pub(super) fn own_status(&self) -> Ref<'_, OwnStatus> {
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
        self.reporter.reopen();
    }

    /// Continues with the outputs of other settings.
    pub(super) fn replace(&self, settings: &Settings) {
        self.reporter.replace(outputs(settings));
        self.history.borrow_mut().replace(settings.history);
    }
}

impl Observer for Announcer<'_> {
    fn event(&self, event: Event) {
        self.own_status_mut().note(&event);
        self.history.borrow_mut().note(&event);
        match event {
            // The first line of a scan: at least its last line follows.
            Event::SystemMemory { .. } => self.reporter.emit_with_next(event),
            _ => self.reporter.emit(event),
        }
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

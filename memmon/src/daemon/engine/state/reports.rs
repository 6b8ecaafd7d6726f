//! The engine's reports, with those that were made already.

use std::time::Duration;

use crate::daemon::conditions::{Conditions, Degradation};
use crate::daemon::engine::state::over_limit::OverLimit;
use crate::daemon::engine::state::report_once::{Condition, ReportOnce};
use crate::daemon::engine::state::sum_trends::SumState;
use crate::model::{Bytes, ProcessId, RuleName};
use crate::report::{Event, MapFigures};

/// Gets what the engine reports.
pub(crate) trait Observer {
    /// Something happened.
    fn event(&self, event: Event);

    /// A scan is over, apart from its last event, and took so long.
    fn scanned(&self, took: Duration, map: Option<MapFigures>, dry_run: bool);

    /// The limit of each rule for sums, and the sums at the end of a scan, the one with the largest share of its limit first.
    fn sums(&self, limits: &[(RuleName, Bytes)], sums: &[SumState]);
}

/// The way of reports, each once while its condition lasts.
pub(crate) struct Reports<'a> {
    observer: &'a dyn Observer,
    once: ReportOnce,
    conditions: Conditions,
    pub(crate) over_limit: OverLimit,
}

impl<'a> Reports<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Self {
        Self {
            observer,
            once: ReportOnce::default(),
            conditions: Conditions::default(),
            over_limit: OverLimit::default(),
        }
    }

    pub(crate) fn emit(&self, event: Event) {
        self.observer.event(event);
    }

    /// Whether a condition of a process is to be reported now: not if it was reported and has lasted since.
    pub(crate) fn first_time(&mut self, process: ProcessId, condition: Condition) -> bool {
        self.once.first_time(process, condition)
    }

    /// Reports that something does not work, unless this was reported and has not been resolved since.
    pub(crate) fn degraded(&mut self, what: Degradation, text: impl FnOnce() -> String) {
        let report = self.conditions.begins(what, text);
        report.into_iter().for_each(|event| self.emit(event));
    }

    /// Notes that it works: if it fails again, it is reported again.
    pub(crate) fn works(&mut self, what: Degradation) {
        self.conditions.ends(what);
    }

    pub(crate) const fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Notes the end of a scan that saw the processes for which `exists` is true.
    pub(crate) fn scan_complete(&mut self, exists: impl Fn(ProcessId) -> bool) {
        self.once.scan_complete();
        self.over_limit.scan_complete(exists);
    }

    pub(crate) fn scanned(&self, took: Duration, map: Option<MapFigures>, dry_run: bool) {
        self.observer.scanned(took, map, dry_run);
    }

    pub(crate) fn sums(&self, limits: &[(RuleName, Bytes)], sums: &[SumState]) {
        self.observer.sums(limits, sums);
    }

    /// Reports all conditions of processes again, if they last.
    pub(crate) fn start_over(&mut self) {
        self.once = ReportOnce::default();
    }
}

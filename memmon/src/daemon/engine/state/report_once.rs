//! Reports a condition of a process once, even if it lasts for many scans.

use std::collections::HashMap;

use crate::model::ProcessId;

/// A condition of a process that memmon does not terminate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    /// It would be terminated if this were not a dry run.
    WouldTerminate,
    /// It is over a limit, but a rule that may protect it could not be checked.
    Unsure,
    /// It is over a limit, but its program was terminated too often.
    Delayed,
    /// It is over a limit by resident memory only.
    Uncharged,
    /// It is over the limit of a rule that only warns.
    OverRule,
    /// It would be stopped if this were not a dry run.
    WouldStop,
    /// It could not be stopped.
    NotStopped,
    /// It would end because the machine is short of memory, if this were not a dry run.
    WouldEnd,
    /// The map and /proc differ about it.
    Disagreement,
}

/// The reported conditions of each process, for as long as they last.
#[derive(Debug, Default)]
pub(crate) struct ReportOnce {
    last: HashMap<(ProcessId, Condition), u64>,
    scan: u64,
}

impl ReportOnce {
    /// Whether this condition is to be reported now. The next call returns false, as long as one call is made in each scan.
    pub(crate) fn first_time(&mut self, process: ProcessId, condition: Condition) -> bool {
        self.last.insert((process, condition), self.scan).is_none()
    }

    /// Ends a scan: a condition without a call since the last scan is over, and would be reported again.
    pub(crate) fn scan_complete(&mut self) {
        let scan = self.scan;
        self.last.retain(|_, last| *last == scan);
        self.scan += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pid, StartTime};

    fn process(pid: u32, start: u64) -> ProcessId {
        ProcessId { pid: Pid(pid), start: StartTime(start) }
    }

    #[test]
    fn a_lasting_condition_is_reported_once() {
        let mut reports = ReportOnce::default();
        assert!(reports.first_time(process(7, 1), Condition::WouldTerminate));
        for _ in 0..3 {
            reports.scan_complete();
            assert!(!reports.first_time(process(7, 1), Condition::WouldTerminate));
        }
        assert!(reports.first_time(process(7, 1), Condition::Unsure), "another condition is reported");
        assert!(
            reports.first_time(process(7, 2), Condition::WouldTerminate),
            "another process with the same pid"
        );
    }

    #[test]
    fn a_condition_that_ended_is_reported_again() {
        let mut reports = ReportOnce::default();
        assert!(reports.first_time(process(7, 1), Condition::WouldTerminate));
        reports.scan_complete();
        reports.scan_complete();
        assert!(reports.first_time(process(7, 1), Condition::WouldTerminate));
    }
}

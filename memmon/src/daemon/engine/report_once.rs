//! What was said of whom: a state that lasts for many scans is news once.

use std::collections::HashMap;

use crate::model::ProcessId;

/// What can be said of a process that memmon does not terminate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::daemon) enum Condition {
    /// It would be terminated, were this not a dry run.
    WouldTerminate,
    /// It is over a limit, but a rule that may protect it could not be checked.
    Unsure,
    /// It is over a limit and comes back too often.
    HeldBack,
    /// The map and /proc differ about it.
    Disagreement,
}

/// Remembers the last thing said of each process, for as long as it stays true.
#[derive(Debug, Default)]
pub(in crate::daemon) struct ReportOnce {
    last: HashMap<(ProcessId, Condition), u64>,
    scan: u64,
}

impl ReportOnce {
    /// Whether this is news; from now on it is not, as long as it is repeated in every scan.
    pub(in crate::daemon) fn first_time(&mut self, process: ProcessId, said: Condition) -> bool {
        self.last.insert((process, said), self.scan).is_none()
    }

    /// A scan is over: what was not said again in it, or since the one before, has ended and would be news again.
    pub(in crate::daemon) fn scan_complete(&mut self) {
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
    fn a_lasting_state_is_news_once() {
        let mut told = ReportOnce::default();
        assert!(told.first_time(process(7, 1), Condition::WouldTerminate));
        for _ in 0..3 {
            told.scan_complete();
            assert!(!told.first_time(process(7, 1), Condition::WouldTerminate));
        }
        assert!(told.first_time(process(7, 1), Condition::Unsure), "another state is other news");
        assert!(
            told.first_time(process(7, 2), Condition::WouldTerminate),
            "another process with the same pid"
        );
    }

    #[test]
    fn a_state_that_ended_is_news_again() {
        let mut told = ReportOnce::default();
        assert!(told.first_time(process(7, 1), Condition::WouldTerminate));
        told.scan_complete();
        told.scan_complete();
        assert!(told.first_time(process(7, 1), Condition::WouldTerminate));
    }
}

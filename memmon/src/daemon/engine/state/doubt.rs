//! The end of doubts.
//!
//! A fact that could not be read leaves a doubt, and no process is signalled in doubt. But a process's owner can hold the lock
//! that a read waits for, again and again, so a doubt that the owner can cause lasts for [`LASTS`] and no longer: after
//! that the process is judged by what is known for certain. A doubt that only root or the kernel can cause stays. The policy
//! distinguishes the two: see [`crate::model::Process::settle`] and [`crate::model::Fact::Withheld`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::daemon::engine::state::observed::Observed;
use crate::model::ProcessId;

/// Time that a process may be in doubt for a reason that its owner can cause. A process that is busy, or hangs only for a
/// moment, is looked at four times until then.
const LASTS: Duration = Duration::from_millis(1500);

/// The most that the time between two looks counts for: without a look nothing is tried, and the doubt does not grow old.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// After how long without a look another doubt begins: longer than any pause between two looks at one in doubt.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Since when processes are in doubt. No system calls; the time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Doubts(BTreeMap<ProcessId, Since>);

#[derive(Clone, Copy, Debug)]
struct Since {
    first: Instant,
    observed: Observed,
    /// Whether its end was reported.
    reported: bool,
}

impl Doubts {
    /// Notes that `process` is in doubt. Returns how long it has been, if that is longer than it may last.
    pub(crate) fn outlasts(&mut self, process: ProcessId, now: Instant) -> Option<Duration> {
        self.0.retain(|_, since| now.saturating_duration_since(since.observed.last()) < FORGOTTEN);
        let begins = Since { first: now, observed: Observed::begin(now), reported: false };
        let since = self.0.entry(process).or_insert(begins);
        let counts = since.observed.again(now, BETWEEN_LOOKS);
        (counts >= LASTS).then(|| now.saturating_duration_since(since.first))
    }

    /// Notes that a look at `process` left no doubt, and nothing to decide.
    pub(crate) fn end(&mut self, process: ProcessId) {
        self.0.remove(&process);
    }

    /// Whether the end of this doubt is to be reported, which is so once.
    pub(crate) fn report(&mut self, process: ProcessId) -> bool {
        self.0.get_mut(&process).is_some_and(|since| !std::mem::replace(&mut since.reported, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pid, StartTime};

    #[test]
    fn a_time_in_which_memmon_was_stopped_ends_no_doubt() {
        let (mut doubts, start) = (Doubts::default(), Instant::now());
        let process = ProcessId { pid: Pid(7), start: StartTime(1) };
        let mut lasted = |milliseconds| doubts.outlasts(process, start + Duration::from_millis(milliseconds));
        assert_eq!([lasted(0), lasted(100)], [None, None]);
        assert_eq!(lasted(10_100), None, "one look before, and one after it");
        assert_eq!([lasted(10_200), lasted(10_400)], [None, None]);
        assert_eq!(lasted(10_800), Some(Duration::from_millis(10_800)));
    }

    #[test]
    fn a_doubt_lasts_so_long_and_no_longer() {
        let mut doubts = Doubts::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let process = |pid| ProcessId { pid: Pid(pid), start: StartTime(1) };
        for early in [0, 100, 700, 1499] {
            assert_eq!(doubts.outlasts(process(7), at(early)), None);
        }
        assert_eq!(doubts.outlasts(process(8), at(1499)), None, "each has its own");
        assert_eq!(doubts.outlasts(process(7), at(1500)), Some(LASTS));
        assert_eq!(
            doubts.outlasts(process(7), at(9000)),
            Some(Duration::from_secs(9)),
            "it does not begin again"
        );
        assert!(doubts.report(process(7)) && !doubts.report(process(7)) && !doubts.report(process(9)));
        doubts.end(process(7));
        assert_eq!(doubts.outlasts(process(7), at(9001)), None);
        // One that was not looked at for long.
        assert_eq!(doubts.outlasts(process(7), at(9001) + FORGOTTEN), None);
        assert_eq!(doubts.0.len(), 1);
    }
}

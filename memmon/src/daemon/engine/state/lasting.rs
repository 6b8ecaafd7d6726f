//! Since when processes are over the limit of a rule with `for`. No system calls; the time is an argument.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::daemon::engine::state::observed::Observed;
use crate::model::ProcessId;

/// Longest pause between two looks: a process that was within its limit in between is likely to be seen there.
const PAUSE: Duration = Duration::from_secs(1);

/// A process that was not looked at for so long begins again.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// The most that the time between two looks counts for.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// The processes, each with the time for which it was found over its limit.
#[derive(Debug, Default)]
pub(crate) struct Lasting(BTreeMap<ProcessId, Observed>);

impl Lasting {
    /// Notes that a process is over its limit. Returns the time to look at it next; `None` if it has been for as long as
    /// `lasting`.
    pub(crate) fn note(&mut self, id: ProcessId, lasting: Duration, now: Instant) -> Option<Instant> {
        self.0.retain(|_, over| now.saturating_duration_since(over.last()) < FORGOTTEN);
        let counts = self.0.entry(id).or_insert(Observed::begin(now)).again(now, BETWEEN_LOOKS);
        let left = lasting.checked_sub(counts).filter(|left| !left.is_zero())?;
        Some(now + left.min(PAUSE))
    }

    /// Notes that a process is not over its limit.
    pub(crate) fn end(&mut self, id: ProcessId) {
        self.0.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pid, StartTime};

    #[test]
    fn a_process_is_over_for_so_long_without_a_break() {
        let mut lasting = Lasting::default();
        let (id, start) = (ProcessId { pid: Pid(7), start: StartTime(1) }, Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let ten = Duration::from_secs(10);
        for second in 0..9 {
            assert_eq!(lasting.note(id, ten, at(second * 1000)), Some(at((second + 1) * 1000)));
        }
        assert_eq!(lasting.note(id, ten, at(9700)), Some(at(10_000)));
        assert_eq!(lasting.note(id, ten, at(10_000)), None);
        assert_eq!(lasting.note(id, ten, at(10_100)), None, "it stays due");
        lasting.end(id);
        assert_eq!(lasting.note(id, ten, at(11_000)), Some(at(12_000)), "it was within its limit");
        assert_eq!(lasting.note(id, ten, at(11_000) + FORGOTTEN), Some(at(12_000) + FORGOTTEN));
    }

    #[test]
    fn a_time_in_which_memmon_was_stopped_does_not_count() {
        let mut lasting = Lasting::default();
        let (id, start) = (ProcessId { pid: Pid(7), start: StartTime(1) }, Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let thirty = Duration::from_secs(30);
        assert_eq!(lasting.note(id, thirty, at(0)), Some(at(1)));
        // It may have been within its limit for most of that time.
        assert_eq!(lasting.note(id, thirty, at(100)), Some(at(101)));
        for second in 101..128 {
            assert_eq!(lasting.note(id, thirty, at(second)), Some(at(second + 1)));
        }
        assert_eq!(lasting.note(id, thirty, at(128)), None);
    }
}

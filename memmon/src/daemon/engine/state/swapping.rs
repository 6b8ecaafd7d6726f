//! Whether the memory that goes to the swap comes back, which shows that processes need more than there is. No system calls;
//! the time is an argument.

use std::time::{Duration, Instant};

use crate::model::Paging;
use crate::policy::machine::swaps_calmly;

/// Time between two counts that are compared.
const BETWEEN: Duration = Duration::from_secs(10);

/// Time for which as much must come back as goes. When a process takes much memory at once, the kernel also takes some, for
/// seconds, that others need.
const LASTS: Duration = Duration::from_secs(30);

/// After this time without pressure, an earlier count is not compared.
const OUTDATED: Duration = Duration::from_secs(60);

/// The counts of the kernel while processes wait for memory.
#[derive(Debug, Default)]
pub(crate) struct Swapping {
    before: Option<(Instant, Paging)>,
    /// The time since which memory comes back.
    returns_since: Option<Instant>,
}

impl Swapping {
    /// Adds a count; `None` if the kernel does not count.
    pub(crate) fn note(&mut self, paging: Option<Paging>, now: Instant) {
        let Some(paging) = paging else {
            *self = Self::default();
            return;
        };
        let elapsed = self.before.map(|(at, _)| now.saturating_duration_since(at));
        match (self.before, elapsed) {
            (Some((at, before)), Some(elapsed)) if elapsed < OUTDATED => {
                if elapsed < BETWEEN {
                    return;
                }
                let since = *self.returns_since.get_or_insert(at);
                self.returns_since = Some(since).filter(|_| !swaps_calmly(before, paging));
            }
            _ => self.returns_since = None,
        }
        self.before = Some((now, paging));
    }

    /// Whether nearly all stays in the swap, or has not come back for long. Before the first count, and if the kernel does not
    /// count, it is not.
    pub(crate) fn is_calm(&self, now: Instant) -> bool {
        let lasts = |since: Instant| now.saturating_duration_since(since) >= LASTS;
        self.before.is_some() && !self.returns_since.is_some_and(lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_calm_any_more_when_memory_came_back_for_half_a_minute() {
        let (mut swapping, now) = (Swapping::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(!swapping.is_calm(now), "nothing was counted");
        let mut is_calm = |seconds, out, back| {
            swapping.note(Some(Paging { out, back }), at(seconds));
            swapping.is_calm(at(seconds))
        };
        assert!(is_calm(0, 10_000, 50_000));
        assert!(is_calm(10, 20_000, 60_000) && is_calm(20, 30_000, 70_000) && is_calm(29, 40_000, 80_000));
        assert!(!is_calm(30, 40_000, 80_000));
        // A process takes much at once; and again it is as before, but not for long.
        assert!(is_calm(40, 90_000, 81_000) && is_calm(50, 100_000, 91_000) && is_calm(60, 110_000, 101_000));
        assert!(is_calm(70, 190_000, 102_000) && is_calm(80, 200_000, 112_000));
        assert!(is_calm(150, 200_000, 182_000), "who knows what happened in that time");
        assert!(is_calm(160, 200_000, 192_000));
        swapping.note(None, at(160));
        assert!(!swapping.is_calm(at(160)), "a kernel that does not count");
    }
}

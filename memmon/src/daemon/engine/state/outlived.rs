//! Memory that outlives the process that the kernel map has it under: it is another process's then, which may stand still
//! and make no event. The map is seeded again for it. No system calls; the time is an argument.

use std::time::{Duration, Instant};

/// Time between the event and the first seed: the memory changes hands late in the exit.
const FIRST: Duration = Duration::from_millis(10);

/// The second one, for an exit that took its time; and the least between two, however many such processes end.
const SECOND: Duration = Duration::from_millis(200);

/// The times at which the map is to be seeded again.
#[derive(Debug, Default)]
pub(crate) struct Reseeds(Option<Due>);

#[derive(Debug)]
struct Due {
    at: Instant,
    more: bool,
}

impl Reseeds {
    /// Has the map seeded soon, and once more after that.
    pub(crate) fn note(&mut self, now: Instant) {
        self.0.get_or_insert(Due { at: now + FIRST, more: true }).more = true;
    }

    /// The time at which the next seed is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.as_ref().map(|due| due.at)
    }

    /// Whether a seed is due now.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let Some(due) = self.0.take_if(|due| due.at <= now) else { return false };
        self.0 = due.more.then_some(Due { at: now + SECOND, more: false });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seeds_for_one_end_and_few_for_many() {
        let mut reseeds = Reseeds::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        reseeds.note(start);
        assert!(!reseeds.take_due(at(9)) && reseeds.take_due(at(10)));
        assert!(!reseeds.take_due(at(209)) && reseeds.take_due(at(210)));
        assert_eq!(reseeds.next(), None);
        let seeds = (300..1300).filter(|now| {
            reseeds.note(at(*now));
            reseeds.take_due(at(*now))
        });
        assert!((4..7).contains(&seeds.count()));
    }
}

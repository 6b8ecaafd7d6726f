//! Finds processes that change their user or their cgroup, as the sums show it. Everything here is pure.

use std::collections::HashMap;

use crate::model::Pid;

/// The sums in which the processes of the table counted at the last reading, and the processes that count elsewhere since.
#[derive(Default)]
pub(super) struct Places {
    known: HashMap<Pid, (u32, u64)>,
    moved: Vec<Pid>,
}

impl Places {
    /// Notes a whole reading of the table: the entries that count in a sum.
    pub(super) fn note(&mut self, now: HashMap<Pid, (u32, u64)>) {
        let is_elsewhere =
            |(pid, place): &(&Pid, &(u32, u64))| self.known.get(pid).is_some_and(|before| before != *place);
        self.moved.extend(now.iter().filter(is_elsewhere).map(|(pid, _)| *pid));
        self.known = now;
    }

    /// The processes that count elsewhere, since the last call.
    pub(super) fn take_moved(&mut self) -> Vec<Pid> {
        std::mem::take(&mut self.moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_counts_elsewhere_has_moved() {
        let mut places = Places::default();
        let mut moved = |now: &[(u32, (u32, u64))]| {
            places.note(now.iter().map(|(pid, place)| (Pid(*pid), *place)).collect());
            places.take_moved()
        };
        assert_eq!(moved(&[(1, (0, 5)), (2, (0, 5))]), []);
        assert_eq!(moved(&[(1, (0, 5)), (2, (1000, 5)), (3, (0, 0))]), [Pid(2)]);
        assert_eq!(moved(&[(1, (0, 6)), (2, (1000, 5))]), [Pid(1)]);
    }
}

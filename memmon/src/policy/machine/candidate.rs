//! The processes that may have caused a shortage.

use std::{cmp::Reverse, collections::BTreeMap};

use super::Growth;
use crate::model::{Bytes, Holdings, Name, Process, Reading};

/// Memory of the units of idle processes when the machine was well.
pub type Held = BTreeMap<Name, Bytes>;

/// A process that may have caused the shortage, as /proc has just confirmed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The process, with its memory measured.
    pub process: Process,
    /// Its growth since the machine was well, without shared memory.
    pub growth: Bytes,
    /// The growth of its shared memory.
    pub shared_growth: Bytes,
    /// The part of `growth` that came early: see [`super::recency`].
    pub early: Bytes,
    /// The part of `shared_growth` that came early.
    pub shared_early: Bytes,
    /// Its memory when the machine was well.
    pub before: Bytes,
}

impl Candidate {
    /// The part of its growth that its end gives back. Memory that others hold as well did not come from it.
    pub(super) fn own_growth(&self) -> Bytes {
        gives_back(&self.process).min(self.own(self.growth, self.shared_growth))
    }

    /// The part of that which came early. It may have shrunk since.
    pub(super) fn own_early(&self) -> Bytes {
        self.own(self.early, self.shared_early)
    }

    fn own(&self, private: Bytes, shared: Bytes) -> Bytes {
        let known = self.process.holdings.as_ref().and_then(|holdings| holdings.shared.known());
        private + shared.min(known.map_or(Bytes::ZERO, |known| known.returned))
    }
}

/// The processes that may have caused a shortage, and what their units held before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates {
    /// The processes that have grown most.
    pub grown: Vec<Candidate>,
    /// Growth of those that have grown as well, but were too many to be confirmed: without shared memory, and with less of what
    /// came early.
    pub others: Bytes,
    /// Memory of the other processes of a unit when the machine was well.
    pub idle: Held,
}

impl Candidates {
    /// Counts the `growth` of a process that is not confirmed, without what it can have `inherited` when it was forked: each of
    /// its relatives has the same memory.
    pub fn add_other(&mut self, growth: Bytes, inherited: Bytes) {
        self.others = self.others + growth.saturating_sub(inherited);
    }

    /// The part of the growth of those that were not confirmed that their ends give back: as much of it as of the growth of the
    /// candidates. Of forked processes most may be memory that they share.
    pub(super) fn own_of_others(&self) -> Bytes {
        let (mut growth, mut own) = (Bytes::ZERO, Bytes::ZERO);
        for candidate in &self.grown {
            growth = growth + candidate.growth;
            own = own + candidate.own_growth().min(candidate.growth);
        }
        self.others.times(own.percent_of(growth) / 100.0)
    }
}

/// A process that has grown, with its reading now.
type Grown = (Growth, Reading);

/// The `most` of the processes that have `grown` which are looked at closely, and the others. Half of them have grown most by
/// memory that is not shared: each process that maps the same large segment has grown by all of that. The rest have grown most
/// altogether.
pub fn most_grown(mut grown: Vec<Grown>, most: usize) -> (Vec<Grown>, Vec<Grown>) {
    let largest_first = |all: &mut [Grown], size: fn(&Growth) -> Bytes| {
        all.sort_by_key(|(growth, reading)| (Reverse(size(growth)), reading.pid));
    };
    if grown.len() <= most {
        return (grown, Vec::new());
    }
    largest_first(&mut grown, |growth| growth.private);
    if let Some(rest) = grown.get_mut(most / 2..) {
        largest_first(rest, Growth::total);
    }
    let others = grown.split_off(most);
    (grown, others)
}

/// The memory that the end of a process gives back for certain: shared memory only if it is known to be freed.
pub fn gives_back(process: &Process) -> Bytes {
    let Some(Holdings { parts, shared, .. }) = &process.holdings else { return process.own() };
    let shared = shared.known().map_or(Bytes::ZERO, |shared| shared.returned);
    process.own().min(parts.anon + shared) + parts.swap
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fact, Parts};
    use crate::policy::fixtures::{hog, reading};

    const MIB: u64 = Bytes::MIB;

    /// A process that has grown by so many MiB, and has so many of its own.
    fn candidate(growth: u64, own: u64) -> Candidate {
        let parts = Parts { anon: Bytes(own * MIB), ..Parts::default() };
        let holdings = Some(Holdings { parts, shared: Fact::Absent, trouble: None });
        Candidate {
            process: Process { rss: parts.anon, holdings, ..hog() },
            growth: Bytes(growth * MIB),
            shared_growth: Bytes::ZERO,
            early: Bytes::ZERO,
            shared_early: Bytes::ZERO,
            before: Bytes::ZERO,
        }
    }

    #[test]
    fn memory_that_others_were_forked_with_does_not_count() {
        let mut candidates = Candidates { grown: vec![candidate(100, 100)], ..Candidates::default() };
        for (growth, inherited) in [(50, 45), (50, 60), (40, 0)] {
            candidates.add_other(Bytes(growth * MIB), Bytes(inherited * MIB));
        }
        assert_eq!(candidates.own_of_others(), Bytes(45 * MIB));
    }

    #[test]
    fn others_count_by_what_the_candidates_give_back() {
        let of_others = |grown| {
            let candidates = Candidates { grown, others: Bytes(1000 * MIB), ..Candidates::default() };
            candidates.own_of_others().0 / MIB
        };
        assert_eq!(of_others(vec![candidate(100, 120), candidate(50, 50)]), 1000);
        // Children that have most of it with their parent.
        assert_eq!(of_others(vec![candidate(50, 50), candidate(100, 5), candidate(100, 20)]), 300);
        assert_eq!(of_others(Vec::new()), 0);
    }

    #[test]
    fn a_leak_is_looked_at_beside_many_that_map_a_large_segment() {
        let grown = |pid, private: u64, shared: u64| {
            let growth = Growth { private: Bytes(private), shared: Bytes(shared), before: Bytes::ZERO };
            (growth, reading(pid, 1))
        };
        let mut all: Vec<_> = (100..110).map(|pid| grown(pid, 2, 800)).collect();
        all.extend([grown(1, 500, 100), grown(2, 1, 700), grown(3, 1, 900)]);
        let (looked_at, others) = most_grown(all.clone(), 6);
        let pids =
            |all: &[(Growth, Reading)]| all.iter().map(|(_, reading)| reading.pid.0).collect::<Vec<_>>();
        assert_eq!(pids(&looked_at), [1, 100, 101, 3, 102, 103]);
        assert_eq!(pids(&others), [104, 105, 106, 107, 108, 109, 2]);
        assert_eq!(most_grown(all.clone(), all.len()), (all, Vec::new()));
    }
}

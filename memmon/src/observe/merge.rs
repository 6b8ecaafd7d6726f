//! Who is right where the kernel map and a /proc pass tell of the same processes. Pure.
//!
//! The two are never read at the same moment. What one has and the other has not is therefore a suspicion, true only
//! if it still holds when the caller looks again: a process may have started or ended in between.

use std::collections::HashMap;

use crate::model::{Bytes, Pid, Process, ProcessId, Reading};

/// What the map and /proc say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Every process that either has seen, each once, in no particular order.
    pub readings: Vec<Reading>,
    /// Processes that only /proc has seen: born after the map was read, borrowing their parent's memory until they
    /// exec, or missed by the map, which is a defect.
    pub missed: Vec<Pid>,
    /// Processes that only the map has seen: ended since it was read, hidden from /proc, or an entry to be removed.
    pub stale: Vec<Pid>,
}

/// Joins one reading of the map with one pass over /proc, each with at most one reading of a pid.
///
/// Of two readings of one process the map's is kept, as it knows the start time; with the figure of /proc where the two
/// are further apart than both may err, as /proc's is nearer to the truth.
pub fn merge(map: &[Reading], proc: &[Reading]) -> Merged {
    let mut seen: HashMap<Pid, &Reading> = proc.iter().map(|reading| (reading.pid, reading)).collect();
    let mut merged = Merged { readings: Vec::with_capacity(map.len()), ..Merged::default() };
    for ours in map {
        let Some(theirs) = seen.remove(&ours.pid) else {
            merged.stale.push(ours.pid);
            merged.readings.push(*ours);
            continue;
        };
        let apart = differ(ours.rss, theirs.rss, ours.error + theirs.error);
        merged.readings.push(if apart { Reading { start: ours.start, ..*theirs } } else { *ours });
    }
    merged.missed.extend(seen.keys());
    merged.readings.extend(seen.into_values());
    merged
}

/// The map and the exact figure, where they are further apart than they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Whose memory it is about.
    pub id: ProcessId,
    /// What the map has.
    pub map: Bytes,
    /// What /proc confirmed.
    pub exact: Bytes,
    /// How far apart they may be.
    pub allowed: Bytes,
}

/// Whether the map is wrong about a process that /proc confirmed; `None` too where the pid is another process's now.
///
/// The process may have grown or shrunk between the two: only what repeats while it stands still is a defect.
pub fn disagreement(map: &Reading, exact: &Process) -> Option<Disagreement> {
    let same = map.pid == exact.id.pid && map.start.is_none_or(|start| start == exact.id.start);
    let allowed = map.error + exact.error;
    (same && differ(map.rss, exact.rss, allowed)).then_some(Disagreement {
        id: exact.id,
        map: map.rss,
        exact: exact.rss,
        allowed,
    })
}

const fn differ(one: Bytes, other: Bytes, allowed: Bytes) -> bool {
    one.0.abs_diff(other.0) > allowed.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Fact, Name, Names, StartTime, Uid};

    fn of_map(pid: u32, rss: u64) -> Reading {
        Reading { pid: Pid(pid), start: Some(StartTime(u64::from(pid))), rss: Bytes(rss), error: Bytes(10) }
    }

    fn of_proc(pid: u32, rss: u64) -> Reading {
        Reading { pid: Pid(pid), start: None, rss: Bytes(rss), error: Bytes::ZERO }
    }

    fn confirmed(pid: u32, start: u64, rss: u64) -> Process {
        Process {
            id: ProcessId { pid: Pid(pid), start: StartTime(start) },
            parent: Pid(1),
            rss: Bytes(rss),
            error: Bytes(5),
            real_uid: Uid(1000),
            effective_uid: Uid(1000),
            names: Names { comm: Name::from("cat"), exe: Fact::Absent, argv0: Fact::Absent },
            cgroup: Fact::Absent,
            oom_score_adj: Fact::Known(0),
            kernel_thread: false,
        }
    }

    #[test]
    fn each_has_what_the_other_misses() {
        let merged = merge(&[of_map(1, 100), of_map(2, 200)], &[of_proc(2, 205), of_proc(3, 300)]);
        assert_eq!(merged.readings, [of_map(1, 100), of_map(2, 200), of_proc(3, 300)]);
        assert_eq!((merged.stale, merged.missed), (vec![Pid(1)], vec![Pid(3)]));
    }

    #[test]
    fn a_map_that_errs_too_far_gives_way() {
        for (exact, kept) in [(110, 100), (90, 100), (111, 111), (89, 89)] {
            let merged = merge(&[of_map(1, 100)], &[of_proc(1, exact)]);
            let [reading] = merged.readings[..] else { panic!("one process, one reading") };
            assert_eq!((reading.rss, reading.start), (Bytes(kept), Some(StartTime(1))));
        }
    }

    #[test]
    fn only_more_than_both_errors_is_a_disagreement() {
        assert_eq!(disagreement(&of_map(7, 100), &confirmed(7, 7, 115)), None);
        let found = Disagreement {
            id: ProcessId { pid: Pid(7), start: StartTime(7) },
            map: Bytes(100),
            exact: Bytes(116),
            allowed: Bytes(15),
        };
        assert_eq!(disagreement(&of_map(7, 100), &confirmed(7, 7, 116)), Some(found));
        assert_eq!(disagreement(&of_map(7, 100), &confirmed(7, 8, 9000)), None);
        assert_eq!(disagreement(&of_map(7, 100), &confirmed(8, 7, 9000)), None);
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_nobody_counts_twice(
            map in proptest::collection::btree_map(0..40_u32, 0..200_u64, 0..40),
            proc in proptest::collection::btree_map(0..40_u32, 0..200_u64, 0..40),
        ) {
            let ours: Vec<_> = map.iter().map(|(pid, rss)| of_map(*pid, *rss)).collect();
            let theirs: Vec<_> = proc.iter().map(|(pid, rss)| of_proc(*pid, *rss)).collect();
            let merged = merge(&ours, &theirs);
            let either: BTreeSet<u32> = map.keys().chain(proc.keys()).copied().collect();
            let pids: BTreeSet<u32> = merged.readings.iter().map(|reading| reading.pid.0).collect();
            prop_assert_eq!(&pids, &either);
            prop_assert_eq!(merged.readings.len(), either.len());
            prop_assert!(merged.missed.iter().all(|pid| !map.contains_key(&pid.0) && proc.contains_key(&pid.0)));
            prop_assert!(merged.stale.iter().all(|pid| map.contains_key(&pid.0) && !proc.contains_key(&pid.0)));
            for reading in &merged.readings {
                // No limit is slept through because of the merge: /proc's exact figure is always within reach.
                if let Some(exact) = proc.get(&reading.pid.0) {
                    prop_assert!((reading.rss + reading.error).0 >= *exact);
                }
            }
        }
    }
}

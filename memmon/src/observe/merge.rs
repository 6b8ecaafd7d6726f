//! Merges the kernel map with a pass over /proc. Everything here is pure.
//!
//! The two are never read at the same moment, and a process may have started or ended in between. A process that only
//! one of them has is therefore only a suspicion until the caller looks again.

use std::collections::HashMap;

use crate::model::{Bytes, Pid, Process, ProcessId, Reading};

/// The map and /proc together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Every process that either has, each once, in no particular order.
    pub readings: Vec<Reading>,
    /// Processes that only /proc has: they started after the map was read, borrow their parent's memory until they call
    /// exec, or are missing from the map, which is a defect.
    pub missed: Vec<Pid>,
    /// Processes that only the map has: they ended since it was read, are hidden in /proc, or their entry must be removed.
    pub stale: Vec<Pid>,
}

/// Joins one reading of the map with one pass over /proc, each with at most one reading of a pid.
///
/// Of two readings of one process the map's is kept, because it has the start time. If the two differ by more than both
/// errors, /proc's figure replaces the map's, because it is more exact.
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
        merged.readings.push(if apart {
            Reading { start: ours.start, held: ours.held, shmem: ours.shmem, ..*theirs }
        } else {
            *ours
        });
    }
    merged.missed.extend(seen.keys());
    merged.readings.extend(seen.into_values());
    merged
}

/// A difference between the map and the exact figure that exceeds their errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The process.
    pub id: ProcessId,
    /// Its memory in the map.
    pub map: Bytes,
    /// Its memory in /proc.
    pub exact: Bytes,
    /// The difference that their errors allow.
    pub allowed: Bytes,
}

/// The difference if the map is wrong about a process that /proc confirmed; `None` also if the pid is now another
/// process's.
///
/// The process may have grown or shrunk in between: it is a defect only if it repeats while the process is idle.
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
    use crate::model::{StartTime, testing};

    fn of_map(pid: u32, rss: u64) -> Reading {
        let (start, rss) = (Some(StartTime(u64::from(pid))), Bytes(rss));
        Reading { pid: Pid(pid), start, rss, held: rss, shmem: Bytes::ZERO, error: Bytes(10) }
    }

    fn of_proc(pid: u32, rss: u64) -> Reading {
        let rss = Bytes(rss);
        Reading { pid: Pid(pid), start: None, rss, held: rss, shmem: Bytes::ZERO, error: Bytes::ZERO }
    }

    fn confirmed(pid: u32, start: u64, rss: u64) -> Process {
        Process { rss: Bytes(rss), error: Bytes(5), ..testing::process(pid, start) }
    }

    #[test]
    fn each_source_adds_the_processes_the_other_lacks() {
        let merged = merge(&[of_map(1, 100), of_map(2, 200)], &[of_proc(2, 205), of_proc(3, 300)]);
        assert_eq!(merged.readings, [of_map(1, 100), of_map(2, 200), of_proc(3, 300)]);
        assert_eq!((merged.stale, merged.missed), (vec![Pid(1)], vec![Pid(3)]));
    }

    #[test]
    fn proc_replaces_a_map_figure_that_is_too_far_off() {
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
        fn each_process_has_exactly_one_reading(
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
                // The merge hides no process over its limit: the reading plus its error covers /proc's exact figure.
                if let Some(exact) = proc.get(&reading.pid.0) {
                    prop_assert!((reading.rss + reading.error).0 >= *exact);
                }
            }
        }
    }
}

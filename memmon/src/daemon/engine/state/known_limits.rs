//! The limits that rules give to processes: a look shows which rule is the one of a process, and until that can have changed no
//! scan has to look again at one that is within its own limit. No system calls; the time is an argument.
//!
//! A rule for one program can have a limit that thousands of other processes exceed. Without this each scan would look at all of
//! them, and ask all rules about each. The kernel wakes memmon for a process that grows towards its limit, or calls exec and
//! grows, whatever is known here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::model::{Bytes, ProcessId, Reading};

/// The time for which a known limit of a process holds: as long as it had lived at the look, because a young process is about to call
/// exec or change its user; in these bounds.
const HOLDS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(300));

/// The limits, until they may have changed.
#[derive(Debug, Default)]
pub(crate) struct KnownLimits(HashMap<ProcessId, (Bytes, Instant)>);

impl KnownLimits {
    /// Notes that a process, which had lived for so long, is within `limit`, its own one.
    pub(crate) fn note(&mut self, process: ProcessId, limit: Bytes, age: Duration, now: Instant) {
        let (least, most) = HOLDS;
        self.0.insert(process, (limit, now + age.clamp(least, most)));
    }

    /// Whether a process is certain to be within its own limit. A reading without a start time may be of another process.
    pub(crate) fn is_within(&self, reading: &Reading, now: Instant) -> bool {
        let id = reading.start.map(|start| ProcessId { pid: reading.pid, start });
        let known = id.and_then(|id| self.0.get(&id));
        known.is_some_and(|(limit, until)| now < *until && reading.rss + reading.error <= *limit)
    }

    /// Forgets the limits that do not hold any more.
    pub(crate) fn scan_complete(&mut self, now: Instant) {
        self.0.retain(|_, (_, until)| now < *until);
    }

    /// Other rules, or other thresholds, are in force.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pid, Process, StartTime, Survey, SystemMemory};
    use crate::policy::{self, Matcher, NamePatterns, RuleLimit, Rules, fixtures::hog};

    const MIB: u64 = 1 << 20;
    const MEMORY: SystemMemory = SystemMemory { total: Bytes(64 << 30), available: Bytes(32 << 30) };

    fn reading(pid: u32, mib: u64) -> Reading {
        let (pid, start, rss) = (Pid(pid), Some(StartTime(9)), Bytes(mib * MIB));
        Reading { pid, start, rss, error: Bytes(MIB), held: Bytes::ZERO, shmem: Bytes::ZERO }
    }

    fn id(pid: u32) -> ProcessId {
        ProcessId { pid: Pid(pid), start: StartTime(9) }
    }

    #[test]
    fn a_limit_holds_as_long_as_the_process_had_lived() {
        let (mut known, begun) = (KnownLimits::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        known.note(id(7), Bytes(100 * MIB), Duration::from_secs(5), begun);
        assert!(known.is_within(&reading(7, 99), after(4)));
        assert!(!known.is_within(&reading(7, 100), after(4)), "it may have 101");
        assert!(!known.is_within(&reading(7, 99), after(5)));
        let other = Reading { start: Some(StartTime(10)), ..reading(7, 9) };
        assert!(!known.is_within(&other, begun), "another process with the pid");
        assert!(!known.is_within(&Reading { start: None, ..reading(7, 9) }, begun));
        known.note(id(7), Bytes(100 * MIB), Duration::from_secs(1 << 30), begun);
        assert!(
            known.is_within(&reading(7, 99), after(299)) && !known.is_within(&reading(7, 99), after(300))
        );
        known.scan_complete(after(300));
        assert!(known.0.is_empty());
    }

    /// 500 rules, each with a small limit for one program.
    fn many_rules() -> Rules {
        let rule = |number: usize| {
            let names = NamePatterns::new([&*format!("program-{number}")]).unwrap();
            let matcher = Matcher { names: Some(names), ..Matcher::default() };
            let limit = RuleLimit::Own { percent: None, bytes: Some(Bytes(10 * MIB)) };
            policy::fixtures::limit_rule(&format!("rule-{number}"), matcher, limit)
        };
        Rules { rules: (0..500).map(rule).collect(), ..policy::fixtures::rules() }
    }

    #[test]
    fn of_five_thousand_processes_under_five_hundred_rules_each_is_looked_at_once() {
        let (rules, mut known, begun) = (many_rules(), KnownLimits::default(), Instant::now());
        let age = Duration::from_secs(3600);
        let mut looks = 0;
        let mut scan = |readings: &[Reading], at: Instant| {
            let survey = Survey { memory: MEMORY, readings: readings.to_vec() };
            let suspects = policy::suspects(&rules, &survey);
            assert_eq!(suspects.len(), 5000, "all exceed the limit of some rule");
            let before = looks;
            for reading in suspects.iter().filter(|reading| !known.is_within(reading, at)).collect::<Vec<_>>()
            {
                looks += 1;
                let process = Process { id: id(reading.pid.0), rss: reading.rss, ..hog() };
                known.note(process.id, rules.limit_of(&process, &MEMORY), age, at);
            }
            known.scan_complete(at);
            looks - before
        };
        let mut readings: Vec<_> = (1..=5000).map(|pid| reading(pid, 60)).collect();
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(scan(&readings, begun), 5000);
        assert_eq!([1, 2, 3].map(|scans| scan(&readings, after(30 * scans))), [0, 0, 0]);
        readings[7].rss = Bytes(1 << 40);
        assert_eq!(scan(&readings, after(120)), 1, "only the one that may be over its own limit");
        assert_eq!(scan(&readings, after(300)), 5000, "after five minutes each is looked at again");
    }
}

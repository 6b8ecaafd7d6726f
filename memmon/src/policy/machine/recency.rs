//! The part of growth that came early.
//!
//! A process that has grown, and then does not grow any more, is less to blame than one that grows on: what it takes was
//! there for a while, and the machine lived with it. So growth in the first half of the time since the machine was well
//! counts for an eighth, and so does the memory that the machine lost then. That is a ratio: a leak of hours is recognized
//! like one of seconds, and a hog that pauses ranks above growers of less than an eighth of its size.

use std::{collections::HashMap, time::Duration};

use super::{Baseline, Growth, Moment};
use crate::model::{Bytes, MachineMemory, Pid, Reading, StartTime};

/// The part for which growth counts that came in the first half of the time.
const EARLY: f64 = 0.125;

/// The first mark comes no sooner than this after the machine was well.
const FIRST: Duration = Duration::from_secs(5);

/// A mark shows only after this time that a process has stopped growing: under pressure, processes wait for seconds.
const LEAST: Duration = Duration::from_secs(10);

/// The time since the machine was well grows by this factor from one mark to the next.
const FACTOR: f64 = 1.2;

/// Decrease of available memory and free swap since the machine was well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// All of it.
    pub bytes: Bytes,
    /// The part that came early.
    pub early: Bytes,
}

impl Lost {
    /// None of it came early.
    pub const fn lately(bytes: Bytes) -> Self {
        Self { bytes, early: Bytes::ZERO }
    }

    /// The same, with less of what came early.
    pub fn weighed(&self) -> Bytes {
        weighed(self.bytes, self.early)
    }
}

/// The growth of processes at some times since the machine was well, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Marks(Vec<Mark>);

/// Growth of processes until some time.
#[derive(Clone, Debug)]
pub struct Mark {
    at: Moment,
    /// The processes that had grown by a megabyte.
    grown: HashMap<Pid, Growth>,
    /// The size of the limit that was the one to bind, and what was lost of it.
    limit: Bytes,
    lost: Bytes,
}

impl Mark {
    /// The growth since `baseline` of the processes with these `readings`.
    fn new(at: Moment, baseline: &Baseline, machine: &MachineMemory, readings: &[Reading]) -> Self {
        let grown = readings.iter().map(|reading| (reading.pid, baseline.growth_of_pid(reading)));
        let grown = grown.filter(|(_, growth)| growth.total() >= Bytes(Bytes::MIB)).collect();
        Self { at, grown, limit: machine.memory.total, lost: baseline.lost(machine) }
    }

    /// The `growth` until now of the process with this reading, without shared memory and with less of what came early.
    pub fn weighed(&self, reading: &Reading, growth: Bytes) -> Bytes {
        // A pass over /proc reads no start time: there it counts as the process that had this pid.
        let early = reading.start.map(|start| self.growth(reading.pid, start));
        let early = early.or_else(|| self.grown.get(&reading.pid).copied()).unwrap_or_default();
        weighed(growth, early.private)
    }

    /// The growth until then of a process.
    pub fn growth(&self, pid: Pid, start: StartTime) -> Growth {
        let growth = self.grown.get(&pid).filter(|_| start.since_boot() <= self.at.since_boot);
        growth.copied().unwrap_or_default()
    }
}

impl Marks {
    /// Whether a mark is due.
    pub fn is_due(&self, baseline: &Baseline, now: Moment) -> bool {
        let since = |at: Moment| at.awake.saturating_sub(baseline.at().awake);
        let due = self.0.last().map_or(FIRST, |last| since(last.at).mul_f64(FACTOR).max(FIRST));
        since(now) >= due
    }

    /// Adds a mark, and drops those that [`Marks::half`] does not need any more.
    pub fn add(&mut self, baseline: &Baseline, machine: &MachineMemory, readings: &[Reading], now: Moment) {
        if let Some(half) = self.position_of_half(baseline, now) {
            self.0.drain(..half);
        }
        self.0.push(Mark::new(now, baseline, machine, readings));
    }

    /// The last mark of the first half of the time since `baseline`; `None` if that is not long ago, or if another limit
    /// bound then.
    pub fn half(&self, baseline: &Baseline, machine: &MachineMemory, now: Moment) -> Option<&Mark> {
        let mark = self.0.get(self.position_of_half(baseline, now)?)?;
        (mark.limit == machine.memory.total).then_some(mark)
    }

    /// The memory that the machine has lost since `baseline`.
    pub fn lost(&self, baseline: &Baseline, machine: &MachineMemory, now: Moment) -> Lost {
        let bytes = baseline.lost(machine);
        let early = self.half(baseline, machine, now).map_or(Bytes::ZERO, |mark| mark.lost);
        Lost { bytes, early }
    }

    fn position_of_half(&self, baseline: &Baseline, now: Moment) -> Option<usize> {
        let began = baseline.at().awake;
        let half = began + now.awake.saturating_sub(began) / 2;
        self.0.iter().rposition(|mark| mark.at.awake <= half && mark.at.awake + LEAST <= now.awake)
    }
}

/// The part of `growth` that counts, if so much of it came `early`. It may have shrunk since.
pub(super) fn weighed(growth: Bytes, early: Bytes) -> Bytes {
    growth.saturating_sub(early) + growth.min(early).times(EARLY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Elsewhere, MachineMemory, SystemMemory};
    use crate::policy::fixtures::reading;

    const MIB: u64 = Bytes::MIB;

    fn machine(available: u64) -> MachineMemory {
        MachineMemory {
            memory: SystemMemory { total: Bytes(1024 * MIB), available: Bytes(available * MIB) },
            swap_total: Bytes::ZERO,
            swap_free: Bytes::ZERO,
            elsewhere: Elsewhere::default(),
            pressure: None,
        }
    }

    /// So many milliseconds since boot, without a suspend.
    fn moment(milliseconds: u64) -> Moment {
        let time = Duration::from_millis(milliseconds);
        Moment { since_boot: time, awake: time }
    }

    fn baseline() -> Baseline {
        Baseline::new(moment(100_000), machine(500), vec![reading(7, 200), reading(8, 1)])
    }

    /// The marks of looks each half second, for so many seconds.
    fn marks(seconds: u64, readings: impl Fn(u64) -> Vec<Reading>) -> Marks {
        let (mut marks, baseline) = (Marks::default(), baseline());
        for half_second in 0..=seconds * 2 {
            let now = moment(100_000 + half_second * 500);
            if marks.is_due(&baseline, now) {
                marks.add(
                    &baseline,
                    &machine(500_u64.saturating_sub(half_second / 2)),
                    &readings(half_second / 2),
                    now,
                );
            }
        }
        marks
    }

    #[test]
    fn the_half_is_that_of_the_time_since_the_machine_was_well() {
        let at = |seconds| moment(100_000 + seconds * 1000);
        for seconds in [20, 60, 3600, 50_000] {
            let marks = marks(seconds, |_| vec![]);
            assert!(marks.0.len() <= 6, "{} after {seconds} s", marks.0.len());
            let half = marks.half(&baseline(), &machine(0), at(seconds)).unwrap().at.awake;
            let half = half.as_secs_f64() - 100.0;
            assert!((0.4..=0.5).contains(&(half / seconds as f64)), "{half} of {seconds} s");
        }
        let marks = marks(14, |_| vec![]);
        assert!(marks.half(&baseline(), &machine(0), at(14)).is_none(), "ten seconds must have passed");
        assert!(Marks::default().half(&baseline(), &machine(0), at(1000)).is_none());
    }

    #[test]
    fn what_the_machine_lost_comes_early_and_late_as_well() {
        let marks = marks(100, |_| vec![]);
        let lost = |machine: MachineMemory| marks.lost(&baseline(), &machine, moment(200_000));
        let Lost { bytes, early } = lost(machine(200));
        assert_eq!(bytes, Bytes(300 * MIB));
        assert!((40 * MIB..=50 * MIB).contains(&early.0), "{early}");
        // The limit of a cgroup binds now.
        let memory = SystemMemory { total: Bytes(300 * MIB), available: Bytes(200 * MIB) };
        let lost = lost(MachineMemory { memory, ..machine(0) });
        assert_eq!(lost, Lost::lately(Bytes(300 * MIB)));
    }

    #[test]
    fn a_process_that_stopped_has_grown_early_and_one_that_goes_on_late() {
        // After the baseline, one grows by 300 at once, and another one by 4 MiB per second.
        let marks = marks(60, |second| vec![reading(7, 500), reading(8, 1 + 4 * second)]);
        let half = marks.half(&baseline(), &machine(0), moment(160_000)).unwrap();
        let early = |pid, ticks| half.growth(Pid(pid), StartTime(ticks)).total().0 / MIB;
        assert_eq!(early(7, 50), 300);
        assert!((96..=120).contains(&early(8, 50)), "{}", early(8, 50));
        // One that has the pid of another one, and one that had not grown then.
        assert_eq!((early(7, 15_900), early(9, 50)), (0, 0));
        let weighed = |growth, early| weighed(Bytes(growth), Bytes(early)).0;
        assert_eq!([weighed(300, 300), weighed(300, 100), weighed(300, 0)], [37, 212, 300]);
        assert_eq!(weighed(100, 300), 12, "it has shrunk");
    }

    #[test]
    fn no_growth_becomes_early_while_the_machine_is_suspended() {
        // Until then it grew by 4 MiB per second, and it goes on after a night.
        let marks = marks(30, |second| vec![reading(8, 1 + 4 * second)]);
        let night = Duration::from_secs(8 * 3600);
        let after = |now: Moment| Moment { since_boot: now.since_boot + night, ..now };
        let early = |now| {
            let half = marks.half(&baseline(), &machine(0), now);
            half.map(|half| half.growth(Pid(8), StartTime(50)).total().0 / MIB)
        };
        let (before, now) = (early(moment(130_000)), early(after(moment(131_000))));
        assert!(before.is_some_and(|early| early <= 60) && now == before, "{before:?}, {now:?}");
    }
}

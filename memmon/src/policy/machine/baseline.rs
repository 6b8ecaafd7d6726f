//! What each process had while the machine was well, and what it has grown by since.

use std::{collections::HashMap, time::Duration};

use crate::model::{Bytes, MachineMemory, Pid, Reading, StartTime};

/// The machine when it was well.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// When that was, since boot.
    at: Duration,
    machine: MachineMemory,
    held: HashMap<Pid, Bytes>,
}

impl Baseline {
    /// The machine and its processes `at` this time since boot.
    pub fn new(at: Duration, machine: MachineMemory, readings: &[Reading]) -> Self {
        Self { at, machine, held: readings.iter().map(|reading| (reading.pid, reading.held)).collect() }
    }

    /// The machine's memory then.
    pub const fn machine(&self) -> &MachineMemory {
        &self.machine
    }

    /// The time since boot.
    pub const fn at(&self) -> Duration {
        self.at
    }

    /// What a process has grown by since then, if it started at `start`, and has `reading` now. An older one that was not seen
    /// then may have had all of it: it has not grown.
    pub fn growth(&self, reading: &Reading, start: StartTime) -> Bytes {
        let start = start.since_boot();
        let before = match self.held.get(&reading.pid) {
            Some(held) if start <= self.at => *held,
            // Start times are rounded down.
            None if start + StartTime::TICK <= self.at => reading.held,
            _ => Bytes::ZERO,
        };
        reading.held.saturating_sub(before)
    }

    /// The same, if the source need not know the start time: that of the process which had this pid then.
    pub fn growth_of_pid(&self, reading: &Reading) -> Bytes {
        match reading.start {
            Some(start) => self.growth(reading, start),
            None => reading.held.saturating_sub(self.held.get(&reading.pid).copied().unwrap_or_default()),
        }
    }

    /// How much less memory is available, and swap free, than then.
    pub fn lost(&self, now: &MachineMemory) -> Bytes {
        let memory = self.machine.memory.available.saturating_sub(now.memory.available);
        memory + self.machine.swap_free.saturating_sub(now.swap_free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Elsewhere, SystemMemory};

    const MIB: u64 = Bytes::MIB;

    fn reading(pid: u32, held: u64) -> Reading {
        let held = Bytes(held * MIB);
        Reading { pid: Pid(pid), start: None, rss: held, held, error: Bytes::ZERO }
    }

    #[test]
    fn growth_is_that_of_the_same_process() {
        let memory = SystemMemory { total: Bytes(1024 * MIB), available: Bytes(512 * MIB) };
        let machine = MachineMemory {
            memory,
            swap_total: Bytes::ZERO,
            swap_free: Bytes::ZERO,
            elsewhere: Elsewhere::default(),
            pressure: None,
        };
        let baseline = Baseline::new(Duration::from_secs(100), machine, &[reading(7, 200), reading(8, 1)]);
        let growth = |pid, held, ticks| baseline.growth(&reading(pid, held), StartTime(ticks)).0 / MIB;
        // The database, idle; then at work.
        assert_eq!((growth(7, 200, 50), growth(7, 230, 50), growth(7, 150, 50)), (0, 30, 0));
        // One that was there and small, one that was there and not seen, and one that has the pid of another one.
        assert_eq!((growth(8, 91, 50), growth(9, 91, 50), growth(7, 91, 10_001)), (90, 0, 91));
        // In the tick of the baseline: it may be younger.
        assert_eq!((growth(9, 91, 10_000), growth(7, 210, 10_000)), (91, 10));
        assert_eq!(baseline.growth_of_pid(&reading(7, 230)), Bytes(30 * MIB));
        let now = MachineMemory { memory: SystemMemory { available: Bytes(50 * MIB), ..memory }, ..machine };
        assert_eq!((baseline.lost(&now), baseline.lost(&machine)), (Bytes(462 * MIB), Bytes::ZERO));
        let with_swap = MachineMemory { swap_free: Bytes(100 * MIB), ..machine };
        let baseline = Baseline::new(Duration::ZERO, with_swap, &[]);
        assert_eq!(baseline.lost(&now), Bytes(562 * MIB));
    }
}

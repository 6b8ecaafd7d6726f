//! The memory of each process while the machine was well, and its growth since.

use std::{cell::OnceCell, collections::HashMap, time::Duration};

use crate::model::{Bytes, MachineMemory, Pid, Reading, StartTime};

/// A time, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since boot, as start times of processes are.
    pub since_boot: Duration,
    /// Without the time for which the machine was suspended: in that, no process grows and none stops growing.
    pub awake: Duration,
}

/// The machine when it was well.
#[derive(Clone, Debug)]
pub struct Baseline {
    at: Moment,
    machine: MachineMemory,
    /// The figures of all limits that could bind.
    limits: Vec<MachineMemory>,
    readings: Vec<Reading>,
    /// The memory of each process in `readings`. While the machine is well, each scan makes a baseline, and nobody asks it.
    held: OnceCell<HashMap<Pid, Held>>,
}

/// The memory of a process.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    private: Bytes,
    shared: Bytes,
}

impl Held {
    fn of(reading: &Reading) -> Self {
        Self { private: reading.held.saturating_sub(reading.shmem), shared: reading.shmem }
    }
}

/// Growth of a process since the machine was well. Memory that is swapped in or out is no growth, if the reading counts
/// swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Growth of anonymous and swapped-out memory.
    pub private: Bytes,
    /// Growth of shared memory.
    pub shared: Bytes,
    /// Its memory at that time.
    pub before: Bytes,
}

impl Growth {
    /// Both together.
    pub fn total(&self) -> Bytes {
        self.private + self.shared
    }
}

impl Baseline {
    /// The machine and its processes `at` this time since boot.
    pub const fn new(at: Moment, machine: MachineMemory, readings: Vec<Reading>) -> Self {
        Self { at, machine, limits: Vec::new(), readings, held: OnceCell::new() }
    }

    /// The same, if these limits could have bound then: that of the machine, and those of cgroups.
    #[must_use]
    pub fn with_limits(self, limits: Vec<MachineMemory>) -> Self {
        Self { limits, ..self }
    }

    /// The figures then of the limit that binds now. One that has another size is another limit.
    pub fn of_limit(&self, now: &MachineMemory) -> &MachineMemory {
        let is_same = |then: &&MachineMemory| then.memory.total == now.memory.total;
        self.limits.iter().find(is_same).unwrap_or(&self.machine)
    }

    /// The machine's memory then.
    pub const fn machine(&self) -> &MachineMemory {
        &self.machine
    }

    /// The time of the baseline.
    pub const fn at(&self) -> Moment {
        self.at
    }

    /// Growth since then of a process that started at `start`, and has `reading` now. An older process that was not seen
    /// then may have had all of its memory: its growth is zero.
    pub fn growth(&self, reading: &Reading, start: StartTime) -> Growth {
        let start = start.since_boot();
        let before = match self.held(reading.pid) {
            Some(held) if start <= self.at.since_boot => held,
            // Start times are rounded down.
            None if start + StartTime::TICK <= self.at.since_boot => Held::of(reading),
            _ => Held::default(),
        };
        growth(before, Held::of(reading))
    }

    /// The same, if the source does not know the start time: memmon compares with the process that had this pid then.
    pub fn growth_of_pid(&self, reading: &Reading) -> Growth {
        match reading.start {
            Some(start) => self.growth(reading, start),
            None => growth(self.held(reading.pid).unwrap_or_default(), Held::of(reading)),
        }
    }

    fn held(&self, pid: Pid) -> Option<Held> {
        let by_pid = || self.readings.iter().map(|reading| (reading.pid, Held::of(reading))).collect();
        self.held.get_or_init(by_pid).get(&pid).copied()
    }

    /// Decrease of available memory and increase of used swap since then. Swap that was taken away is none of it.
    pub fn lost(&self, now: &MachineMemory) -> Bytes {
        let then = self.of_limit(now);
        let memory = then.memory.available.saturating_sub(now.memory.available);
        let used = |machine: &MachineMemory| machine.swap_total.saturating_sub(machine.swap_free);
        memory + used(now).saturating_sub(used(then))
    }
}

fn growth(before: Held, now: Held) -> Growth {
    Growth {
        private: now.private.saturating_sub(before.private),
        shared: now.shared.saturating_sub(before.shared),
        before: before.private + before.shared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Elsewhere, SystemMemory};
    use crate::policy::fixtures::reading;

    const MIB: u64 = Bytes::MIB;

    /// So many seconds since boot, without a suspend.
    fn at(seconds: u64) -> Moment {
        let time = Duration::from_secs(seconds);
        Moment { since_boot: time, awake: time }
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
        let baseline = Baseline::new(at(100), machine, vec![reading(7, 200), reading(8, 1)]);
        let growth =
            |pid, held, ticks| baseline.growth(&reading(pid, held), StartTime(ticks)).total().0 / MIB;
        // The database, idle; then at work.
        assert_eq!((growth(7, 200, 50), growth(7, 230, 50), growth(7, 150, 50)), (0, 30, 0));
        // One that was there and small, one that was there and not seen, and one that has the pid of another one.
        assert_eq!((growth(8, 91, 50), growth(9, 91, 50), growth(7, 91, 10_001)), (90, 0, 91));
        // In the tick of the baseline: it may be younger.
        assert_eq!((growth(9, 91, 10_000), growth(7, 210, 10_000)), (91, 10));
        let with_shared = Reading { shmem: Bytes(20 * MIB), ..reading(7, 230) };
        let growth = Growth { private: Bytes(10 * MIB), shared: Bytes(20 * MIB), before: Bytes(200 * MIB) };
        assert_eq!(baseline.growth_of_pid(&with_shared), growth);
        let now = MachineMemory { memory: SystemMemory { available: Bytes(50 * MIB), ..memory }, ..machine };
        assert_eq!((baseline.lost(&now), baseline.lost(&machine)), (Bytes(462 * MIB), Bytes::ZERO));
        let swap = |total, free| {
            move |machine| MachineMemory {
                swap_total: Bytes(total * MIB),
                swap_free: Bytes(free * MIB),
                ..machine
            }
        };
        let baseline = Baseline::new(at(0), swap(400, 100)(machine), vec![]);
        assert_eq!(baseline.lost(&swap(400, 0)(now)), Bytes(562 * MIB));
        // The content of a swap that is turned off is in memory now, and its free part is not lost.
        assert_eq!(baseline.lost(&swap(0, 0)(now)), Bytes(462 * MIB));
        assert_eq!(baseline.lost(&swap(900, 500)(now)), Bytes(562 * MIB));
        // Now the limit of a cgroup binds, then that of the machine did.
        let limit = |available| MachineMemory {
            memory: SystemMemory { total: Bytes(256 * MIB), available: Bytes(available * MIB) },
            ..machine
        };
        let baseline = baseline.with_limits(vec![machine, limit(200)]);
        assert_eq!((baseline.lost(&limit(20)), baseline.lost(&machine)), (Bytes(180 * MIB), Bytes::ZERO));
    }
}

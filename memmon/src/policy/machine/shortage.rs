//! Whether the machine is short of memory: `[machine]` compared with what the kernel reports.

use serde::Serialize;

use crate::model::{Bytes, MachineMemory, Paging, Pressure, Reason};
use crate::policy::rules::share;

/// `[machine]`: when memmon warns, and when it ends a process.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MachineLimits {
    /// Levels at which memmon reports that memory runs out.
    pub warn: Levels,
    /// Levels at which memmon ends a process.
    pub act: Levels,
    /// Whether a process is stopped that fills the machine with files in memory.
    pub stop_writers: bool,
}

/// The levels of one step. A level that is not there is never reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Levels {
    /// Available memory in percent of all memory.
    pub available_percent: Option<f64>,
    /// Available memory. If both are given, the higher one counts, and no more than half of all memory.
    #[serde(rename = "available_bytes")]
    pub available: Option<Bytes>,
    /// Free swap in percent of all swap: low memory counts only while swap is this low, too. Without swap, and without this
    /// level, memory alone counts.
    pub swap_free_percent: Option<f64>,
    /// The pressure `some`, in percent.
    pub pressure_some: Option<f64>,
    /// The pressure `full`, in percent.
    pub pressure_full: Option<f64>,
}

/// The severity of a shortage of memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "shortage", content = "reasons")]
pub enum Shortage {
    /// It is not.
    Calm,
    /// Memory runs out: this is reported.
    Warn(Vec<Reason>),
    /// Memory has nearly run out: a process ends.
    Act(Vec<Reason>),
}

/// A machine is well if this many times as much memory, or memory and swap together, is available as at the levels for a
/// warning; or, if that is more than half of the way from there to all memory, so much.
const WELL: f64 = 2.0;

impl MachineLimits {
    /// The severity of the shortage.
    ///
    /// Pressure alone warns, and ends no process: page cache that is read again and again causes it as well, with plenty of
    /// memory available, and no process's end would help. It counts if available memory is below the level for a warning and,
    /// while there is swap, if it lasts a minute on average and if memory comes back from the swap: a process that takes much
    /// memory at once waits until idle memory is swapped out, and then there is room for all. With the level of 20 % a minute's
    /// average takes 13 seconds if nothing else happens.
    pub fn shortage(&self, machine: &MachineMemory) -> Shortage {
        if machine.memory.total == Bytes::ZERO {
            return Shortage::Calm;
        }
        let mut act = self.act.low(machine);
        if let Some(low) = self.warn.low_memory(machine) {
            let pressure = self.act.lasting_pressure(machine);
            if act.is_empty() && !pressure.is_empty() {
                act.push(low);
            }
            act.extend(pressure);
        }
        if !act.is_empty() {
            return Shortage::Act(act);
        }
        let mut warn = self.warn.low(machine);
        warn.extend(self.warn.high_pressure(machine));
        if warn.is_empty() { Shortage::Calm } else { Shortage::Warn(warn) }
    }

    /// Whether processes wait so long that memmon acts, if other things are as it takes.
    pub fn is_under_pressure(&self, machine: &MachineMemory) -> bool {
        !self.act.pressure(machine, false).is_empty()
    }

    /// Whether so much memory is available that what processes have now caused no shortage.
    pub fn is_well(&self, machine: &MachineMemory) -> bool {
        let warn = self.warn.available(machine.memory.total);
        let half = Bytes(machine.memory.total.saturating_sub(warn).0 / 2);
        let level = warn.times(WELL).min(warn + half);
        // Low memory is no shortage while there is swap.
        let with_swap =
            self.warn.swap_free_percent.filter(|_| machine.swap_total > Bytes::ZERO).is_some_and(|percent| {
                let level = level + share(percent, machine.swap_total).times(WELL);
                machine.memory.available + machine.swap_free >= level
            });
        self.shortage(machine) == Shortage::Calm && (machine.memory.available >= level || with_swap)
    }

    /// The amount of memory that must come back until memmon ends no further process; zero while there is no reason to end
    /// one.
    pub fn needed(&self, machine: &MachineMemory) -> Bytes {
        let total = machine.memory.total;
        let level = match self.shortage(machine) {
            Shortage::Calm | Shortage::Warn(_) => Bytes::ZERO,
            Shortage::Act(_) if self.act.low(machine).is_empty() => self.warn.available(total),
            Shortage::Act(_) => self.act.available(total),
        };
        level.saturating_sub(machine.memory.available)
    }

    /// The amount of memory that can go until the next level: that for a warning, or that at which memmon acts.
    pub fn room(&self, machine: &MachineMemory) -> Bytes {
        let room = |levels: &Levels| {
            let memory = machine.memory.available.saturating_sub(levels.available(machine.memory.total));
            let percent = levels.swap_free_percent.filter(|_| machine.swap_total > Bytes::ZERO);
            let swap =
                percent.map(|percent| machine.swap_free.saturating_sub(share(percent, machine.swap_total)));
            // Both must be low.
            memory.max(swap.unwrap_or_default())
        };
        let warn = room(&self.warn);
        if warn > Bytes::ZERO { warn } else { room(&self.act) }
    }
}

/// The figures of the limit that binds: of those of the machine and of each cgroup that all processes are in, the ones with
/// the least available memory, as a share of all memory that they have.
pub fn binding<T>(
    machine: MachineMemory,
    limited: impl IntoIterator<Item = (T, MachineMemory)>,
) -> (Option<T>, MachineMemory) {
    let share = |machine: &MachineMemory| machine.memory.available.percent_of(machine.memory.total);
    limited.into_iter().fold((None, machine), |(least, figures), (cgroup, other)| {
        if share(&other) < share(&figures) { (Some(cgroup), other) } else { (least, figures) }
    })
}

/// Whether memory has gone to the swap between two looks, and less than half of that has come back. Processes that need more
/// than there is take each other's memory again and again: then as much comes as goes.
pub const fn swaps_calmly(before: Paging, now: Paging) -> bool {
    now.back.saturating_sub(before.back).saturating_mul(2) < now.out.saturating_sub(before.out)
}

impl Levels {
    /// The available memory below which the step is reached.
    pub fn available(&self, total: Bytes) -> Bytes {
        let percent = self.available_percent.map(|percent| share(percent, total));
        // A figure that was written for a larger machine, or in megabytes, would find this one short of memory for ever.
        let available = self.available.map(|available| available.min(Self::most(total)));
        percent.max(available).unwrap_or_default()
    }

    /// The most that [`Levels::available`] counts as: with more than half of all memory available, no machine is short of it.
    pub const fn most(total: Bytes) -> Bytes {
        Bytes(total.0 / 2)
    }

    fn low_memory(&self, machine: &MachineMemory) -> Option<Reason> {
        let (available, level) = (machine.memory.available, self.available(machine.memory.total));
        (available < level).then_some(Reason::Available { available, level })
    }

    /// Low memory, together with low swap.
    fn low(&self, machine: &MachineMemory) -> Vec<Reason> {
        let Some(memory) = self.low_memory(machine) else { return vec![] };
        match machine.swap_free_percent().zip(self.swap_free_percent) {
            None => vec![memory],
            Some((percent, level)) if percent < level => vec![memory, Reason::SwapFree { percent, level }],
            Some(_) => vec![],
        }
    }

    fn high_pressure(&self, machine: &MachineMemory) -> Vec<Reason> {
        self.pressure(machine, false)
    }

    /// The same, if it lasts and memory comes back from the swap, or if there is no swap.
    fn lasting_pressure(&self, machine: &MachineMemory) -> Vec<Reason> {
        let level = self.swap_free_percent.unwrap_or_default();
        let has_swap = machine.swap_free_percent().is_some_and(|percent| percent > 0.0 && percent >= level);
        if has_swap && machine.pressure.is_some_and(|pressure| pressure.swaps_calmly) {
            return vec![];
        }
        self.pressure(machine, has_swap)
    }

    /// The levels of pressure that are reached and, if it must be `lasting`, are reached in the last minute, too.
    fn pressure(&self, machine: &MachineMemory, lasting: bool) -> Vec<Reason> {
        let Some(Pressure { some, full, some_of_minute, full_of_minute, .. }) = machine.pressure else {
            return vec![];
        };
        let reached = |percent: f64, of_minute: f64, level: Option<f64>| {
            level.filter(|level| percent >= *level && (!lasting || of_minute >= *level))
        };
        let some_level = reached(some, some_of_minute, self.pressure_some);
        let full_level = reached(full, full_of_minute, self.pressure_full);
        let some = some_level.map(|level| Reason::PressureSome { percent: some, level });
        some.into_iter()
            .chain(full_level.map(|level| Reason::PressureFull { percent: full, level }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Elsewhere, SystemMemory};

    const GB: u64 = Bytes::GIB;

    const LIMITS: MachineLimits = MachineLimits {
        warn: Levels {
            available_percent: Some(10.0),
            available: None,
            swap_free_percent: Some(20.0),
            pressure_some: None,
            pressure_full: Some(10.0),
        },
        act: Levels {
            available_percent: Some(5.0),
            available: None,
            swap_free_percent: Some(10.0),
            pressure_some: None,
            pressure_full: Some(20.0),
        },
        stop_writers: false,
    };

    /// 100 GB, with these percentages of memory available, swap free (none: no swap), and pressure `full`.
    fn machine(available: u64, swap: Option<u64>, full: Option<f64>) -> MachineMemory {
        MachineMemory {
            memory: SystemMemory { total: Bytes(100 * GB), available: Bytes(available * GB) },
            swap_total: Bytes(swap.map_or(0, |_| 100 * GB)),
            swap_free: Bytes(swap.unwrap_or_default() * GB),
            elsewhere: Elsewhere::default(),
            pressure: full.map(|full| Pressure {
                some: 100.0,
                full,
                some_of_minute: 100.0,
                full_of_minute: full,
                swaps_calmly: false,
            }),
        }
    }

    fn step(available: u64, swap: Option<u64>, full: Option<f64>) -> &'static str {
        match LIMITS.shortage(&machine(available, swap, full)) {
            Shortage::Calm => "calm",
            Shortage::Warn(_) => "warn",
            Shortage::Act(_) => "act",
        }
    }

    #[test]
    fn low_memory_counts_only_together_with_low_swap() {
        assert_eq!([step(10, None, None), step(9, None, None), step(4, None, None)], ["calm", "warn", "act"]);
        assert_eq!(
            [step(4, Some(20), None), step(4, Some(19), None), step(4, Some(9), None)],
            ["calm", "warn", "act"]
        );
        assert_eq!([step(9, Some(0), None), step(50, Some(0), None)], ["warn", "calm"]);
    }

    #[test]
    fn pressure_ends_a_process_only_if_memory_is_low() {
        assert_eq!([step(50, None, Some(99.0)), step(50, None, Some(9.0))], ["warn", "calm"]);
        // With plenty of swap free, and the machine at a standstill.
        assert_eq!([step(9, Some(90), Some(20.0)), step(9, Some(90), Some(19.0))], ["act", "warn"]);
    }

    #[test]
    fn pressure_must_last_while_there_is_swap() {
        let step = |swap, full_of_minute| {
            let mut machine = machine(9, swap, Some(30.0));
            machine.pressure = machine.pressure.map(|pressure| Pressure { full_of_minute, ..pressure });
            match LIMITS.shortage(&machine) {
                Shortage::Calm => "calm",
                Shortage::Warn(_) => "warn",
                Shortage::Act(_) => "act",
            }
        };
        assert_eq!([step(Some(90), 19.0), step(Some(90), 20.0)], ["warn", "act"]);
        // With less swap than the level there is nothing to wait for.
        assert_eq!([step(Some(9), 5.0), step(Some(10), 5.0), step(None, 5.0)], ["act", "warn", "act"]);
    }

    #[test]
    fn pressure_does_not_count_while_memory_goes_to_the_swap_and_stays_there() {
        let step = |available, swap| {
            let mut machine = machine(available, swap, Some(67.0));
            machine.pressure = machine.pressure.map(|pressure| Pressure { swaps_calmly: true, ..pressure });
            assert!(LIMITS.is_under_pressure(&machine));
            match LIMITS.shortage(&machine) {
                Shortage::Calm => "calm",
                Shortage::Warn(_) => "warn",
                Shortage::Act(_) => "act",
            }
        };
        assert_eq!([step(6, Some(60)), step(6, Some(10))], ["warn"; 2]);
        // With less swap than the level, or none, the memory has no place to go.
        assert_eq!([step(6, Some(9)), step(4, Some(9)), step(6, None)], ["act"; 3]);
        assert!(!LIMITS.is_under_pressure(&machine(6, Some(60), Some(19.0))));

        // As they were in a guest: idle memory goes, and two processes need the same memory.
        let paging = |out, back| Paging { out, back };
        assert!(swaps_calmly(paging(896, 2), paging(54_440, 39)));
        assert!(!swaps_calmly(paging(357_153, 31_294), paging(409_408, 76_392)));
        // A long calm time before does not count, and neither does waiting for files.
        assert!(!swaps_calmly(paging(400_000, 10), paging(400_000, 11)));
        assert!(!swaps_calmly(paging(7, 7), paging(7, 7)), "they wait for something else");
    }

    #[test]
    fn the_higher_of_two_levels_counts() {
        let levels = Levels { available: Some(Bytes(3 * GB)), ..LIMITS.act };
        assert_eq!(
            [levels.available(Bytes(100 * GB)), levels.available(Bytes(10 * GB))],
            [Bytes(5 * GB), Bytes(3 * GB)]
        );
        assert_eq!(Levels::default().available(Bytes(GB)), Bytes::ZERO);
    }

    #[test]
    fn gigabytes_of_a_larger_machine_are_no_shortage_of_a_small_one() {
        let levels =
            |gb| Levels { available_percent: None, available: Some(Bytes(gb * GB)), ..Levels::default() };
        let limits = MachineLimits { warn: levels(240), act: levels(120), stop_writers: false };
        let step = |available| limits.shortage(&machine(available, None, None));
        assert_eq!([step(100), step(50)], [Shortage::Calm, Shortage::Calm]);
        assert!(matches!(step(49), Shortage::Act(_)));
        assert!(limits.is_well(&machine(75, None, None)));
        assert_eq!(limits.needed(&machine(49, None, None)), Bytes(GB));
    }

    #[test]
    fn so_much_must_come_back() {
        let needed = |available, swap, full| LIMITS.needed(&machine(available, swap, full)).0 / GB;
        assert_eq!([needed(6, None, None), needed(4, None, None), needed(0, None, None)], [0, 1, 5]);
        assert_eq!(needed(4, Some(90), Some(50.0)), 6, "by pressure: until there is no warning");
        assert_eq!(needed(50, None, Some(99.0)), 0);
    }

    #[test]
    fn there_is_room_until_memory_and_swap_are_low() {
        let room = |available, swap| LIMITS.room(&machine(available, swap, None)).0 / GB;
        assert_eq!([room(60, None), room(9, None), room(4, None)], [50, 4, 0]);
        assert_eq!(
            [room(4, Some(60)), room(4, Some(15)), room(60, Some(0)), room(0, Some(0))],
            [40, 5, 50, 0]
        );
    }

    #[test]
    fn the_limit_with_the_least_left_binds() {
        let with = |total, available| MachineMemory {
            memory: SystemMemory { total: Bytes(total * GB), available: Bytes(available * GB) },
            ..machine(0, None, None)
        };
        let bound = |available, limited: &[(&'static str, u64, u64)]| {
            let limited = limited.iter().map(|(name, total, available)| (*name, with(*total, *available)));
            let (name, machine) = binding(with(100, available), limited);
            (name, machine.memory.total.0 / GB)
        };
        assert_eq!(bound(50, &[]), (None, 100));
        assert_eq!(bound(50, &[("/box", 10, 1)]), (Some("/box"), 10));
        // More is left of it than of the machine.
        assert_eq!(bound(5, &[("/box", 10, 1)]), (None, 100));
        assert_eq!(
            bound(50, &[("/box", 10, 3), ("/box/job", 8, 1), ("/box/job/a", 8, 2)]),
            (Some("/box/job"), 8)
        );
        assert_eq!(bound(50, &[("/box", 10, 5)]), (None, 100), "no less than of the machine");
    }

    #[test]
    fn a_machine_is_well_far_above_the_level_for_a_warning() {
        assert!(LIMITS.is_well(&machine(20, None, None)));
        assert!(!LIMITS.is_well(&machine(19, None, None)));
        assert!(!LIMITS.is_well(&machine(50, None, Some(50.0))));
        // 20 GB of memory and 40 of swap: twice as much as at the levels for a warning.
        assert!(LIMITS.is_well(&machine(5, Some(55), None)) && !LIMITS.is_well(&machine(5, Some(54), None)));
        assert!(LIMITS.is_well(&machine(20, Some(0), None)), "swap that filled up long ago");
        // With a high level, twice as much is never available.
        let levels = |percent| Levels { available_percent: Some(percent), ..Levels::default() };
        let high = MachineLimits { warn: levels(60.0), act: levels(30.0), stop_writers: false };
        assert!(high.is_well(&machine(80, None, None)) && !high.is_well(&machine(79, None, None)));
        let memory_alone =
            MachineLimits { warn: Levels { swap_free_percent: None, ..LIMITS.warn }, ..LIMITS };
        assert!(!memory_alone.is_well(&machine(5, Some(100), None)));
    }
}

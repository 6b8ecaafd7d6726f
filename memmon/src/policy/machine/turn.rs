//! Whether `[machine]` or another guard acts first when memory runs short.

use serde::Serialize;

use super::MachineLimits;
use crate::model::{Bytes, MachineMemory, Strikes};

/// The one of the two guards that acts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// The other guard.
    Theirs,
    /// memmon.
    Ours,
    /// Depends on how memory runs short.
    Either,
    /// The other guard acts for the machine, and memmon does not: there is no `[machine]`.
    OnlyTheirs,
}

/// The guard that acts first, by the levels of both.
pub fn turn(theirs: &Strikes, limits: Option<&MachineLimits>, machine: &MachineMemory) -> Turn {
    let Some(MachineLimits { act, .. }) = limits else { return Turn::OnlyTheirs };
    let ours = act.available(machine.memory.total);
    let Some(available) = theirs.available else { return Turn::Either };
    // A level for swap delays a guard; without swap it has no effect.
    let delay = |percent: Option<f64>| percent.filter(|_| machine.swap_total > Bytes::ZERO).unwrap_or(100.0);
    let (their_swap, our_swap) = (delay(theirs.swap_free_percent), delay(act.swap_free_percent));
    if available > ours && their_swap >= our_swap {
        Turn::Theirs
    } else if available < ours && their_swap <= our_swap && theirs.pressure_percent.is_none() {
        Turn::Ours
    } else {
        Turn::Either
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Elsewhere, SystemMemory};
    use crate::policy::machine::Levels;

    #[test]
    fn the_higher_level_acts_first() {
        let machine = |swap| MachineMemory {
            memory: SystemMemory { total: Bytes(1000), available: Bytes(500) },
            swap_total: Bytes(swap),
            swap_free: Bytes(swap),
            elsewhere: Elsewhere::default(),
            pressure: None,
        };
        let act = Levels { available_percent: Some(5.0), swap_free_percent: Some(10.0), ..Levels::default() };
        let limits = MachineLimits { warn: act, act, stop_writers: false };
        let turn = |available, swap_free_percent, swap| {
            let strikes = Strikes { available, swap_free_percent, ..Strikes::default() };
            turn(&strikes, Some(&limits), &machine(swap))
        };
        assert_eq!(turn(Some(Bytes(100)), Some(10.0), 0), Turn::Theirs, "earlyoom as it is shipped");
        assert_eq!(turn(Some(Bytes(40)), Some(10.0), 0), Turn::Ours);
        assert_eq!(turn(Some(Bytes(50)), Some(10.0), 0), Turn::Either);
        // It waits for less swap than memmon does.
        assert_eq!(
            [turn(Some(Bytes(100)), Some(5.0), 9), turn(Some(Bytes(100)), Some(5.0), 0)],
            [Turn::Either, Turn::Theirs]
        );
        assert_eq!(turn(Some(Bytes(40)), Some(50.0), 9), Turn::Either);
        assert_eq!(turn(None, Some(10.0), 9), Turn::Either, "systemd-oomd");
        assert_eq!(super::turn(&Strikes::default(), None, &machine(0)), Turn::OnlyTheirs);
    }
}

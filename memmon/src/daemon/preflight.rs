//! What of a configuration cannot work on this machine as it is now, looked at before anything depends on it.

use super::outputs::outputs;
use crate::{
    config::{Concern, Settings, Warning},
    observe::procfs::ProcRoot,
    report,
};

/// Why `pressure_some` and `pressure_full` are never reached.
const NO_PRESSURE: &str = "the kernel measures no pressure (/proc/pressure/memory), so that only available memory and \
                           swap count: start it with psi=1";

/// What may not be meant, or cannot work, on this machine. Changes nothing; may take its time, as a file system or a
/// name service may.
pub fn preflight(settings: &Settings) -> Vec<Warning> {
    let unusable = report::preflight(&outputs(settings))
        .into_iter()
        .map(|report::Unusable { key, why }| Warning::general(Concern::Unusable { key, why }));
    // Without /proc there is an error of its own.
    let machine = ProcRoot::real().and_then(|proc| proc.machine_memory()).ok();
    let limits = machine.map(|machine| settings.concerns_with(machine.memory.total)).unwrap_or_default();
    let is_blind = settings.machine.is_some() && machine.is_some_and(|machine| machine.pressure.is_none());
    let pressure =
        is_blind.then(|| Warning::general(Concern::Unusable { key: "machine", why: NO_PRESSURE.to_owned() }));
    unusable.chain(limits).chain(pressure).collect()
}

//! What of a configuration cannot work on this machine as it is now, looked at before anything depends on it.

use super::outputs::outputs;
use crate::{
    config::{Concern, Settings, Warning},
    observe::procfs::ProcRoot,
    report,
};

/// What may not be meant, or cannot work, on this machine. Changes nothing; may take its time, as a file system or a
/// name service may.
pub fn preflight(settings: &Settings) -> Vec<Warning> {
    let unusable = report::preflight(&outputs(settings))
        .into_iter()
        .map(|report::Unusable { key, why }| Warning::general(Concern::Unusable { key, why }));
    // Without /proc there is an error of its own.
    let memory = ProcRoot::real().and_then(|proc| proc.memory()).ok();
    let limits = memory.map(|memory| settings.concerns_with(memory.total)).unwrap_or_default();
    unusable.chain(limits).collect()
}

//! Exemptions as a rule of the walk. It comes last before the limits, so that what it protects would have been terminated.
//!
//! An exemption protects like an entry of the whitelist: for any memory usage, and also if the machine is short of memory.
//! Its end is not decided here: the daemon takes it out of the rules when its time is over.

use super::matcher::{KeyMatched, of_fact};
use crate::model::{Doubt, Exempt, Exemption, Name, Phrase, Process, Workload, unit_path};

/// The one of `exemptions` that protects `process`: the one that ends last, if several do. The error is a doubt whether one
/// does.
pub(super) fn find<'a>(
    exemptions: &'a [Exemption],
    process: &Process,
) -> Result<Option<&'a Exemption>, Doubt> {
    let mut found: Option<&Exemption> = None;
    let mut doubt = None;
    for exemption in exemptions {
        match matches(&exemption.of, process) {
            KeyMatched::Yes(_) if found.is_none_or(|other| other.until < exemption.until) => {
                found = Some(exemption);
            }
            KeyMatched::Unknown(unread) => doubt = Some(unread),
            // Nobody is favoured for what they withhold.
            KeyMatched::Yes(_) | KeyMatched::No | KeyMatched::Withheld => {}
        }
    }
    match (found, doubt) {
        (None, Some(doubt)) => Err(doubt),
        (found, _) => Ok(found),
    }
}

fn matches(of: &Exempt, process: &Process) -> KeyMatched {
    let yes_if = |is| if is { KeyMatched::Yes(String::new()) } else { KeyMatched::No };
    let by_cgroup = |is: &dyn Fn(&Name) -> bool| {
        let find = |path: &Name| is(path).then(String::new);
        of_fact(&process.cgroup, process, Doubt::CgroupUnreadable, find)
    };
    match of {
        Exempt::Process(id) => yes_if(*id == process.id),
        // Either uid will do, as in the whitelist.
        Exempt::User(uid) => yes_if([process.real_uid, process.effective_uid].contains(uid)),
        Exempt::Unit(unit) => by_cgroup(&|path| is_of_unit(unit, path)),
        Exempt::Job(job) => by_cgroup(&|path| {
            Workload::of(path).and_then(|workload| workload.slurm).is_some_and(|slurm| slurm.job == *job)
        }),
    }
}

/// A unit of a user's manager is named with that, and the manager alone stands for all of its units.
fn is_of_unit(unit: &Phrase, cgroup: &Name) -> bool {
    let unit = unit.as_str().as_bytes();
    unit_path(cgroup).is_some_and(|path| {
        path == unit || path.split(|byte| *byte == b'/').next().is_some_and(|manager| manager == unit)
    })
}

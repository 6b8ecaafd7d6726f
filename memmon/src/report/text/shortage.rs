//! The words about a machine that is short of memory.

use std::time::Duration;

use super::words::Field;
use crate::model::{
    Bytes, Culprit, Elsewhere, Group, MachineMemory, MemoryFiles, MemoryWriter, Name, Reason, SystemMemory,
    Uid,
    units::{Span, apart},
};

/// The file systems that are named in one line.
const FILE_SYSTEMS: usize = 3;

pub(super) fn low(machine: &MachineMemory, cgroup: Option<&Name>, reached: &[Reason], acts: bool) -> String {
    let SystemMemory { available, total } = &machine.memory;
    let step = if acts { "Machine short of memory" } else { "Machine low on memory" };
    let within =
        cgroup.map(|cgroup| format!(" within the limit of cgroup {}", Field(cgroup))).unwrap_or_default();
    format!("{step}: {available} of {total} available{within}. {}", reasons(reached))
}

/// The levels that are reached, as a sentence without a full stop.
pub(super) fn reasons(reasons: &[Reason]) -> String {
    let mut words: Vec<_> = reasons.iter().map(reason).collect();
    if let Some(first) = words.first_mut() {
        let rest = first.split_off(1);
        *first = first.to_uppercase() + &rest;
    }
    words.join(", ")
}

fn reason(reason: &Reason) -> String {
    match *reason {
        Reason::Available { available, level } => {
            let (available, level) = apart(available, level);
            format!("available memory {available} is below {level}")
        }
        Reason::SwapFree { percent, level } => format!("free swap {percent:.1}% is below {level}%"),
        Reason::PressureSome { percent, level } => {
            format!("processes wait for memory {percent:.1}% of the time, {level}% is the level")
        }
        Reason::PressureFull { percent, level } => {
            format!("all processes wait for memory {percent:.1}% of the time, {level}% is the level")
        }
    }
}

/// The growth of a process, and the processes that grew with it.
pub(super) fn growth(
    growth: Bytes,
    within: Duration,
    culprit: &Culprit,
    user: &mut dyn FnMut(Uid) -> String,
) -> String {
    let Culprit { group, growth: of_all, processes } = culprit;
    let grew = format!("Growth={growth} in {}", Span(within));
    let group = match group {
        Group::Process { .. } => return grew,
        Group::Unit { unit } => format!("unit {}", Field(unit)),
        Group::Session { leader } => format!("session {leader}"),
        Group::User { uid } => format!("user {}", user(*uid)),
    };
    format!("{grew}, one of {processes} processes of {group} that grew by {of_all}")
}

pub(super) fn nobody(
    lost: Bytes,
    grown: Bytes,
    within: Duration,
    elsewhere: &Elsewhere,
    file_systems: &[MemoryFiles],
) -> String {
    let Elsewhere { shmem, slab, hugetlb } = elsewhere;
    let largest = file_systems.iter().take(FILE_SYSTEMS);
    let largest: Vec<_> =
        largest.map(|MemoryFiles { path, used }| format!("{} {used}", Field(path))).collect();
    let largest =
        if largest.is_empty() { String::new() } else { format!(". Files in memory: {}", largest.join(", ")) };
    format!(
        "Machine short of memory, and no process is ended, because none that may be ended caused it: {lost} less available than {} ago. \
         Growth since: processes {grown}, tmpfs and shared memory {shmem}, kernel {slab}, huge pages {hugetlb}{largest}",
        Span(within)
    )
}

/// The processes that write files in memory, as sentences that follow others.
pub(super) fn writers(writers: &[MemoryWriter], user: &mut dyn FnMut(Uid) -> String) -> String {
    let writer = |MemoryWriter { pid, name, uid, path, used }: &MemoryWriter| {
        format!(
            ". PID={pid}, Name={}, User={} has written {used} to a file in {}",
            Field(name),
            user(*uid),
            Field(path)
        )
    };
    writers.iter().take(FILE_SYSTEMS).map(writer).collect()
}

//! The table of processes: who is in it, and what is written when.
//!
//! Entries are written in place, so that the map's cost is a lookup; the whole entry is inserted only when a process
//! appears or calls exec. Preallocated: memmon is needed most when memory is not to be had.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    btf_maps::HashMap,
    macros::btf_map,
};
use aya_log_ebpf::warn;
use memmon_common::{DEFAULT_CAPACITY, ProcessRss};

use crate::{
    count::{count, first_time},
    front,
    kernel::{Counts, Mm, RememberedMm, Task},
    sums::{self, InForce},
    wake,
};

#[btf_map]
static PROCESSES: HashMap<u32, ProcessRss, DEFAULT_CAPACITY> = HashMap::new();

const E2BIG: i32 = -7;
const ENOENT: i32 = -2;
const EEXIST: i32 = -17;

/// Writes what `mm`, which `owner` runs in, has resident now.
#[inline(always)]
pub(crate) fn record(owner: Task, mm: Mm, generation: u64) {
    let tgid = owner.tgid();
    match PROCESSES.get_ptr_mut(tgid) {
        // SAFETY: the lookup's null check is above; elements are not freed while a program runs.
        Some(entry) if unsafe { (*entry).mm } == mm.address() => update(entry, owner, mm, generation),
        _ => add(owner, mm, None, BPF_ANY),
    }
}

#[inline(always)]
fn update(entry: *mut ProcessRss, owner: Task, mm: Mm, generation: u64) {
    // SAFETY: as in `record`. A removed element may become another process's at any time: what is written then is right
    // again with that process's next step.
    let process = unsafe { &mut *entry };
    write_counts(process, mm.counts());
    let leader = owner.leader();
    process.uid = leader.uid();
    process.comm = leader.comm();
    count(|counters| counters.updates += 1);
    wake::check(entry, owner.tgid(), generation);
    if let Some(sums) = InForce::now() {
        sums::note(entry, owner.tgid(), sums, owner.place(sums.has_cgroups()));
    }
}

#[inline(always)]
fn write_counts(process: &mut ProcessRss, counts: Counts) {
    process.file_pages = counts.file;
    process.anon_pages = counts.anon;
    process.shmem_pages = counts.shmem;
    process.swap_entries = counts.swap;
    process.peak_pages = process.peak_pages.max(counts.rss());
    process.inherited_pages = process.inherited_pages.min(counts.rss());
}

/// Brings the entry of `tgid`, which the iterator over the table visits, up to date. Name and uid stay as they were written
/// last. An exec or exit that is under way leaves the entry to its own program.
#[inline(always)]
pub(crate) fn revisit(tgid: u32, entry: *mut ProcessRss) {
    // SAFETY: the iterator passes an element of the table, or null, which the caller excludes.
    let process = unsafe { &mut *entry };
    let mm = RememberedMm::new(process.mm);
    let (counts, generation) = (mm.counts(), wake::generation());
    let sums = InForce::now().map(|sums| (sums, mm.place(sums.has_cgroups())));
    let is_moved = sums.is_some_and(|(sums, place)| !sums.is_noted(process, place));
    if (is_moved || !front::settled(tgid, counts.rss(), generation)) && mm.is_of(tgid) {
        write_counts(process, counts);
        count(|counters| counters.updates += 1);
        wake::check(entry, tgid, generation);
        if let Some((sums, place)) = sums
            && let Some(entry) = PROCESSES.get_ptr_mut(tgid)
        {
            sums::note(entry, tgid, sums, place);
        }
    }
}

/// Counts a process, of which `task` is a thread, in the sums of where it is now.
#[inline(always)]
pub(crate) fn moved(task: Task) {
    let tgid = task.tgid();
    if let Some(sums) = InForce::now()
        && let Some(entry) = PROCESSES.get_ptr_mut(tgid)
    {
        sums::note(entry, tgid, sums, task.place(sums.has_cgroups()));
    }
}

/// Starts the entry of the process that `task` belongs to afresh: it called exec, or `elder` forked it with a copy of
/// its memory.
#[inline(always)]
pub(crate) fn renew(task: Task, mm: Mm, elder: Option<Task>) {
    let tgid = task.tgid();
    front::clear(tgid);
    if elder.is_none()
        && let Some(entry) = PROCESSES.get_ptr(tgid)
    {
        wake::left_memory(entry, tgid, task);
    }
    add(task, mm, elder, BPF_ANY);
}

/// Adds a process that ran before the programs were attached, or brings its entry up to date. An entry that an event made
/// meanwhile is newer than what the iterator saw, and an entry of other memory belongs to an exec that is under way.
#[inline(always)]
pub(crate) fn refresh(owner: Task, mm: Mm) {
    let (tgid, generation) = (owner.tgid(), wake::generation());
    match PROCESSES.get_ptr_mut(tgid) {
        None => add(owner, mm, None, BPF_NOEXIST),
        Some(entry) => {
            // SAFETY: as in `record`.
            let process = unsafe { &*entry };
            let sums = InForce::now();
            let is_moved = sums.is_some_and(|sums| !sums.is_noted(process, owner.place(sums.has_cgroups())));
            let is_due = is_moved || !front::settled(tgid, mm.rss(), generation);
            if process.mm == mm.address() && is_due {
                update(entry, owner, mm, generation);
            }
        }
    }
}

/// Removes a process whose last thread exits.
#[inline(always)]
pub(crate) fn remove(tgid: u32, task: Task) {
    front::clear(tgid);
    if let Some(entry) = PROCESSES.get_ptr_mut(tgid) {
        wake::ended(entry, tgid, task);
        wake::left_memory(entry, tgid, task);
        sums::leave(entry, tgid, true);
    }
    if PROCESSES.remove(tgid).is_err_and(|error| error != ENOENT) {
        count(|counters| counters.remove_failed += 1);
    }
    wake::forget(tgid);
}

#[inline(always)]
fn add(task: Task, mm: Mm, elder: Option<Task>, flags: u32) {
    if task.exiting() {
        return;
    }
    let (tgid, leader, counts) = (task.tgid(), task.leader(), mm.counts());
    let (inherited_pages, elder, elder_mm) = match elder {
        Some(elder) => (counts.rss(), elder.tgid(), elder.mm().map_or(0, Mm::address)),
        None => (0, 0, 0),
    };
    let process = ProcessRss {
        mm: mm.address(),
        start_boottime: leader.start_boottime(),
        file_pages: counts.file,
        anon_pages: counts.anon,
        shmem_pages: counts.shmem,
        swap_entries: counts.swap,
        peak_pages: counts.rss(),
        inherited_pages,
        elder_mm,
        wake_at: 0,
        reported: 0,
        summed_pages: 0,
        sum_cgroup: 0,
        sum_uid: 0,
        sum_epoch: 0,
        uid: leader.uid(),
        elder,
        comm: leader.comm(),
    };
    let generation = wake::generation();
    // The program that it ran before.
    if let Some(entry) = PROCESSES.get_ptr_mut(tgid) {
        sums::leave(entry, tgid, false);
    }
    match PROCESSES.insert(tgid, process, u64::from(flags)) {
        Ok(()) => {}
        Err(EEXIST) => return,
        Err(E2BIG) => {
            count(|counters| counters.insert_full += 1);
            if first_time() {
                warn!(
                    (),
                    "the map of processes is full, pid {} is not in it; raise kernel.max_processes", tgid
                );
            }
            return;
        }
        Err(error) => {
            count(|counters| counters.insert_failed += 1);
            if first_time() {
                warn!((), "pid {} is not in the map of processes: error {}", tgid, error);
            }
            return;
        }
    }
    count(|counters| counters.inserts += 1);
    // The last thread counts itself out of `live` before its exit removes the entry: whoever inserts and then still
    // finds it alive is sure that the removal is yet to come.
    if task.group_dead() {
        return remove(tgid, task);
    }
    if let Some(entry) = PROCESSES.get_ptr_mut(tgid) {
        wake::check(entry, tgid, generation);
        if let Some(sums) = InForce::now() {
            sums::note(entry, tgid, sums, task.place(sums.has_cgroups()));
        }
    }
}

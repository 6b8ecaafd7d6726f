//! Sums: what the processes of a user, and those in a cgroup, hold together, while a rule limits it.
//!
//! Each process remembers in which sums it counts, and with how many pages. Pages added to a sum are added to that number,
//! both atomically, so that a sum is the total of what its processes remember: two CPUs that count the same growth at once
//! add it twice to both, and the process's next step takes it back. A change of uid or cgroup moves the whole amount. It is
//! noticed at a move between cgroups, at exec, with the process's next step of memory, and by a survey of the table.
//!
//! A process can have more than it is counted with: a step less a page, and what the kernel's counters hold back. A sum of
//! so many members can be too low by so many times as much, so that it wakes memmon that much earlier, up to a quarter of its
//! level. If a process moves or ends while another CPU counts a step of it, that step may be lost, or stay, until user space
//! has all sums counted again.

use core::{arch::asm, ptr};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    btf_maps::{Array, HashMap},
    macros::btf_map,
};
use memmon_common::{
    ProcessRss, SUM_CAPACITY, SUM_LEVEL_CAPACITY, Sum, SumConfig, SumKey, SumLevel, sum_kind,
};

use crate::{count::count, front, kernel::Place, wake};

#[btf_map]
static SUM_CONFIG: Array<SumConfig, 1> = Array::new();

// Preallocated like the table of processes.
#[btf_map]
static SUMS: HashMap<SumKey, Sum, { SUM_CAPACITY as usize }> = HashMap::new();

#[btf_map]
static SUM_LEVELS: HashMap<SumKey, SumLevel, { SUM_LEVEL_CAPACITY as usize }> = HashMap::new();

/// The processes that are being moved from one sum to another: an entry is a lock. Nobody waits for one.
#[btf_map]
static MOVING: HashMap<u32, u32, 256> = HashMap::new();

/// A process that has left its sums, and is about to leave the table.
const GONE: u32 = u32::MAX;

const EEXIST: i32 = -17;

/// The kinds of sums that are kept: `SumConfig::in_force`.
#[derive(Clone, Copy)]
pub(crate) struct InForce(u64);

impl InForce {
    /// The sums that are kept now; `None` as long as no rule limits a sum.
    #[inline(always)]
    pub(crate) fn now() -> Option<Self> {
        let config = SUM_CONFIG.get_ptr(0)?;
        // SAFETY: array elements live as long as the map.
        let in_force = unsafe { &raw const (*config).in_force };
        // SAFETY: as above; user space may write it, in one piece.
        let in_force = unsafe { ptr::read_volatile(in_force) };
        if in_force & u64::from(u32::MAX) == 0 { None } else { Some(Self(in_force)) }
    }

    #[inline(always)]
    pub(crate) fn has_cgroups(self) -> bool {
        self.has(sum_kind::CGROUP)
    }

    /// Whether a process counts where it is.
    #[inline(always)]
    pub(crate) fn is_noted(self, process: &ProcessRss, place: Place) -> bool {
        process.sum_epoch == self.epoch()
            && process.sum_uid == place.uid
            && process.sum_cgroup == place.cgroup
    }

    #[inline(always)]
    fn has(self, kind: u32) -> bool {
        self.0 & 1 << kind != 0
    }

    #[inline(always)]
    fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    fn key(self, kind: u32, id: u64) -> SumKey {
        SumKey { id, kind, epoch: self.epoch() }
    }

    /// The sum of a user in which a process counts.
    #[inline(always)]
    fn user(self, process: &ProcessRss) -> Option<SumKey> {
        if self.has(sum_kind::USER) { Some(self.key(sum_kind::USER, process.sum_uid.into())) } else { None }
    }

    /// The sum of a cgroup in which it counts.
    #[inline(always)]
    fn cgroup(self, process: &ProcessRss) -> Option<SumKey> {
        if self.has(sum_kind::CGROUP) { Some(self.key(sum_kind::CGROUP, process.sum_cgroup)) } else { None }
    }
}

/// Counts what `entry`, just written, has in the sums of its `place`, and compares those with their levels.
#[inline(always)]
pub(crate) fn note(entry: *mut ProcessRss, tgid: u32, in_force: InForce, place: Place) {
    note_in(entry, tgid, in_force, place.uid, place.cgroup);
}

/// The same as a function of its own, of which each program has one copy.
#[inline(never)]
fn note_in(entry: *mut ProcessRss, tgid: u32, in_force: InForce, uid: u32, cgroup: u64) {
    let place = Place { uid, cgroup };
    // SAFETY: the caller looked the entry up; elements are never freed while a program runs.
    let process = unsafe { &mut *entry };
    if !in_force.is_noted(process, place) {
        if process.sum_epoch == GONE {
            return;
        }
        if MOVING.insert(tgid, 0, BPF_NOEXIST.into()).is_err() {
            // Another CPU moves it. Not settled: the next event of this process tries again.
            front::clear(tgid);
            return;
        }
        move_to(process, in_force, place);
        // It was inserted above.
        let _ = MOVING.remove(tgid);
    }
    let change = process.rss_pages().wrapping_sub(summed(process));
    if change != 0 {
        add(&raw mut process.summed_pages, change);
    }
    if let Some(key) = in_force.user(process) {
        count_and_check(key.id, key.kind, key.epoch, change, tgid);
    }
    if let Some(key) = in_force.cgroup(process) {
        count_and_check(key.id, key.kind, key.epoch, change, tgid);
    }
}

/// Takes a process out of its sums, because it calls exec, or `ends`.
#[inline(never)]
pub(crate) fn leave(entry: *mut ProcessRss, tgid: u32, ends: bool) {
    let Some(in_force) = InForce::now() else { return };
    // SAFETY: as in `note`.
    let process = unsafe { &mut *entry };
    // If another CPU is just moving it, that may count twice, as the head of this file has it.
    let locked = MOVING.insert(tgid, 0, BPF_NOEXIST.into()).is_ok();
    if process.sum_epoch == in_force.epoch() {
        withdraw(process, in_force);
    }
    process.sum_epoch = if ends { GONE } else { 0 };
    if locked {
        let _ = MOVING.remove(tgid);
    }
}

#[inline(always)]
fn move_to(process: &mut ProcessRss, in_force: InForce, place: Place) {
    if process.sum_epoch == in_force.epoch() {
        withdraw(process, in_force);
    } else {
        // An earlier epoch counted it.
        let pages = summed(process);
        add(&raw mut process.summed_pages, 0_u64.wrapping_sub(pages));
    }
    process.sum_uid = place.uid;
    process.sum_cgroup = place.cgroup;
    if let Some(key) = in_force.user(process) {
        join(key);
    }
    if let Some(key) = in_force.cgroup(process) {
        join(key);
    }
    process.sum_epoch = in_force.epoch();
}

/// Takes all pages that a process is counted with out of its sums.
#[inline(always)]
fn withdraw(process: &mut ProcessRss, in_force: InForce) {
    let less = 0_u64.wrapping_sub(summed(process));
    add(&raw mut process.summed_pages, less);
    if let Some(key) = in_force.user(process) {
        part(key, less);
    }
    if let Some(key) = in_force.cgroup(process) {
        part(key, less);
    }
}

#[inline(always)]
fn part(key: SumKey, less: u64) {
    if let Some(sum) = SUMS.get_ptr_mut(key) {
        // SAFETY: as in `note`.
        let sum = unsafe { &mut *sum };
        add(&raw mut sum.pages, less);
        add(&raw mut sum.members, 0_u64.wrapping_sub(1));
    }
}

/// Counts one member more.
#[inline(always)]
fn join(key: SumKey) {
    if SUMS.get_ptr(key).is_none()
        && SUMS.insert(key, Sum::default(), BPF_NOEXIST.into()).is_err_and(|error| error != EEXIST)
    {
        count(|counters| counters.sums_full += 1);
    }
    if let Some(sum) = SUMS.get_ptr_mut(key) {
        // SAFETY: as in `note`.
        add(unsafe { &raw mut (*sum).members }, 1);
    }
}

#[inline(never)]
fn count_and_check(id: u64, kind: u32, epoch: u32, change: u64, tgid: u32) {
    let key = SumKey { id, kind, epoch };
    let Some(sum) = SUMS.get_ptr_mut(key) else { return };
    // SAFETY: as in `note`.
    let sum = unsafe { &mut *sum };
    if change != 0 {
        add(&raw mut sum.pages, change);
    }
    let Some(config) = SUM_CONFIG.get_ptr(0) else { return };
    // Field by field, because a copy does not fit: all functions together may take 512 bytes of stack.
    // SAFETY: array elements live as long as the map.
    let config = unsafe { &*config };
    // User space counts the generation up last.
    let generation = field(&config.generation);
    if sum.generation != generation {
        (sum.wake_at, sum.since) = level(key, config);
        sum.generation = generation;
    }
    let slack_pages = field(&config.slack_pages);
    let (wake_at, since) = (sum.wake_at, sum.since);
    let figure = sum.at_most(slack_pages, wake_at);
    // As for one process: a clear fall arms the latch again.
    if sum.reported == since && figure < wake_at - wake_at / 8 {
        sum.reported = 0;
    }
    if sum.reported != since && figure >= wake_at {
        if wake::notify_sum(key, sum.pages, tgid) {
            sum.reported = since;
        } else {
            front::clear(tgid);
        }
    }
}

/// The level of a sum, and the generation it came with.
#[inline(always)]
fn level(key: SumKey, config: &SumConfig) -> (u64, u64) {
    if let Some(own) = SUM_LEVELS.get_ptr(SumKey { epoch: 0, ..key }) {
        // SAFETY: elements live as long as a program runs. One that is being replaced is read again with the next generation.
        let SumLevel { wake_at, generation } = unsafe { ptr::read_volatile(own) };
        return (wake_at, generation);
    }
    let wake_at = if key.kind == sum_kind::USER { &config.user_wake_at } else { &config.cgroup_wake_at };
    (field(wake_at), field(&config.default_generation))
}

/// A setting that user space may be writing, in one piece.
#[inline(always)]
fn field(of: &u64) -> u64 {
    // SAFETY: a valid reference.
    unsafe { ptr::read_volatile(of) }
}

/// The pages that a process is counted with.
#[inline(always)]
fn summed(process: &ProcessRss) -> u64 {
    // SAFETY: a valid reference; other CPUs may write it, in one piece.
    unsafe { ptr::read_volatile(&raw const process.summed_pages) }
}

/// Adds in one piece, without reading, which is all that Linux 5.10 can do. Its target has no atomics in `core`.
#[inline(always)]
fn add(to: *mut u64, pages: u64) {
    // SAFETY: within an element of a map, and aligned.
    unsafe { asm!("lock *(u64 *)({to} + 0) += {pages}", to = in(reg) to, pages = in(reg) pages) };
}

//! Wake levels: which one holds for a process, and the one event when it is reached.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_RB_FORCE_WAKEUP,
    btf_maps::{Array, HashMap, RingBuf},
    helpers::bpf_ktime_get_ns,
    macros::btf_map,
};
use memmon_common::{Config, DEFAULT_CAPACITY, Event, ProcessRss, RING_BYTES, SumKey, WakeLevel, kind};

use crate::{
    count::count,
    front,
    kernel::{RememberedMm, Task},
};

#[btf_map]
static CONFIG: Array<Config, 1> = Array::new();

// Preallocated like the table of processes: levels are set when memory is not to be had.
#[btf_map]
static LEVELS: HashMap<u32, WakeLevel, DEFAULT_CAPACITY> = HashMap::new();

#[btf_map]
static EVENTS: RingBuf<Event, RING_BYTES> = RingBuf::new();

/// Number of changes of levels. To be read before any level: user space writes it after them.
#[inline(always)]
pub(crate) fn generation() -> u64 {
    let Some(config) = CONFIG.get_ptr(0) else { return 0 };
    // SAFETY: array elements live as long as the map.
    let generation = unsafe { &raw const (*config).generation };
    // SAFETY: as above; user space may write it, in one piece.
    unsafe { ptr::read_volatile(generation) }
}

/// The RSS in pages below which a change of the counters needs no attention. User space changes it while it runs.
#[inline(always)]
pub(crate) fn floor() -> u64 {
    let Some(config) = CONFIG.get_ptr(0) else { return 0 };
    // SAFETY: array elements live as long as the map.
    let floor = unsafe { &raw const (*config).floor };
    // SAFETY: as above; user space may write it, in one piece.
    unsafe { ptr::read_volatile(floor) }
}

/// Holds `entry`, just written, against its level: notifies user space once, then lets events pass until the next change.
#[inline(always)]
pub(crate) fn check(entry: *mut ProcessRss, tgid: u32, generation: u64) {
    // SAFETY: the verifier saw the null check of the lookup; elements are never freed while a program runs.
    let entry = unsafe { &mut *entry };
    let rss = entry.rss_pages();
    let Some((wake_at, since)) = level(tgid, entry.start_boottime) else { return };
    entry.wake_at = wake_at;

    // A clear fall arms the latch again, so that a process that comes and goes is reported each time it comes.
    if entry.reported == since && rss < wake_at - wake_at / 8 {
        entry.reported = 0;
    }
    if entry.reported != since && rss >= wake_at {
        if !notify(entry, tgid, kind::CROSSED, rss, 0) {
            // Not settled: the next event of this process tries again.
            front::clear(tgid);
            return;
        }
        entry.reported = since;
    }
    let ceiling = if entry.reported == since { u64::MAX } else { wake_at };
    front::settle(tgid, rss, ceiling, generation);
}

/// The end of a process: sent if its crossing was, or a level was set for it alone, so that who waits for its end knows
/// how it came; and where the kernel's OOM killer had marked it.
#[inline(always)]
pub(crate) fn ended(entry: *const ProcessRss, tgid: u32, task: Task) {
    // SAFETY: as in `check`.
    let entry = unsafe { &*entry };
    let oom = task.oom_victim();
    if oom || entry.reported != 0 || own_level(tgid, entry.start_boottime).is_some() {
        let kind = if oom { kind::OOM_KILLED } else { kind::ENDED };
        // A full ring is counted; the end itself shows by other ways.
        notify(entry, tgid, kind, entry.peak_pages, task.exit_code());
    }
}

/// Reports that `entry`'s process leaves its memory, if others run on in it, which may make no event: one of them
/// becomes the owner after this, and is added when user space seeds the table again. Those that only look at the memory in
/// this moment, or that got the place of memory that is freed already, cost a seed too many.
#[inline(always)]
pub(crate) fn left_memory(entry: *const ProcessRss, tgid: u32, task: Task) {
    // SAFETY: as in `check`.
    let entry = unsafe { &*entry };
    // Since 6.16 an exiting task has its memory still.
    let own = u32::from(task.mm().is_some_and(|mm| mm.address() == entry.mm));
    if RememberedMm::new(entry.mm).users() > own {
        notify(entry, tgid, kind::OUTLIVED, entry.rss_pages(), 0);
    }
}

/// Puts an event on the ring. False if there is no room.
#[inline(always)]
fn notify(entry: &ProcessRss, tgid: u32, kind: u32, rss_pages: u64, exit_code: u32) -> bool {
    put(Event {
        // SAFETY: a helper without arguments.
        time: unsafe { bpf_ktime_get_ns() },
        start_boottime: entry.start_boottime,
        rss_pages,
        tgid,
        kind,
        exit_code,
        sum_kind: 0,
        comm: entry.comm,
    })
}

/// Reports that a sum reached its level, by a change of `tgid`. False if there is no room.
#[inline(always)]
pub(crate) fn notify_sum(key: SumKey, pages: u64, tgid: u32) -> bool {
    put(Event {
        // SAFETY: a helper without arguments.
        time: unsafe { bpf_ktime_get_ns() },
        start_boottime: key.id,
        rss_pages: pages,
        tgid,
        kind: kind::SUM_CROSSED,
        exit_code: 0,
        sum_kind: key.kind,
        comm: [0; 16],
    })
}

#[inline(always)]
fn put(event: Event) -> bool {
    let reported = EVENTS.output(event, u64::from(BPF_RB_FORCE_WAKEUP)).is_ok();
    count(|counters| if reported { counters.events += 1 } else { counters.ring_full += 1 });
    reported
}

/// Drops a process's own level: it ended, or exec made another program of it, which the default holds for.
#[inline(always)]
pub(crate) fn forget(tgid: u32) {
    // Most have none.
    let _ = LEVELS.remove(tgid);
}

/// The level in pages and the generation it came with.
#[inline(always)]
fn level(tgid: u32, start_boottime: u64) -> Option<(u64, u64)> {
    if let Some(own) = own_level(tgid, start_boottime) {
        return Some((own.wake_at, own.generation));
    }
    // SAFETY: array elements live as long as the map.
    let config = unsafe { ptr::read_volatile(CONFIG.get_ptr(0)?) };
    Some((config.default_wake_at, config.default_generation))
}

/// The level that was set for this very process.
#[inline(always)]
fn own_level(tgid: u32, start_boottime: u64) -> Option<WakeLevel> {
    let own = LEVELS.get_ptr(tgid)?;
    // SAFETY: elements live as long as the map. One that is being replaced may become another process's meanwhile: user
    // space counts the generation up after that, so that the next event asks again.
    let own = unsafe { ptr::read_volatile(own) };
    (own.start_boottime == start_boottime).then_some(own)
}

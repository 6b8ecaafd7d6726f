//! The front array: what nearly every event ends at.
//!
//! Direct-mapped by pid. A slot holds the bounds within which a process's RSS changes nothing that anybody waits for: no
//! wake level in reach, less than a step from what the table has. That is two array lookups, which the verifier inlines,
//! against a hash lookup and a store.

use core::ptr;

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use memmon_common::{FRONT_SLOTS, Front, STEP};

#[btf_map]
static FRONT: Array<Front, { FRONT_SLOTS as usize }> = Array::new();

/// Whether nothing needs to be done for `tgid` at `rss` pages.
///
/// The mm is not asked for. One that is another's (fork copies into it, exec builds it) would be turned away after this
/// anyway, and fork, exec and exit clear the slot.
#[inline(always)]
pub(crate) fn settled(tgid: u32, rss: u64, generation: u64) -> bool {
    let Some(slot) = FRONT.get_ptr(tgid % FRONT_SLOTS) else { return false };
    // SAFETY: array elements live as long as the map; another CPU may write, and then the key does not fit.
    let Front { key, bounds } = unsafe { ptr::read_volatile(slot) };
    key == seal(tgid, bounds, generation) && rss >= bounds >> 32 && rss < bounds & u64::from(u32::MAX)
}

/// Lets events pass while `tgid` stays within a step of `rss` and below `ceiling` pages.
#[inline(always)]
pub(crate) fn settle(tgid: u32, rss: u64, ceiling: u64, generation: u64) {
    let low = rss.saturating_sub(STEP - 1);
    let high = ceiling.min(rss + STEP);
    // 16 TiB of small pages: beyond that every event goes to the table.
    if high > u64::from(u32::MAX) {
        return;
    }
    let bounds = low << 32 | high;
    write(tgid, Front { key: seal(tgid, bounds, generation), bounds });
}

/// Forgets what is known of `tgid`, which is another process, or the same one in other memory.
#[inline(always)]
pub(crate) fn clear(tgid: u32) {
    write(tgid, Front { key: 0, bounds: 0 });
}

#[inline(always)]
fn seal(tgid: u32, bounds: u64, generation: u64) -> u64 {
    u64::from(tgid) << 32 ^ bounds ^ generation
}

#[inline(always)]
fn write(tgid: u32, front: Front) {
    if let Some(slot) = FRONT.get_ptr_mut(tgid % FRONT_SLOTS) {
        // SAFETY: as in `settled`; the halves of two writes do not fit together.
        unsafe { ptr::write_volatile(slot, front) };
    }
}

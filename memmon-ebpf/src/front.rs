//! The front array, which handles nearly every event.
//!
//! The array is direct-mapped by pid. A slot holds the bounds within which a change of the process's RSS needs no work:
//! no wake level is reached, and the table's figure is less than a step away. A hit costs two array lookups, which the
//! verifier inlines, instead of a hash lookup and a store.

use core::ptr;

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use memmon_common::{FRONT_SLOTS, Front, STEP};

#[btf_map]
static FRONT: Array<Front, { FRONT_SLOTS as usize }> = Array::new();

/// Whether nothing needs to be done for `tgid` at `rss` pages.
///
/// The mm is not compared. An mm that its owner does not run in (fork copies into it, exec builds it) is rejected later
/// anyway, and fork, exec and exit clear the slot.
#[inline(always)]
pub(crate) fn settled(tgid: u32, rss: u64, generation: u64) -> bool {
    let Some(slot) = FRONT.get_ptr(tgid % FRONT_SLOTS) else { return false };
    // SAFETY: array elements live as long as the map; if another CPU writes meanwhile, the key does not match.
    let Front { key, bounds } = unsafe { ptr::read_volatile(slot) };
    key == seal(tgid, bounds, generation) && rss >= bounds >> 32 && rss < bounds & u64::from(u32::MAX)
}

/// Lets events pass while `tgid` stays within a step of `rss` and below `ceiling` pages.
#[inline(always)]
pub(crate) fn settle(tgid: u32, rss: u64, ceiling: u64, generation: u64) {
    let low = rss.saturating_sub(STEP - 1);
    let high = ceiling.min(rss + STEP);
    // Beyond 16 TiB of small pages every event goes to the table.
    if high > u64::from(u32::MAX) {
        return;
    }
    let bounds = low << 32 | high;
    write(tgid, Front { key: seal(tgid, bounds, generation), bounds });
}

/// Empties the slot of `tgid`, which now is another process or runs in another mm.
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
        // SAFETY: as in `settled`; the halves of two different writes do not match.
        unsafe { ptr::write_volatile(slot, front) };
    }
}

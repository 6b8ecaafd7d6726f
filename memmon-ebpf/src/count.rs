//! Counters, and the flag that limits log lines to one.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    macros::btf_map,
};
use memmon_common::Counters;

#[btf_map]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// 1 once a line was logged.
#[btf_map]
static LOGGED: Array<u32, 1> = Array::new();

/// Changes this CPU's counters.
#[inline(always)]
pub(crate) fn count(change: impl FnOnce(&mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the element belongs to this CPU. A tick that interrupts another program in the middle of a change may cost
        // one count, never more.
        change(unsafe { &mut *counters });
    }
}

/// True at the first call. (It may be true on two CPUs at once; one extra log line does no harm.)
#[inline(always)]
pub(crate) fn first_time() -> bool {
    let Some(logged) = LOGGED.get_ptr_mut(0) else { return false };
    // SAFETY: array elements live as long as the map.
    let before = unsafe { core::ptr::read_volatile(logged) };
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(logged, 1) };
    before == 0
}

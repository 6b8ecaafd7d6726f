//! Counters, and the rare word to the log.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    macros::btf_map,
};
use memmon_common::Counters;

#[btf_map]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// Whether something was said already.
#[btf_map]
static SAID: Array<u32, 1> = Array::new();

/// Changes this CPU's counters.
#[inline(always)]
pub(crate) fn count(change: impl FnOnce(&mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: this CPU's own element, and a program is not interrupted by itself.
        change(unsafe { &mut *counters });
    }
}

/// True the first time. (Two CPUs may both be first; a line too many does no harm.)
#[inline(always)]
pub(crate) fn first_time() -> bool {
    let Some(said) = SAID.get_ptr_mut(0) else { return false };
    // SAFETY: array elements live as long as the map.
    let before = unsafe { core::ptr::read_volatile(said) };
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(said, 1) };
    before == 0
}

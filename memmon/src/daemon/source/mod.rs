//! Where readings come from: the kernel map if there is one, and /proc.

#[cfg(feature = "ebpf")]
pub(in crate::daemon) mod kernel_map;
#[cfg(not(feature = "ebpf"))]
#[path = "no_kernel_map.rs"]
pub(in crate::daemon) mod kernel_map;
pub(in crate::daemon) mod sources;

//! The sources of readings: the kernel map, if it is available, and /proc.

#[cfg(feature = "ebpf")]
mod event_queue;
#[cfg(feature = "ebpf")]
mod gear;
#[cfg(feature = "ebpf")]
pub(in crate::daemon) mod kernel_map;
#[cfg(not(feature = "ebpf"))]
#[path = "no_kernel_map.rs"]
pub(in crate::daemon) mod kernel_map;
#[cfg(feature = "ebpf")]
mod kernel_sums;
#[cfg(feature = "ebpf")]
mod places;
pub(in crate::daemon) mod sources;
mod sum_figure;

pub(in crate::daemon) use sources::WatchedMemory;
pub(in crate::daemon) use sum_figure::{SumFigure, SumWatch};

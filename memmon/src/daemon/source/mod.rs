//! The sources of readings: the kernel map, if it is available, and /proc.

#[cfg(feature = "ebpf")]
mod event_queue;
#[cfg(feature = "ebpf")]
mod gear;
#[cfg(feature = "ebpf")]
pub(super) mod kernel_map;
#[cfg(not(feature = "ebpf"))]
#[path = "no_kernel_map.rs"]
pub(super) mod kernel_map;
#[cfg(feature = "ebpf")]
mod kernel_sums;
#[cfg(feature = "ebpf")]
mod places;
pub(super) mod sources;
mod sum_figure;
mod sweep;

pub(super) use sources::WatchedMemory;
pub(super) use sum_figure::{SumFigure, SumWatch};

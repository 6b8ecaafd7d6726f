//! The machine's memory as a whole, and where it is that belongs to no process.

use serde::Serialize;

use super::{Bytes, SystemMemory};

/// Figures that decide whether the machine is short of memory, from /proc/meminfo and /proc/pressure/memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MachineMemory {
    /// `MemTotal` and `MemAvailable`.
    #[serde(flatten)]
    pub memory: SystemMemory,
    /// `SwapTotal`; zero without swap.
    #[serde(rename = "swap_total_bytes")]
    pub swap_total: Bytes,
    /// `SwapFree`.
    #[serde(rename = "swap_free_bytes")]
    pub swap_free: Bytes,
    /// Memory that belongs to no process.
    pub elsewhere: Elsewhere,
    /// `None` if the kernel does not measure it.
    pub pressure: Option<Pressure>,
}

/// Memory that no process's end gives back for certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Elsewhere {
    /// `Shmem`: files in tmpfs, System V segments, and shared memory of processes.
    #[serde(rename = "shmem_bytes")]
    pub shmem: Bytes,
    /// `SUnreclaim`: the kernel's own memory.
    #[serde(rename = "slab_bytes")]
    pub slab: Bytes,
    /// `Hugetlb`: the pool of huge pages.
    #[serde(rename = "hugetlb_bytes")]
    pub hugetlb: Bytes,
}

/// The share of time, in percent, in which processes waited for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Of the last ten seconds (`avg10`), in which at least one process did.
    pub some: f64,
    /// In which all processes that had something to do did.
    pub full: f64,
    /// The same of the last minute (`avg60`).
    #[serde(skip)]
    pub some_of_minute: f64,
    /// The same of the last minute, for all processes.
    #[serde(skip)]
    pub full_of_minute: f64,
    /// Whether processes waited while memory went to the swap, and nearly all of that stays there.
    #[serde(skip)]
    pub swaps_calmly: bool,
}

/// Memory that the kernel took from processes and files since boot, and what came back, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// Pages that went to the swap.
    pub out: u64,
    /// Pages of memory and of files that were needed again.
    pub back: u64,
}

impl MachineMemory {
    /// The share of swap that is free, in percent; `None` without swap.
    pub fn swap_free_percent(&self) -> Option<f64> {
        (self.swap_total > Bytes::ZERO).then(|| self.swap_free.percent_of(self.swap_total))
    }
}

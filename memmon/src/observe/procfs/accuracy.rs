//! How far the kernel's own figure for a process may be from the truth.

use crate::model::Bytes;

/// What /proc/PID/statm is worth on the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accuracy {
    /// Linux 6.17 and later, and stable kernels with the same change: an exact sum over all CPUs.
    StatmExact,
    /// From Linux 6.2: the sum without what each CPU still holds back.
    StatmLags {
        /// How much all CPUs together may hold back, in either direction: the same for every process.
        bound: Bytes,
    },
    /// Before Linux 6.2: each thread holds back what it faulted in last.
    PerThread {
        /// How much one thread may hold back.
        bound: Bytes,
    },
}

impl Accuracy {
    /// How far statm may be off for a process with so many threads; zero where it is exact.
    pub(super) const fn error(&self, threads: u64) -> Bytes {
        match self {
            Self::StatmExact => Bytes::ZERO,
            Self::StatmLags { bound } => *bound,
            Self::PerThread { bound } => Bytes(bound.0.saturating_mul(threads)),
        }
    }
}

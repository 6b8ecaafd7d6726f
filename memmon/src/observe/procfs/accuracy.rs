//! Accuracy of the kernel's own figure for a process.

use crate::model::Bytes;

/// Accuracy of /proc/PID/statm on the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accuracy {
    /// Linux 6.17 and later, and stable kernels with the same change: an exact sum over all CPUs.
    StatmExact,
    /// From Linux 6.2: a sum without the batch that each CPU holds back.
    StatmLags {
        /// Maximum that all CPUs together hold back, in either direction, for any process.
        bound: Bytes,
    },
    /// Before Linux 6.2: each thread holds back the pages that it faulted in last.
    PerThread {
        /// Maximum that one thread holds back.
        bound: Bytes,
    },
}

impl Accuracy {
    /// Maximum error of statm for a process with this number of threads; zero if statm is exact.
    pub(super) const fn error(&self, threads: u64) -> Bytes {
        match self {
            Self::StatmExact => Bytes::ZERO,
            Self::StatmLags { bound } => *bound,
            Self::PerThread { bound } => Bytes(bound.0.saturating_mul(threads)),
        }
    }
}

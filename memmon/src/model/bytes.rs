//! Amounts of memory.

use std::{iter, ops};

use serde::{Deserialize, Serialize};

/// An amount of memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// No memory at all.
    pub const ZERO: Self = Self(0);
    /// More than any machine has.
    pub const MAX: Self = Self(u64::MAX);
    /// 2^10 bytes.
    pub const KIB: u64 = 1 << 10;
    /// 2^20 bytes.
    pub const MIB: u64 = 1 << 20;
    /// 2^30 bytes, which v1 and memmon call a GB.
    pub const GIB: u64 = 1 << 30;

    /// `count` units of 1024 bytes, as in /proc/meminfo and /proc/PID/status.
    pub const fn from_kib(count: u64) -> Self {
        Self(count.saturating_mul(Self::KIB))
    }

    /// `count` units of 2^30 bytes, as in the configuration; zero if `count` is negative or not a number.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    pub const fn from_gb(count: f64) -> Self {
        Self((count * Self::GIB as f64) as u64)
    }

    /// The share of `total`, in percent; 0 if `total` is zero.
    pub fn percent_of(self, total: Self) -> f64 {
        if total.0 == 0 { 0.0 } else { self.0 as f64 * 100.0 / total.0 as f64 }
    }

    /// `self - other`, or zero if `other` is larger.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self * factor`, capped at [`Bytes::MAX`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and NaN becomes zero"
    )]
    pub const fn times(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor) as u64)
    }

    /// `self + other`, capped at [`Bytes::MAX`].
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl ops::Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

/// The machine's memory, from /proc/meminfo (proc_meminfo(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemMemory {
    /// `MemTotal`: the base of percent limits.
    #[serde(rename = "total_bytes")]
    pub total: Bytes,
    /// `MemAvailable`: memory that can be allocated without swapping.
    #[serde(rename = "available_bytes")]
    pub available: Bytes,
}

impl SystemMemory {
    /// Memory in use: total minus available, as psutil counts it and v1 logged it.
    pub const fn used(&self) -> Bytes {
        self.total.saturating_sub(self.available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gigabytes_are_of_1024_megabytes() {
        for (gb, bytes) in
            [(2.0, 2 << 30), (0.5, 1 << 29), (-1.0, 0), (f64::NAN, 0), (f64::INFINITY, u64::MAX)]
        {
            assert_eq!(Bytes::from_gb(gb), Bytes(bytes), "{gb}");
        }
    }

    #[test]
    fn a_share_of_nothing_is_zero() {
        assert_eq!(Bytes(5).percent_of(Bytes::ZERO), 0.0);
        assert_eq!(Bytes(1).percent_of(Bytes(8)), 12.5);
    }
}

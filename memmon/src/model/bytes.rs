//! Amounts of memory, and the one way they are written for people.

use std::{fmt, iter, ops};

use serde::Serialize;

/// An amount of memory in bytes.
///
/// Written as v1 wrote it: gigabytes of 2^30 bytes with two decimals, `3.50GB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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

    /// `count` units of 1024 bytes, as /proc/meminfo and /proc/PID/status give them.
    pub const fn from_kib(count: u64) -> Self {
        Self(count.saturating_mul(Self::KIB))
    }

    /// `count` units of 2^30 bytes, as an administrator gives them; zero for what is negative or no number.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    pub const fn from_gb(count: f64) -> Self {
        Self((count * Self::GIB as f64) as u64)
    }

    /// The share that this is of `total`, in percent; 0 of nothing.
    pub fn percent_of(self, total: Self) -> f64 {
        if total.0 == 0 { 0.0 } else { self.0 as f64 * 100.0 / total.0 as f64 }
    }

    /// `self - other`, or zero where `other` is larger.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `self` so many times, capped at [`Bytes::MAX`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and NaN is nothing"
    )]
    pub const fn times(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor) as u64)
    }

    /// `self + other`, capped at [`Bytes::MAX`].
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}GB", self.0 as f64 / Self::GIB as f64)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SystemMemory {
    /// `MemTotal`: what percent limits are a share of.
    #[serde(rename = "total_bytes")]
    pub total: Bytes,
    /// `MemAvailable`: what can be allocated without swapping.
    #[serde(rename = "available_bytes")]
    pub available: Bytes,
}

impl SystemMemory {
    /// What is in use: total less available, as psutil counts it and v1 logged it.
    pub const fn used(&self) -> Bytes {
        self.total.saturating_sub(self.available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_v1_wrote_them() {
        assert_eq!(Bytes(7 * Bytes::GIB / 2).to_string(), "3.50GB");
        assert_eq!(Bytes::ZERO.to_string(), "0.00GB");
    }

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

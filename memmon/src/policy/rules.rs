//! The rules from the configuration: the limits, and the processes that are never touched.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{CgroupPatterns, LimitRule, Matcher, NamePatterns, SumRule, UidRanges};
use crate::model::{Bytes, Exemption, Limit, Measure, Per, Pid, SystemMemory, Uid, WantedFacts};

/// All inputs of policy from the configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rules {
    /// The memory that a process may have.
    pub limits: Limits,
    /// The figure of its memory that is compared with the limit.
    pub measure: Measure,
    /// The processes that are left alone, for any memory usage.
    pub whitelist: Whitelist,
    /// The processes that memmon may touch at all.
    pub scope: Scope,
    /// Whether `oom_score_adj` -1000 protects, as it does from the kernel's own killer.
    pub honour_oom_score_adj: bool,
    /// memmon itself, which it never touches.
    pub own_pid: Pid,
    /// Other limits for some processes: the first rule that matches decides.
    pub rules: Vec<LimitRule>,
    /// Limits for what several processes hold together: of each kind the first rule that matches decides.
    pub sums: Vec<SumRule>,
    /// The exemptions of `memmon exempt` that have not ended.
    pub exemptions: Vec<Exemption>,
}

impl Rules {
    /// The limit that counts on a machine with this memory, and which of the two it is: the lower one, because a process
    /// that exceeds either is over the limit.
    ///
    /// If the total of the machine is unknown (0), a share of it cannot be exceeded: the absolute limit counts.
    pub fn limit(&self, memory: &SystemMemory) -> (Limit, Bytes) {
        let share = self.limits.share_of(memory.total);
        if memory.total > Bytes::ZERO && share < self.limits.bytes {
            (Limit::Percent, share)
        } else {
            (Limit::Gb, self.limits.bytes)
        }
    }

    /// Whether a verdict can depend on the path of a process's cgroup.
    pub fn depends_on_cgroups(&self) -> bool {
        self.scope.cgroups.is_some() || self.matchers().any(Matcher::depends_on_cgroups)
    }

    fn matchers(&self) -> impl Iterator<Item = &Matcher> {
        let sums = self.sums.iter().map(|sum| &sum.rule);
        self.rules.iter().chain(sums).map(|rule| &rule.matcher).chain([&self.whitelist.also])
    }

    /// The facts that are to be read of a process so that these rules can judge it.
    pub fn wanted(&self) -> WantedFacts {
        let session = self.sums.iter().any(|sum| sum.per == Per::Session);
        let none = WantedFacts { session, ..WantedFacts::default() };
        self.matchers().map(Matcher::wanted).fold(none, |all, one| WantedFacts {
            args: all.args || one.args,
            exe_file: all.exe_file || one.exe_file,
            session: all.session || one.session,
        })
    }
}

/// The resident memory that a process may have. A process that exceeds either limit is over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    percent: f64,
    bytes: Bytes,
}

impl Limits {
    /// `percent` of all memory, above 0 and up to 100, and `bytes`, above 0: nothing else can be built, so that no
    /// slip makes every process a hog.
    ///
    /// # Errors
    /// An error if one of the two is out of its range, which it names.
    pub fn new(percent: f64, bytes: Bytes) -> Result<Self, LimitsError> {
        if !(percent > 0.0 && percent <= 100.0) {
            Err(LimitsError::Percent(percent))
        } else if bytes == Bytes::ZERO {
            Err(LimitsError::Zero)
        } else {
            Ok(Self { percent, bytes })
        }
    }

    /// `ram_percent_threshold`, in percent of all memory.
    pub const fn percent(&self) -> f64 {
        self.percent
    }

    /// `ram_gb_threshold`, in bytes.
    pub const fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// The percent limit in bytes. Rounded down, which is exact: whole bytes exceed a figure if and only if they
    /// exceed its floor.
    pub fn share_of(&self, total: Bytes) -> Bytes {
        share(self.percent, total)
    }
}

/// `percent` of `total`, rounded down.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 < percent <= 100, so the share is neither negative nor above the total"
)]
pub(super) fn share(percent: f64, total: Bytes) -> Bytes {
    Bytes((total.0 as f64 * percent / 100.0).floor() as u64)
}

/// A limit that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum LimitsError {
    /// Not a number, zero, negative or above 100.
    #[error("{0} percent of memory is not a limit: it must be above 0 and at most 100")]
    Percent(f64),
    /// Every process would be over.
    #[error("a limit of 0 bytes would terminate every process: it must be above 0")]
    Zero,
}

/// The processes that are left alone, for any memory usage: `[whitelist]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Whitelist {
    /// Process ids.
    pub pids: BTreeSet<Pid>,
    /// Exact names or globs, asked of comm, and of the basenames of exe and argv[0].
    pub names: NamePatterns,
    /// Users: a process is theirs if its real or its effective uid is. Root in here changes nothing (as in v1, whose
    /// configuration lists root and does not protect it): root is for `protect_root` to say.
    pub users: BTreeSet<Uid>,
    /// Whether processes with real or effective uid 0 are left alone.
    pub protect_root: bool,
    /// `exe`, `args`, `uids`, `groups`, `cgroups` and `units`: unlike in a rule, each key protects on its own.
    #[serde(flatten)]
    pub also: Matcher,
}

/// The processes that may be touched at all: `[scope]`. All of them, by default; if both are given, both must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scope {
    /// Real and effective uid must both be in here.
    pub uids: Option<UidRanges>,
    /// The cgroup's path must match one of these.
    pub cgroups: Option<CgroupPatterns>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures;

    const GB: u64 = Bytes::GIB;

    fn rules(percent: f64, bytes: u64) -> Rules {
        Rules { limits: Limits::new(percent, Bytes(bytes)).unwrap(), ..fixtures::rules() }
    }

    #[test]
    fn the_lower_limit_counts() {
        for (percent, bytes, total, expected) in [
            (10.0, 2 * GB, 16 * GB, (Limit::Percent, 16 * GB / 10)),
            (10.0, 2 * GB, 64 * GB, (Limit::Gb, 2 * GB)),
            (12.5, 2 * GB, 16 * GB, (Limit::Gb, 2 * GB)),
            (100.0, u64::MAX, 16 * GB, (Limit::Percent, 16 * GB)),
            (10.0, 100, 999, (Limit::Percent, 99)),
            // The total is unknown: a share of zero would be a limit of zero.
            (10.0, 2 * GB, 0, (Limit::Gb, 2 * GB)),
        ] {
            let memory = SystemMemory { total: Bytes(total), available: Bytes::ZERO };
            let (limit, bytes) = rules(percent, bytes).limit(&memory);
            assert_eq!((limit, bytes.0), expected, "{percent} % and of {total}");
        }
    }

    #[test]
    fn a_senseless_limit_cannot_be_built() {
        for percent in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, -0.0, 100.000_001] {
            assert!(matches!(Limits::new(percent, Bytes(GB)), Err(LimitsError::Percent(_))), "{percent}");
        }
        assert_eq!(Limits::new(10.0, Bytes::ZERO), Err(LimitsError::Zero));
        assert!(Limits::new(f64::MIN_POSITIVE, Bytes(1)).is_ok());
        assert!(Limits::new(100.0, Bytes::MAX).is_ok());
    }
}

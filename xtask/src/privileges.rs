//! The privileges of this process.

use std::fs;

use anyhow::{Context as _, Result};

/// Capability numbers from the kernel's include/uapi/linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// The effective user and capabilities of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Privileges {
    effective_uid: u32,
    capabilities: u64,
}

impl Privileges {
    /// Reads the privileges of this process from /proc/self/status (proc_pid_status(5)).
    pub(crate) fn of_this_process() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
        Self::parse(&status).context("/proc/self/status lacks a `Uid:` or `CapEff:` line")
    }

    /// Parses the text of that file.
    pub(crate) fn parse(status: &str) -> Option<Self> {
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        Some(Self {
            // Real, effective, saved, file system.
            effective_uid: value("Uid:")?.split_whitespace().nth(1)?.parse().ok()?,
            capabilities: u64::from_str_radix(value("CapEff:")?.trim(), 16).ok()?,
        })
    }

    /// Whether the effective user is root.
    pub(crate) const fn is_root(self) -> bool {
        self.effective_uid == 0
    }

    /// Whether tracing programs can be loaded and attached: CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN.
    pub(crate) const fn may_trace(self) -> bool {
        self.has(CAP_SYS_ADMIN) || (self.has(CAP_BPF) && self.has(CAP_PERFMON))
    }

    /// Whether an oom_score_adj can be lowered: CAP_SYS_RESOURCE, which even root lacks on some machines.
    pub(crate) const fn may_lower_oom_score(self) -> bool {
        self.has(CAP_SYS_RESOURCE)
    }

    /// Whether file systems can be mounted: CAP_SYS_ADMIN.
    pub(crate) const fn may_mount(self) -> bool {
        self.has(CAP_SYS_ADMIN)
    }

    const fn has(self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_those_of_the_effective_user() {
        let of = |uid: &str, capabilities: &str| {
            Privileges::parse(&format!("Name:\tx\nUid:\t{uid}\nCapEff:\t{capabilities}\n")).unwrap()
        };
        for (uid, capabilities, root, trace) in [
            ("0\t0\t0\t0", "000001ffffffffff", true, true),
            ("1000\t0\t0\t0", "000001ffffffffff", true, true),
            ("0\t1000\t0\t0", "0000000000000000", false, false),
            ("1000\t1000\t1000\t1000", "000000c000000000", false, true),
            ("1000\t1000\t1000\t1000", "0000008000000000", false, false),
            // A container's root.
            ("0\t0\t0\t0", "00000000a80425fb", true, false),
        ] {
            let privileges = of(uid, capabilities);
            assert_eq!((privileges.is_root(), privileges.may_trace()), (root, trace), "{uid} {capabilities}");
        }
        assert_eq!(Privileges::parse("Uid:\tnobody"), None);
    }
}

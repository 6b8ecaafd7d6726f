//! The privileges of this process.

use anyhow::{Context as _, Result};
use nix::unistd::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

/// The effective user and capabilities of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// Whether the effective user is root.
    pub(crate) is_root: bool,
    pub(crate) capabilities: CapabilitySet,
}

impl Privileges {
    /// Reads the privileges of this process.
    pub(crate) fn of_this_process() -> Result<Self> {
        let capabilities = capabilities(None).context("cannot read the capabilities of this process")?;
        Ok(Self { is_root: geteuid().is_root(), capabilities: capabilities.effective })
    }

    /// Whether tracing programs can be loaded and attached: CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN.
    pub(crate) const fn may_trace(self) -> bool {
        self.may_mount() || self.capabilities.contains(CapabilitySet::BPF.union(CapabilitySet::PERFMON))
    }

    /// Whether an oom_score_adj can be lowered: CAP_SYS_RESOURCE, which even root lacks on some machines.
    pub(crate) const fn may_lower_oom_score(self) -> bool {
        self.capabilities.contains(CapabilitySet::SYS_RESOURCE)
    }

    /// Whether file systems can be mounted: CAP_SYS_ADMIN.
    pub(crate) const fn may_mount(self) -> bool {
        self.capabilities.contains(CapabilitySet::SYS_ADMIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_those_of_the_effective_user() {
        for (capabilities, trace) in [
            (0x0000_01ff_ffff_ffff, true),
            (0, false),
            // CAP_BPF and CAP_PERFMON, and the one alone.
            (0x0000_00c0_0000_0000, true),
            (0x0000_0080_0000_0000, false),
            // A container's root.
            (0x0000_0000_a804_25fb, false),
        ] {
            let capabilities = CapabilitySet::from_bits_retain(capabilities);
            assert_eq!(Privileges { is_root: true, capabilities }.may_trace(), trace, "{capabilities:?}");
        }
    }
}

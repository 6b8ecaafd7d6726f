//! Capabilities (capabilities(7)): the parts of root's rights, which memmon has or lacks.

use std::fmt;

/// One capability: its number and its name in linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    number: u32,
    name: &'static str,
}

impl Capability {
    /// The right to read and write any file.
    pub const DAC_OVERRIDE: Self = Self::new(1, "CAP_DAC_OVERRIDE");
    /// The right to read any file and search any folder.
    pub const DAC_READ_SEARCH: Self = Self::new(2, "CAP_DAC_READ_SEARCH");
    /// The right to signal any process.
    pub const KILL: Self = Self::new(5, "CAP_KILL");
    /// The right to be in any group.
    pub const SETGID: Self = Self::new(6, "CAP_SETGID");
    /// The right to become any user.
    pub const SETUID: Self = Self::new(7, "CAP_SETUID");
    /// The right to lock memory without a limit.
    pub const IPC_LOCK: Self = Self::new(14, "CAP_IPC_LOCK");
    /// The right to inspect any process.
    pub const SYS_PTRACE: Self = Self::new(19, "CAP_SYS_PTRACE");
    /// Nearly all rights, including the two capabilities for BPF.
    pub const SYS_ADMIN: Self = Self::new(21, "CAP_SYS_ADMIN");
    /// The right to any priority.
    pub const SYS_NICE: Self = Self::new(23, "CAP_SYS_NICE");
    /// The right to raise resource limits.
    pub const SYS_RESOURCE: Self = Self::new(24, "CAP_SYS_RESOURCE");
    /// The right to attach BPF programs that trace the kernel (5.8).
    pub const PERFMON: Self = Self::new(38, "CAP_PERFMON");
    /// The right to load BPF programs and create maps (5.8).
    pub const BPF: Self = Self::new(39, "CAP_BPF");

    /// All of these.
    pub const KNOWN: [Self; 12] = [
        Self::DAC_OVERRIDE,
        Self::DAC_READ_SEARCH,
        Self::KILL,
        Self::SETGID,
        Self::SETUID,
        Self::IPC_LOCK,
        Self::SYS_PTRACE,
        Self::SYS_ADMIN,
        Self::SYS_NICE,
        Self::SYS_RESOURCE,
        Self::PERFMON,
        Self::BPF,
    ];

    const fn new(number: u32, name: &'static str) -> Self {
        Self { number, name }
    }

    /// Its name, with `CAP_`.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A set of capabilities, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// The set of these.
    pub fn of(some: impl IntoIterator<Item = Capability>) -> Self {
        Self(some.into_iter().fold(0, |all, one| all | 1 << one.number))
    }

    /// Whether the set contains `capability`.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability.number != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_bits_of_the_effective_set() {
        let set = Capabilities(0xc0_0000_0020);
        assert!(set.has(Capability::BPF) && set.has(Capability::PERFMON) && set.has(Capability::KILL));
        assert!(!set.has(Capability::SYS_ADMIN) && !set.has(Capability::SYS_PTRACE));
        assert_eq!(Capabilities::of([Capability::KILL, Capability::BPF, Capability::PERFMON]), set);
    }
}

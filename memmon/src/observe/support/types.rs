//! Types for the facts about the machine.

use std::fmt;

use memmon_common::Offsets;

use crate::observe::btf::LayoutError;

/// A kernel version, without the patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// 6 of 6.18.
    pub major: u32,
    /// 18 of 6.18.
    pub minor: u32,
}

impl KernelVersion {
    /// Parses the start of a release string such as `6.1.0-56-cloud-amd64`.
    pub fn parse(release: &str) -> Option<Self> {
        let (major, rest) = release.split_once('.')?;
        let minor = rest.split(|character: char| !character.is_ascii_digit()).next()?;
        let number =
            |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
        Some(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// State of the kernel's type information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Btf {
    /// The kernel provides none.
    Absent,
    /// It could not be read.
    Unreadable {
        /// The error.
        error: String,
    },
    /// It was read: the offsets, or the reason why they were not found.
    Read(Result<Offsets, LayoutError>),
}

/// kernel_lockdown(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Lockdown is off, or not built in.
    None,
    /// User space may not change the running kernel; BPF programs may read its memory.
    Integrity,
    /// User space may neither change the running kernel nor read its memory.
    Confidentiality,
}

impl Lockdown {
    /// Parses the word in brackets of /sys/kernel/security/lockdown.
    pub fn parse(file: &str) -> Self {
        match file.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
            Some(("integrity", _)) => Self::Integrity,
            Some(("confidentiality", _)) => Self::Confidentiality,
            _ => Self::None,
        }
    }
}

/// Whether `memory.high` of cgroups can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupMemory {
    /// The memory controller is in the unified hierarchy, which memmon may write to.
    Writable,
    /// The mount is read-only for memmon, as its unit has it.
    ReadOnly,
    /// The memory controller is not in the unified hierarchy: cgroups of version 1, or it is off.
    Elsewhere,
}

/// Result of trying a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The call works.
    Available,
    /// It returned ENOSYS.
    Missing,
    /// It returned EPERM or EACCES.
    Refused {
        /// The text of strerror(3).
        error: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_releases_of_distributions() {
        let version = |major, minor| Some(KernelVersion { major, minor });
        for (release, expected) in [
            ("6.18.44-fc-v669", version(6, 18)),
            ("6.1.0-56-cloud-amd64", version(6, 1)),
            ("4.19.0", version(4, 19)),
            ("6.16-rc1", version(6, 16)),
            ("5.14.0-503.el9.x86_64", version(5, 14)),
            ("7.0+", version(7, 0)),
            ("", None),
            ("6", None),
            ("six.1", None),
            ("6.", None),
            ("+6.1", None),
            (".1", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(KernelVersion::parse(release), expected, "{release}");
        }
        assert!(version(5, 10) > version(5, 8) && version(6, 2) > version(5, 19));
    }

    #[test]
    fn lockdown_is_parsed_from_the_word_in_brackets() {
        assert_eq!(Lockdown::parse("[none] integrity confidentiality\n"), Lockdown::None);
        assert_eq!(Lockdown::parse("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(Lockdown::parse("none integrity [confidentiality]\n"), Lockdown::Confidentiality);
    }
}

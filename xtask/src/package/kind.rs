//! The kinds of files that `cargo xtask package` makes, their names, and the tools that make them.

use std::env;

use crate::cargo_tools::{self, Tool};

/// A kind of file that `cargo xtask package` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// For Debian, Ubuntu and their kin
    Deb,
    /// For Fedora, RHEL, SUSE and their kin
    Rpm,
    /// The same tree as an archive, for every other distribution
    Tar,
    /// The record of memmon's dependencies, in CycloneDX
    Record,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Deb, Self::Rpm, Self::Tar, Self::Record];

    /// The file's name, by the rules of its format.
    pub(crate) fn file_name(self) -> String {
        let (version, machine) = (env!("CARGO_PKG_VERSION"), env::consts::ARCH);
        match self {
            Self::Deb => format!("memmon_{version}-1_{}.deb", debian_architecture(machine)),
            Self::Rpm => format!("memmon-{version}-1.{machine}.rpm"),
            Self::Tar => format!("memmon-{version}-{machine}-linux-gnu.tar.zst"),
            Self::Record => format!("memmon-{version}.cdx.json"),
        }
    }

    /// The extra program that makes it, if there is one.
    pub(super) const fn tool(self) -> Option<Tool> {
        match self {
            Self::Deb => Some(cargo_tools::DEB),
            Self::Rpm => Some(cargo_tools::GENERATE_RPM),
            Self::Record => Some(cargo_tools::CYCLONEDX),
            Self::Tar => None,
        }
    }
}

/// dpkg's name for an architecture.
fn debian_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64el",
        other => other,
    }
}

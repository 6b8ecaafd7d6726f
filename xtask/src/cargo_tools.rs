//! The tools that make and check packages: subcommands of cargo, and Debian's programs.

use std::process::Command;

use crate::{shell, toolchain};

/// A subcommand of cargo, in a tested version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// Makes a .deb.
pub(crate) const DEB: Tool = Tool { name: "cargo-deb", version: "3.8.0" };
/// Makes an .rpm.
pub(crate) const GENERATE_RPM: Tool = Tool { name: "cargo-generate-rpm", version: "0.21.1" };
/// Writes the record of all dependencies.
pub(crate) const CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9" };

/// All of these tools.
pub(crate) const ALL: [Tool; 3] = [DEB, GENERATE_RPM, CYCLONEDX];

/// Debian's programs that check packages, and the one that installs an .rpm; each has the name of its package.
pub(crate) const LINTERS: [&str; 3] = ["lintian", "rpmlint", "rpm"];

impl Tool {
    /// The command that installs it. The tool runs for a second, so an optimised build is not worth its time.
    pub(crate) fn install(self) -> Command {
        let mut command = Command::new("cargo");
        command.args(["install", "--locked", "--debug", self.name, "--version", self.version]);
        command
    }

    /// Whether it is installed, in any version.
    pub(crate) fn is_installed(self) -> bool {
        let installed = toolchain::cargo_home().map(|home| home.join("bin").join(self.name));
        shell::find(self.name).is_some() || installed.is_some_and(|file| shell::is_executable(&file))
    }
}

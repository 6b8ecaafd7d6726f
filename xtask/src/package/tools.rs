//! What packages are made with, and who criticises them.

use anyhow::Result;

use super::formats::Kind;
use crate::{shell, toolchain};

/// A subcommand of cargo's, in the version that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// Debian's packages of the programs that read packages and complain, and of the one that tries what is not Debian's; each
/// is called like its package.
pub(crate) const LINTERS: [&str; 3] = ["lintian", "rpmlint", "rpm"];

impl Tool {
    /// What installs it. It is used for a second, so its own speed is worth no time.
    pub(crate) fn install(self) -> std::process::Command {
        let mut command = std::process::Command::new("cargo");
        command.args(["install", "--locked", "--debug", self.name, "--version", self.version]);
        command
    }

    fn is_there(self) -> bool {
        let installed = toolchain::cargo_home().map(|home| home.join("bin").join(self.name));
        shell::find(self.name).is_some() || installed.is_some_and(|file| shell::is_executable(&file))
    }
}

impl Kind {
    /// What makes it, where that is a program of its own.
    pub(crate) const fn tool(self) -> Option<Tool> {
        match self {
            Self::Deb => Some(Tool { name: "cargo-deb", version: "3.8.0" }),
            Self::Rpm => Some(Tool { name: "cargo-generate-rpm", version: "0.21.1" }),
            Self::Record => Some(Tool { name: "cargo-cyclonedx", version: "0.5.9" }),
            Self::Tar => None,
        }
    }
}

/// The tools for `kinds` that are not there.
pub(crate) fn missing(kinds: &[Kind]) -> Vec<Tool> {
    kinds.iter().filter_map(|kind| kind.tool()).filter(|tool| !tool.is_there()).collect()
}

/// Installs what is missing for `kinds`, saying so.
pub(super) fn ensure_there(kinds: &[Kind]) -> Result<()> {
    let missing = missing(kinds);
    if !missing.is_empty() {
        println!(
            "missing, and installed now: {}",
            missing.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ")
        );
    }
    missing.into_iter().try_for_each(|tool| shell::run(&mut tool.install()))
}

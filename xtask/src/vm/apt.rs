//! A private view of Debian's archive, with its own sources, lists and cache. It does not affect the system's apt.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use fs_err as fs;

use crate::{debian_programs, shell};

/// The suites that have the kernels. They are small: the kernels of a release are in its security suite.
const SOURCES: [(&str, &str); 3] = [
    ("debian-security", "bullseye-security"),
    ("debian-security", "bookworm-security"),
    ("debian", "trixie-backports"),
];
const MIRROR: &str = "http://deb.debian.org";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The parts of the archive that the tests need.
pub(super) struct Repository {
    folder: PathBuf,
    updated: bool,
}

impl Repository {
    /// A repository with its files in `folder`.
    pub(super) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), updated: false }
    }

    /// The names of all packages that begin with `linux-`.
    pub(super) fn kernels(&mut self) -> Result<Vec<String>> {
        self.update()?;
        let names = shell::read(self.apt("apt-cache").args(["pkgnames", "linux-"]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Unpacks `package` into `folder`.
    pub(super) fn unpack(&mut self, package: &str, folder: &Path) -> Result<()> {
        self.update()?;
        debian_programs::unpack(&mut self.apt("apt-get"), &[package], folder).map(drop)
    }

    fn update(&mut self) -> Result<()> {
        if !self.updated {
            self.configure()?;
            shell::run(self.apt("apt-get").args(["--quiet", "update"]))?;
            self.updated = true;
        }
        Ok(())
    }

    fn configure(&self) -> Result<()> {
        for folder in ["etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d", "etc/trusted.gpg.d"] {
            fs::create_dir_all(self.folder.join(folder))?;
        }
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.folder.join(folder))?;
        }
        fs::write(self.folder.join("state/status"), "")?;
        let sources = SOURCES.map(|(archive, suite)| {
            format!("deb [arch=amd64 signed-by={KEYRING}] {MIRROR}/{archive} {suite} main\n")
        });
        fs::write(self.folder.join("etc/sources.list"), sources.concat())?;
        let folder = self.folder.display();
        fs::write(
            self.config(),
            format!(
                "Dir \"{folder}\";\nDir::Etc \"{folder}/etc\";\nDir::State \"{folder}/state\";\n\
                 Dir::State::status \"{folder}/state/status\";\nDir::Cache \"{folder}/cache\";\n\
                 Dir::Log \"{folder}\";\nAPT::Architecture \"amd64\";\nAPT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\nAcquire::Retries \"3\";\n"
            ),
        )?;
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.config());
        command
    }

    fn config(&self) -> PathBuf {
        self.folder.join("apt.conf")
    }
}

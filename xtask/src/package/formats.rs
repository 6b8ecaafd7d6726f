//! The packages: what makes each, and what it is called.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr as _,
};

use anyhow::{Context as _, Result};

use super::{Sources, lint};
use crate::{shell, workspace};

/// Whom a package names. Whoever publishes packages puts a name and an address here and in memmon/Cargo.toml.
pub(super) const MAINTAINER: &str = "memmon maintainers <memmon@packages.invalid>";

/// One of the files that are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// For Debian, Ubuntu and their kin
    Deb,
    /// For Fedora, RHEL, SUSE and their kin
    Rpm,
    /// The same tree as an archive, for every other distribution
    Tar,
    /// What memmon was built of, in CycloneDX
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

    /// The file, made of `sources` unless it is there already.
    pub(super) fn made(self, sources: &Sources) -> Result<PathBuf> {
        let file = sources.out.join(self.file_name());
        if file.exists() {
            println!("{}: unchanged", file.display());
            return Ok(file);
        }
        // Under another name until it is whole and nobody complains: what has its name is a package.
        let folder = sources.out.join("unfinished");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let unfinished = folder.join(self.file_name());
        match self {
            Self::Deb => deb(sources, &unfinished)?,
            Self::Rpm => rpm(sources, &unfinished)?,
            Self::Tar => tar(sources, &unfinished)?,
            Self::Record => record(sources, &unfinished)?,
        }
        lint::read(self, &unfinished)?;
        fs::rename(&unfinished, &file).with_context(|| format!("cannot make {}", file.display()))?;
        Ok(file)
    }
}

/// What dpkg calls a machine.
fn debian_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64el",
        other => other,
    }
}

/// A cargo that runs at the root of the checkout.
fn cargo() -> Command {
    let mut cargo = shell::cargo();
    cargo.current_dir(workspace::root());
    cargo
}

fn deb(sources: &Sources, file: &Path) -> Result<()> {
    let mut cargo = cargo();
    cargo.env("SOURCE_DATE_EPOCH", &sources.when);
    // Quiet: it warns of every file that is not cargo's own.
    shell::run(
        cargo.args(["deb", "--quiet", "--package=memmon", "--no-build", "--no-strip", "--output"]).arg(file),
    )
}

fn rpm(sources: &Sources, file: &Path) -> Result<()> {
    let mut cargo = cargo();
    // Its own search for libraries depends on what is installed here; ldd knows the same everywhere.
    cargo.args(["generate-rpm", "--package=memmon", "--auto-req=builtin"]);
    shell::run(cargo.args(["--source-date", &sources.when, "--output"]).arg(file))
}

fn tar(sources: &Sources, file: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", sources.when)).arg("--file").arg(file);
    shell::run(tar.arg("--directory").arg(sources.out.join("tree")).arg("."))
}

/// The dependencies of the binary alone: those of tests and of what builds it are not in it.
fn record(sources: &Sources, file: &Path) -> Result<()> {
    // It writes beside each Cargo.toml of the workspace, and nowhere else.
    const NAME: &str = "memmon-packaged";
    let mut cargo = cargo();
    cargo.env("SOURCE_DATE_EPOCH", &sources.when);
    cargo.args(["cyclonedx", "--format=json", "--no-build-deps", "--override-filename", NAME]);
    shell::run(cargo.args(["--manifest-path", "memmon/Cargo.toml"]))?;
    let manifest = toml::Table::from_str(include_str!("../../../Cargo.toml"))?;
    let members = manifest["workspace"]["members"].as_array().into_iter().flatten();
    let folders = members.filter_map(|member| Some(workspace::root().join(member.as_str()?)));
    let written = folders.map(|folder| folder.join(format!("{NAME}.json")));
    for left in written.filter(|path| path.exists()) {
        if left.starts_with(workspace::root().join("memmon")) {
            let text =
                fs::read_to_string(&left).with_context(|| format!("cannot read {}", left.display()))?;
            // Where the sources happen to lie is nobody's affair, and would tell equal builds apart.
            let text = text.replace(&workspace::root().display().to_string(), "/memmon");
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        fs::remove_file(&left).with_context(|| format!("cannot remove {}", left.display()))?;
    }
    Ok(())
}

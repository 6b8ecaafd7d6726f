//! How each package is made.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr as _,
};

use anyhow::{Context as _, Result};

use super::{kind::Kind, lint, sources::Sources};
use crate::{shell, workspace};

/// Whom a package names. Whoever publishes packages puts a name and an address here and in memmon/Cargo.toml.
pub(super) const MAINTAINER: &str = "memmon maintainers <memmon@packages.invalid>";

/// The file of `kind`, made of `sources` unless it is there already.
pub(super) fn made(kind: Kind, sources: &Sources) -> Result<PathBuf> {
    let file = sources.out.join(kind.file_name());
    if file.exists() {
        println!("{}: unchanged", file.display());
        return Ok(file);
    }
    // Under another name until it is whole and nobody complains: what has its name is a package.
    let folder = sources.out.join("unfinished");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let unfinished = folder.join(kind.file_name());
    match kind {
        Kind::Deb => deb(sources, &unfinished)?,
        Kind::Rpm => rpm(sources, &unfinished)?,
        Kind::Tar => tar(sources, &unfinished)?,
        Kind::Record => record(sources, &unfinished)?,
    }
    lint::read(kind, &unfinished)?;
    fs::rename(&unfinished, &file).with_context(|| format!("cannot make {}", file.display()))?;
    Ok(file)
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

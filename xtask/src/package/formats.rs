//! Makes each kind of package.

use std::{
    path::{Path, PathBuf},
    process::Command,
    str::FromStr as _,
};

use anyhow::Result;
use fs_err as fs;

use super::{kind::Kind, lint, sources::Sources};
use crate::{shell, workspace};

/// The maintainer of a package. The publisher of packages puts a name and an address here and in memmon/Cargo.toml.
pub(super) const MAINTAINER: &str = "memmon maintainers <memmon@packages.invalid>";

/// Makes the file of `kind` from `sources`, unless it exists already.
pub(super) fn made(kind: Kind, sources: &Sources) -> Result<PathBuf> {
    let file = sources.out.join(kind.file_name());
    if file.exists() {
        println!("{}: unchanged", file.display());
        return Ok(file);
    }
    // It has another name until it is complete and the linters accept it, so that a file with its name is always valid.
    let folder = sources.out.join("unfinished");
    fs::create_dir_all(&folder)?;
    let unfinished = folder.join(kind.file_name());
    match kind {
        Kind::Deb => deb(sources, &unfinished)?,
        Kind::Rpm => rpm(sources, &unfinished)?,
        Kind::Tar => tar(sources, &unfinished)?,
        Kind::Record => record(sources, &unfinished)?,
    }
    lint::read(kind, &unfinished)?;
    fs::rename(&unfinished, &file)?;
    Ok(file)
}

fn deb(sources: &Sources, file: &Path) -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.env("SOURCE_DATE_EPOCH", &sources.when);
    // Quiet, because it warns about every file that is not built by cargo.
    shell::run(
        cargo.args(["deb", "--quiet", "--package=memmon", "--no-build", "--no-strip", "--output"]).arg(file),
    )?;
    checksums(sources, file)
}

/// Adds DEBIAN/md5sums to a .deb, which cargo-deb writes without: `dpkg --verify` and debsums(1) compare files with it.
fn checksums(sources: &Sources, file: &Path) -> Result<()> {
    if shell::find("dpkg-deb").is_none() {
        println!("{} has no md5sums, as dpkg-deb is not installed here", file.display());
        return Ok(());
    }
    let root = file.with_extension("contents");
    let dpkg_deb = |verb| {
        let mut command = Command::new("dpkg-deb");
        command.env("SOURCE_DATE_EPOCH", &sources.when).arg(verb);
        command
    };
    shell::run(dpkg_deb("--raw-extract").arg(file).arg(&root))?;
    // As dh_md5sums(1) has it: without configuration files, which have their own checksums, and in a fixed order.
    let list = "find . -type f ! -path './DEBIAN/*' ! -path './etc/*' -printf '%P\\0' | LC_ALL=C sort -z | \
                xargs -0 md5sum >DEBIAN/md5sums && chmod 644 DEBIAN/md5sums";
    shell::run(Command::new("sh").args(["-euc", list]).current_dir(&root))?;
    shell::run(dpkg_deb("--build").args(["--root-owner-group", "-Zxz"]).arg(&root).arg(file))?;
    Ok(fs::remove_dir_all(&root)?)
}

fn rpm(sources: &Sources, file: &Path) -> Result<()> {
    let mut cargo = workspace::cargo();
    // Its own search for libraries depends on the packages that are installed here; ldd's result does not.
    cargo.args(["generate-rpm", "--package=memmon", "--auto-req=builtin"]);
    shell::run(cargo.args(["--source-date", &sources.when, "--output"]).arg(file))
}

fn tar(sources: &Sources, file: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", sources.when)).arg("--file").arg(file);
    shell::run(tar.arg("--directory").arg(sources.out.join("tree")).arg("."))
}

/// Records the dependencies of the binary alone, without those of tests and of its build.
fn record(sources: &Sources, file: &Path) -> Result<()> {
    // It can only write beside each Cargo.toml of the workspace.
    const NAME: &str = "memmon-packaged";
    let mut cargo = workspace::cargo();
    cargo.env("SOURCE_DATE_EPOCH", &sources.when);
    cargo.args(["cyclonedx", "--format=json", "--no-build-deps", "--override-filename", NAME]);
    shell::run(cargo.args(["--manifest-path", "memmon/Cargo.toml"]))?;
    let manifest = toml::Table::from_str(include_str!("../../../Cargo.toml"))?;
    let members = manifest["workspace"]["members"].as_array().into_iter().flatten();
    let folders = members.filter_map(|member| Some(workspace::root().join(member.as_str()?)));
    let written = folders.map(|folder| folder.join(format!("{NAME}.json")));
    for left in written.filter(|path| path.exists()) {
        if left.starts_with(workspace::root().join("memmon")) {
            // The folder of the sources is private, and would make equal builds differ.
            let text =
                fs::read_to_string(&left)?.replace(&workspace::root().display().to_string(), "/memmon");
            fs::write(file, text)?;
        }
        fs::remove_file(&left)?;
    }
    Ok(())
}

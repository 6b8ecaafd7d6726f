//! `cargo xtask package`: a .deb, a .rpm and a .tar.zst of one and the same tree, with the record of their dependencies and
//! their checksums.
//!
//! `formats` makes each, `image` a container image of the same tree, `glibc` checks which C library the binary needs, `lint` runs the distributions' own checks on the
//! result.

mod formats;
mod glibc;
pub(crate) mod image;
mod kind;
mod lint;
mod sources;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use fs_err as fs;

pub(crate) use self::kind::Kind;
use self::sources::Sources;
use crate::{
    build::{self, Release},
    install,
    progress::Progress,
    setup, shell, workspace,
};

/// Build a release and make a .deb, a .rpm and a .tar.zst of it, with SHA256SUMS, into target/package
///
/// A CycloneDX record of every dependency is added. If lintian and rpmlint are installed, they check the packages and must
/// find no error or warning. Files that were made from equal sources before are kept.
///
/// Packages that are built on Debian 12 run with glibc 2.34 or later. Built elsewhere they may need a newer version, which is
/// printed; a version newer than Debian 12's is an error. A static binary could not look up users from LDAP or SSSD.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Make only this kind (can be repeated)
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) only: Vec<Kind>,
    /// Package the files that an earlier run built
    #[arg(long)]
    pub(crate) no_build: bool,
}

/// Makes the requested files, and prints the checksums.
pub(crate) fn main(options: &Options) -> Result<()> {
    let kinds = if options.only.is_empty() { Kind::ALL.to_vec() } else { options.only.clone() };
    let made = packages(&kinds, options.no_build)?;
    let out = directory();
    let names = made.iter().map(|path| path.file_name().unwrap_or_default());
    let sums = shell::read(Command::new("sha256sum").current_dir(&out).args(names))?;
    fs::write(out.join("SHA256SUMS"), &sums)?;
    print!("{sums}");
    Ok(())
}

/// Builds a release (or takes one that was built before) and packages it: a file for each of `kinds`.
pub(crate) fn packages(kinds: &[Kind], no_build: bool) -> Result<Vec<PathBuf>> {
    for tool in kinds.iter().filter_map(|kind| kind.tool()).filter(|tool| !tool.is_installed()) {
        println!("{} is missing and is installed now", tool.name);
        shell::run(&mut tool.install())?;
    }
    if no_build {
        return make(kinds, &build::built_before()?);
    }
    let mut progress = Progress::before(build::STEPS);
    make(kinds, &build::release(&setup::toolchain(&mut progress)?, &mut progress)?)
}

/// The output folder. memmon/Cargo.toml names it, so it is in the checkout's own target directory, wherever cargo's may be.
pub(crate) fn directory() -> PathBuf {
    workspace::root().join("target/package")
}

/// Makes the packages of `kinds`, unless they exist and were made from equal sources. Packages from other sources are
/// removed.
fn make(kinds: &[Kind], release: &Release) -> Result<Vec<PathBuf>> {
    println!("the binary needs glibc {}", glibc::checked(&release.binary)?);
    let out = directory();
    fs::create_dir_all(&out)?;
    let items = install::items(release, Path::new("/usr"))?;
    let when = commit_time()?;
    let changelog = changelog(&when)?;
    let sources = Sources { out, items, when, changelog };

    let (mark, fingerprint) = (sources.out.join("made-of"), sources.fingerprint()?);
    if fs::read_to_string(&mark).ok().as_deref() != Some(&fingerprint) {
        fs::remove_dir_all(&sources.out)?;
        let tree = sources.out.join("tree");
        fs::create_dir_all(&tree)?;
        install::stage(&sources.items, &tree)?;
        // Distributions ship binaries without symbols.
        shell::run(Command::new("strip").arg("--strip-unneeded").arg(tree.join("usr/sbin/memmon")))?;
        // cargo-deb compresses manuals itself; the tool for RPM does not.
        for item in sources.items.iter().filter(|item| item.path.starts_with("/usr/share/man")) {
            let manual = item.path.strip_prefix("/").unwrap_or(&item.path);
            let (from, to) = (tree.join(manual), sources.out.join("compressed").join(manual));
            let folder = to.parent().unwrap_or(&to);
            fs::create_dir_all(folder)?;
            fs::copy(&from, &to)?;
            shell::run(Command::new("gzip").args(["--best", "--no-name"]).arg(&to))?;
        }
        fs::write(sources.out.join("changelog"), &sources.changelog)?;
        fs::write(&mark, fingerprint)?;
    }
    kinds.iter().map(|kind| formats::made(*kind, &sources)).collect()
}

/// $SOURCE_DATE_EPOCH or, if it is not set, the time of the commit.
fn commit_time() -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let mut log = Command::new("git");
    let time = shell::read(log.current_dir(workspace::root()).args(["log", "-1", "--format=%ct"]))
        .context("without a git history, set SOURCE_DATE_EPOCH to the time of these sources")?;
    Ok(time.trim().to_owned())
}

/// The entry for this version, in the format of deb-changelog(5); the changes are in CHANGELOG.md.
fn changelog(when: &str) -> Result<String> {
    let date =
        shell::read(Command::new("date").args(["--utc", "--rfc-email", "--date"]).arg(format!("@{when}")))?;
    Ok(format!(
        "memmon ({}-1) unstable; urgency=medium\n\n  * Built from the release of that version.\n\n -- {}  {}\n",
        env!("CARGO_PKG_VERSION"),
        formats::MAINTAINER,
        date.trim()
    ))
}

//! `cargo xtask package`: a .deb, a .rpm and a .tar.zst of one and the same tree, with the record of their dependencies and
//! their checksums.
//!
//! `formats` makes each, `glibc` says which C library the binary takes, `lint` runs the distributions' own checks on the
//! result.

mod formats;
mod glibc;
mod kind;
mod lint;
mod sources;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

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
/// With them comes a CycloneDX record of every dependency. Where lintian and rpmlint are there, they read the packages and
/// must have nothing to say. What was made of equal sources before is kept.
///
/// Built on Debian 12, they run with glibc 2.34 or later; elsewhere it may take a newer one, which is said, and what is newer
/// than Debian 12's is refused. A static binary would not know users that come from LDAP or SSSD.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Make only this (may be given again)
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) only: Vec<Kind>,
    /// Package what was built before
    #[arg(long)]
    pub(crate) no_build: bool,
}

/// Makes what is asked for, and shows the checksums.
pub(crate) fn main(options: &Options) -> Result<()> {
    let kinds = if options.only.is_empty() { Kind::ALL.to_vec() } else { options.only.clone() };
    let made = packages(&kinds, options.no_build)?;
    let out = directory();
    let names = made.iter().map(|path| path.file_name().unwrap_or_default());
    let sums = shell::read(Command::new("sha256sum").current_dir(&out).args(names))?;
    fs::write(out.join("SHA256SUMS"), &sums).context("cannot write SHA256SUMS")?;
    print!("{sums}");
    Ok(())
}

/// Builds a release (or takes what was built before) and makes packages of it: a file for each of `kinds`.
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

/// Where it all goes. memmon/Cargo.toml names it, so it is the checkout's own target directory, wherever cargo's may be.
pub(crate) fn directory() -> PathBuf {
    workspace::root().join("target/package")
}

/// Makes the packages of `kinds`, unless they were made of the same already. Those that were made of something else go.
fn make(kinds: &[Kind], release: &Release) -> Result<Vec<PathBuf>> {
    println!("the binary needs {}", glibc::checked(&release.binary)?);
    let out = directory();
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let items = install::items(release, Path::new("/usr"))?;
    let when = commit_time()?;
    let changelog = changelog(&when)?;
    let sources = Sources { out, items, when, changelog };

    let (mark, fingerprint) = (sources.out.join("made-of"), sources.fingerprint()?);
    if fs::read_to_string(&mark).ok().as_deref() != Some(&fingerprint) {
        fs::remove_dir_all(&sources.out)
            .with_context(|| format!("cannot empty {}", sources.out.display()))?;
        let tree = sources.out.join("tree");
        fs::create_dir_all(&tree).with_context(|| format!("cannot create {}", tree.display()))?;
        install::stage(&sources.items, &tree)?;
        // Distributions want no symbols.
        shell::run(Command::new("strip").arg("--strip-unneeded").arg(tree.join("usr/sbin/memmon")))?;
        // cargo-deb compresses manuals itself; RPM's tools leave that to who calls them.
        for item in sources.items.iter().filter(|item| item.path.starts_with("/usr/share/man")) {
            let manual = item.path.strip_prefix("/").unwrap_or(&item.path);
            let (from, to) = (tree.join(manual), sources.out.join("compressed").join(manual));
            let folder = to.parent().unwrap_or(&to);
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            fs::copy(&from, &to).with_context(|| format!("cannot write {}", to.display()))?;
            shell::run(Command::new("gzip").args(["--best", "--no-name"]).arg(&to))?;
        }
        fs::write(sources.out.join("changelog"), &sources.changelog).context("cannot write the changelog")?;
        fs::write(&mark, fingerprint).with_context(|| format!("cannot write {}", mark.display()))?;
    }
    kinds.iter().map(|kind| formats::made(*kind, &sources)).collect()
}

/// $SOURCE_DATE_EPOCH, or else when the commit was made.
fn commit_time() -> Result<String> {
    if let Ok(given) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(given);
    }
    let mut log = Command::new("git");
    let time = shell::read(log.current_dir(workspace::root()).args(["log", "-1", "--format=%ct"]))
        .context("without a git history SOURCE_DATE_EPOCH must say when these sources are of")?;
    Ok(time.trim().to_owned())
}

/// The entry for this version, as deb-changelog(5) wants it; what changed is in CHANGELOG.md.
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

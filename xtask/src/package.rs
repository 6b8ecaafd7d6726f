//! `cargo xtask package`: a .deb and a .tar.zst of one and the same tree, with their checksums.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build,
    install::{self, Item},
    shell, workspace,
};

/// What the .deb is made with, in the version that was tried.
const TOOLS: [(&str, &str); 1] = [("cargo-deb", "3.8.0")];

/// Build a release and make a .deb and a .tar.zst of it, with SHA256SUMS, into target/package
///
/// The binary needs the glibc of the machine that it is built on, or a newer one: build on the oldest that matters. A
/// static one would not know users that come from LDAP or SSSD.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Package what was built before
    #[arg(long)]
    no_build: bool,
    /// Install cargo-deb through cargo, if it is missing
    #[arg(long)]
    setup: bool,
}

/// Makes the packages.
pub(crate) fn main(options: Options) -> Result<()> {
    tools(options.setup)?;
    let release = if options.no_build { build::built_before()? } else { build::release()? };
    let out = directory();
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let items = install::items(&release, Path::new("/usr"))?;
    stage(&items, &out.join("tree"))?;
    let when = commit_time()?;
    fs::write(out.join("changelog"), changelog(&when)?).context("cannot write the changelog")?;

    let packages = [deb(&out, &when)?, tar(&out, &when)?];
    let names = packages.iter().map(|path| path.file_name().unwrap_or_default());
    let sums = shell::read(Command::new("sha256sum").current_dir(&out).args(names))?;
    fs::write(out.join("SHA256SUMS"), &sums).context("cannot write SHA256SUMS")?;
    print!("{sums}");
    Ok(())
}

fn directory() -> PathBuf {
    // Cargo.toml names it, so it is the checkout's own target directory, wherever cargo's may be.
    workspace::root().join("target/package")
}

fn tools(setup: bool) -> Result<()> {
    let missing: Vec<_> = TOOLS.into_iter().filter(|(name, _)| shell::find(name).is_none()).collect();
    for (name, version) in &missing {
        let mut install = shell::cargo();
        install.args(["install", "--locked", name, "--version", version]);
        if setup {
            shell::run(&mut install)?;
        } else {
            println!("missing: {}", shell::shown(&install));
        }
    }
    if !missing.is_empty() && !setup {
        bail!("do it as shown, or let `cargo xtask package --setup` do it");
    }
    Ok(())
}

/// Puts `items` into a tree of their own.
fn stage(items: &[Item], root: &Path) -> Result<()> {
    fs::create_dir(root).with_context(|| format!("cannot create {}", root.display()))?;
    install::stage(items, root)
}

/// When the commit was made that is packaged: equal sources make equal packages.
fn commit_time() -> Result<String> {
    let mut log = Command::new("git");
    let time = shell::read(log.current_dir(workspace::root()).args(["log", "-1", "--format=%ct"]))?;
    Ok(time.trim().to_owned())
}

/// The entry for this version, as deb-changelog(5) wants it; what changed is in CHANGELOG.md.
fn changelog(when: &str) -> Result<String> {
    let date =
        shell::read(Command::new("date").args(["--utc", "--rfc-email", "--date"]).arg(format!("@{when}")))?;
    Ok(format!(
        "memmon ({}-1) unstable; urgency=medium\n\n  * Built from the release of that version.\n\n -- The memmon \
         contributors <memmon@users.noreply.github.com>  {}\n",
        env!("CARGO_PKG_VERSION"),
        date.trim()
    ))
}

fn deb(out: &Path, when: &str) -> Result<PathBuf> {
    let mut cargo = shell::cargo();
    cargo.current_dir(workspace::root()).env("SOURCE_DATE_EPOCH", when);
    shell::run(cargo.args(["deb", "--package=memmon", "--no-build", "--no-strip", "--output"]).arg(out))?;
    made(out, "deb")
}

fn tar(out: &Path, when: &str) -> Result<PathBuf> {
    let name = format!("memmon-{}-{}-linux-gnu.tar.zst", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let path = out.join(name);
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{when}"))
        .arg("--file")
        .arg(&path)
        .arg("--directory")
        .arg(out.join("tree"))
        .arg(".");
    shell::run(&mut tar)?;
    Ok(path)
}

/// The one package of its kind.
fn made(out: &Path, extension: &str) -> Result<PathBuf> {
    let entries = out.read_dir().with_context(|| format!("cannot list {}", out.display()))?;
    let mut found = entries.flatten().map(|entry| entry.path());
    let found = found.find(|path| path.extension().is_some_and(|found| found == extension));
    ensure!(found.is_some(), "no .{extension} was made in {}", out.display());
    found.context("no package")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::build::Release;

    /// Where the packages' tables take files from, by the path below the staged tree.
    fn sources<'t>(assets: impl Iterator<Item = &'t str>) -> BTreeSet<String> {
        let below = |path: &str| path.split_once("target/package/tree").map(|(_, path)| path.to_owned());
        assets.map(|path| below(path).unwrap()).collect()
    }

    #[test]
    fn packages_have_what_an_installation_has() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["memmon", "memmon.8", "memmon.toml.5", "memmon.bash", "_memmon", "memmon.fish"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        let release =
            Release { binary: directory.path().join("memmon"), manual: directory.path().to_owned() };
        let items = install::items(&release, Path::new("/usr")).unwrap();
        let installed: BTreeSet<_> =
            items.iter().map(|item| item.path.to_string_lossy().into_owned()).collect();
        let configs: BTreeSet<_> =
            installed.iter().filter(|path| path.starts_with("/etc/")).map(String::as_str).collect();

        let manifest: toml::Table = include_str!("../../memmon/Cargo.toml").parse().unwrap();
        let metadata = &manifest["package"]["metadata"];

        let deb = &metadata["deb"];
        let mut packaged =
            sources(deb["assets"].as_array().unwrap().iter().map(|asset| asset[0].as_str().unwrap()));
        let units = deb["systemd-units"]["unit-scripts"].as_str().unwrap();
        packaged.insert(format!("{}/memmon.service", units.split_once("target/package/tree").unwrap().1));
        assert_eq!(packaged, installed);
        let marked = deb["conf-files"].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
        assert_eq!(marked.collect::<BTreeSet<_>>(), configs);
    }
}

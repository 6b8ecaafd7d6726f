//! The guests' root file systems: Debian's essential packages, systemd and what the scenarios need, as ext4 images.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{privileges::Privileges, shell};

/// A root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Image {
    /// Systemd, and no more than memmon's own scenarios need.
    Plain,
    /// With the software that runs fleets of machines.
    Fleet,
    /// With Podman.
    Podman,
    /// With other guards of a machine's memory.
    Guards,
}

impl Image {
    /// The packages, the name of the file between `root-` and the release, and its size.
    const fn contents(self) -> (&'static [&'static str], &'static str, &'static str) {
        match self {
            Self::Plain => (&[PACKAGES], "", "600M"),
            Self::Fleet => (&[PACKAGES, ANSIBLE, SLURM], "ansible-slurm-", "1400M"),
            Self::Podman => (&[PACKAGES, PODMAN], "podman-", "900M"),
            Self::Guards => (&[PACKAGES, GUARDS], "guards-", "600M"),
        }
    }
}

const PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,kmod,procps,bpftool";
const ANSIBLE: &str = "ansible-core,python3-apt,apt";
const SLURM: &str = "slurmctld,slurmd,slurmdbd,munge,mariadb-server,iproute2";
const PODMAN: &str = "podman,crun";
const GUARDS: &str = "earlyoom,systemd-oomd";
const MIRROR: &str = "http://deb.debian.org/debian";
const NOT_NEEDED: [&str; 4] = ["doc", "info", "locale", "man"];
/// Debian releases that guests can run.
const SUITES: [&str; 3] = ["bookworm", "trixie", "forky"];

/// The image from the cache, or a new one. Guests must not write to it.
pub(super) fn get(image: Image, cache: &Path) -> Result<PathBuf> {
    let suite = suite(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    let (packages, name, size) = image.contents();
    let file = cache.join(format!("root-{name}{suite}.ext4"));
    if !file.exists() {
        make(suite, &packages.join(","), size, &file)
            .with_context(|| format!("cannot make {}", file.display()))?;
    }
    Ok(file)
}

fn make(suite: &str, packages: &str, size: &str, image: &Path) -> Result<()> {
    ensure!(Privileges::of_this_process()?.is_root, "a root file system can be made by root only");
    let (folder, unfinished) = (image.with_extension("unpacked"), image.with_extension("unfinished"));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap.args(["--quiet", "--variant=essential", "--mode=root", "--format=directory"]);
    bootstrap.args(NOT_NEEDED.map(|name| format!("--dpkgopt=path-exclude=/usr/share/{name}/*")));
    bootstrap.arg(format!("--include={packages}"));
    shell::run(bootstrap.arg(suite).arg(&folder).arg(MIRROR))?;
    // Changes are discarded, so it needs no journal; and no checksums, which are a module in old kernels.
    let _ = fs::remove_file(&unfinished);
    shell::run(
        Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-E", "root_owner=0:0", "-d"])
            .arg(&folder)
            .arg(&unfinished)
            .arg(size),
    )?;
    fs::rename(&unfinished, image)?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// The Debian release of this machine, so that programs that are built here find their C library there; on another
/// distribution, Debian's stable release.
fn suite(os_release: &str) -> &'static str {
    let codename = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let same = |suite: &&str| codename.is_some_and(|codename| codename.trim_matches('"') == *suite);
    SUITES.into_iter().find(same).unwrap_or(SUITES[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_have_the_c_library_that_memmon_is_built_with() {
        assert_eq!(suite("ID=debian\nVERSION_CODENAME=bookworm\n"), "bookworm");
        assert_eq!(suite("ID=debian\nVERSION_CODENAME=\"trixie\"\n"), "trixie");
        assert_eq!(suite("ID=fedora\n"), "trixie");
    }
}

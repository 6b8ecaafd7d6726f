//! The kernels: their packages, and the files of them that a guest needs.

use std::{
    cmp::Reverse,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use fs_err as fs;

use super::{apt::Repository, vmlinux};
use crate::shell;

/// A series of kernels that Debian has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Series {
    #[value(name = "5.10")]
    V5_10,
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
    #[value(name = "6.18")]
    V6_18,
    /// The newest in Debian's backports.
    #[value(name = "newest")]
    Newest,
}

impl Series {
    /// The beginning of the releases' names, and the release with which memmon was last tested.
    const fn releases(self) -> (&'static str, &'static str) {
        match self {
            Self::V5_10 => ("5.10.", "5.10.0-46"),
            Self::V6_1 => ("6.1.", "6.1.0-56"),
            Self::V6_12 => ("6.12.", "6.12.117+deb12"),
            Self::V6_18 => ("6.18.", "6.18.15+deb13"),
            Self::Newest => ("", "7.3.4+deb13"),
        }
    }

    fn pinned(self) -> String {
        format!("{}{FLAVOUR}", self.releases().1)
    }
}

/// Drivers of the root file system, modules on some kernels and built in on others.
const DRIVERS: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];
/// The checksum module that ext4 requests by name, so it is not among ext4's dependencies.
const CHECKSUM: &str = "crc32c_generic";
/// The driver of swap that is compressed memory, with what it needs: guests load it on demand.
const COMPRESSED: [&str; 1] = ["zram"];
/// The files that list modules of a kernel in the order in which they must be loaded.
const MODULES: &str = "modules";
const MODULES_OF_ZRAM: &str = "modules.zram";
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel that is ready to boot.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    /// The release, as `uname -r` prints it.
    pub(super) release: String,
    folder: PathBuf,
}

impl Kernel {
    /// The kernel of `series` from the cache in `folder`, or from the archive.
    ///
    /// It is the pinned release or, if that is not available, the newest of its series, which is printed: old builds leave
    /// the archive, and its mirrors change while they are read.
    pub(super) fn get(series: Series, repository: &mut Repository, folder: &Path) -> Result<Self> {
        let pinned = series.pinned();
        let of = |release: String| Self { folder: folder.join(&release), release };
        let cached = of(pinned.clone());
        if cached.is_complete() {
            return Ok(cached);
        }
        let packages = repository.kernels()?;
        let releases = choices(series, &packages);
        let (last, others) = releases
            .split_last()
            .with_context(|| format!("Debian's archive has no kernel of the series {series:?}"))?;
        let mut made = |release: &String| -> Result<Self> {
            let kernel = of(release.clone());
            if !kernel.is_complete() {
                kernel.make(&packages, repository).with_context(|| format!("cannot make {release} ready"))?;
            }
            if *release != pinned {
                println!("{pinned} is not available in the archive: {release} takes its place");
            }
            Ok(kernel)
        };
        for release in others {
            match made(release) {
                Ok(kernel) => return Ok(kernel),
                Err(why) => println!("{why:#}"),
            }
        }
        made(last)
    }

    /// The ELF file, which QEMU boots at once; a compressed image takes seconds to unpack itself.
    pub(super) fn vmlinux(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// Whether all files are there: an older memmon kept none for zram.
    fn is_complete(&self) -> bool {
        self.vmlinux().exists() && self.folder.join(MODULES_OF_ZRAM).exists()
    }

    /// The drivers, uncompressed, in the order in which they must be loaded.
    pub(super) fn modules(&self) -> Result<Vec<PathBuf>> {
        self.listed(MODULES)
    }

    /// The same for zram, without those of [`Self::modules`].
    pub(super) fn modules_of_zram(&self) -> Result<Vec<PathBuf>> {
        let mut modules = self.listed(MODULES_OF_ZRAM)?;
        let loaded = self.modules()?;
        modules.retain(|module| !loaded.contains(module));
        Ok(modules)
    }

    fn listed(&self, list: &str) -> Result<Vec<PathBuf>> {
        let list = fs::read_to_string(self.folder.join(list))?;
        Ok(list.lines().map(|name| self.folder.join(name)).collect())
    }

    fn make(&self, packages: &[String], repository: &mut Repository) -> Result<()> {
        let unpacked = self.folder.join("unpacked");
        for package in parts(&self.release, packages) {
            repository.unpack(&package, &unpacked)?;
        }
        // Newer packages have modules below /usr, but depmod and modprobe look only in /lib.
        let (merged, classic) = (unpacked.join("usr/lib"), unpacked.join("lib"));
        if !classic.exists() {
            std::os::unix::fs::symlink(&merged, &classic)?;
        }
        shell::run(Command::new("/sbin/depmod").arg("-b").arg(&unpacked).arg(&self.release))?;
        let required: Vec<&str> = [CHECKSUM].into_iter().chain(DRIVERS).collect();
        for (list, drivers) in [(MODULES, &required[..]), (MODULES_OF_ZRAM, &COMPRESSED)] {
            fs::write(self.folder.join(list), self.drivers(&unpacked, drivers)?.join("\n"))?;
        }
        let places = [
            unpacked.join("boot").join(format!("vmlinuz-{}", self.release)),
            unpacked.join("usr/lib/modules").join(&self.release).join("vmlinuz"),
        ];
        let image = places.iter().find(|path| path.exists()).context("the packages have no vmlinuz")?;
        let image = fs::read(image)?;
        // This file is written last: its name marks the kernel as complete.
        let unfinished = self.folder.join("vmlinux.unfinished");
        fs::write(&unfinished, vmlinux::extract(&image)?)?;
        fs::rename(&unfinished, self.vmlinux())?;
        fs::remove_dir_all(&unpacked)?;
        Ok(())
    }

    /// Copies drivers, and what modprobe(8) would load before them, into the folder, uncompressed, and returns their names in
    /// that order.
    fn drivers(&self, unpacked: &Path, drivers: &[&str]) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for driver in drivers {
            let mut modprobe = Command::new("/sbin/modprobe");
            // Without the configuration of this machine.
            modprobe.args(["--config", "/dev/null", "--show-depends", "--set-version", &self.release]);
            let shown = match shell::read(modprobe.arg("--dirname").arg(unpacked).arg(driver)) {
                Err(_) if [CHECKSUM].iter().chain(&COMPRESSED).any(|dispensable| dispensable == driver) => {
                    continue;
                }
                shown => shown?,
            };
            // `insmod PATH`, or `builtin NAME`.
            for path in shown.lines().filter_map(|line| line.strip_prefix("insmod ")?.split(' ').next()) {
                let file = path.rsplit('/').next().unwrap_or(path);
                let (name, packed) = file.strip_suffix(".xz").map_or((file, false), |name| (name, true));
                if names.iter().any(|other| other == name) {
                    continue;
                }
                let module = fs::read(path)?;
                let module = if packed { vmlinux::unpacked("xz", &module)? } else { module };
                fs::write(self.folder.join(name), module)?;
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

/// The releases in `packages` that can stand for a series, the best first: the pinned one if it exists, then the newest.
fn choices(series: Series, packages: &[String]) -> Vec<String> {
    let pinned = series.pinned();
    let mut releases: Vec<&str> = packages
        .iter()
        .filter_map(|package| release(package))
        .filter(|release| release.starts_with(series.releases().0))
        .collect();
    // A version can exist once for each suite; their order does not matter, but must always be the same.
    releases.sort_by_key(|release| Reverse((*release == pinned, numbers(release), *release)));
    // One unavailable package may be a problem of the mirror; three are a problem of the network.
    releases.dedup();
    releases.into_iter().take(3).map(str::to_owned).collect()
}

/// The release of the image in `package`.
fn release(package: &str) -> Option<&str> {
    let release = package.strip_prefix("linux-image-").or_else(|| package.strip_prefix("linux-binary-"))?;
    // `linux-image-6.12-cloud-amd64` is only an alias for the newest.
    (release.ends_with(FLAVOUR) && release.matches('.').count() >= 2).then_some(release)
}

/// The packages that a kernel is in: three since 7.2, one before.
fn parts(release: &str, packages: &[String]) -> Vec<String> {
    let split = ["base", "binary", "modules"].map(|part| format!("linux-{part}-{release}"));
    if split.iter().all(|name| packages.contains(name)) {
        split.to_vec()
    } else {
        vec![format!("linux-image-{release}")]
    }
}

fn numbers(release: &str) -> Vec<u32> {
    release
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_pinned_kernel_is_taken_and_else_the_newest_of_its_series_that_can_be_had() {
        let all = names(&[
            "linux-image-6.1-cloud-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-57-cloud-amd64",
            "linux-image-6.1.0-57-cloud-amd64-unsigned",
            "linux-image-6.12.8+deb13-cloud-amd64",
            "linux-image-6.12.117+deb13-cloud-amd64",
            "linux-binary-7.4.0+deb13-cloud-amd64",
        ]);
        let choices = |series| choices(series, &all);
        assert_eq!(
            choices(Series::V6_1),
            ["6.1.0-56-cloud-amd64", "6.1.0-57-cloud-amd64", "6.1.0-9-cloud-amd64"]
        );
        assert_eq!(
            choices(Series::V6_12),
            ["6.12.117+deb13-cloud-amd64", "6.12.8+deb13-cloud-amd64"],
            "its pin is gone"
        );
        assert_eq!(
            choices(Series::Newest),
            ["7.4.0+deb13-cloud-amd64", "6.12.117+deb13-cloud-amd64", "6.12.8+deb13-cloud-amd64"]
        );
        assert_eq!(choices(Series::V5_10), [""; 0]);
    }

    #[test]
    fn a_kernel_is_in_one_package_or_in_three() {
        let all = names(&[
            "linux-image-7.3-c", "linux-base-7.3-c", "linux-binary-7.3-c", "linux-modules-7.3-c",
            "linux-image-6.1-c",
        ]);
        assert_eq!(parts("7.3-c", &all), ["linux-base-7.3-c", "linux-binary-7.3-c", "linux-modules-7.3-c"]);
        assert_eq!(parts("6.1-c", &all), ["linux-image-6.1-c"]);
    }
}

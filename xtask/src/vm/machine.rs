//! The files in a guest: memmon's .deb, which the guest installs, and the scenarios.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};
use fs_err as fs;

use super::{
    cpio::Archive,
    kernel::Kernel,
    plan::{Accelerator, Boot},
    rootfs::Image,
};
use crate::{package, shell, workspace};

const BUSYBOX: &str = "/bin/busybox";
/// The first program in a guest that only reports that it booted.
const PROBE: &[u8] = b"#!/bin/busybox sh\nbusybox=/bin/busybox\n$busybox mount -t devtmpfs dev /dev\n\
                       echo verdict pass >/dev/ttyS1\n$busybox poweroff -f\n";
/// The scripts for the guest are in this folder of the checkout, and in the next one of the guest.
const SOURCES: &str = "xtask/vm";
const PLACE: &str = "payload/usr/local/lib/memmon-vm";
/// The folder that is tested in the guests as it is in the checkout.
const CONTRIB: &str = "contrib";

/// The files that are built for the guests.
pub(super) struct Programs {
    package: Vec<u8>,
    hog: Vec<u8>,
    /// The container image of the same memmon, for the guests with Podman.
    image: Option<Vec<u8>>,
}

impl Programs {
    /// Makes the .deb of a release if none is `given`, and builds the hog of memmon's tests.
    pub(super) fn build(given: Option<&Path>, boots: &[Boot]) -> Result<Self> {
        let package = match given {
            Some(package) => package.to_owned(),
            None => package::packages(&[package::Kind::Deb], false)?.pop().context("no .deb was made")?,
        };
        let target = workspace::target_dir();
        shell::run(
            workspace::cargo()
                // The same command as in the tests, so the hog is already built if they ran before.
                .args(["build", "--quiet", "--package=memmon", "--example=hog", "--target-dir"])
                .arg(&target),
        )?;
        let image = if boots.iter().any(|boot| boot.image == Image::Podman) {
            let out = workspace::root().join("target/vm-image");
            Some(fs::read(&package::image::of_package(&package, &out)?)?)
        } else {
            None
        };
        Ok(Self { package: fs::read(&package)?, hog: fs::read(target.join("debug/examples/hog"))?, image })
    }
}

/// The initramfs of a guest: the drivers for its root file system, and the files that are copied into that.
pub(super) fn initramfs(
    kernel: &Kernel,
    programs: &Programs,
    Boot { scenarios, settings, image, zram, .. }: &Boot,
    accelerator: Accelerator,
) -> Result<Vec<u8>> {
    let sources = workspace::root().join(SOURCES);
    let archive = Archive::new()?;
    archive.file("init", 0o755, &fs::read(sources.join("init"))?)?;
    archive.file("bin/busybox", 0o755, &fs::read(Path::new(BUSYBOX))?)?;
    let mut order = String::new();
    let mut modules = kernel.modules()?;
    if *zram {
        modules.extend(kernel.modules_of_zram()?);
    }
    for module in modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        archive.file(&format!("modules/{name}"), 0o644, &fs::read(module)?)?;
        order.push_str(&format!("{name}\n"));
    }
    archive.file("modules/order", 0o644, order.as_bytes())?;
    for folder in ["dev", "root"] {
        archive.folder(folder)?;
    }

    if accelerator == Accelerator::Emulation {
        let place = "payload/etc/systemd/system/memmon.service.d/emulated.conf";
        archive.file(place, 0o644, &fs::read(sources.join("emulated.conf"))?)?;
    }
    archive.file(
        "payload/etc/systemd/system/memmon-vm.service",
        0o644,
        &fs::read(sources.join("memmon-vm.service"))?,
    )?;
    archive.file(&format!("{PLACE}/memmon.deb"), 0o644, &programs.package)?;
    archive.file(&format!("{PLACE}/hog"), 0o755, &programs.hog)?;
    if let (Image::Podman, Some(image)) = (image, &programs.image) {
        archive.file(&format!("{PLACE}/memmon.oci.tar"), 0o644, image)?;
    }
    for script in ["run", "library"] {
        archive.file(&format!("{PLACE}/{script}"), 0o755, &fs::read(sources.join(script))?)?;
    }
    for scenario in scenarios {
        let file = format!("scenarios/{scenario}.sh");
        archive.file(&format!("{PLACE}/{file}"), 0o644, &fs::read(sources.join(&file))?)?;
    }
    archive.file(&format!("{PLACE}/settings"), 0o644, settings.as_bytes())?;
    archive.file(&format!("{PLACE}/scenarios/order"), 0o644, scenarios.join("\n").as_bytes())?;
    for file in
        shell::read(Command::new("git").current_dir(workspace::root()).args(["ls-files", CONTRIB]))?.lines()
    {
        archive.file(&format!("{PLACE}/{file}"), 0o644, &fs::read(workspace::root().join(file))?)?;
    }
    archive.finish()
}

/// The initramfs of a guest that only reports that it booted.
pub(super) fn probe() -> Result<Vec<u8>> {
    let archive = Archive::new()?;
    archive.file("init", 0o755, PROBE)?;
    archive.file("bin/busybox", 0o755, &fs::read(BUSYBOX)?)?;
    archive.folder("dev")?;
    archive.finish()
}

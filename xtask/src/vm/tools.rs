//! What virtual machines are made with, from Debian's packages.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{privileges::Privileges, shell};

/// Each program and the package that has it.
const TOOLS: [(&str, &str); 8] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("zstd", "zstd"),
    ("lz4", "lz4"),
    ("xz", "xz-utils"),
];

/// Installs what is missing, or says what is to be installed.
pub(super) fn install_missing() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
    if shell::find("apt-get").is_none() || !Privileges::of_this_process()?.is_root() {
        bail!("programs are missing; on Debian run `sudo {}`", shell::shown(&install));
    }
    shell::run(Command::new("apt-get").arg("update"))?;
    shell::run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The packages whose programs are not there. (Those of /sbin are there for root alone: look there, too.)
fn missing() -> Vec<&'static str> {
    let there = |program: &str| {
        shell::find(program).is_some()
            || ["/usr/sbin", "/sbin"]
                .iter()
                .any(|folder| shell::is_executable(&std::path::Path::new(folder).join(program)))
    };
    TOOLS.into_iter().filter(|(program, _)| !there(program)).map(|(_, package)| package).collect()
}

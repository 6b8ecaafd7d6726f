//! Programs that come with Debian's packages, installed or only unpacked, for commands that need more than a compiler.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};
use fs_err as fs;

use crate::{privileges::Privileges, shell};

/// Installs the packages of programs that are missing, or fails and shows the command that does; `needed` lists each program
/// and its package.
pub(crate) fn install_missing(needed: &[(&str, &'static str)]) -> Result<()> {
    let missing = missing(needed);
    if missing.is_empty() {
        return Ok(());
    }
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
    if shell::find("apt-get").is_none() || !Privileges::of_this_process()?.is_root {
        bail!("programs are missing; on Debian run `sudo {}`", shell::shown(&install));
    }
    shell::run(Command::new("apt-get").arg("update"))?;
    shell::run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Unpacks the files of packages into `folder`, and returns the packages' names and versions, a line each. Nothing is
/// installed, and no service of theirs starts.
pub(crate) fn unpack(apt_get: &mut Command, packages: &[&str], folder: &Path) -> Result<String> {
    fs::create_dir_all(folder)?;
    let archives = tempfile::tempdir_in(folder)?;
    shell::run(apt_get.args(["--quiet", "download"]).args(packages).current_dir(&archives))?;
    let mut versions = String::new();
    for archive in fs::read_dir(archives.path())? {
        let archive = archive?.path();
        shell::run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(folder))?;
        let show = ["--show", "--showformat=${Package} ${Version}\\n"];
        versions += &shell::read(Command::new("dpkg-deb").args(show).arg(&archive))?;
    }
    Ok(versions)
}

/// The packages whose programs are missing. Programs in /sbin count as well, although only root has that in $PATH.
fn missing(needed: &[(&str, &'static str)]) -> Vec<&'static str> {
    let there = |program: &str| {
        shell::find(program).is_some()
            || ["/usr/sbin", "/sbin"]
                .iter()
                .any(|folder| shell::is_executable(&Path::new(folder).join(program)))
    };
    needed.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect()
}

//! How a guest ends itself with a verdict: QEMU's exit port, and a program that writes to it.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{shell, workspace};

/// Where QEMU's isa-debug-exit is.
pub(super) const PORT: u8 = 0xf4;
/// What the guest writes there when all is well. QEMU ends with `(N << 1) | 1`: it must be neither 0, which is a power-off
/// or a panic, nor 1, which is a failure of QEMU's own.
pub(super) const PASS: u8 = 0x10;
/// What the guest writes when something is not well.
pub(super) const FAIL: u8 = 0x11;

/// The status that QEMU ends with after `verdict`.
pub(super) const fn status(verdict: u8) -> i32 {
    ((verdict as i32) << 1) | 1
}

/// A static program that ends the machine with `verdict`, and itself with 1 where it may not.
pub(super) fn program(verdict: u8) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let program = folder.path().join("program");
    let mut compiler = Command::new("cc");
    compiler.args([
        "-m64",
        "-static",
        "-nostdlib",
        "-no-pie",
        "-fno-pic",
        "-fno-stack-protector",
        "-O1",
        "-s",
    ]);
    compiler.arg(format!("-DPORT={PORT}")).arg(format!("-DVERDICT={verdict}")).arg("-o").arg(&program);
    shell::read(compiler.arg(workspace::root().join("xtask/vm/verdict.c")))?;
    fs::read(&program).context("the C compiler made no program")
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    };

    use super::*;
    use crate::privileges::Privileges;

    #[test]
    fn verdicts_are_told_apart_from_what_qemu_ends_with_by_itself() {
        assert_eq!((status(PASS), status(FAIL)), (33, 35));
    }

    /// Run as nobody, who may not use the port: the kernel loads it, it asks, and the `out` is its end.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_kernel_takes_it_for_a_program() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("pass");
        fs::write(&path, program(PASS).unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(&path);
        if Privileges::of_this_process().unwrap().is_root() {
            command.uid(65534);
        }
        let ended = command.status().unwrap();
        assert_eq!(ended.signal(), Some(11), "{ended}");
    }
}

//! Ends a guest with a verdict: QEMU's exit port, and a program that writes to it.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{shell, workspace};

/// The port of QEMU's isa-debug-exit.
pub(super) const PORT: u8 = 0xf4;
/// The value that the guest writes there if everything passed. QEMU exits with `(N << 1) | 1`, which must be neither 0 (a
/// power-off or a panic) nor 1 (a failure of QEMU itself).
pub(super) const PASS: u8 = 0x10;
/// The value that the guest writes if something failed.
pub(super) const FAIL: u8 = 0x11;

/// QEMU's exit status after `verdict`.
pub(super) const fn status(verdict: u8) -> i32 {
    ((verdict as i32) << 1) | 1
}

/// A static program that ends the machine with `verdict`, or exits with 1 if that is not permitted.
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
    fn verdicts_differ_from_the_other_exit_statuses_of_qemu() {
        assert_eq!((status(PASS), status(FAIL)), (33, 35));
    }

    /// Without permission to use the port, the program is loaded and runs until its `out`, which kills it.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_kernel_takes_it_for_a_program() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("pass");
        fs::write(&path, program(PASS).unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(&path);
        if Privileges::of_this_process().unwrap().is_root {
            command.uid(65534);
        }
        let ended = command.status().unwrap();
        assert_eq!(ended.signal(), Some(11), "{ended}");
    }
}

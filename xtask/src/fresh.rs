//! `cargo xtask fresh-test`: the first commands of README.md, on a minimal Debian 12.
//!
//! The test itself is xtask/fresh/trial.sh. It runs before a release, because it takes too long for every change.

use std::{env, process::Command, time::Instant};

use anyhow::{Result, ensure};
use fs_err as fs;

use crate::{debian_programs, privileges::Privileges, shell, workspace};

/// Runs the test. Its mounts end with its mount namespace.
pub(crate) fn main() -> Result<()> {
    let began = Instant::now();
    let privileges = Privileges::of_this_process()?;
    ensure!(privileges.is_root && privileges.may_mount(), "this needs root and CAP_SYS_ADMIN");
    debian_programs::install_missing(&[("mmdebstrap", "mmdebstrap")])?;
    ensure!(shell::find("rustup").is_some(), "this needs rustup, whose stable toolchain is tried");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = shell::read(Command::new(rustc).args(["--print", "sysroot"]))?;

    let scratch = workspace::root().join("target/fresh");
    remove(&scratch)?;
    fs::create_dir_all(&scratch)?;
    let script = workspace::root().join("xtask/fresh/trial.sh");
    let mut trial = Command::new("unshare");
    trial.args(["--mount", "--propagation=private", "bash"]).arg(script);
    trial.env("CHECKOUT", workspace::root()).env("SCRATCH", &scratch).env("SYSROOT", sysroot.trim());
    let done = shell::run(&mut trial);
    remove(&scratch)?;
    done?;
    println!("fresh-test passed in {} s", began.elapsed().as_secs());
    Ok(())
}

/// Removes the folder of a test, and nothing that is mounted there.
fn remove(scratch: &std::path::Path) -> Result<()> {
    shell::read(Command::new("rm").args(["--recursive", "--force", "--one-file-system"]).arg(scratch))
        .map(drop)
}

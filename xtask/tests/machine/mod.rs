//! A throw-away copy of this machine to install on, made by machine.sh.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Runs `script` there with a shell, and returns its output.
pub(crate) fn on_a_machine(script: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let script = format!("{}\n{script}", include_str!("machine.sh"));
    let output = Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c", &script])
        .env("SCRATCH", scratch.path())
        .env("CHECKOUT", checkout)
        .env("XTASK", env!("CARGO_BIN_EXE_xtask"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

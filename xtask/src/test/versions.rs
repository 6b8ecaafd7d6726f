//! The versions of the software that tests run with.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{real_software, test_tools};

/// The software that was unpacked for `test --real`, and the first line that each installed program prints about its
/// version.
pub(super) fn of_real_software() -> Vec<String> {
    let found = |name: &str| test_tools::value(name).map(PathBuf::from);
    let installed = [
        (Some("/usr/bin/python3".into()), "--version"),
        (found("MEMMON_POSTGRES").map(|folder| folder.join("postgres")), "--version"),
        (found("MEMMON_JAVA"), "-version"),
        (found("MEMMON_QEMU"), "--version"),
    ];
    let installed = installed.into_iter().filter_map(|(program, argument)| {
        let output = Command::new(program?).arg(argument).stdin(Stdio::null()).output().ok()?;
        // java prints its version to standard error.
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().map(str::to_owned)
    });
    real_software::versions().into_iter().chain(installed).collect()
}

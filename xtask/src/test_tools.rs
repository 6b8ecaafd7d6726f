//! Programs for tests: Prometheus' promtool, a Python that has an SMTP server, and the real software of `test --real`.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{real_software, shell, workspace};

/// Looks for a program on this machine.
type Find = fn() -> Option<PathBuf>;

/// The variable that names each program to the tests, and a function that finds the program if the variable is not set.
const ALL: [(&str, Find); 6] = [
    ("MEMMON_PROMTOOL", promtool),
    ("MEMMON_SMTPD_PYTHON", smtpd_python),
    ("MEMMON_POSTGRES", postgres),
    ("MEMMON_REAL", real_software::found),
    ("MEMMON_JAVA", || shell::find("java")),
    ("MEMMON_QEMU", || shell::find("qemu-system-x86_64")),
];

/// Each variable that is not set, with its value, if there is one on this machine.
pub(crate) fn found() -> impl Iterator<Item = (&'static str, PathBuf)> {
    let unset = ALL.into_iter().filter(|(name, _)| env::var_os(name).is_none());
    unset.filter_map(|(name, find)| Some((name, find()?)))
}

/// The value of such a variable, set or found.
pub(crate) fn value(name: &str) -> Option<OsString> {
    let found = || ALL.into_iter().find(|(known, _)| *known == name).and_then(|(_, find)| find());
    env::var_os(name).or_else(|| found().map(PathBuf::into_os_string))
}

/// The folder into which `cargo xtask setup` unpacks Debian's package prometheus, which would start a service if it were
/// installed.
pub(crate) fn unpacked() -> PathBuf {
    workspace::root().join("target/tools/prometheus")
}

fn promtool() -> Option<PathBuf> {
    let unpacked = unpacked().join("usr/bin/promtool");
    if shell::is_executable(&unpacked) { Some(unpacked) } else { shell::find("promtool") }
}

/// The folder into which `cargo xtask setup` unpacks a PostgreSQL server. As packages its programs would start a cluster.
pub(crate) fn unpacked_postgres() -> PathBuf {
    workspace::root().join("target/tools/postgresql")
}

/// The programs of a PostgreSQL server, as Debian installs them or as setup unpacks them.
fn postgres() -> Option<PathBuf> {
    let roots = [PathBuf::from("/"), unpacked_postgres()];
    roots.into_iter().find_map(|root| {
        let versions = std::fs::read_dir(root.join("usr/lib/postgresql")).ok()?;
        let programs = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
        programs.filter(|folder| runs_postgres(folder)).max()
    })
}

/// Whether all programs are there, with their libraries.
fn runs_postgres(folder: &Path) -> bool {
    let runs = |name: &str| {
        let mut command = Command::new(folder.join(name));
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    ["postgres", "initdb", "psql"].into_iter().all(runs)
}

/// The system's Python, for which there are packages, or another one.
fn smtpd_python() -> Option<PathBuf> {
    let system = PathBuf::from("/usr/bin/python3");
    [Some(system), shell::find("python3")].into_iter().flatten().find(|python| has_smtpd(python))
}

fn has_smtpd(python: &Path) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import aiosmtpd"]).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

//! Real software for `cargo xtask test --real`: Debian's packages, unpacked below target/tools. None of them is installed, and
//! no service is started.

use std::{fmt::Write as _, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use fs_err as fs;

use crate::{debian_programs, shell, workspace};

/// Redis, LMDB, numpy, gunicorn, kubectl and runc, with the libraries that a minimal system lacks, by their names in Debian 12.
const PACKAGES: [&str; 21] = [
    "redis-server", "redis-tools", "libatomic1", "libhiredis0.14", "libjemalloc2", "liblua5.1-0", "liblzf1",
    "lua-bitop", "lua-cjson", "python3-lmdb", "liblmdb0", "python3-numpy", "libblas3", "liblapack3",
    "libgfortran5", "libquadmath0", "python3-gunicorn", "python3-pkg-resources", "kubernetes-client", "runc",
    "python3-pip-whl",
];

/// From PyPI: Kubernetes' OpenAPI schemas and Helm 4's own library, of which Debian has no package, and a library for D-Bus.
const MODULES: [(&str, &str); 3] =
    [("kubernetes-validate", "1.37.0"), ("helm-python-sdk", "0.2.2"), ("jeepney", "0.9.0")];

/// The names and versions of the unpacked packages, in their folder.
const VERSIONS: &str = "versions.txt";

fn folder() -> PathBuf {
    workspace::root().join("target/tools/real")
}

/// The folder with the unpacked packages, if there is one with all of them.
pub(crate) fn found() -> Option<PathBuf> {
    let unpacked = versions();
    let has = |package: &&str| unpacked.iter().any(|line| line.split(' ').next() == Some(package));
    let has_module = |(name, version): &(&str, &str)| unpacked.contains(&format!("{name} {version}"));
    (PACKAGES.iter().all(has) && MODULES.iter().all(has_module)).then(folder)
}

/// The file to which the tests add the lines of their table.
pub(crate) fn table() -> PathBuf {
    workspace::root().join("target/tools/real-software.txt")
}

/// The names and versions of the unpacked packages.
pub(crate) fn versions() -> Vec<String> {
    let versions = fs::read_to_string(folder().join(VERSIONS)).unwrap_or_default();
    versions.lines().map(str::to_owned).collect()
}

/// Downloads and unpacks what is missing.
pub(crate) fn fetch() -> Result<()> {
    if found().is_some() {
        return Ok(());
    }
    let codename = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !codename.lines().any(|line| line == "VERSION_CODENAME=bookworm") || shell::find("apt-get").is_none() {
        bail!("the packages are those of Debian 12 (bookworm), and this is another system");
    }
    let draft = workspace::root().join("target/tools/real.new");
    let _ = fs::remove_dir_all(&draft);
    let mut versions = debian_programs::unpack(&mut Command::new("apt-get"), &PACKAGES, &draft)
        .context("the packages could not be downloaded; `apt-get update` brings the lists up to date")?;
    // A minimal system has Python without pip and venv.
    let wheels =
        fs::read_dir(draft.join("usr/share/python-wheels"))?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_pip =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pip-"));
    let pip = wheels.into_iter().find(is_pip).context("python3-pip-whl has no pip")?;
    let mut install = Command::new("python3");
    install.arg(pip.join("pip")).args(["install", "--quiet", "--root-user-action=ignore"]);
    for (name, version) in MODULES {
        install.arg(format!("{name}=={version}"));
        writeln!(versions, "{name} {version}")?;
    }
    shell::run(install.arg("--target").arg(draft.join("kubernetes")))?;
    fs::write(draft.join(VERSIONS), versions)?;
    let _ = fs::remove_dir_all(folder());
    fs::rename(&draft, folder()).context("cannot put the packages into their place")
}

//! What is installed and packaged: memmon as a release, with its manuals and completions.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::{ebpf, setup, shell, toolchain, workspace};

/// Where the release is.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) binary: PathBuf,
    /// The directory of manuals and completions, by the names that memmon-manual gives them.
    pub(crate) manual: PathBuf,
}

/// Where cargo puts things for this checkout.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace::root().join("target"), PathBuf::from)
}

/// Builds both halves, the manuals and the completions. What the BPF half is built with is installed first if need be.
pub(crate) fn release() -> Result<Release> {
    let wish = toolchain::ToolchainChoice::Auto;
    let tools = match toolchain::choose(wish, &toolchain::look()) {
        Ok(tools) => tools,
        Err(missing) => {
            println!("{missing}");
            setup::main(setup::Options::default())?;
            toolchain::choose(wish, &toolchain::look())?
        }
    };
    ebpf::build(&tools)?;
    let release = Release { binary: target().join("release/memmon"), manual: target().join("manual") };
    let mut memmon = shell::cargo();
    shell::run(memmon.current_dir(workspace::root()).args([
        "build",
        "--release",
        "--locked",
        "--package=memmon",
    ]))?;
    let mut manual = shell::cargo();
    manual.current_dir(workspace::root()).args([
        "run",
        "--quiet",
        "--locked",
        "--package=memmon-manual",
        "--",
    ]);
    shell::run(manual.arg(&release.manual))?;
    Ok(release)
}

/// What [`release`] built before.
pub(crate) fn built_before() -> Result<Release> {
    let release = Release { binary: target().join("release/memmon"), manual: target().join("manual") };
    for path in [&*release.binary, &*release.manual] as [&Path; 2] {
        ensure!(path.exists(), "{} is not there: run without --no-build", path.display());
    }
    Ok(release)
}

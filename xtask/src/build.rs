//! The files that are installed and packaged: memmon as a release, with its manuals and completions.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::{ebpf, progress::Progress, shell, toolchain::Tools, workspace};

/// The paths of a release.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) binary: PathBuf,
    /// The directory of manuals and completions, by the names that memmon-manual gives them.
    pub(crate) manual: PathBuf,
}

/// The number of steps of [`release`].
pub(crate) const STEPS: usize = 3;

/// Builds both halves with `tools`, the manuals and the completions, in [`STEPS`] steps.
pub(crate) fn release(tools: &Tools, progress: &mut Progress) -> Result<Release> {
    progress.begin_last("build the BPF half");
    ebpf::build(tools)?;
    progress.begin_last("build memmon");
    let release = paths();
    shell::run(workspace::cargo().args(["build", "--release", "--locked", "--package=memmon"]))?;
    progress.begin_last("write the manuals and completions");
    let manual = ["run", "--quiet", "--locked", "--package=memmon-manual", "--"];
    shell::run(workspace::cargo().args(manual).arg(&release.manual))?;
    Ok(release)
}

fn paths() -> Release {
    let target = workspace::target_dir();
    Release { binary: target.join("release/memmon"), manual: target.join("manual") }
}

/// The files that an earlier [`release`] built.
pub(crate) fn built_before() -> Result<Release> {
    let release = paths();
    for path in [&*release.binary, &*release.manual] as [&Path; 2] {
        ensure!(path.exists(), "{} is not there: run without --no-build", path.display());
    }
    Ok(release)
}

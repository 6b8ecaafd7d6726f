//! Checks the field offsets of every kernel without booting it: the BTF in its image is the one that it shows when it runs.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};
use fs_err as fs;

use super::{kernel::Kernel, report::Outcome};
use crate::{shell, workspace};

/// Runs memmon's own test on the type information of `kernels`, which is written to `folder`.
pub(super) fn check(kernels: &[Kernel], folder: &Path) -> Result<Vec<Outcome>> {
    println!("\n== layouts, without booting");
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    for kernel in kernels {
        let btf = folder.join(format!("{}.btf", kernel.release));
        let mut objcopy = Command::new("objcopy");
        objcopy.args(["--output-target=binary", "--only-section=.BTF"]).arg(kernel.vmlinux()).arg(&btf);
        shell::read(&mut objcopy)?;
        ensure!(btf.metadata().is_ok_and(|file| file.len() > 0), "{} has no BTF", kernel.release);
    }
    let tested = shell::run(
        workspace::cargo()
            .args(["test", "--quiet", "--package=memmon", "--lib", "--", "--ignored", "--exact"])
            .arg("observe::btf::tests::known_kernels_have_known_offsets")
            .env("MEMMON_BTF_DIR", folder),
    );
    Ok(vec![Outcome { name: "layouts".to_owned(), failure: tested.err().map(|error| format!("{error:#}")) }])
}

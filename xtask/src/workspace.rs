//! Paths in the checkout.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use fs_err as fs;

use crate::shell;

/// The checkout's root.
pub(crate) fn root() -> &'static Path {
    // Cargo sets the variable when it compiles this crate, which always lies one level below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder of cargo's build output.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A cargo that runs at the root.
pub(crate) fn cargo() -> Command {
    let mut cargo = shell::cargo();
    cargo.current_dir(root());
    cargo
}

/// The files below `folder`, without build output and history.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            found.push(entry.path());
        } else if !["target", ".git"].iter().any(|name| entry.file_name() == *name) {
            found.extend(files(&entry.path())?);
        }
    }
    Ok(found)
}

/// The folder for all output of the BPF build, whatever `CARGO_TARGET_DIR` is.
pub(crate) fn bpf_dir() -> PathBuf {
    root().join("target/bpf")
}

/// The object that memmon embeds; memmon/build.rs looks for it here.
pub(crate) fn bpf_object() -> PathBuf {
    bpf_dir().join("memmon.bpf.o")
}

/// The sources of the object, relative to the root; memmon/build.rs has the same list.
pub(crate) const BPF_SOURCES: [&str; 2] = ["memmon-ebpf/src", "memmon-common/src"];

//! Paths in the checkout.

use std::path::{Path, PathBuf};

/// The checkout's root.
pub(crate) fn root() -> &'static Path {
    // Cargo sets the variable when it compiles this crate, which always lies one level below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
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

//! Where things lie in the checkout.

use std::path::{Path, PathBuf};

/// The checkout's root.
pub(crate) fn root() -> &'static Path {
    // Cargo sets the variable when it compiles this crate, which always lies one level below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Everything of the BPF build, wherever `CARGO_TARGET_DIR` may point.
pub(crate) fn bpf_dir() -> PathBuf {
    root().join("target/bpf")
}

/// The object that memmon embeds; memmon/build.rs looks for it here.
pub(crate) fn bpf_object() -> PathBuf {
    bpf_dir().join("memmon.bpf.o")
}

/// The sources that the object is made from, relative to the root; memmon/build.rs knows them as well.
pub(crate) const BPF_SOURCES: [&str; 2] = ["memmon-ebpf/src", "memmon-common/src"];

//! The sources of packages, and whether they have changed.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
};

use anyhow::Result;
use fs_err as fs;

use crate::{install::Item, workspace};

/// All content from which the packages are made.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) out: PathBuf,
    pub(super) items: Vec<Item>,
    /// The time of the packaged commit, in seconds since 1970, so that equal sources make equal packages.
    pub(super) when: String,
    pub(super) changelog: String,
}

impl Sources {
    /// Equal for equal sources.
    pub(super) fn fingerprint(&self) -> Result<String> {
        let Self { out: _, items, when, changelog } = self;
        let mut hasher = DefaultHasher::new();
        (when, changelog).hash(&mut hasher);
        for Item { path, mode, content, kind: _ } in items {
            (path, mode, content).hash(&mut hasher);
        }
        let root = workspace::root();
        let mut files =
            vec![root.join("memmon/Cargo.toml"), root.join("Cargo.lock"), root.join("LICENSE-MIT")];
        for folder in ["xtask/packaging/deb", "xtask/packaging/rpm", "xtask/src/package"]
            .map(|folder| root.join(folder))
        {
            files.extend(fs::read_dir(folder)?.flatten().map(|entry| entry.path()));
        }
        files.sort();
        for file in files {
            fs::read(&file)?.hash(&mut hasher);
        }
        Ok(format!("{:016x}", hasher.finish()))
    }
}

//! An initramfs: a folder that cpio(1) packs.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use fs_err as fs;
use tempfile::TempDir;

/// An archive that is being made.
#[derive(Debug)]
pub(super) struct Archive(TempDir);

impl Archive {
    /// An archive without files.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir().context("cannot make a temporary folder")?))
    }

    /// Adds a regular file, and the folders above it.
    pub(super) fn file(&self, path: &str, mode: u32, contents: &[u8]) -> Result<()> {
        let place = self.0.path().join(path);
        fs::create_dir_all(place.parent().unwrap_or(self.0.path()))?;
        fs::write(&place, contents)?;
        Ok(fs::set_permissions(&place, Permissions::from_mode(mode))?)
    }

    /// Adds an empty folder.
    pub(super) fn folder(&self, path: &str) -> Result<()> {
        Ok(fs::create_dir_all(self.0.path().join(path))?)
    }

    /// The whole archive, in the format that the kernel unpacks.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        let pack =
            "find . -mindepth 1 -print0 | sort -z | cpio --null --create --format=newc --owner=0:0 --quiet";
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", pack]).current_dir(&self.0).stderr(Stdio::inherit());
        let output = shell.output().context("cannot start bash")?;
        ensure!(output.status.success(), "cpio failed ({})", output.status);
        Ok(output.stdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs cpio"]
    fn the_kernels_format_has_every_file_with_its_mode_and_root_as_its_owner() {
        let archive = Archive::new().unwrap();
        archive.file("init", 0o755, b"#!/bin/sh\n").unwrap();
        archive.file("a/b/c", 0o644, b"xyz").unwrap();
        archive.folder("proc").unwrap();
        let text = String::from_utf8(archive.finish().unwrap()).unwrap();
        // buffer-format.rst: magic, inode, mode, uid, gid, …, and from 94 on the length of the name, NUL included.
        let number = |at: usize| usize::from_str_radix(&text[at..at + 8], 16).unwrap();
        let entries: Vec<_> = text
            .match_indices("070701")
            .map(|(at, _)| {
                assert_eq!((at % 4, number(at + 22), number(at + 30)), (0, 0, 0));
                (&text[at + 110..at + 109 + number(at + 94)], number(at + 14))
            })
            .collect();
        assert_eq!(entries[..3].iter().map(|entry| entry.0).collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
        assert_eq!(entries[2..4], [("a/b/c", 0o100_644), ("init", 0o100_755)]);
        assert_eq!(entries[4].0, "proc");
        assert_eq!((entries[5].0, entries.len()), ("TRAILER!!!", 6));
        assert!(text.contains("xyz\0"));
    }
}

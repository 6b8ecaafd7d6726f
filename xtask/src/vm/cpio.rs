//! An initramfs in the "new ASCII" format of cpio, as the kernel's Documentation/driver-api/early-userspace/buffer-format.rst
//! has it. Pure: entries in, bytes out.

/// An archive in the making.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    folders: Vec<String>,
    entries: u32,
}

impl Archive {
    /// Adds a regular file, and the folders above it.
    pub(super) fn file(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.parents(path);
        self.entry(path, 0o100_000 | mode, contents);
    }

    /// Adds an empty folder, and those above it.
    pub(super) fn folder(&mut self, path: &str) {
        self.parents(path);
        if !self.folders.iter().any(|other| other == path) {
            self.folders.push(path.to_owned());
            self.entry(path, 0o040_755, &[]);
        }
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if !self.folders.iter().any(|other| other == parent) {
                self.folders.push(parent.to_owned());
                self.entry(parent, 0o040_755, &[]);
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let links = 1;
        let size = contents.len();
        // inode, mode, uid, gid, links, time, size, four numbers of devices, length of the name, checksum.
        let header = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
            self.entries,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            path.len() + 1,
            0
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busybox_reads_what_was_written() {
        let mut archive = Archive::default();
        archive.file("init", 0o755, b"#!/bin/sh\n");
        archive.file("a/b/c", 0o644, b"xyz");
        archive.folder("proc");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        // Each header begins at a multiple of four and says how long its name is, NUL included.
        let names: Vec<&str> = text
            .match_indices("070701")
            .map(|(at, _)| {
                assert_eq!(at % 4, 0);
                let length = usize::from_str_radix(&text[at + 94..at + 102], 16).unwrap();
                text[at + 110..at + 110 + length].strip_suffix('\0').unwrap()
            })
            .collect();
        assert_eq!(names, ["init", "a", "a/b", "a/b/c", "proc", "TRAILER!!!"]);
        assert!(text.contains("xyz\0"));
    }
}

//! The record of everything that installations wrote, kept on the machine, so that an uninstallation removes exactly that.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::items::{Item, Kind};

/// The path of the record, whatever the prefix.
pub(crate) const MANIFEST: &str = "/var/lib/memmon/installed";

/// A list without duplicates, in the order of creation: a line for each entry, with its kind and its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest(Vec<Entry>);

/// One of memmon's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A directory that did not exist before.
    Directory(PathBuf),
    Program(PathBuf),
    /// A file that an administrator may have edited.
    Config(PathBuf),
}

impl Entry {
    pub(crate) fn file(item: &Item) -> Self {
        match item.kind {
            Kind::Program => Self::Program(item.path.clone()),
            Kind::Config | Kind::Snippet => Self::Config(item.path.clone()),
        }
    }

    pub(crate) fn directory(path: &Path) -> Self {
        Self::Directory(path.to_owned())
    }

    pub(crate) fn path(&self) -> &Path {
        let (Self::Directory(path) | Self::Program(path) | Self::Config(path)) = self;
        path
    }
}

impl Manifest {
    /// Parses its text. Unknown lines are ignored, so nothing is removed because of them.
    pub(crate) fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (kind, path) = line.split_once(' ')?;
            let path = PathBuf::from(path);
            // The file belongs to root, but `..` would lead out of a destdir.
            let plain = path.is_absolute() && !path.components().any(|part| part.as_os_str() == "..");
            match (kind, plain) {
                ("directory", true) => Some(Entry::Directory(path)),
                ("program", true) => Some(Entry::Program(path)),
                ("config", true) => Some(Entry::Config(path)),
                _ => None,
            }
        };
        Self(text.lines().filter_map(entry).collect())
    }

    pub(crate) fn add(&mut self, entry: Entry) {
        if !self.0.contains(&entry) {
            self.0.push(entry);
        }
    }

    pub(crate) fn forget(&mut self, path: &Path) {
        self.0.retain(|entry| entry.path() != path);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    pub(crate) fn programs(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.iter().filter_map(|entry| match entry {
            Entry::Program(path) => Some(path),
            Entry::Directory(_) | Entry::Config(_) => None,
        })
    }

    pub(crate) fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.iter().filter_map(|entry| match entry {
            Entry::Directory(path) => Some(path),
            Entry::Program(_) | Entry::Config(_) => None,
        })
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|entry| {
            let kind = match entry {
                Entry::Directory(_) => "directory",
                Entry::Program(_) => "program",
                Entry::Config(_) => "config",
            };
            writeln!(f, "{kind} {}", entry.path().display())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_nothing_else_is() {
        let text = "directory /etc/memmon\nconfig /etc/memmon/config.toml\nprogram /usr/local/sbin/memmon\n";
        assert_eq!(Manifest::parse(text).to_string(), text);
        let hostile = "program relative\nprogram /a/../../etc/passwd\nother /x\n\nprogram\n";
        assert!(Manifest::parse(hostile).is_empty());
    }
}

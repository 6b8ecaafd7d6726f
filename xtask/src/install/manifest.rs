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
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    pub(crate) path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A directory that did not exist before.
    Directory,
    Program,
    /// A file that an administrator may have edited.
    Config,
}

/// The kinds by their names in the record.
const KINDS: [(&str, EntryKind); 3] =
    [("directory", EntryKind::Directory), ("program", EntryKind::Program), ("config", EntryKind::Config)];

impl Entry {
    pub(crate) fn file(item: &Item) -> Self {
        let kind = match item.kind {
            Kind::Program => EntryKind::Program,
            Kind::Config | Kind::Snippet => EntryKind::Config,
        };
        Self { kind, path: item.path.clone() }
    }

    pub(crate) fn directory(path: &Path) -> Self {
        Self { kind: EntryKind::Directory, path: path.to_owned() }
    }
}

impl Manifest {
    /// Parses its text. Unknown lines are ignored, so nothing is removed because of them.
    pub(crate) fn parse(text: &str) -> Self {
        let entry = |line: &str| {
            let (name, path) = line.split_once(' ')?;
            let (_, kind) = KINDS.into_iter().find(|(known, _)| *known == name)?;
            let path = PathBuf::from(path);
            // The file belongs to root, but `..` would lead out of a destdir.
            let plain = path.is_absolute() && !path.components().any(|part| part.as_os_str() == "..");
            plain.then_some(Entry { kind, path })
        };
        Self(text.lines().filter_map(entry).collect())
    }

    pub(crate) fn add(&mut self, entry: Entry) {
        if !self.0.contains(&entry) {
            self.0.push(entry);
        }
    }

    pub(crate) fn forget(&mut self, path: &Path) {
        self.0.retain(|entry| entry.path != path);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// The paths of the entries of this kind.
    pub(crate) fn of(&self, kind: EntryKind) -> impl Iterator<Item = &PathBuf> {
        self.0.iter().filter(move |entry| entry.kind == kind).map(|entry| &entry.path)
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|Entry { kind, path }| {
            let name = KINDS.iter().find(|(_, known)| known == kind).map_or("", |(name, _)| name);
            writeln!(f, "{name} {}", path.display())
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

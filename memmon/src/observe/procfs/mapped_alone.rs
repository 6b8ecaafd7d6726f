//! The files that one process maps and no other, by the kernel's own trees of mappings. Pure, but for the reader.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::Arc,
};

use memmon_common::FileMapping;
use nix::sys::stat::makedev;

use super::smaps::FileId;
use crate::model::Pid;

/// Reads the mappings of files of a process.
pub type ReadMappings = Box<dyn Fn(Pid) -> io::Result<Vec<FileMapping>> + Send + Sync>;

/// The kernel's trees of mappings.
#[derive(Clone)]
pub(super) struct KernelMappings(Arc<ReadMappings>);

impl KernelMappings {
    pub(super) fn new(read: ReadMappings) -> Self {
        Self(Arc::new(read))
    }

    /// The files that the process `pid` maps alone.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn of_alone(&self, pid: Pid) -> io::Result<BTreeSet<FileId>> {
        // The trees are read without their lock, and one that changes meanwhile may seem to have fewer nodes. It does not seem so
        // twice, from other addresses.
        let (first, second) = (mapped_alone(&(self.0)(pid)?), mapped_alone(&(self.0)(pid)?));
        Ok(first.intersection(&second).copied().collect())
    }
}

impl fmt::Debug for KernelMappings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelMappings")
    }
}

/// The files in `mappings`, which are those of one process, whose trees have no other nodes: the root is one of them, and so is
/// every node below one.
fn mapped_alone(mappings: &[FileMapping]) -> BTreeSet<FileId> {
    let mut nodes: BTreeMap<FileId, BTreeSet<u64>> = BTreeMap::new();
    for mapping in mappings {
        nodes.entry(file(mapping)).or_default().insert(mapping.node);
    }
    for mapping in mappings {
        let FileMapping { root, left, right, .. } = *mapping;
        let is_whole = |own: &BTreeSet<u64>| {
            own.contains(&root) && [left, right].iter().all(|below| *below == 0 || own.contains(below))
        };
        if !nodes.get(&file(mapping)).is_some_and(is_whole) {
            nodes.remove(&file(mapping));
        }
    }
    nodes.into_keys().collect()
}

fn file(mapping: &FileMapping) -> FileId {
    let (major, minor) = (mapping.device >> 20, mapping.device & 0xf_ffff);
    FileId { device: makedev(major.into(), minor.into()), inode: mapping.inode }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId { device: makedev(0, 1), inode: 7 };

    /// A mapping of [`FILE`] as a node of a tree.
    fn node(root: u64, node: u64, left: u64, right: u64) -> FileMapping {
        FileMapping { inode: 7, root, node, left, right, device: 1, tgid: 42 }
    }

    #[test]
    fn a_file_is_mapped_alone_if_its_tree_has_no_other_nodes() {
        let alone = |mappings: &[FileMapping]| mapped_alone(mappings).contains(&FILE);
        assert!(alone(&[node(16, 16, 0, 0)]));
        assert!(alone(&[node(16, 16, 24, 32), node(16, 24, 0, 40), node(16, 32, 0, 0), node(16, 40, 0, 0)]));
        for (other, mappings) in [
            ("above", vec![node(8, 16, 0, 0)]),
            ("below on the left", vec![node(16, 16, 8, 0)]),
            ("below on the right", vec![node(16, 16, 0, 8)]),
            ("between two of its own", vec![node(16, 16, 8, 0), node(16, 24, 0, 0)]),
            ("below the last one", vec![node(16, 16, 24, 0), node(16, 24, 0, 8)]),
            ("in its place", vec![]),
        ] {
            assert!(!alone(&mappings), "another node {other}");
        }
    }

    #[test]
    fn each_file_has_its_own_tree() {
        let other = FileMapping { inode: 8, ..node(8, 48, 0, 0) };
        let on_disk = FileMapping { device: (254 << 20) | 3, ..node(56, 56, 0, 0) };
        let found = mapped_alone(&[other, node(16, 16, 0, 0), on_disk]);
        assert_eq!(found, BTreeSet::from([FILE, FileId { device: makedev(254, 3), inode: 7 }]));
    }

    #[test]
    fn a_tree_that_changes_while_it_is_read_is_not_trusted() {
        let looks = std::sync::Mutex::new(vec![vec![node(16, 16, 8, 0)], vec![node(16, 16, 0, 0)]]);
        let mappings = KernelMappings::new(Box::new(move |_| Ok(looks.lock().unwrap().pop().unwrap())));
        assert_eq!(mappings.of_alone(Pid(42)).unwrap(), BTreeSet::new());
    }
}

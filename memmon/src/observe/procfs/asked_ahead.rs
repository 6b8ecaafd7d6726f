//! The answers of older processes that were asked ahead: about the shared memory of a process that grows, before it reaches its
//! limit. Pure.
//!
//! To ask every older process takes 0.1 ms for each, and a process that fills a memfd goes on meanwhile. So they are asked
//! while it comes near its limit; at the limit only its own pages are left to be counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::smaps::FileId;
use crate::model::{Bytes, ProcessId};

/// The answers about the objects that a process maps, of which none has failed.
#[derive(Clone, Debug)]
pub(super) struct AskedAhead {
    /// The time at which the first was asked.
    pub at: Instant,
    /// All objects.
    pub files: BTreeSet<FileId>,
    /// For each object that one of them maps, one that maps as much of it as this process, or the one that maps the most.
    pub found: BTreeMap<FileId, (ProcessId, Bytes)>,
}

impl AskedAhead {
    /// The elders of `objects`, of which so much is resident by now; `None` if there may be others, which were not asked.
    pub(super) fn elders_of(
        mut self,
        objects: &BTreeMap<FileId, Bytes>,
    ) -> Option<BTreeMap<FileId, (ProcessId, Bytes)>> {
        let is_known = |(file, resident): (&FileId, &Bytes)| {
            let elder = self.found.get(file);
            self.files.contains(file) && elder.is_none_or(|(_, mapped)| mapped >= resident)
        };
        if !objects.iter().all(is_known) {
            return None;
        }
        self.found.retain(|file, _| objects.contains_key(file));
        Some(self.found)
    }
}

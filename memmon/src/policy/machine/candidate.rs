//! The processes that may have caused a shortage.

use std::collections::BTreeMap;

use crate::model::{Bytes, Holdings, Name, Process};

/// Memory of the units of idle processes when the machine was well.
pub type Held = BTreeMap<Name, Bytes>;

/// A process that may have caused the shortage, as /proc has just confirmed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The process, with its memory measured.
    pub process: Process,
    /// Its growth since the machine was well, without shared memory.
    pub growth: Bytes,
    /// The growth of its shared memory.
    pub shared_growth: Bytes,
    /// The part of `growth` that came early: see [`super::recency`].
    pub early: Bytes,
    /// The part of `shared_growth` that came early.
    pub shared_early: Bytes,
    /// Its memory when the machine was well.
    pub before: Bytes,
}

impl Candidate {
    /// The part of its growth that its end gives back. Memory that others hold as well did not come from it.
    pub(super) fn own_growth(&self) -> Bytes {
        gives_back(&self.process).min(self.own(self.growth, self.shared_growth))
    }

    /// The part of that which came early. It may have shrunk since.
    pub(super) fn own_early(&self) -> Bytes {
        self.own(self.early, self.shared_early)
    }

    fn own(&self, private: Bytes, shared: Bytes) -> Bytes {
        let known = self.process.holdings.as_ref().and_then(|holdings| holdings.shared.known());
        private + shared.min(known.map_or(Bytes::ZERO, |known| known.returned))
    }
}

/// The processes that may have caused a shortage, and what their units held before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates {
    /// The processes that have grown.
    pub grown: Vec<Candidate>,
    /// Memory of the other processes of a unit when the machine was well.
    pub idle: Held,
}

/// The memory that the end of a process gives back for certain: shared memory only if it is known to be freed.
pub fn gives_back(process: &Process) -> Bytes {
    let Some(Holdings { parts, shared, .. }) = &process.holdings else { return process.own() };
    let shared = shared.known().map_or(Bytes::ZERO, |shared| shared.returned);
    process.own().min(parts.anon + shared) + parts.swap
}

//! The users that may use the socket, and for what.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The group that may query the daemon, in addition to root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Its gid.
    pub group: Option<u32>,
    /// Whether it may also give orders.
    pub group_may_exempt: bool,
    /// Whether every user may ask about that user's own processes, at a socket of its own.
    pub mine: bool,
}

/// The access that is granted. It can be changed while the server runs.
#[derive(Clone, Debug)]
pub struct AccessPolicy(Arc<AtomicU64>);

impl AccessPolicy {
    /// No gid.
    const NOBODY: u64 = u64::MAX;
    /// Beside the gid, which has 32 bits.
    const MAY_EXEMPT: u64 = 1 << 32;

    /// Grants this access.
    pub fn new(access: Access) -> Self {
        let door = Self(Arc::new(AtomicU64::new(Self::NOBODY)));
        door.admit(access);
        door
    }

    /// Grants this access instead, for later connections.
    pub fn admit(&self, Access { group, group_may_exempt, mine: _ }: Access) {
        let right = if group_may_exempt { Self::MAY_EXEMPT } else { 0 };
        self.0.store(group.map_or(Self::NOBODY, |group| u64::from(group) | right), Ordering::Relaxed);
    }

    pub(super) fn access(&self) -> Access {
        match self.0.load(Ordering::Relaxed) {
            Self::NOBODY => Access::default(),
            bits => Access {
                group: u32::try_from(bits & !Self::MAY_EXEMPT).ok(),
                group_may_exempt: bits & Self::MAY_EXEMPT != 0,
                mine: false,
            },
        }
    }
}

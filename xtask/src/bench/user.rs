//! A uid of their own for processes that memmon may terminate.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use anyhow::{Context as _, Result, ensure};

/// A uid that no test and no other benchmark on this machine uses while this value lives. It needs no passwd entry.
pub(crate) struct TestUser {
    uid: u32,
    /// An abstract socket, which disappears with this process. The tests claim their uids the same way.
    _claim: UnixDatagram,
}

impl TestUser {
    /// Claims a uid under which no process runs.
    pub(crate) fn claim() -> Result<Self> {
        (47_001..47_100)
            .filter_map(|uid| {
                let address = SocketAddr::from_abstract_name(format!("memmon-test-uid-{uid}")).ok()?;
                Some(Self { uid, _claim: UnixDatagram::bind_addr(&address).ok()? })
            })
            .find(|user| user.is_unused().is_ok())
            .context("uids 47001 to 47099 are all in use: check for processes that tests left behind")
    }

    pub(crate) const fn uid(&self) -> u32 {
        self.uid
    }

    /// Fails if any process runs under it.
    pub(crate) fn is_unused(&self) -> Result<()> {
        let uid = self.uid.to_string();
        for entry in fs::read_dir("/proc").context("cannot list /proc")? {
            let status = fs::read_to_string(entry?.path().join("status")).unwrap_or_default();
            let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
            let name = status.lines().next().unwrap_or_default();
            ensure!(!uids.split_whitespace().any(|one| one == uid), "uid {uid} is in use: {name:?}");
        }
        Ok(())
    }
}

//! The user at the other end of a socket, and whether that user may query the daemon.
#![expect(unsafe_code, reason = "the groups of a peer: getsockopt(2) that no library wraps")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::access::Access;
use crate::model::Uid;

/// The credentials of a peer at the time it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: Uid,
    /// Its effective gid and its supplementary ones.
    pub(super) groups: Vec<u32>,
}

impl Peer {
    /// The peer that connected to `socket`: SO_PEERCRED and SO_PEERGROUPS (Linux 4.13; without it only the effective group).
    pub(super) fn of(socket: &impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(socket, PeerCredentials)?;
        let mut groups = vec![credentials.gid()];
        // Without them a member by supplementary group only is refused; no other user is admitted.
        groups.extend(supplementary(socket).unwrap_or_default());
        Ok(Self { uid: Uid(credentials.uid()), groups })
    }

    /// Whether the peer may query the daemon: root, the daemon's own user, and members of the group may.
    pub(super) fn may_ask(&self, own: Uid, access: Access) -> bool {
        self.is_administrator(own) || access.group.is_some_and(|group| self.groups.contains(&group))
    }

    /// Whether the peer may give orders: the same, but the group only if it has that right, too.
    pub(super) fn may_order(&self, own: Uid, access: Access) -> bool {
        self.is_administrator(own) || access.group_may_exempt && self.may_ask(own, access)
    }

    fn is_administrator(&self, own: Uid) -> bool {
        self.uid == Uid::ROOT || self.uid == own
    }
}

fn supplementary(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    /// NGROUPS_MAX of linux/limits.h.
    const MOST: usize = 65_536;
    let mut groups = vec![0_u32; 32];
    loop {
        let bytes = groups.len() * size_of::<u32>();
        let mut length = libc::socklen_t::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: `groups` has room for `length` bytes, and any bytes are a valid u32.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let needed = length as usize / size_of::<u32>();
        if outcome == 0 {
            groups.truncate(needed);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= groups.len() || needed > MOST {
            return Err(error);
        }
        groups.resize(needed, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_peer_is_the_process_that_opened_the_socket() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, Uid(nix::unistd::geteuid().as_raw()));
        let mut own: Vec<_> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        own.push(nix::unistd::getegid().as_raw());
        own.sort_unstable();
        own.dedup();
        let mut found = peer.groups;
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, own);
    }

    #[test]
    fn root_the_daemons_own_user_and_the_group_may_query() {
        let peer = |uid, groups: &[u32]| Peer { uid: Uid(uid), groups: groups.to_vec() };
        for (peer, own, group, may) in [
            (peer(0, &[0]), 0, None, true),
            (peer(1000, &[1000, 4]), 0, Some(4), true),
            (peer(1000, &[1000, 4]), 0, Some(5), false),
            (peer(1000, &[1000, 4]), 0, None, false),
            (peer(1000, &[0]), 0, None, false),
            (peer(1000, &[1000]), 1000, None, true),
        ] {
            let access = |group_may_exempt| Access { group, group_may_exempt, mine: false };
            assert_eq!(peer.may_ask(Uid(own), access(false)), may, "{peer:?} {own} {group:?}");
            assert_eq!(peer.may_order(Uid(own), access(true)), may, "{peer:?} {own} {group:?}");
            let by_group = peer.uid != Uid::ROOT && peer.uid != Uid(own);
            assert_eq!(peer.may_order(Uid(own), access(false)), may && !by_group, "{peer:?} {own} {group:?}");
        }
    }
}

//! Who is who on this machine: the edge to NSS (passwd, LDAP, systemd-homed, …).

use std::io;

use nix::{errno::Errno, unistd};

use crate::model::Uid;

/// Looks users up, both ways. The real one is [`NameService`]; tests bring their own.
pub trait Users {
    /// The uid of the user `name`; none where nobody here is called that.
    ///
    /// # Errors
    /// It cannot be found out: somebody may be.
    fn uid(&self, name: &str) -> io::Result<Option<Uid>>;

    /// The gid of the group `name`; none where no group is called that or it cannot be found out.
    fn gid(&self, name: &str) -> Option<u32>;

    /// What the user `uid` is called.
    fn name(&self, uid: Uid) -> Option<String>;
}

/// The machine's name service: getpwnam(3) and getpwuid(3).
///
/// May block for as long as the administrator's NSS modules do, so it is asked at load and never in a scan.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameService;

impl Users for NameService {
    fn uid(&self, name: &str) -> io::Result<Option<Uid>> {
        match unistd::User::from_name(name) {
            Ok(user) => Ok(user.map(|user| Uid(user.uid.as_raw()))),
            // What some name services say of a name that nobody has: getpwnam(3).
            Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn gid(&self, name: &str) -> Option<u32> {
        unistd::Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
    }

    fn name(&self, uid: Uid) -> Option<String> {
        unistd::User::from_uid(unistd::Uid::from_raw(uid.0)).ok().flatten().map(|user| user.name)
    }
}

/// A machine with exactly these users, each with a group of the same name and number. Of those with a `?` it cannot
/// find out.
#[cfg(test)]
pub(crate) struct FakeUsers(pub(crate) &'static [(&'static str, u32)]);

#[cfg(test)]
impl Users for FakeUsers {
    fn uid(&self, name: &str) -> io::Result<Option<Uid>> {
        if name.contains('?') {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(self.0.iter().find(|(known, _)| *known == name).map(|(_, uid)| Uid(*uid)))
    }

    fn gid(&self, name: &str) -> Option<u32> {
        self.uid(name).ok()?.map(|Uid(gid)| gid)
    }

    fn name(&self, uid: Uid) -> Option<String> {
        self.0.iter().find(|(_, known)| *known == uid.0).map(|(name, _)| (*name).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_to_every_machine() {
        assert_eq!(NameService.uid("root").unwrap(), Some(Uid::ROOT));
        assert_eq!(NameService.name(Uid::ROOT).as_deref(), Some("root"));
    }

    #[test]
    fn nobody_is_called_what_no_passwd_line_can_hold() {
        assert_eq!(NameService.uid("a:b").unwrap(), None);
        assert_eq!(NameService.uid("nul\0inside").unwrap(), None);
        assert_eq!(NameService.uid("").unwrap(), None);
    }
}

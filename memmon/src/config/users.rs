//! The users of this machine: the edge to NSS (passwd, LDAP, systemd-homed, …).

use std::io;

use nix::{errno::Errno, unistd};

use crate::model::{Escaped, Uid};

/// Looks users up, both ways. The real one is [`NameService`]; tests bring their own.
pub trait Users {
    /// The uid of the user `name`; `None` if there is no such user.
    ///
    /// # Errors
    /// The lookup failed: there may be such a user.
    fn uid(&self, name: &str) -> io::Result<Option<Uid>>;

    /// The gid of the group `name`; `None` if there is no such group.
    ///
    /// # Errors
    /// The lookup failed: there may be such a group.
    fn group(&self, name: &str) -> io::Result<Option<u32>>;

    /// The same for callers that handle an error like a missing group.
    fn gid(&self, name: &str) -> Option<u32> {
        self.group(name).ok().flatten()
    }

    /// The name of the user `uid`.
    fn name(&self, uid: Uid) -> Option<String>;

    /// The name of the user `uid`, or the uid if it has none, as the configuration takes it.
    fn name_or_uid(&self, uid: Uid) -> String {
        self.name(uid).unwrap_or_else(|| uid.to_string())
    }

    /// The same for a terminal, which a control character in a name must not reach.
    fn shown(&self, uid: Uid) -> String {
        Escaped(self.name_or_uid(uid).as_bytes()).to_string()
    }

    /// The name of the user `uid` for a terminal, and the uid.
    fn with_uid(&self, uid: Uid) -> String {
        match self.name(uid) {
            Some(name) => format!("{} ({uid})", Escaped(name.as_bytes())),
            None => format!("uid {uid}"),
        }
    }
}

/// The machine's name service: getpwnam(3) and getpwuid(3).
///
/// May block for as long as the administrator's NSS modules do, so it is asked at load and never in a scan.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameService;

impl Users for NameService {
    fn uid(&self, name: &str) -> io::Result<Option<Uid>> {
        known(unistd::User::from_name(name)).map(|user| user.map(|user| Uid(user.uid.as_raw())))
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        known(unistd::Group::from_name(name)).map(|group| group.map(|group| group.gid.as_raw()))
    }

    fn name(&self, uid: Uid) -> Option<String> {
        unistd::User::from_uid(unistd::Uid::from_raw(uid.0)).ok().flatten().map(|user| user.name)
    }
}

/// The answers of some name services for a name that does not exist: getpwnam(3), getgrnam(3).
fn known<T>(found: nix::Result<Option<T>>) -> io::Result<Option<T>> {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        found => Ok(found?),
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

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        Ok(self.uid(name)?.map(|Uid(gid)| gid))
    }

    fn name(&self, uid: Uid) -> Option<String> {
        self.0.iter().find(|(_, known)| *known == uid.0).map(|(name, _)| (*name).to_owned())
    }
}

/// A machine on which every user has a name with characters that a terminal obeys.
#[cfg(test)]
pub(crate) struct HostileUsers;

#[cfg(test)]
impl Users for HostileUsers {
    fn uid(&self, _: &str) -> io::Result<Option<Uid>> {
        Ok(None)
    }

    fn group(&self, _: &str) -> io::Result<Option<u32>> {
        Ok(None)
    }

    fn name(&self, _: Uid) -> Option<String> {
        Some("\x1b]0;\u{202e}".to_owned())
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
    fn no_user_name_has_characters_that_passwd_cannot_hold() {
        assert_eq!(NameService.uid("a:b").unwrap(), None);
        assert_eq!(NameService.uid("nul\0inside").unwrap(), None);
        assert_eq!(NameService.uid("").unwrap(), None);
    }
}

//! What users are called, remembered for a while: the system's databases may be slow (LDAP, sssd).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::model::{Escaped, Uid};

/// Long enough to ask once per flood, short enough for uids that are given out again (systemd's dynamic users).
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// More users than that are rarely over a limit at once.
const CAPACITY: usize = 128;

/// User names by uid, asked for on the writer thread only.
pub(super) struct UserNames {
    lookup: fn(Uid) -> Option<String>,
    known: HashMap<Uid, (String, Instant)>,
}

impl UserNames {
    /// Asks `lookup` for what is not remembered.
    pub(super) fn new(lookup: fn(Uid) -> Option<String>) -> Self {
        Self { lookup, known: HashMap::new() }
    }

    /// The user's name, escaped; the number where there is none.
    pub(super) fn get(&mut self, uid: Uid, now: Instant) -> String {
        if let Some((name, asked)) = self.known.get(&uid)
            && now.saturating_duration_since(*asked) < REMEMBERED_FOR
        {
            return name.clone();
        }
        let name = (self.lookup)(uid).map(|name| Escaped(name.as_bytes()).to_string());
        let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| uid.to_string());
        if self.known.len() >= CAPACITY {
            self.known.clear();
        }
        self.known.insert(uid, (name.clone(), now));
        name
    }
}

/// The name in the system's user database (getpwuid(3)); none when it has none or cannot be asked.
pub(super) fn from_system(uid: Uid) -> Option<String> {
    nix::unistd::User::from_uid(uid.0.into()).ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_name_is_asked_for_once_until_it_is_old() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let mut users = UserNames::new(|uid| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            (uid.0 == 1000).then(|| "john".to_owned())
        });
        let start = Instant::now();
        assert_eq!(users.get(Uid(1000), start), "john");
        assert_eq!(users.get(Uid(1000), start + REMEMBERED_FOR / 2), "john");
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
        assert_eq!(users.get(Uid(1000), start + REMEMBERED_FOR), "john");
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
        assert_eq!(users.get(Uid(1001), start), "1001", "no name: the number");
        for uid in 0..1000 {
            users.get(Uid(uid), start);
        }
        assert!(users.known.len() <= CAPACITY);
    }

    #[test]
    fn a_user_cannot_break_the_line_either() {
        let mut users = UserNames::new(|_| Some("jo\nhn\u{1b}[0m".to_owned()));
        assert_eq!(users.get(Uid(1), Instant::now()), r"jo\nhn\u{1b}[0m");
    }

    #[test]
    fn the_system_knows_root() {
        assert_eq!(from_system(Uid::ROOT).as_deref(), Some("root"));
        assert_eq!(from_system(Uid(u32::MAX - 7)), None);
    }
}

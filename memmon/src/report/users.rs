//! The names of users. The system's user database may be slow or hang (LDAP, sssd): a line has the uid then.

use std::{io, time::Instant};

use super::lookup::Lookups;
use crate::model::{Escaped, Uid};

/// User names by uid.
#[derive(Clone)]
pub(super) struct UserNames(Lookups<Uid, String>);

impl UserNames {
    /// Starts a thread that asks `lookup` for names.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(super) fn start(lookup: fn(Uid) -> Option<String>) -> io::Result<Self> {
        let name = move |uid: &Uid| {
            let name = lookup(*uid).map(|name| Escaped(name.as_bytes()).to_string());
            name.filter(|name| !name.is_empty()).unwrap_or_else(|| uid.to_string())
        };
        Lookups::start("memmon-users", name).map(Self)
    }

    /// The user's name, escaped; the number if there is none, or none yet.
    pub(super) fn get(&self, uid: Uid, now: Instant) -> String {
        self.0.get(&uid, now).unwrap_or_else(|| uid.to_string())
    }
}

/// The name in the system's user database (getpwuid(3)); `None` if there is none, or if the database cannot be asked.
pub(super) fn from_system(uid: Uid) -> Option<String> {
    nix::unistd::User::from_uid(uid.0.into()).ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use super::{
        super::lookup::{CAPACITY, PATIENCE, REMEMBERED_FOR},
        *,
    };

    #[test]
    fn a_name_is_asked_for_once_until_it_is_old() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let users = UserNames::start(|uid| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            (uid.0 == 1000).then(|| "john".to_owned())
        });
        let users = users.unwrap();
        let start = Instant::now();
        assert_eq!(users.get(Uid(1000), start), "john");
        assert_eq!(users.clone().get(Uid(1000), start + REMEMBERED_FOR / 2), "john");
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
        assert_eq!(users.get(Uid(1000), start + REMEMBERED_FOR), "john");
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
        assert_eq!(users.get(Uid(1001), start), "1001", "no name: the number");
        for uid in 0..1000 {
            users.get(Uid(uid), start);
        }
        assert!(users.0.counts().0 <= CAPACITY);
    }

    /// One line waits, no line after it does, and there is one question however often the name is wanted.
    #[test]
    fn a_database_that_hangs_holds_one_line_for_a_moment() {
        static HANGS: Mutex<()> = Mutex::new(());
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let users = UserNames::start(|_| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            let _waits = HANGS.lock();
            Some("john".to_owned())
        });
        let users = users.unwrap();
        let hangs = HANGS.lock().unwrap();
        let now = Instant::now();
        assert_eq!(users.get(Uid(1000), now), "1000");
        let began = Instant::now();
        for uid in (0..10_000).map(|line| 1000 + line % 1000) {
            assert_eq!(users.get(Uid(uid), now), uid.to_string());
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        assert!(users.0.counts().1 <= CAPACITY + 1);
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
        drop(hangs);
        // The answers come, and lines wait for names again.
        let deadline = Instant::now() + Duration::from_secs(60);
        while users.get(Uid(1000), now) != "john" {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
        while users.0.counts().1 > 0 {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
        assert_eq!(users.get(Uid(5000), now), "john");
    }

    #[test]
    fn a_user_cannot_break_the_line_either() {
        let users = UserNames::start(|_| Some("jo\nhn\u{1b}[0m".to_owned())).unwrap();
        assert_eq!(users.get(Uid(1), Instant::now()), r"jo\nhn\u{1b}[0m");
    }

    #[test]
    fn the_system_knows_root() {
        assert_eq!(from_system(Uid::ROOT).as_deref(), Some("root"));
        assert_eq!(from_system(Uid(u32::MAX - 7)), None);
    }
}

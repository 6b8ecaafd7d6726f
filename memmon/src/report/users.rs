//! The names of users. The system's user database may be slow or hang (LDAP, sssd), so a thread of its own asks it: a line
//! waits for a name for a short time only, and has the uid after that.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use crate::model::{Escaped, Uid};

/// Long enough to ask once per flood, short enough for uids that are given out again (systemd's dynamic users).
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// More users than that are rarely over a limit at once.
const CAPACITY: usize = 128;

/// Time that a line waits for a name. If the database needs longer, no line waits for it until it has answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// User names by uid. Clones have the memory and the thread in common; the thread ends with the last of them.
#[derive(Clone)]
pub(super) struct UserNames {
    questions: SyncSender<(Uid, Instant)>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    names: Mutex<Names>,
    answered: Condvar,
}

#[derive(Default)]
struct Names {
    /// The names, with the time of the question.
    known: HashMap<Uid, (String, Instant)>,
    /// The questions without an answer.
    open: BTreeSet<Uid>,
    /// Whether a line has waited in vain since the last answer.
    is_late: bool,
}

impl UserNames {
    /// Starts a thread that asks `lookup` for names.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(super) fn start(lookup: fn(Uid) -> Option<String>) -> io::Result<Self> {
        let (questions, asked) = mpsc::sync_channel(CAPACITY);
        let names = Self { questions, shared: Arc::default() };
        let shared = Arc::clone(&names.shared);
        thread::Builder::new().name("memmon-users".into()).spawn(move || {
            // Messages that libraries log while they look a name up must not come back as something to write.
            tracing::dispatcher::with_default(&tracing::Dispatch::none(), || shared.answer(&asked, lookup));
        })?;
        Ok(names)
    }

    /// The user's name, escaped; the number if there is none, or none yet.
    pub(super) fn get(&self, uid: Uid, now: Instant) -> String {
        let mut names = self.shared.lock();
        if names.fresh(uid, now).is_none() {
            // If there are too many questions, this one is asked with a later line.
            if !names.open.contains(&uid) && self.questions.try_send((uid, now)).is_ok() {
                names.open.insert(uid);
            }
            if !names.is_late {
                let is_open = |names: &mut Names| names.open.contains(&uid);
                let waited = self.shared.answered.wait_timeout_while(names, PATIENCE, is_open);
                let (after, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                names = after;
                names.is_late |= waited.timed_out();
            }
        }
        names.fresh(uid, now).map_or_else(|| uid.to_string(), str::to_owned)
    }
}

impl Shared {
    /// Answers questions until no user is left that could ask one.
    fn answer(&self, asked: &Receiver<(Uid, Instant)>, lookup: fn(Uid) -> Option<String>) {
        for (uid, now) in asked {
            let name = lookup(uid).map(|name| Escaped(name.as_bytes()).to_string());
            let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| uid.to_string());
            let mut names = self.lock();
            if names.known.len() >= CAPACITY {
                names.known.clear();
            }
            names.known.insert(uid, (name, now));
            names.open.remove(&uid);
            names.is_late = false;
            drop(names);
            self.answered.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// The name, unless it is old.
    fn fresh(&self, uid: Uid, now: Instant) -> Option<&str> {
        let (name, asked) = self.known.get(&uid)?;
        (now.saturating_duration_since(*asked) < REMEMBERED_FOR).then_some(name)
    }
}

/// The name in the system's user database (getpwuid(3)); `None` if there is none, or if the database cannot be asked.
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
        assert!(users.shared.lock().known.len() <= CAPACITY);
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
        assert!(users.shared.lock().open.len() <= CAPACITY + 1);
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
        drop(hangs);
        // The answers come, and lines wait for names again.
        let deadline = Instant::now() + Duration::from_secs(60);
        while users.get(Uid(1000), now) != "john" {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
        while !users.shared.lock().open.is_empty() {
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

//! The socket for everybody: it answers each user about that user's own processes and terminations, and nothing else.
//!
//! The kernel names the user (`SO_PEERCRED`); nothing that a client sends does. As every user of the machine may connect,
//! the cost is bounded for each and for all: a maximum of connections, one answer a second for one user, and one answer at
//! a time for all users, after which the daemon has most of the time for itself. The status socket has a queue of its own,
//! so that no number of clients here keeps root from asking there.

use std::{
    collections::HashMap,
    os::{fd::AsFd as _, unix},
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Mutex, mpsc, oneshot},
    task,
    time::{Instant, sleep_until},
};

use super::{
    lines::{Conversation, refusal, turn_away},
    peer::Peer,
    server::{PendingRequest, Request},
    wire::Asked,
};
use crate::{
    model::{Select, Uid},
    socket::Clients,
};

/// Maximum of clients at once: one more, and the oldest is disconnected.
const CLIENTS: usize = 16;
/// Maximum of clients of one user.
pub(super) const CLIENTS_OF_ONE: usize = 2;
/// Timeout for an idle client, and for a whole request.
const IDLE: Duration = Duration::from_secs(10);
/// Minimum time between two answers to one user.
const BETWEEN_ANSWERS: Duration = Duration::from_secs(1);
/// Factor between the time that an answer took and the pause until the next one is made.
const PARTS_FOR_ITSELF: u32 = 4;

/// Serves until its runtime ends. `requests` is the queue to the daemon, which answers when it has time.
///
/// # Errors
/// The listener cannot be watched.
pub async fn serve_mine(
    listener: unix::net::UnixListener,
    requests: mpsc::Sender<PendingRequest>,
) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let turn = Turn { requests, next: Arc::new(Mutex::new(Instant::now())) };
    let (users, mut clients) = (Users::default(), Clients::new(CLIENTS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            clients.failed().await;
            continue;
        };
        match Peer::of(&stream.as_fd()).map(|peer| users.admit(peer.uid, Instant::now())) {
            Ok(Some(visit)) => {
                let turn = turn.clone();
                clients.serve(async move { converse(stream, &visit, &turn).await }).await;
            }
            Ok(None) => {
                turn_away(&stream, "busy", "you have other connections to memmon: close one first");
                clients.pause().await;
            }
            Err(_) => clients.pause().await,
        }
    }
}

/// The users with a connection, or with an answer within the last moment.
#[derive(Clone, Default)]
struct Users(Arc<StdMutex<HashMap<Uid, User>>>);

struct User {
    clients: usize,
    /// The time from which on there may be another answer.
    next: Instant,
}

/// One connection of a user, until this is dropped.
struct Visit {
    users: Users,
    uid: Uid,
}

impl Users {
    fn all(&self) -> MutexGuard<'_, HashMap<Uid, User>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more connection of the user, unless there are too many.
    fn admit(&self, uid: Uid, now: Instant) -> Option<Visit> {
        let mut all = self.all();
        all.retain(|_, user| user.clients > 0 || user.next > now);
        let user = all.entry(uid).or_insert(User { clients: 0, next: now });
        if user.clients >= CLIENTS_OF_ONE {
            return None;
        }
        user.clients += 1;
        Some(Visit { users: self.clone(), uid })
    }
}

impl Visit {
    /// Waits until this user may have another answer.
    async fn turn(&self) {
        loop {
            let now = Instant::now();
            let next = match self.users.all().get_mut(&self.uid) {
                Some(user) if user.next > now => user.next,
                Some(user) => {
                    user.next = now + BETWEEN_ANSWERS;
                    return;
                }
                // A user with a connection has an entry.
                None => return,
            };
            sleep_until(next).await;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(user) = self.users.all().get_mut(&self.uid) {
            user.clients = user.clients.saturating_sub(1);
        }
    }
}

/// Answers one client until it leaves, is too slow, or asks for something else.
async fn converse(stream: UnixStream, visit: &Visit, turn: &Turn) {
    let mut client = Conversation::new(stream, IDLE);
    while let Some(asked) = client.request().await {
        let request = match asked {
            Asked::Mine => Request::Mine(visit.uid),
            Asked::History(select) => Request::History(Select { user: Some(visit.uid), ..select }),
            Asked::Query(_) | Asked::Order(_) | Asked::Samples(_) => {
                let only = "this socket answers \"mine\" and \"history\" only";
                return turn_away(&client.stream, "forbidden", only);
            }
        };
        let answer = async {
            visit.turn().await;
            turn.answer(request).await
        };
        let Some(()) = client.send(answer).await else { return };
    }
}

/// The right to have the daemon make an answer, which one client has at a time.
#[derive(Clone)]
struct Turn {
    requests: mpsc::Sender<PendingRequest>,
    next: Arc<Mutex<Instant>>,
}

impl Turn {
    /// The daemon's answer; `None` when the daemon ends. The next turn begins when the daemon is done, also if the client
    /// does not wait for it.
    async fn answer(&self, request: Request) -> Option<String> {
        let mut next = Arc::clone(&self.next).lock_owned().await;
        let requests = self.requests.clone();
        let made = task::spawn(async move {
            sleep_until(*next).await;
            let begun = Instant::now();
            let (answer, line) = oneshot::channel();
            requests.send(PendingRequest { request, answer }).await.ok()?;
            let line = line.await.ok();
            *next = Instant::now() + begun.elapsed() * PARTS_FOR_ITSELF;
            line
        });
        // The answer for a client that has left is dropped.
        Some(made.await.ok()?.unwrap_or_else(|| refusal("busy", "memmon could not answer: try again")))
    }
}

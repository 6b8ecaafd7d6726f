//! The daemon's end of the socket: every client has a task of its own, with bounded memory.
//!
//! The cost of any number of clients is bounded: a maximum of clients at once, of connections and of answers per second,
//! one short buffer each, and a timeout for everything that waits for them. An answer is shared by all clients that ask
//! within [`Query::fresh`], or within a few times the time that it took, unless an order came in between.

use std::{
    os::{fd::AsFd, unix},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Mutex, mpsc, oneshot},
    task::{self, JoinHandle},
    time::{Instant, sleep_until},
};

use super::{
    access::AccessPolicy,
    lines::{Conversation, refusal, turn_away},
    order::Order,
    peer::Peer,
    wire::{Asked, Query},
};
use crate::{
    model::{Select, Uid},
    socket::Clients,
};

/// Maximum of clients at once: one more, and the oldest is disconnected.
pub(super) const CLIENTS: usize = 32;
/// Timeout for an idle client, and for a whole request.
const IDLE: Duration = Duration::from_secs(60);
/// Minimum time between two answers to one client.
const BETWEEN_ANSWERS: Duration = Duration::from_millis(50);

impl Query {
    /// Minimum time for which an answer is reused.
    const fn fresh(self) -> Duration {
        match self {
            Self::Status => Duration::from_millis(100),
            Self::Processes | Self::Machine => Duration::from_millis(500),
        }
    }
}

/// A query or an order to the daemon.
#[derive(Debug)]
pub struct PendingRequest {
    /// The subject of the request.
    pub request: Request,
    /// Channel for the line to send: see [`super::answer`].
    pub answer: oneshot::Sender<String>,
}

/// A client's request.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// A query.
    Query(Query),
    /// The history, or a part of it.
    History(Select),
    /// An order of this user, who may give it.
    Order(Order, Uid),
    /// This user's own processes.
    Mine(Uid),
    /// A page of samples, from this key on.
    Samples(u64),
}

/// Serves until its runtime ends. `requests` is the queue to the daemon, which answers when it has time.
///
/// # Errors
/// The listener cannot be watched.
pub async fn serve(
    listener: unix::net::UnixListener,
    access: AccessPolicy,
    own: Uid,
    requests: mpsc::Sender<PendingRequest>,
) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let answers = Arc::new(Answers {
        requests,
        status: Mutex::default(),
        processes: Mutex::default(),
        machine: Mutex::default(),
        orders: AtomicU64::new(0),
    });
    let mut clients = Clients::new(CLIENTS);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            clients.failed().await;
            continue;
        };
        let peer = Peer::of(&stream.as_fd()).ok().filter(|peer| peer.may_ask(own, access.access()));
        if let Some(peer) = peer {
            let answers = Arc::clone(&answers);
            let user = peer.may_order(own, access.access()).then_some(peer.uid);
            clients.serve(async move { converse(stream, &answers, user).await }).await;
        } else {
            turn_away(&stream, "refused", "only root and the group in [status] group may ask");
            clients.pause().await;
        }
    }
}

const MAY_NOT: &str = "only root may do that, and the group in [status] group if exempt = true is set there";

/// Answers one client until it leaves, is too slow, or sends an invalid request. `user`: the client's user, if it may give
/// orders.
async fn converse(stream: UnixStream, answers: &Answers, user: Option<Uid>) {
    let mut client = Conversation::new(stream, IDLE);
    loop {
        let next = Instant::now() + BETWEEN_ANSWERS;
        let Some(asked) = client.request().await else { return };
        let answer = async {
            match (asked, user) {
                (Asked::Query(get), _) => answers.answer(get).await,
                (Asked::History(select), _) => answers.have_done(Request::History(select)).await,
                (Asked::Samples(first), _) => answers.have_done(Request::Samples(first)).await,
                (Asked::Order(order), Some(user)) => answers.obey(Request::Order(order, user)).await,
                (Asked::Order(_), None) => Some(refusal("forbidden", MAY_NOT).into()),
                (Asked::Mine, _) => {
                    Some(refusal("unknown", "mine.sock beside this socket answers that").into())
                }
            }
        };
        let Some(()) = client.send(answer).await else { return };
        sleep_until(next).await;
    }
}

/// The latest answers, and the daemon that makes new ones.
struct Answers {
    requests: mpsc::Sender<PendingRequest>,
    status: Mutex<Latest>,
    processes: Mutex<Latest>,
    machine: Mutex<Latest>,
    /// Number of orders that were carried out: an answer from before the last one is outdated.
    orders: AtomicU64,
}

/// State of the answer to one query.
#[derive(Default)]
struct Latest {
    made: Option<Made>,
    /// The query in progress. It continues if the client gives up, so that the daemon is not asked twice.
    making: Option<JoinHandle<Option<Made>>>,
}

/// An answer, with the time until which it is reused, and the number of orders before it was asked for.
type Made = (Instant, u64, Arc<str>);

/// Factor between the time that an answer took and the minimum time until the next: with thousands of processes and a
/// tenth of a CPU an answer takes long, and queries must not keep memmon from its work.
const PARTS_FOR_ITSELF: u32 = 4;

impl Answers {
    /// A fresh answer; `None` when the daemon ends. A client that asks while one is being made waits for that one.
    async fn answer(&self, get: Query) -> Option<Arc<str>> {
        let latest = match get {
            Query::Status => &self.status,
            Query::Processes => &self.processes,
            Query::Machine => &self.machine,
        };
        let Latest { made, making } = &mut *latest.lock().await;
        loop {
            let orders = self.orders.load(Ordering::Relaxed);
            match made {
                Some((end, before, line)) if Instant::now() < *end && *before == orders => {
                    return Some(Arc::clone(line));
                }
                // An old answer is dropped.
                _ => *made = None,
            }
            let maker = making.get_or_insert_with(|| task::spawn(make(self.requests.clone(), get, orders)));
            let outcome = maker.await;
            *making = None;
            *made = Some(outcome.ok()??);
        }
    }
}

impl Answers {
    /// The daemon's answer to a request whose answer is not the same for all clients; `None` when the daemon ends.
    async fn have_done(&self, request: Request) -> Option<Arc<str>> {
        let (answer, line) = oneshot::channel();
        self.requests.send(PendingRequest { request, answer }).await.ok()?;
        Some(line.await.ok()?.into())
    }

    /// The same for an order. The next answer shows its effect.
    async fn obey(&self, order: Request) -> Option<Arc<str>> {
        let answer = self.have_done(order).await;
        self.orders.fetch_add(1, Ordering::Relaxed);
        answer
    }
}

async fn make(requests: mpsc::Sender<PendingRequest>, get: Query, orders: u64) -> Option<Made> {
    let (answer, line) = oneshot::channel();
    let asked = Instant::now();
    requests.send(PendingRequest { request: Request::Query(get), answer }).await.ok()?;
    let line = line.await.ok()?;
    let end = Instant::now() + get.fresh().max(asked.elapsed() * PARTS_FOR_ITSELF);
    Some((end, orders, line.into()))
}

//! The daemon's end of the socket: every client has a task of its own, and nothing in it that can grow.
//!
//! What any number of clients can cost is bounded: so many at once, so many connections and answers per second, one
//! short buffer each, and a time limit on whatever waits for them. An answer is made once for all who ask within
//! [`Query::fresh`] or a few times of what it took, and shared.

use std::{
    collections::VecDeque,
    os::{fd::AsFd, unix},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Mutex, mpsc, oneshot},
    task::{self, AbortHandle, JoinHandle},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    peer::Peer,
    wire::{self, Body, Query, Refusal, Text},
};
use crate::model::Uid;

/// Clients at once: one more, and the oldest has to go.
pub(super) const CLIENTS: usize = 32;
/// The longest request, its line's end included.
const LONGEST: usize = 256;
/// How long a client may be silent, and how long it may take over a request.
const IDLE: Duration = Duration::from_secs(60);
/// How long a client may take over an answer, and the daemon to give one.
const BUSY: Duration = Duration::from_secs(5);
/// Between two answers to one client.
const BETWEEN_ANSWERS: Duration = Duration::from_millis(50);
/// Between two connections.
const BETWEEN_CLIENTS: Duration = Duration::from_millis(2);
/// After an accept that failed: descriptors are short, which passes, and is nothing to spin about.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

impl Query {
    /// How old an answer may be, at least.
    const fn fresh(self) -> Duration {
        match self {
            Self::Status => Duration::from_millis(100),
            Self::Processes => Duration::from_millis(500),
        }
    }
}

/// A question to the daemon.
#[derive(Debug)]
pub struct Request {
    /// What is asked for.
    pub get: Query,
    /// Takes the line that is sent: see [`super::answer`].
    pub answer: oneshot::Sender<String>,
}

/// Which group may ask, besides root: one that can be changed while the server runs.
#[derive(Clone, Debug)]
pub struct AccessPolicy(Arc<AtomicU64>);

impl AccessPolicy {
    /// No gid.
    const NOBODY: u64 = u64::MAX;

    /// Open to this group.
    pub fn new(group: Option<u32>) -> Self {
        let door = Self(Arc::new(AtomicU64::new(Self::NOBODY)));
        door.admit(group);
        door
    }

    /// Opens it to this group instead, for those who come from now on.
    pub fn admit(&self, group: Option<u32>) {
        self.0.store(group.map_or(Self::NOBODY, u64::from), Ordering::Relaxed);
    }

    fn group(&self) -> Option<u32> {
        u32::try_from(self.0.load(Ordering::Relaxed)).ok()
    }
}

/// Serves until the runtime that this is spawned in ends. `asks` is the daemon, who answers when it has time.
///
/// # Errors
/// The listener cannot be watched.
pub async fn serve(
    listener: unix::net::UnixListener,
    door: AccessPolicy,
    own: Uid,
    asks: mpsc::Sender<Request>,
) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let answers = Arc::new(Answers { asks, status: Mutex::default(), processes: Mutex::default() });
    let mut clients: VecDeque<AbortHandle> = VecDeque::with_capacity(CLIENTS);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(AFTER_FAILURE).await;
            continue;
        };
        if Peer::of(&stream.as_fd()).is_ok_and(|peer| peer.may_ask(own, door.group())) {
            clients.retain(|client| !client.is_finished());
            // Who comes is more likely to want something than who has been there longest, and a `top` comes again.
            if clients.len() >= CLIENTS
                && let Some(oldest) = clients.pop_front()
            {
                oldest.abort();
            }
            let answers = Arc::clone(&answers);
            let client = task::spawn(async move { converse(stream, &answers).await });
            clients.push_back(client.abort_handle());
        } else {
            turn_away(&stream, "refused", "only root and the group in [status] group may ask");
        }
        sleep(BETWEEN_CLIENTS).await;
    }
}

/// Says why, if that takes no waiting. An empty socket has room for it.
fn turn_away(stream: &UnixStream, code: &str, message: &str) {
    let _ = stream.try_write(refusal(code, message).as_bytes());
}

fn refusal(code: &str, message: &str) -> String {
    wire::answer(&Body::Error(Refusal { code: Text::from(code), message: Text::from(message) }))
}

/// Answers one client until it leaves, is too slow, or says what is no request.
async fn converse(mut stream: UnixStream, answers: &Answers) {
    let mut lines = Lines::default();
    loop {
        let next = Instant::now() + BETWEEN_ANSWERS;
        let line = match timeout(IDLE, lines.next(&mut stream)).await {
            Ok(Line::Whole(line)) => line,
            Ok(Line::TooLong) => {
                return turn_away(&stream, "garbage", "no request is that long");
            }
            Ok(Line::End) | Err(_) => return,
        };
        let get = match wire::request(&line) {
            Ok(get) => get,
            Err(refusal) => {
                let _ = stream.try_write(wire::answer(&Body::Error(refusal)).as_bytes());
                return;
            }
        };
        let answer = match timeout(BUSY, answers.answer(get)).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return,
            Err(_) => return turn_away(&stream, "busy", "memmon has no time to answer now: try again"),
        };
        match timeout(BUSY, stream.write_all(answer.as_bytes())).await {
            Ok(Ok(())) => sleep_until(next).await,
            // Gone, or too slow.
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// What a client has sent and was not yet answered for.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

impl Lines {
    async fn next(&mut self, stream: &mut UnixStream) -> Line {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Line::Whole(std::mem::replace(&mut self.buffer, rest));
            }
            let mut chunk = [0; LONGEST];
            let Some(room @ 1..) = LONGEST.checked_sub(self.buffer.len()) else { return Line::TooLong };
            let Some(free) = chunk.get_mut(..room) else { return Line::TooLong };
            match stream.read(free).await {
                Ok(read @ 1..) => self.buffer.extend(free.get(..read).unwrap_or_default()),
                Ok(0) | Err(_) => return Line::End,
            }
        }
    }
}

/// The latest answers, and the daemon that makes new ones.
struct Answers {
    asks: mpsc::Sender<Request>,
    status: Mutex<Latest>,
    processes: Mutex<Latest>,
}

/// What is known of the answer to one question.
#[derive(Default)]
struct Latest {
    made: Option<Made>,
    /// Goes on when who asked gives up: who asks again has it, and the daemon is not asked twice.
    making: Option<JoinHandle<Option<Made>>>,
}

/// An answer, and the end of its time.
type Made = (Instant, Arc<str>);

/// For each part of its time in which the daemon makes answers it has so many for itself: with thousands of processes and
/// a tenth of a CPU one takes long, and whoever looks on is not to keep memmon from its work.
const PARTS_FOR_ITSELF: u32 = 4;

impl Answers {
    /// A fresh answer; none when the daemon ends. Who asks while one is being made waits for that one.
    async fn answer(&self, get: Query) -> Option<Arc<str>> {
        let latest = match get {
            Query::Status => &self.status,
            Query::Processes => &self.processes,
        };
        let Latest { made, making } = &mut *latest.lock().await;
        loop {
            match made {
                Some((end, line)) if Instant::now() < *end => return Some(Arc::clone(line)),
                // What is old is not kept for nobody.
                _ => *made = None,
            }
            let maker = making.get_or_insert_with(|| task::spawn(make(self.asks.clone(), get)));
            let outcome = maker.await;
            *making = None;
            *made = Some(outcome.ok()??);
        }
    }
}

async fn make(asks: mpsc::Sender<Request>, get: Query) -> Option<Made> {
    let (answer, line) = oneshot::channel();
    let asked = Instant::now();
    asks.send(Request { get, answer }).await.ok()?;
    let line = line.await.ok()?;
    Some((Instant::now() + get.fresh().max(asked.elapsed() * PARTS_FOR_ITSELF), line.into()))
}

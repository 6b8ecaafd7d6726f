//! Tells people who do not read logs: by mail, and by a command of the administrator's.
//!
//! ```text
//! tell(Event) ──what matters──▶ bounded queue ──▶ a thread per channel: digest ──▶ mail | hook
//! ```
//!
//! A relay that is dead or a command that hangs holds up its own thread and nothing else. What could not be sent waits
//! and is sent later; what finds the queue full is counted.

mod digest;
mod hook;
#[cfg(feature = "mail")]
mod mail;
mod terminal;

use std::{
    fmt::Write as _,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::{Timestamp, Zoned};

use self::{
    digest::{Digest, Notice},
    terminal::Terminals,
};
use super::{
    EventSender,
    event::{Event, Level},
    json,
    outputs::Machine,
    system_log::each_field,
    text,
};
use crate::model::{Escaped, Hook, Mail, Uid};

/// What may pass at memmon's end until what waits is sent: a relay or a command that works takes less.
pub(super) const LAST_CHANCE: Duration = Duration::from_secs(3);

/// Events that may wait for a channel whose thread is busy.
const QUEUE: usize = 1024;

/// Whether the file `path` has a name and a password for a relay, or why not.
#[cfg(feature = "mail")]
pub(super) fn credentials(path: &std::path::Path) -> Result<(), String> {
    mail::credentials(path).map(drop)
}

/// The recipients of notifications, and how often they get one at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifyOutputs {
    /// Between two messages on one channel.
    pub interval: Duration,
    /// Mail.
    pub mail: Option<Mail>,
    /// A command.
    pub hook: Option<Hook>,
    /// Whether the user of a process gets a line on its terminal.
    pub terminal: bool,
}

/// The channels in use. Their threads send what waits, once, and end when this is dropped.
#[derive(Default)]
pub(super) struct Notifiers {
    outputs: NotifyOutputs,
    workers: Vec<Worker>,
    terminals: Option<Terminals>,
}

/// A channel's thread, as others see it.
struct Worker {
    name: &'static str,
    /// Nothing in it: there is a successor.
    queue: SyncSender<Option<Told>>,
    successor: Arc<Mutex<Option<Successor>>>,
    /// Events that it has and has not sent.
    waiting: Arc<AtomicU64>,
    done: Mutex<Receiver<()>>,
}

/// An event, and its time.
type Told = (Timestamp, Box<Event>);

/// What another configuration has instead: where what waits is to go, and how often at most.
type Successor = (Box<dyn Channel>, Duration);

/// One message, however it is sent.
struct Message<'a> {
    subject: String,
    body: String,
    count: u64,
    /// The event's, where it is one.
    fields: &'a [(String, String)],
    /// The events as `log.format = "json"` has them, one a line.
    events: String,
}

/// What there is to be logged of a message that was sent, escaped, and how urgently.
type Said = (Level, String);

/// A way to people.
trait Channel: Send + 'static {
    fn name(&self) -> &'static str;

    /// Sends `message`, to one of the channel's people at least. May take its time.
    fn deliver(&mut self, message: &Message<'_>) -> Result<Option<Said>, String>;
}

impl Notifiers {
    /// Has a thread for each channel that `outputs` ask for. What waits on one that is there goes where they say.
    pub(super) fn follow(
        &mut self,
        outputs: NotifyOutputs,
        machine: &Machine,
        teller: &EventSender,
    ) -> io::Result<()> {
        let mut channels: Vec<Box<dyn Channel>> = Vec::new();
        if let Some(hook) = outputs.hook.clone() {
            channels.push(Box::new(hook::Runner::new(hook)));
        }
        #[cfg(feature = "mail")]
        if let Some(mail) = outputs.mail.clone() {
            channels.push(Box::new(mail::Post::new(mail)));
        }
        #[cfg(not(feature = "mail"))]
        if outputs.mail.is_some() {
            let what = "no mail is sent: memmon was built without it, use a hook".to_owned();
            teller.tell(Event::Degraded { what });
        }
        self.workers.retain(|worker| channels.iter().any(|channel| channel.name() == worker.name));
        for channel in channels {
            self.channel(channel, outputs.interval, machine, teller)?;
        }
        if !outputs.terminal {
            self.terminals = None;
        } else if self.terminals.is_none() {
            self.terminals = Some(Terminals::start()?);
        }
        self.outputs = outputs;
        Ok(())
    }

    fn channel(
        &mut self,
        channel: Box<dyn Channel>,
        interval: Duration,
        machine: &Machine,
        teller: &EventSender,
    ) -> io::Result<()> {
        let name = channel.name();
        if let Some(worker) = self.workers.iter().find(|worker| worker.name == name) {
            *worker.successor.lock().unwrap_or_else(PoisonError::into_inner) = Some((channel, interval));
            // Is the queue full, the thread is awake anyway.
            let _ = worker.queue.try_send(None);
            return Ok(());
        }
        let (queue, notices) = mpsc::sync_channel(QUEUE);
        let (hang_up, done) = mpsc::channel();
        let (successor, waiting) = (Arc::default(), Arc::default());
        for outcome in ["sent", "failed", "lost"] {
            teller.metrics().notified(name, outcome, 0);
        }
        let mut run = Run {
            channel,
            digest: Digest::new(interval),
            successor: Arc::clone(&successor),
            waiting: Arc::clone(&waiting),
            machine: machine.clone(),
            teller: teller.clone(),
        };
        thread::Builder::new().name(format!("memmon-{name}")).spawn(move || {
            // What libraries say meanwhile must not come back as an event.
            tracing::dispatcher::with_default(&tracing::Dispatch::none(), || run.serve(&notices));
            drop(hang_up);
        })?;
        self.workers.push(Worker { name, queue, successor, waiting, done: Mutex::new(done) });
        Ok(())
    }

    /// Whether they are what `outputs` ask for.
    pub(super) fn are(&self, outputs: &NotifyOutputs) -> bool {
        self.outputs == *outputs
    }

    /// Hands over what matters. Never waits; `lost` hears of channels that could not take it.
    pub(super) fn offer(&self, at: Timestamp, event: &Event, lost: impl Fn(&'static str)) {
        if let Some(terminals) = &self.terminals {
            terminals.offer(event);
        }
        if !event.spec().is_notified {
            return;
        }
        for Worker { name, queue, waiting, .. } in &self.workers {
            // Before it can have been sent.
            waiting.fetch_add(1, Ordering::Relaxed);
            if queue.try_send(Some((at, Box::new(event.clone())))).is_err() {
                waiting.fetch_sub(1, Ordering::Relaxed);
                lost(name);
            }
        }
    }

    /// Lets the channels send what waits, for at most `limit`. Gives those that could not, and how many events that
    /// cost. Where nothing waits it takes no time.
    pub(super) fn finish(self, limit: Duration) -> Vec<(&'static str, u64)> {
        let deadline = Instant::now() + limit;
        // All are stopped before the first is waited for.
        let workers: Vec<_> =
            self.workers.into_iter().map(|worker| (worker.name, worker.done, worker.waiting)).collect();
        let left = workers.into_iter().map(|(name, done, waiting)| {
            let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
            let _ = done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            (name, waiting.load(Ordering::Relaxed))
        });
        left.filter(|(_, count)| *count > 0).collect()
    }
}

/// What a channel's thread works with.
struct Run {
    channel: Box<dyn Channel>,
    digest: Digest,
    successor: Arc<Mutex<Option<Successor>>>,
    waiting: Arc<AtomicU64>,
    machine: Machine,
    teller: EventSender,
}

impl Run {
    /// Until nobody is left to tell anything.
    fn serve(&mut self, notices: &Receiver<Option<Told>>) {
        loop {
            let received = match self.digest.due() {
                None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => notices.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            let successor = self.successor.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((channel, interval)) = successor {
                self.channel = channel;
                self.digest.follow(interval);
            }
            match received {
                Ok(Some((at, event))) => {
                    let now = Instant::now();
                    let users = self.teller.users();
                    let notice =
                        notice(&at.to_zoned((self.machine.zone)()), &event, |uid| users.get(uid, now));
                    self.digest.add(notice, now);
                }
                Ok(None) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if self.digest.count() > 0 {
                        self.send("that was the last attempt");
                        let lost = self.digest.count();
                        self.teller.metrics().notified(self.channel.name(), "lost", lost);
                    }
                    return;
                }
            }
            if self.digest.due().is_some_and(|due| due <= Instant::now()) {
                self.send("it is tried again");
            }
        }
    }

    /// Sends what waits, if it can; where not, `then` says what comes of it.
    fn send(&mut self, then: &str) {
        let Self { channel, digest, waiting, teller, .. } = self;
        let name = channel.name();
        let outcome = channel.deliver(&message(digest));
        let now = Instant::now();
        match outcome {
            Ok(said) => {
                teller.metrics().notified(name, "sent", digest.count());
                waiting.fetch_sub(digest.count(), Ordering::Relaxed);
                digest.was_sent(now);
                if let Some((severity, text)) = said {
                    teller.tell(Event::Diagnostic { severity, origin: name.to_owned(), text });
                }
            }
            Err(error) => {
                teller.metrics().notified(name, "failed", 1);
                digest.has_failed(now);
                let error = Escaped(error.as_bytes()).to_string();
                teller.tell(Event::Degraded {
                    what: format!("notification by {name} failed, {then}: {error}"),
                });
            }
        }
    }
}

fn notice(at: &Zoned, event: &Event, mut user: impl FnMut(Uid) -> String) -> Notice {
    let name = event.subject().map(|subject| subject.user(&mut user));
    let line = text::line(at, event.level(), &text::paragraph(event, &mut user));
    let object = json::line(at, event, name.as_deref(), &text::message(event, &mut user));
    let mut fields: Vec<_> = name.map(|name| ("MEMMON_USER".to_owned(), name)).into_iter().collect();
    each_field(event, &mut |name, value| fields.push((name.to_owned(), value.to_owned())));
    Notice { line, fields, object }
}

fn message(digest: &Digest) -> Message<'_> {
    let count = digest.count();
    let host = host();
    let (subject, fields) = match digest.notices() {
        [only] if digest.more() == 0 => {
            (format!("memmon on {host}: {}", brief(&only.line)), &only.fields[..])
        }
        _ => (format!("memmon on {host}: {count} events"), &[][..]),
    };
    let mut body = String::new();
    // Writing to a String cannot fail.
    for notice in digest.notices() {
        let _ = writeln!(body, "{}", notice.line);
    }
    if digest.more() > 0 {
        let _ = writeln!(body, "and {} more, which are in the log", digest.more());
    }
    let events = digest.notices().iter().flat_map(|notice| [&*notice.object, "\n"]).collect();
    Message { subject, body, count, fields, events }
}

/// Characters of an event's text in a subject. A header may be longer (RFC 5322), and the sender of mail folds it; what shows
/// subjects cuts them.
const LONGEST_SUBJECT: usize = 120;

/// What a subject has room for of a line: what it says, without time and level, up to the end of a word.
fn brief(line: &str) -> String {
    const MARK: &str = "...";
    let said = line.splitn(3, " - ").nth(2).unwrap_or(line).lines().next().unwrap_or_default();
    if said.chars().count() <= LONGEST_SUBJECT {
        return said.to_owned();
    }
    let room = said.char_indices().nth(LONGEST_SUBJECT - MARK.len()).map_or(said.len(), |(end, _)| end);
    // A word that ends where the room does is whole.
    let end = if said[room..].starts_with(' ') { room } else { said[..room].rfind(' ').unwrap_or(room) };
    format!("{}{MARK}", said[..end].trim_end_matches([' ', ',', ';', ':', '.']))
}

/// What this machine calls itself.
fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = Escaped(name.to_string_lossy().as_bytes()).to_string();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests;

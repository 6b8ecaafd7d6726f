//! Notifies people who do not read logs: by mail, and by a command of the administrator's.
//!
//! ```text
//! emit(Event) ──what matters──▶ bounded queue ──▶ a thread per channel: digest ──▶ mail | mail to owners | hook
//! ```
//!
//! A relay that is dead or a command that hangs holds up its own thread and nothing else. Notices that could not be sent
//! wait and are sent later; notices for which the queue has no room are counted.

mod digest;
mod hook;
pub(super) mod interpreter;
#[cfg(feature = "mail")]
mod mail;
mod message;
#[cfg(feature = "mail")]
mod owners;
mod terminal;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use self::{
    digest::Digest,
    message::{Audience, Channel, message, notice},
    terminal::Terminals,
};
use super::{EventSender, event::Event, outputs::Machine};
use crate::model::{Escaped, Notify};

/// The longest time that memmon's end waits for the notices to be sent: a relay or a command that works takes less.
pub(super) const LAST_CHANCE: Duration = Duration::from_secs(3);

/// Events that may wait for a channel whose thread is busy.
const QUEUE: usize = 1024;

/// Audiences for which events may wait at the same time, or which got a message within the interval.
const MOST_AUDIENCES: usize = 256;

/// Whether the file `path` has a name and a password for a relay, or why not.
#[cfg(feature = "mail")]
pub(super) fn credentials(path: &std::path::Path) -> Result<(), String> {
    mail::credentials(path).map(drop)
}

/// The channels in use. Their threads send what waits, once, and end when this is dropped.
#[derive(Default)]
pub(super) struct Notifiers {
    outputs: Notify,
    workers: Vec<Worker>,
    terminals: Option<Terminals>,
}

/// A channel's thread, as others see it.
struct Worker {
    name: &'static str,
    /// Whether it gets the events for users.
    is_for_users: bool,
    /// Nothing in it: there is a successor.
    queue: SyncSender<Option<Emitted>>,
    successor: Arc<Mutex<Option<Successor>>>,
    /// Events that it has and has not sent.
    waiting: Arc<AtomicU64>,
    done: Mutex<Receiver<()>>,
}

/// An event, and its time.
type Emitted = (Timestamp, Box<Event>);

/// The channel of another configuration: the destination of the waiting notices, and the interval.
type Successor = (Box<dyn Channel>, Duration);

impl Notifiers {
    /// Starts a thread for each channel in `outputs`. The waiting notices of a channel that exists go to its new
    /// destination.
    pub(super) fn follow(
        &mut self,
        outputs: Notify,
        machine: &Machine,
        sender: &EventSender,
    ) -> io::Result<()> {
        let mut channels: Vec<Box<dyn Channel>> = Vec::new();
        if let Some(hook) = outputs.hook.clone() {
            channels.push(Box::new(hook::Runner::new(hook)));
        }
        #[cfg(feature = "mail")]
        if let Some(mail) = outputs.mail.clone() {
            let (everybody, owners) = mail.split();
            channels.extend(everybody.map(|mail| Box::new(mail::Post::new(mail)) as Box<dyn Channel>));
            channels.extend(
                owners.map(|mail| Box::new(owners::Owners::new(mail, machine.user_name)) as Box<dyn Channel>),
            );
        }
        #[cfg(not(feature = "mail"))]
        if outputs.mail.is_some() {
            let what = "no mail is sent: memmon was built without it, use a hook".to_owned();
            sender.emit(Event::Degraded { what });
        }
        self.workers.retain(|worker| channels.iter().any(|channel| channel.name() == worker.name));
        for channel in channels {
            self.channel(channel, outputs.interval, machine, sender)?;
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
        sender: &EventSender,
    ) -> io::Result<()> {
        let (name, is_for_users) = (channel.name(), channel.is_for_users());
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
            sender.metrics().notified(name, outcome, 0);
        }
        let mut run = Run {
            channel,
            interval,
            digests: BTreeMap::new(),
            successor: Arc::clone(&successor),
            waiting: Arc::clone(&waiting),
            machine: machine.clone(),
            sender: sender.clone(),
        };
        thread::Builder::new().name(format!("memmon-{name}")).spawn(move || {
            // Messages that libraries log meanwhile must not come back as events.
            tracing::dispatcher::with_default(&tracing::Dispatch::none(), || run.serve(&notices));
            drop(hang_up);
        })?;
        self.workers.push(Worker { name, is_for_users, queue, successor, waiting, done: Mutex::new(done) });
        Ok(())
    }

    /// Whether they are what `outputs` ask for.
    pub(super) fn are(&self, outputs: &Notify) -> bool {
        self.outputs == *outputs
    }

    /// Hands over what matters. Never waits; calls `lost` for each channel that could not take it.
    pub(super) fn offer(&self, at: Timestamp, event: &Event, lost: impl Fn(&'static str)) {
        if let Some(terminals) = &self.terminals {
            terminals.offer(event);
        }
        let (is_notified, is_for_user) = (event.spec().is_notified, event.is_for_user());
        let wanted = |worker: &&Worker| if worker.is_for_users { is_for_user } else { is_notified };
        for Worker { name, queue, waiting, .. } in self.workers.iter().filter(wanted) {
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

/// The state of a channel's thread.
struct Run {
    channel: Box<dyn Channel>,
    interval: Duration,
    digests: BTreeMap<Audience, Digest>,
    successor: Arc<Mutex<Option<Successor>>>,
    waiting: Arc<AtomicU64>,
    machine: Machine,
    sender: EventSender,
}

impl Run {
    /// Serves the channel until the last sender of notices is gone.
    fn serve(&mut self, notices: &Receiver<Option<Emitted>>) {
        loop {
            let received = match self.digests.values().filter_map(Digest::due).min() {
                None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => notices.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            let successor = self.successor.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((channel, interval)) = successor {
                self.channel = channel;
                self.interval = interval;
                self.digests.values_mut().for_each(|digest| digest.follow(interval));
            }
            match received {
                Ok(Some(reported)) => self.add(&reported, Instant::now()),
                Ok(None) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.send(|digest| digest.count() > 0, "that was the last attempt");
                    let lost = self.digests.values().map(Digest::count).sum();
                    if lost > 0 {
                        self.sender.metrics().notified(self.channel.name(), "lost", lost);
                    }
                    return;
                }
            }
            let now = Instant::now();
            self.send(|digest| digest.due().is_some_and(|due| due <= now), "it is tried again");
        }
    }

    /// Adds an event to what waits for its audience.
    fn add(&mut self, (at, event): &Emitted, now: Instant) {
        let Some(audience) = self.channel.audience(event) else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let is_known = self.digests.contains_key(&audience);
        if !is_known {
            self.digests.retain(|_, digest| !digest.is_idle(now));
        }
        if !is_known && self.digests.len() >= MOST_AUDIENCES {
            self.sender.metrics().notified(self.channel.name(), "lost", 1);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let (users, mut event) = (self.sender.users(), event.clone());
        self.sender.containers().complete(&mut event, now);
        let notice = notice(&at.to_zoned((self.machine.zone)()), &event, |uid| users.get(uid, now));
        let interval = self.interval;
        let digest = self.digests.entry(audience).or_insert_with(|| match audience {
            Audience::Everybody => Digest::new(interval),
            Audience::Owner(_) => Digest::of_lines(interval),
        });
        digest.add(notice, now);
    }

    /// Sends the waiting notices in the digests that are `wanted`, if it can; if not, `then` describes the consequence. If
    /// sending fails for one audience it is not tried for the others now: each attempt with a relay that hangs takes its
    /// time.
    fn send(&mut self, wanted: impl Fn(&Digest) -> bool, then: &str) {
        let Self { channel, digests, waiting, sender, .. } = self;
        let name = channel.name();
        let mut has_failed = false;
        for (audience, digest) in digests.iter_mut().filter(|(_, digest)| wanted(digest)) {
            if has_failed {
                digest.has_failed(Instant::now());
                continue;
            }
            let outcome = channel.deliver(&message(*audience, digest));
            let now = Instant::now();
            match outcome {
                Ok(printed) => {
                    sender.metrics().notified(name, "sent", digest.count());
                    waiting.fetch_sub(digest.count(), Ordering::Relaxed);
                    digest.was_sent(now);
                    if let Some((severity, text)) = printed {
                        sender.emit(Event::Diagnostic { severity, origin: name.to_owned(), text });
                    }
                }
                Err(error) => {
                    has_failed = true;
                    sender.metrics().notified(name, "failed", 1);
                    digest.has_failed(now);
                    let error = Escaped(error.as_bytes()).to_string();
                    sender.emit(Event::Degraded {
                        what: format!("notification by {name} failed, {then}: {error}"),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

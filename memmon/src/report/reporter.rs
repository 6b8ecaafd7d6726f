//! The entrance for everything that is reported: a bounded queue to one writer thread, so that no caller waits for a disk.

mod thread;

use std::{
    cell::Cell,
    io,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;

use self::thread::{Item, Orders, Shared, run};
use super::{
    containers::Containers,
    event::{Event, Level},
    metrics::{Exports, Metrics, MetricsOutputs},
    notify::LAST_CHANCE,
    outputs::{Machine, Outputs},
    rotation::Rotation,
    users::UserNames,
    writer::Writer,
};
use crate::model::Notify;

/// Takes events from one owner, the daemon; [`Reporter::sender`] gives the door to others.
pub struct Reporter {
    sender: EventSender,
    /// An event that waits for the next one.
    held: Cell<Option<(Timestamp, Event)>>,
    exports: Mutex<Exports>,
    rotation: Rotation,
    /// Held by each thread that still has lines to write.
    hang_up: Sender<()>,
    /// Disconnected when all of them are done.
    done: Receiver<()>,
}

/// The sending half of a [`Reporter`], which is cloned for each thread that reports.
#[derive(Clone)]
pub struct EventSender {
    queue: SyncSender<Item>,
    shared: Arc<Shared>,
}

impl Reporter {
    /// Starts the writer thread. Sinks are opened with the first event, by that thread: one that cannot be used is
    /// reported on the others and tried again, and never keeps memmon from enforcing.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(outputs: Outputs) -> io::Result<Self> {
        let (queue, items) = mpsc::sync_channel(outputs.machine.queue.max(1));
        let (hang_up, done) = mpsc::channel();
        let users = UserNames::start(outputs.machine.user_name)?;
        let shared = Arc::new(Shared {
            clock: outputs.machine.clock,
            users: users.clone(),
            containers: Containers::start(outputs.machine.containers.clone())?,
            level: AtomicU8::new(outputs.level as u8),
            lost: AtomicU64::new(0),
            lost_ever: AtomicU64::new(0),
            metrics: Metrics::default(),
            notifiers: RwLock::default(),
            orders: Mutex::default(),
        });
        let (exports, notify, machine) =
            (outputs.metrics.clone(), outputs.notify.clone(), outputs.machine.clone());
        let rotation = Rotation::default();
        rotation.follow(outputs.file.as_deref());
        let writer = Writer::new(outputs, &rotation, users, hang_up.clone());
        let (for_writer, for_thread) = (Arc::clone(&shared), hang_up.clone());
        std::thread::Builder::new().name("memmon-report".into()).spawn(move || {
            // Messages that libraries log while they serve the writer must not come back as something to write.
            tracing::dispatcher::with_default(&tracing::Dispatch::none(), || {
                run(writer, &items, &for_writer);
            });
            drop(for_thread);
        })?;
        let reporter = Self {
            sender: EventSender { queue, shared },
            held: Cell::default(),
            exports: Mutex::default(),
            rotation,
            hang_up,
            done,
        };
        reporter.export(exports);
        reporter.notify(notify, &machine);
        Ok(reporter)
    }

    /// Emits an event; see [`EventSender::emit`].
    pub fn emit(&self, event: Event) {
        let held = self.held.take();
        let accepted = self.sender.accept(event);
        self.sender.queue(held.into_iter().chain(accepted).collect());
    }

    /// Emits an event that another one follows at once: it is written with that one, so that the threads of the sinks wake
    /// up once for both.
    pub fn emit_with_next(&self, event: Event) {
        let held = self.held.take();
        let accepted = self.sender.accept(event);
        self.sender.queue(held.into_iter().collect());
        self.held.set(accepted);
    }

    /// Events that found the queue full, and so no sink at all, since the start.
    pub fn lost(&self) -> u64 {
        self.sender.shared.lost_ever.load(Ordering::Relaxed)
    }

    /// A door for others, which goes on working as long as this reporter does.
    pub fn sender(&self) -> EventSender {
        self.sender.clone()
    }

    /// The state of the log file's rotation, for threads that wait for signals.
    pub fn rotation(&self) -> Rotation {
        self.rotation.clone()
    }

    /// Opens the log file again under its name, and tries sinks in trouble at once. Does not wait.
    pub fn reopen(&self) {
        self.order(|orders| orders.reopen = true);
    }

    /// Goes on with other outputs, for a reload; events emitted before may still go to either. Does not wait. The clock,
    /// the names of users and the length of the queue stay.
    pub fn replace(&self, outputs: Outputs) {
        self.sender.shared.level.store(outputs.level as u8, Ordering::Relaxed);
        self.export(outputs.metrics.clone());
        self.notify(outputs.notify.clone(), &outputs.machine);
        self.rotation.follow(outputs.file.as_deref());
        let writer =
            Writer::new(outputs, &self.rotation, self.sender.shared.users.clone(), self.hang_up.clone());
        self.order(|orders| orders.replace = Some(Box::new(writer)));
    }

    /// Writes the queued events, for at most `limit`: a disk that hangs cannot hold the exit. True when all was written.
    ///
    /// Before that, what waits to be sent is, if that takes no longer than [`LAST_CHANCE`].
    #[must_use]
    pub fn finish(self, limit: Duration) -> bool {
        self.sender.queue(self.held.take().into_iter().collect());
        let notifiers = &self.sender.shared.notifiers;
        // Not under the lock: their threads report the outcome.
        let last = std::mem::take(&mut *notifiers.write().unwrap_or_else(PoisonError::into_inner));
        for (channel, count) in last.finish(LAST_CHANCE) {
            let what = format!("lost with the end of memmon: {count} of the notifications by {channel}");
            self.emit(Event::Degraded { what });
        }
        let deadline = Instant::now() + limit;
        self.order(|orders| orders.finish = true);
        self.exports.into_inner().unwrap_or_else(PoisonError::into_inner).finish(deadline);
        drop(self.hang_up);
        self.done.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            == Err(RecvTimeoutError::Disconnected)
    }

    /// The figures, for what no event says.
    pub fn metrics(&self) -> &Metrics {
        &self.sender.shared.metrics
    }

    /// Exports metrics to the `outputs` from now on. Exports that are among them already go on.
    fn export(&self, outputs: MetricsOutputs) {
        let mut exports = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = exports.follow(outputs, self.metrics(), &self.sender) {
            self.emit(Event::Degraded { what: format!("no thread for metrics: {error}") });
        }
    }

    /// Notifies the recipients in `outputs` from now on. Waiting notices go there, too; those of a channel that is no
    /// longer in use are still sent.
    fn notify(&self, outputs: Notify, machine: &Machine) {
        let notifiers = || self.sender.shared.notifiers.write().unwrap_or_else(PoisonError::into_inner);
        if notifiers().are(&outputs) {
            return;
        }
        // Not under the lock, because every event takes it meanwhile. The order cannot change, because only this place sets
        // notifiers.
        let mut own = std::mem::take(&mut *notifiers());
        let followed = own.follow(outputs, machine, &self.sender);
        *notifiers() = own;
        if let Err(error) = followed {
            self.emit(Event::Degraded { what: format!("no thread for notifications: {error}") });
        }
    }

    fn order(&self, give: impl FnOnce(&mut Orders)) {
        give(&mut self.sender.shared.orders.lock().unwrap_or_else(PoisonError::into_inner));
        // Is the queue full, the writer is awake anyway.
        let _ = self.sender.queue.try_send(Item::Wake);
    }
}

impl EventSender {
    /// Reports an event, stamped with the time of this call. Never waits: if the writer cannot keep up, the event
    /// is counted as lost, and that is reported.
    pub fn emit(&self, event: Event) {
        self.queue(self.accept(event).into_iter().collect());
    }

    /// Counts the event and offers it to the notifiers; returns it if it is to be written.
    fn accept(&self, event: Event) -> Option<(Timestamp, Event)> {
        let Shared { metrics, notifiers, .. } = &*self.shared;
        let at = (self.shared.clock)();
        metrics.observe(&event);
        // Only a reload ever writes to it.
        let notifiers = notifiers.read().unwrap_or_else(PoisonError::into_inner);
        notifiers.offer(at, &event, |channel| metrics.notified(channel, "lost", 1));
        drop(notifiers);
        let level = event.level() as u8;
        let is_written = level >= self.shared.level.load(Ordering::Relaxed) || event.spec().is_always_written;
        is_written.then_some((at, event))
    }

    /// Has the events written, or counts them as lost.
    fn queue(&self, events: Vec<(Timestamp, Event)>) {
        let count = events.len() as u64;
        if count > 0 && self.queue.try_send(Item::Emitted(events)).is_err() {
            self.shared.lost.fetch_add(count, Ordering::Relaxed);
            self.shared.lost_ever.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The figures that events are counted in.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The names of users.
    pub(super) fn users(&self) -> &UserNames {
        &self.shared.users
    }

    /// The names of containers.
    pub(super) fn containers(&self) -> &Containers {
        &self.shared.containers
    }

    /// Whether everything is logged, for people who look for a fault of memmon's own.
    pub(super) fn wants_debug(&self) -> bool {
        self.shared.level.load(Ordering::Relaxed) == Level::Debug as u8
    }
}

#[cfg(test)]
mod tests;

//! The writer thread: events and orders in, lines out.

use std::{
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::report::{
    containers::Containers, event::Event, metrics::Metrics, notify::Notifiers, users::UserNames,
    writer::Writer,
};

/// While events keep being lost, how often that is logged.
const OVERFLOW_EVERY: Duration = Duration::from_secs(10);

pub(super) enum Item {
    /// Events that are written together, because each item wakes the threads of the sinks once.
    Emitted(Vec<(Timestamp, Event)>),
    /// There are orders.
    Wake,
}

pub(super) struct Shared {
    pub(super) clock: fn() -> Timestamp,
    pub(super) users: UserNames,
    pub(super) containers: Containers,
    pub(super) level: AtomicU8,
    /// Events that found the queue full and were not reported yet.
    pub(super) lost: AtomicU64,
    /// All of them since the start.
    pub(super) lost_ever: AtomicU64,
    pub(super) metrics: Metrics,
    pub(super) notifiers: RwLock<Notifiers>,
    pub(super) orders: Mutex<Orders>,
}

/// Orders to the writer besides writing: kept apart from the queue, which may be full.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) reopen: bool,
    pub(super) replace: Option<Box<Writer>>,
    pub(super) finish: bool,
}

/// The writer thread, from its start to its end.
pub(super) fn run(mut writer: Writer, items: &Receiver<Item>, shared: &Shared) {
    let mut overflow_reported: Option<Instant> = None;
    loop {
        let orders = std::mem::take(&mut *shared.orders.lock().unwrap_or_else(PoisonError::into_inner));
        let now = Instant::now();
        if let Some(next) = orders.replace {
            let ended = std::mem::replace(&mut writer, *next).end((shared.clock)(), now);
            writer.adopt(ended, now);
        }
        if orders.reopen {
            writer.reopen(now);
        }
        if orders.finish {
            return finish(writer, items, shared);
        }
        let item = match items.try_recv() {
            Err(TryRecvError::Empty) => {
                report_overflow(&mut writer, shared);
                next_item(items, writer.next_due())
            }
            Err(TryRecvError::Disconnected) => None,
            Ok(item) => Some(item),
        };
        let Some(item) = item else { return finish(writer, items, shared) };
        write(&mut writer, item, shared);
        let now = Instant::now();
        writer.report_due((shared.clock)(), now);
        if overflow_reported.is_none_or(|reported| now.saturating_duration_since(reported) >= OVERFLOW_EVERY)
        {
            report_overflow(&mut writer, shared);
            overflow_reported = Some(now);
        }
    }
}

/// Waits for the next item, or until `due`; `None` if no sender is left.
fn next_item(items: &Receiver<Item>, due: Option<Instant>) -> Option<Item> {
    let Some(due) = due else { return items.recv().ok() };
    match items.recv_timeout(due.saturating_duration_since(Instant::now())) {
        Ok(item) => Some(item),
        Err(RecvTimeoutError::Timeout) => Some(Item::Wake),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

/// Writes what is left, counts included.
fn finish(mut writer: Writer, items: &Receiver<Item>, shared: &Shared) {
    for item in items.try_iter() {
        write(&mut writer, item, shared);
    }
    report_overflow(&mut writer, shared);
    drop(writer.end((shared.clock)(), Instant::now()));
}

fn write(writer: &mut Writer, item: Item, shared: &Shared) {
    match item {
        Item::Emitted(events) => {
            let Some(&(last, _)) = events.last() else { return };
            for (at, mut event) in events {
                shared.containers.complete(&mut event, Instant::now());
                writer.take(at, event, Instant::now());
            }
            writer.settle(last, Instant::now());
        }
        Item::Wake => {}
    }
}

fn report_overflow(writer: &mut Writer, shared: &Shared) {
    let lost = shared.lost.swap(0, Ordering::Relaxed);
    if lost > 0 {
        shared.metrics.observe(&Event::Overflow { lost });
        let (at, now) = ((shared.clock)(), Instant::now());
        writer.take(at, Event::Overflow { lost }, now);
        writer.settle(at, now);
    }
}

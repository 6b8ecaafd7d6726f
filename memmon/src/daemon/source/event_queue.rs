//! The order in which the kernel's events are handled: while there is no time for the others, ends of processes come first.

use std::collections::VecDeque;

use crate::observe::decode::KernelEvent;

/// Maximum of events that wait: about as many as the ring holds.
const MOST: usize = 1024;

/// Events that were taken off the ring, but not handled.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    postponed: VecDeque<KernelEvent>,
}

impl EventQueue {
    /// The oldest event, in the queue or on the ring.
    pub(super) fn next(&mut self, ring: impl FnOnce() -> Option<KernelEvent>) -> Option<KernelEvent> {
        self.postponed.pop_front().or_else(ring)
    }

    /// The oldest end of a process. Events before it are postponed, without those of that process.
    pub(super) fn next_end(&mut self, mut ring: impl FnMut() -> Option<KernelEvent>) -> Option<KernelEvent> {
        while self.postponed.len() < MOST {
            let event = ring()?;
            let KernelEvent::Ended { process: ended, .. } = event else {
                self.postponed.push_back(event);
                continue;
            };
            let is_its = |event: &KernelEvent| matches!(event, KernelEvent::Crossed { process, .. } if *process == ended);
            self.postponed.retain(|event| !is_its(event));
            return Some(event);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Bytes, ExitStatus, Name, Pid, ProcessId, StartTime};

    fn process(pid: u32) -> ProcessId {
        ProcessId { pid: Pid(pid), start: StartTime(1) }
    }

    fn crossed(pid: u32) -> KernelEvent {
        KernelEvent::Crossed { process: process(pid), at: Duration::ZERO, rss: Bytes(1) }
    }

    fn ended(pid: u32) -> KernelEvent {
        let status = ExitStatus::new(15, false);
        KernelEvent::Ended { process: process(pid), name: Name::new(*b"hog"), peak: Bytes(1), status }
    }

    #[test]
    fn ends_overtake_other_events_and_nothing_else_is_lost() {
        let on_ring = [
            crossed(1),
            KernelEvent::Outlived,
            crossed(2),
            ended(1),
            crossed(3),
            KernelEvent::SumCrossed,
            ended(2),
        ];
        let mut ring = VecDeque::from(on_ring);
        let mut queue = EventQueue::default();
        assert_eq!(queue.next_end(|| ring.pop_front()), Some(ended(1)));
        assert_eq!(queue.next(|| ring.pop_front()), Some(KernelEvent::Outlived));
        assert_eq!(queue.next_end(|| ring.pop_front()), Some(ended(2)));
        assert_eq!(queue.next_end(|| ring.pop_front()), None);
        let rest: Vec<_> = std::iter::from_fn(|| queue.next(|| ring.pop_front())).collect();
        assert_eq!(rest, [crossed(3), KernelEvent::SumCrossed]);
    }

    #[test]
    fn the_queue_is_bounded_and_the_ring_keeps_the_rest() {
        let mut on_ring = MOST + 5;
        let mut queue = EventQueue::default();
        let mut ring = || {
            on_ring = on_ring.checked_sub(1)?;
            Some(KernelEvent::Outlived)
        };
        assert_eq!(queue.next_end(&mut ring), None);
        assert_eq!(queue.postponed.len(), MOST);
        assert_eq!(on_ring, 5);
    }
}

//! The order in which the kernel's events are handled: while there is no time for looks at processes, crossings wait and all
//! other events overtake them.

use std::collections::VecDeque;

use crate::observe::decode::KernelEvent;

/// Maximum of crossings that wait: about as many as the ring holds.
const MOST: usize = 1024;

/// Crossings that were taken off the ring, but not handled.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    postponed: VecDeque<KernelEvent>,
}

impl EventQueue {
    /// The oldest event, in the queue or on the ring.
    pub(super) fn next(&mut self, ring: impl FnOnce() -> Option<KernelEvent>) -> Option<KernelEvent> {
        self.postponed.pop_front().or_else(ring)
    }

    /// The oldest event on the ring that is no crossing. Crossings before it are postponed, unless their process has ended.
    pub(super) fn next_but_crossings(
        &mut self,
        mut ring: impl FnMut() -> Option<KernelEvent>,
    ) -> Option<KernelEvent> {
        while self.postponed.len() < MOST {
            let event = ring()?;
            match &event {
                KernelEvent::Crossed { .. } => {
                    self.postponed.push_back(event);
                    continue;
                }
                KernelEvent::Ended { process: ended, .. } => self.postponed.retain(
                    |event| !matches!(event, KernelEvent::Crossed { process, .. } if process == ended),
                ),
                KernelEvent::SumCrossed | KernelEvent::Outlived => {}
            }
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
    fn all_other_events_overtake_crossings_and_only_those_of_ended_processes_are_dropped() {
        let on_ring = [
            crossed(1),
            KernelEvent::Outlived,
            crossed(2),
            ended(1),
            crossed(3),
            KernelEvent::SumCrossed,
            ended(2),
            crossed(4),
        ];
        let mut ring = VecDeque::from(on_ring);
        let mut queue = EventQueue::default();
        let mut urgent = || queue.next_but_crossings(|| ring.pop_front());
        assert_eq!(urgent(), Some(KernelEvent::Outlived));
        assert_eq!(urgent(), Some(ended(1)));
        assert_eq!(urgent(), Some(KernelEvent::SumCrossed));
        assert_eq!(queue.next(|| ring.pop_front()), Some(crossed(2)));
        assert_eq!(queue.next_but_crossings(|| ring.pop_front()), Some(ended(2)));
        assert_eq!(queue.next_but_crossings(|| ring.pop_front()), None);
        let rest: Vec<_> = std::iter::from_fn(|| queue.next(|| ring.pop_front())).collect();
        assert_eq!(rest, [crossed(3), crossed(4)]);
    }

    #[test]
    fn the_queue_is_bounded_and_the_ring_keeps_the_rest() {
        let mut on_ring = MOST + 5;
        let mut queue = EventQueue::default();
        let mut ring = || {
            on_ring = on_ring.checked_sub(1)?;
            Some(crossed(1))
        };
        assert_eq!(queue.next_but_crossings(&mut ring), None);
        assert_eq!(queue.postponed.len(), MOST);
        assert_eq!(on_ring, 5);
    }
}

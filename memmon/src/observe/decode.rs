//! Converts the kernel map's bytes into the model's types. Everything here is pure.

use std::time::Duration;

use memmon_common::{Counters, Event, ProcessRss, kind};

use crate::model::{Bytes, ExitStatus, Name, Pid, ProcessId, Reading, StartTime};

/// Page size and counter error of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Size of a page in bytes.
    pub page_size: u64,
    /// Maximum by which an entry may be too low: the batches that the kernel holds back, and the
    /// [`STEP`](memmon_common::STEP) below which an entry is not written.
    pub error: Bytes,
}

impl Scale {
    /// The entry of a process as a reading.
    #[must_use]
    pub fn reading(&self, pid: Pid, process: &ProcessRss) -> Reading {
        Reading {
            pid,
            start: Some(StartTime::from_boottime_ns(process.start_boottime)),
            rss: self.bytes(process.rss_pages()),
            held: self.bytes(process.anon_pages + process.shmem_pages + process.swap_entries),
            shmem: self.bytes(process.shmem_pages),
            error: self.error,
        }
    }

    /// An event in the model's terms; `None` if memmon does not know its kind.
    #[must_use]
    pub fn event(&self, event: &Event) -> Option<KernelEvent> {
        let process =
            ProcessId { pid: Pid(event.tgid), start: StartTime::from_boottime_ns(event.start_boottime) };
        let rss = self.bytes(event.rss_pages);
        Some(match event.kind {
            kind::CROSSED => KernelEvent::Crossed { process, at: Duration::from_nanos(event.time), rss },
            kind::ENDED | kind::OOM_KILLED => KernelEvent::Ended {
                process,
                name: comm(event.comm),
                peak: rss,
                status: ExitStatus::new(event.exit_code, event.kind == kind::OOM_KILLED),
            },
            kind::OUTLIVED => KernelEvent::Outlived,
            kind::SUM_CROSSED => KernelEvent::SumCrossed,
            _ => return None,
        })
    }

    /// Converts pages to bytes.
    #[must_use]
    pub const fn bytes(&self, pages: u64) -> Bytes {
        Bytes(pages.saturating_mul(self.page_size))
    }

    /// Converts bytes to whole pages, rounded down, so that a wake level is never too late.
    #[must_use]
    pub const fn pages(&self, amount: Bytes) -> u64 {
        amount.0 / self.page_size
    }
}

/// An event for which the BPF programs wake memmon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A process reached its wake level.
    Crossed {
        /// The process.
        process: ProcessId,
        /// Time of the crossing, on CLOCK_MONOTONIC.
        at: Duration,
        /// Its resident memory, by the kernel's counters.
        rss: Bytes,
    },
    /// A process ended that had reached a level, had a level of its own, or was marked by the kernel's OOM killer.
    Ended {
        /// The process.
        process: ProcessId,
        /// Its comm.
        name: Name,
        /// The highest value that was written for it.
        peak: Bytes,
        /// Its exit status.
        status: ExitStatus,
    },
    /// A process ended or called exec, and the memory that it had may be that of another one, which has no entry yet.
    Outlived,
    /// A sum reached its wake level.
    SumCrossed,
}

/// The name of a process: everything before the first NUL.
#[must_use]
pub fn comm(comm: [u8; 16]) -> Name {
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    Name::new(&comm[..end])
}

/// One event from the ring; `None` if it does not have the agreed size.
#[must_use]
pub fn event(bytes: &[u8]) -> Option<Event> {
    let (words, rest) = bytes.as_chunks::<8>();
    let ([time, start_boottime, rss_pages, pid_and_kind, status, name @ ..], []) = (words, rest) else {
        return None;
    };
    let halves = |word: &[u8; 8]| {
        let [a, b, c, d, e, f, g, h] = *word;
        (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
    };
    let ((tgid, kind), (exit_code, sum_kind)) = (halves(pid_and_kind), halves(status));
    Some(Event {
        time: u64::from_ne_bytes(*time),
        start_boottime: u64::from_ne_bytes(*start_boottime),
        rss_pages: u64::from_ne_bytes(*rss_pages),
        tgid,
        kind,
        exit_code,
        sum_kind,
        comm: name.as_flattened().try_into().ok()?,
    })
}

/// The sum of two CPUs' counters.
#[must_use]
pub const fn sum(one: &Counters, other: &Counters) -> Counters {
    let Counters {
        ticks,
        updates,
        inserts,
        insert_full,
        insert_failed,
        remove_failed,
        events,
        ring_full,
        sums_full,
    } = *other;
    Counters {
        ticks: one.ticks + ticks,
        updates: one.updates + updates,
        inserts: one.inserts + inserts,
        insert_full: one.insert_full + insert_full,
        insert_failed: one.insert_failed + insert_failed,
        remove_failed: one.remove_failed + remove_failed,
        events: one.events + events,
        ring_full: one.ring_full + ring_full,
        sums_full: one.sums_full + sums_full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { page_size: 4096, error: Bytes(77) };

    #[test]
    fn an_entry_becomes_a_reading() {
        let process = ProcessRss {
            start_boottime: 12_349_999_999,
            file_pages: 1,
            anon_pages: 20,
            shmem_pages: 300,
            swap_entries: 4000,
            peak_pages: 50_000,
            ..ProcessRss::default()
        };
        let Reading { pid, start, rss, held, shmem, error } = SCALE.reading(Pid(7), &process);
        assert_eq!((pid, start), (Pid(7), Some(StartTime(1234))));
        assert_eq!((rss, held), (Bytes(321 * 4096), Bytes(4320 * 4096)));
        assert_eq!((shmem, error), (Bytes(300 * 4096), Bytes(77)));
    }

    #[test]
    fn a_level_is_rounded_down() {
        assert_eq!(SCALE.pages(Bytes(4095)), 0);
        assert_eq!(SCALE.pages(Bytes(8193)), 2);
        assert_eq!(SCALE.bytes(u64::MAX), Bytes::MAX);
    }

    #[test]
    fn a_name_ends_at_its_nul() {
        assert_eq!(comm(*b"bash\0left over\0\0"), Name::from("bash"));
        assert_eq!(comm([0; 16]), Name::from(""));
        assert_eq!(comm(*b"0123456789abcdef"), Name::from("0123456789abcdef"));
    }

    #[test]
    fn an_event_of_another_size_is_refused() {
        let mut bytes = Vec::new();
        for word in [11_u64, 22, 33] {
            bytes.extend(word.to_ne_bytes());
        }
        for half in [44_u32, kind::ENDED, 55, 1] {
            bytes.extend(half.to_ne_bytes());
        }
        assert_eq!(event(&bytes), None);
        let comm = *b"0123456789abcde\0";
        bytes.extend(comm);
        let whole = Event {
            time: 11,
            start_boottime: 22,
            rss_pages: 33,
            tgid: 44,
            kind: kind::ENDED,
            exit_code: 55,
            sum_kind: 1,
            comm,
        };
        assert_eq!(event(&bytes), Some(whole));
        bytes.push(0);
        assert_eq!(event(&bytes), None);
    }

    #[test]
    fn an_event_is_a_crossing_or_an_end() {
        let event = Event {
            time: 1_500_000_000,
            start_boottime: 12_349_999_999,
            rss_pages: 3,
            tgid: 7,
            exit_code: 9,
            comm: *b"bash\0\0\0\0\0\0\0\0\0\0\0\0",
            ..Event::default()
        };
        let process = ProcessId { pid: Pid(7), start: StartTime(1234) };
        let rss = Bytes(3 * 4096);
        let at = Duration::from_millis(1500);
        assert_eq!(SCALE.event(&event), Some(KernelEvent::Crossed { process, at, rss }));
        for (kind, oom) in [(kind::ENDED, false), (kind::OOM_KILLED, true)] {
            let status = ExitStatus { signal: Some(9), code: 0, oom };
            let ended = KernelEvent::Ended { process, name: "bash".into(), peak: rss, status };
            assert_eq!(SCALE.event(&Event { kind, ..event }), Some(ended));
        }
        assert_eq!(SCALE.event(&Event { kind: kind::SUM_CROSSED, ..event }), Some(KernelEvent::SumCrossed));
        assert_eq!(SCALE.event(&Event { kind: 99, ..event }), None);
    }

    #[test]
    fn counters_add_up() {
        let one = Counters {
            ticks: 8,
            updates: 1,
            inserts: 2,
            insert_full: 3,
            insert_failed: 4,
            remove_failed: 5,
            events: 6,
            ring_full: 7,
            sums_full: 9,
        };
        let twice = Counters {
            ticks: 16,
            updates: 2,
            inserts: 4,
            insert_full: 6,
            insert_failed: 8,
            remove_failed: 10,
            events: 12,
            ring_full: 14,
            sums_full: 18,
        };
        assert_eq!(sum(&one, &one), twice);
    }
}

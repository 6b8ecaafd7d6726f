//! From the kernel map's bytes to the model's nouns. Pure.

use memmon_common::{Counters, Crossing, ProcessRss};

use crate::model::{Bytes, Name, Pid, Reading, StartTime};

/// How this machine counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Bytes in a page of the kernel.
    pub page_size: u64,
    /// How far an entry may be below the truth: what the kernel holds back, and the [`STEP`](memmon_common::STEP) for which an entry is not
    /// written.
    pub error: Bytes,
}

impl Scale {
    /// What is known of a process, as a reading.
    #[must_use]
    pub fn reading(&self, pid: Pid, process: &ProcessRss) -> Reading {
        Reading {
            pid,
            start: Some(StartTime::from_boottime_ns(process.start_boottime)),
            rss: self.bytes(process.rss_pages()),
            error: self.error,
        }
    }

    /// Pages to bytes.
    #[must_use]
    pub const fn bytes(&self, pages: u64) -> Bytes {
        Bytes(pages.saturating_mul(self.page_size))
    }

    /// The pages that `amount` covers, a started one not counted: a wake level of so many is never too late.
    #[must_use]
    pub const fn pages(&self, amount: Bytes) -> u64 {
        amount.0 / self.page_size
    }
}

/// The name of a process, which is everything before the first NUL.
#[must_use]
pub fn comm(process: &ProcessRss) -> Name {
    let end = process.comm.iter().position(|byte| *byte == 0).unwrap_or(process.comm.len());
    Name::new(&process.comm[..end])
}

/// One event of the ring; none if it is not of the agreed size.
#[must_use]
pub fn crossing(event: &[u8]) -> Option<Crossing> {
    let (words, rest) = event.as_chunks::<8>();
    let ([time, start_boottime, rss_pages, last], []) = (words, rest) else { return None };
    let [a, b, c, d, e, f, g, h] = *last;
    Some(Crossing {
        time: u64::from_ne_bytes(*time),
        start_boottime: u64::from_ne_bytes(*start_boottime),
        rss_pages: u64::from_ne_bytes(*rss_pages),
        tgid: u32::from_ne_bytes([a, b, c, d]),
        reserved: u32::from_ne_bytes([e, f, g, h]),
    })
}

/// Two CPUs' counters together.
#[must_use]
pub const fn sum(one: &Counters, other: &Counters) -> Counters {
    let Counters { updates, inserts, insert_full, insert_failed, remove_failed, crossings, ring_full } =
        *other;
    Counters {
        updates: one.updates + updates,
        inserts: one.inserts + inserts,
        insert_full: one.insert_full + insert_full,
        insert_failed: one.insert_failed + insert_failed,
        remove_failed: one.remove_failed + remove_failed,
        crossings: one.crossings + crossings,
        ring_full: one.ring_full + ring_full,
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
        let Reading { pid, start, rss, error } = SCALE.reading(Pid(7), &process);
        assert_eq!((pid, start), (Pid(7), Some(StartTime(1234))));
        assert_eq!(rss, Bytes(321 * 4096));
        assert_eq!(error, Bytes(77));
    }

    #[test]
    fn a_level_is_never_late() {
        assert_eq!(SCALE.pages(Bytes(4095)), 0);
        assert_eq!(SCALE.pages(Bytes(8193)), 2);
        assert_eq!(SCALE.bytes(u64::MAX), Bytes::MAX);
    }

    #[test]
    fn a_name_ends_at_its_nul() {
        let named = |comm| ProcessRss { comm, ..ProcessRss::default() };
        assert_eq!(comm(&named(*b"bash\0left over\0\0")), Name::from("bash"));
        assert_eq!(comm(&named([0; 16])), Name::from(""));
        assert_eq!(comm(&named(*b"0123456789abcdef")), Name::from("0123456789abcdef"));
    }

    #[test]
    fn an_event_is_taken_only_whole() {
        let mut event = Vec::new();
        for word in [11_u64, 22, 33] {
            event.extend(word.to_ne_bytes());
        }
        event.extend(44_u32.to_ne_bytes());
        assert_eq!(crossing(&event), None);
        event.extend(0_u32.to_ne_bytes());
        let whole = Crossing { time: 11, start_boottime: 22, rss_pages: 33, tgid: 44, reserved: 0 };
        assert_eq!(crossing(&event), Some(whole));
        event.push(0);
        assert_eq!(crossing(&event), None);
    }

    #[test]
    fn counters_add_up() {
        let one = Counters {
            updates: 1,
            inserts: 2,
            insert_full: 3,
            insert_failed: 4,
            remove_failed: 5,
            crossings: 6,
            ring_full: 7,
        };
        let twice = Counters {
            updates: 2,
            inserts: 4,
            insert_full: 6,
            insert_failed: 8,
            remove_failed: 10,
            crossings: 12,
            ring_full: 14,
        };
        assert_eq!(sum(&one, &one), twice);
    }
}

//! Processes that answered SIGTERM with madvise(MADV_FREE): what they freed counts in their RSS until the kernel needs it,
//! and is taken off before any further signal.

use std::{collections::BTreeMap, time::Instant};

use crate::model::{Bytes, Process, ProcessId};

/// A figure holds for so many times as long as it took to read, so that reading takes at most a tenth of one CPU.
const HOLDS: u32 = 10;

/// The living processes that were sent SIGTERM, with what they have freed since.
#[derive(Debug, Default)]
pub(crate) struct LazilyFreed(BTreeMap<ProcessId, Freed>);

/// Memory that is taken off; zero if the process is over its limit without it, or within its limit with it.
#[derive(Clone, Copy, Debug, Default)]
struct Freed {
    bytes: Bytes,
    until: Option<Instant>,
}

impl LazilyFreed {
    /// Notes that a process was sent SIGTERM.
    pub(crate) fn sent_term(&mut self, process: ProcessId) {
        self.0.entry(process).or_default();
    }

    /// The amount that is taken off the RSS of a process.
    pub(crate) fn of(&self, process: ProcessId) -> Bytes {
        self.0.get(&process).map_or(Bytes::ZERO, |freed| freed.bytes)
    }

    /// Forgets the processes that are gone.
    pub(crate) fn keep(&mut self, lives: impl Fn(ProcessId) -> bool) {
        self.0.retain(|process, _| lives(*process));
    }

    /// Takes off what `process` has freed, if it is within `limit` without that; otherwise leaves it as it is. `read` counts
    /// the process's exact memory without what it has freed, and the latter.
    pub(crate) fn take_off(
        &mut self,
        process: &mut Process,
        limit: Bytes,
        now: impl Fn() -> Instant,
        read: impl FnOnce(&Process) -> Option<(Bytes, Bytes)>,
    ) {
        let Some(freed) = self.0.get_mut(&process.id) else { return };
        let most = process.rss + process.error;
        if most <= limit {
            *freed = Freed::default();
            return;
        }
        let begun = now();
        // An older figure may spare a process for a moment, and never ends one.
        let without = most.saturating_sub(freed.bytes);
        let without = if freed.until.is_some_and(|until| begun < until) && without <= limit {
            without
        } else {
            *freed = Freed::default();
            let Some((without, bytes)) = read(process).filter(|(without, _)| *without <= limit) else {
                return;
            };
            let read = now();
            *freed = Freed { bytes, until: Some(read + HOLDS * read.saturating_duration_since(begun)) };
            without
        };
        (process.rss, process.error) = (without, Bytes::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::Duration};

    use super::*;
    use crate::policy::fixtures::hog;

    const MIB: u64 = Bytes::MIB;
    const LIMIT: Bytes = Bytes(32 * MIB);

    struct Looks {
        freed: LazilyFreed,
        start: Instant,
    }

    impl Looks {
        fn new() -> Self {
            Self { freed: LazilyFreed::default(), start: Instant::now() }
        }

        fn after_term() -> Self {
            let mut looks = Self::new();
            looks.freed.sent_term(hog().id);
            looks
        }

        /// The memory of a process of 60 MiB, by a look at this second, and whether the pages were counted for it: that takes a
        /// second, and finds so many MiB free.
        fn look(&mut self, second: u64, free: Option<u64>) -> (Bytes, bool) {
            let mut process = Process { rss: Bytes(60 * MIB), error: Bytes(MIB), ..hog() };
            let (now, was_read) = (Cell::new(second), Cell::new(false));
            let start = self.start;
            self.freed.take_off(
                &mut process,
                LIMIT,
                || start + Duration::from_secs(now.get()),
                |_| {
                    now.set(second + 1);
                    was_read.set(true);
                    let free = Bytes(free? * MIB);
                    Some((Bytes(60 * MIB).saturating_sub(free), free))
                },
            );
            (process.rss, was_read.get())
        }
    }

    #[test]
    fn nothing_is_read_for_a_process_that_was_not_sent_sigterm() {
        assert_eq!(Looks::new().look(0, Some(60)), (Bytes(60 * MIB), false));
    }

    #[test]
    fn freed_memory_is_taken_off_only_if_the_process_is_within_its_limit_then() {
        let mut looks = Looks::after_term();
        assert_eq!(looks.look(0, Some(28)), (LIMIT, true));
        assert_eq!(looks.freed.of(hog().id), Bytes(28 * MIB));
        let mut looks = Looks::after_term();
        for free in [Some(27), None] {
            assert_eq!(looks.look(0, free), (Bytes(60 * MIB), true));
            assert_eq!(looks.freed.of(hog().id), Bytes::ZERO);
        }
    }

    #[test]
    fn a_figure_holds_for_ten_times_as_long_as_it_took_and_never_ends_a_process() {
        let mut looks = Looks::after_term();
        assert_eq!(looks.look(0, Some(40)), (Bytes(20 * MIB), true));
        // Includes the possible error of the cheap figure.
        assert_eq!(looks.look(10, None), (Bytes(21 * MIB), false));
        assert_eq!(looks.look(11, Some(27)), (Bytes(60 * MIB), true), "it is in use again");
        assert_eq!(looks.look(12, Some(50)), (Bytes(10 * MIB), true));
        looks.freed.keep(|_| false);
        assert_eq!(looks.look(13, Some(50)), (Bytes(60 * MIB), false), "it is forgotten");
    }

    #[test]
    fn nothing_is_taken_off_for_a_process_within_its_limit() {
        let mut looks = Looks::after_term();
        looks.look(0, Some(40));
        let mut small = Process { rss: LIMIT, error: Bytes::ZERO, ..hog() };
        looks.freed.take_off(&mut small, LIMIT, Instant::now, |_| panic!("nothing is read"));
        assert_eq!((small.rss, looks.freed.of(small.id)), (LIMIT, Bytes::ZERO));
    }
}

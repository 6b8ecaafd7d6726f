//! The processes that were judged, or came near a limit, since the event loop last took them to be kept for `memmon replay`.

use std::{cmp::Reverse, time::Instant};

use crate::model::{Bytes, Decided, Process, ProcessId, Reading, SystemMemory, Verdict};

/// Verdicts that are kept between two scans.
const MOST_VERDICTS: usize = 64;

/// Processes of one scan at most, the largest of them.
const MOST_READINGS: usize = 128;

/// The processes, until they are taken.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// The processes of which it was not at once clear that they are within their limit, with the verdict.
    pub(crate) verdicts: Vec<(Process, SystemMemory, Decided, Instant)>,
    /// The largest of those above a quarter of the smallest limit, at the last scan.
    pub(crate) near: Vec<Reading>,
}

impl Judged {
    /// Notes a verdict.
    pub(crate) fn note(&mut self, process: &Process, memory: SystemMemory, verdict: &Verdict, now: Instant) {
        if self.verdicts.len() < MOST_VERDICTS && !matches!(verdict, Verdict::Within) {
            self.verdicts.push((process.clone(), memory, verdict.into(), now));
        }
    }

    /// Notes that the process, of which a verdict was noted, gets no signal for now.
    pub(crate) fn waits(&mut self, id: ProcessId) {
        if let Some((.., then, _)) = self.verdicts.last_mut().filter(|(process, ..)| process.id == id) {
            *then = Decided::Waits;
        }
    }

    /// Notes the readings of a scan, of which `least` is the smallest limit of all.
    pub(crate) fn scanned(&mut self, readings: &[Reading], least: Bytes) {
        let near = readings.iter().filter(|reading| reading.rss.0 >= least.0 / 4);
        self.near = near.copied().collect();
        self.near.sort_unstable_by_key(|reading| Reverse(reading.rss));
        self.near.truncate(MOST_READINGS);
    }

    /// Takes all notes; `None` if there are none.
    pub(crate) fn take(&mut self) -> Option<Self> {
        let all = std::mem::take(self);
        (!all.verdicts.is_empty() || !all.near.is_empty()).then_some(all)
    }
}

//! Makes an answer from entries: the latest of them, and totals of all. Pure, with bounded memory.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use crate::model::{Bytes, Entry, Happened, History, Total, Uid};

/// Entries in an answer at most.
const MOST_ENTRIES: usize = 2000;

/// Programs in an answer at most.
const MOST_PROGRAMS: usize = 500;

/// An answer in the making.
#[derive(Debug, Default)]
pub(super) struct Summary {
    latest: VecDeque<Entry>,
    matched: u64,
    totals: BTreeMap<Option<(String, Uid)>, Total>,
}

impl Summary {
    /// Takes the next entry, which is not older than those before.
    pub(super) fn take(&mut self, entry: Entry) {
        self.matched += 1;
        let key = Some((entry.comm.clone(), entry.uid));
        let has_room = self.totals.len() < MOST_PROGRAMS || self.totals.contains_key(&key);
        let key = key.filter(|_| has_room);
        let total = self.totals.entry(key.clone()).or_insert_with(|| Total {
            comm: key.as_ref().map(|(comm, _)| comm.clone()),
            uid: key.map(|(_, uid)| uid),
            terminated: 0,
            would_terminate: 0,
            warned: 0,
            peak_bytes: Bytes::ZERO,
        });
        match entry.what {
            Happened::Terminated => total.terminated += 1,
            Happened::WouldTerminate | Happened::Exempt => total.would_terminate += 1,
            Happened::Warned | Happened::NearLimit => total.warned += 1,
        }
        total.peak_bytes = total.peak_bytes.max(entry.peak_bytes);
        if self.latest.len() == MOST_ENTRIES {
            self.latest.pop_front();
        }
        self.latest.push_back(entry);
    }

    /// The answer.
    pub(super) fn finish(self, oldest_unix_seconds: Option<f64>) -> History {
        let Self { latest, matched, totals } = self;
        let mut totals: Vec<_> = totals.into_values().collect();
        totals.sort_by_key(|total| (total.comm.is_none(), Reverse(total.peak_bytes)));
        History { entries: latest.into(), matched, totals, oldest_unix_seconds }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::Pid;

    pub(crate) fn entry(at: f64, what: Happened, comm: &str, peak: u64) -> Entry {
        Entry {
            at_unix_seconds: at,
            what,
            pid: Pid(7),
            comm: comm.to_owned(),
            uid: Uid(1000),
            unit: Some("x.service".to_owned()),
            job: None,
            container: None,
            container_name: None,
            pod_name: None,
            namespace: None,
            rule: Some("gb".to_owned()),
            limit_bytes: Some(Bytes(5)),
            peak_bytes: Bytes(peak),
            cause: None,
            signal_to_exit_seconds: None,
        }
    }

    #[test]
    fn totals_are_of_all_entries_and_the_latest_are_listed() {
        let mut summary = Summary::default();
        for at in 0..3000_u32 {
            let what = [Happened::Terminated, Happened::WouldTerminate, Happened::NearLimit][at as usize % 3];
            summary.take(entry(f64::from(at), what, ["a", "b"][at as usize % 2], u64::from(at)));
        }
        let History { entries, matched, totals, .. } = summary.finish(Some(0.0));
        assert_eq!((entries.len(), matched), (MOST_ENTRIES, 3000));
        assert_eq!((entries[0].at_unix_seconds, entries[MOST_ENTRIES - 1].at_unix_seconds), (1000.0, 2999.0));
        let totals: Vec<_> = totals
            .iter()
            .map(|total| {
                let comm = total.comm.as_deref().unwrap();
                (comm, total.peak_bytes.0, total.terminated, total.would_terminate, total.warned)
            })
            .collect();
        assert_eq!(totals, [("b", 2999, 500, 500, 500), ("a", 2998, 500, 500, 500)]);
    }

    #[test]
    fn any_number_of_programs_has_bounded_totals() {
        let mut summary = Summary::default();
        for number in 0..2 * MOST_PROGRAMS as u64 {
            summary.take(entry(0.0, Happened::Terminated, &number.to_string(), number));
        }
        let totals = summary.finish(None).totals;
        assert_eq!(totals.len(), MOST_PROGRAMS + 1);
        let last = totals.last().unwrap();
        assert_eq!((&last.comm, last.terminated), (&None, MOST_PROGRAMS as u64));
    }
}

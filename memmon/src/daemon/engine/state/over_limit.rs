//! The processes that are over their limit and stay: a rule protects them, or this is a dry run. No system calls.

use std::collections::{BTreeMap, HashSet};

use crate::model::{Breach, Bytes, Process, ProcessId, Protection};

/// The reason why a process that is over its limit stays.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stays {
    /// A rule protects it.
    Protected(Protection),
    /// It would be terminated, if this was not a dry run.
    DryRun(Breach),
}

/// A process that was over its limit at the last look.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) process: Process,
    pub(crate) stays: Stays,
    scan: u64,
}

/// The processes over their limit now, and those that were reported.
#[derive(Debug, Default)]
pub(crate) struct OverLimit {
    now: BTreeMap<ProcessId, Standing>,
    reported: HashSet<ProcessId>,
    scan: u64,
}

impl OverLimit {
    /// Takes a process that is over `limit`. Whether it is one to report: protected, and never reported before.
    ///
    /// A process that `[scope]` excludes is neither reported nor listed.
    pub(crate) fn note(&mut self, process: &Process, limit: Bytes, stays: Stays) -> bool {
        let is_protected = matches!(stays, Stays::Protected(_));
        if process.rss <= limit || stays == Stays::Protected(Protection::OutOfScope) {
            return false;
        }
        self.now.insert(process.id, Standing { process: process.clone(), stays, scan: self.scan });
        is_protected && self.reported.insert(process.id)
    }

    /// A scan is over: what it did not find over its limit no longer is. `exists`: the processes that the scan saw.
    pub(crate) fn scan_complete(&mut self, exists: impl Fn(ProcessId) -> bool) {
        let scan = self.scan;
        self.now.retain(|_, standing| standing.scan == scan);
        self.reported.retain(|process| exists(*process));
        self.scan += 1;
    }

    pub(crate) fn forget(&mut self, process: ProcessId) {
        self.now.remove(&process);
        self.reported.remove(&process);
    }

    /// The processes over their limit now, the largest first.
    pub(crate) fn largest(&self) -> Vec<&Standing> {
        let mut all: Vec<_> = self.now.values().collect();
        all.sort_by_key(|standing| std::cmp::Reverse(standing.process.rss));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::hog;

    const LIMIT: Bytes = Bytes(2 * Bytes::GIB);

    #[test]
    fn a_protected_process_is_reported_once_and_listed_while_it_is_over() {
        let mut over = OverLimit::default();
        let (process, root) = (hog(), || Stays::Protected(Protection::Root));
        assert!(over.note(&process, LIMIT, root()));
        over.scan_complete(|_| true);
        assert_eq!(over.largest().len(), 1);
        assert!(!over.note(&process, LIMIT, root()));
        over.scan_complete(|_| true);
        // It fell below, and comes again: listed again, not reported again.
        over.scan_complete(|_| true);
        assert_eq!(over.largest(), Vec::<&Standing>::new());
        assert!(!over.note(&process, LIMIT, root()));
        assert_eq!(over.largest().len(), 1);
        over.scan_complete(|_| false);
        assert!(over.note(&process, LIMIT, root()), "another process of that id");
    }

    #[test]
    fn neither_one_within_its_limit_nor_one_out_of_scope_is_listed() {
        let mut over = OverLimit::default();
        assert!(!over.note(&Process { rss: LIMIT, ..hog() }, LIMIT, Stays::Protected(Protection::Root)));
        assert!(!over.note(&hog(), LIMIT, Stays::Protected(Protection::OutOfScope)));
        assert_eq!(over.largest(), Vec::<&Standing>::new());
    }
}

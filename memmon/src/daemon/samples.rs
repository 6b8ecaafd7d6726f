//! The samples that are kept for `memmon replay`: of the processes above a quarter of their limit, and of every verdict that is not simply
//! "within its limit". The thread of the history looks and writes, never the event loop; nothing is written while nothing
//! is above a quarter, or nothing changes.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::daemon::engine::state::judged::Judged;
use crate::inspect::{self, Basis};
use crate::model::{Bytes, Decided, Process, ProcessId, Sample, Seen, SystemMemory, Verdict};
use crate::policy::Rules;

/// Minimum time between two looks: a close look at each process near a limit costs some CPU time.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// A process that does not change is written again after this time, in seconds.
const AGAIN: f64 = 3600.0;

/// A change of memory counts from this part of the limit on.
const STEP: u64 = 32;

/// The way of samples into the history.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    kept: Arc<Mutex<Kept>>,
    looked: Option<Instant>,
}

/// The state of the processes that were judged, or above a quarter of the smallest limit, at the last look.
#[derive(Debug, Default)]
struct Kept {
    /// The last sample of each that is above a quarter of its own limit.
    samples: HashMap<ProcessId, Last>,
    /// Its memory at the last close look, and the time of that.
    looks: HashMap<ProcessId, (Bytes, f64)>,
    /// The rules by which they were judged.
    rules: Option<Rules>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    at: f64,
    rss: Bytes,
    then: Decided,
}

impl Sampler {
    /// Whether nothing is above a quarter of its limit as far as is known, so that there is no end of that to write.
    pub(super) fn is_idle(&self) -> bool {
        // While the thread looks, there is something.
        self.kept.try_lock().is_ok_and(|kept| kept.samples.is_empty())
    }

    /// A job for a thread that may wait, which returns the samples of all that was judged until `now`; `None` if there is
    /// nothing to do.
    pub(super) fn job(
        &mut self,
        mut judged: Judged,
        basis: Basis,
        dry_run: bool,
        now: Instant,
    ) -> Option<impl FnOnce() -> Vec<Sample> + Send + 'static> {
        let looks = self.looked.is_none_or(|last| now.saturating_duration_since(last) >= BETWEEN_LOOKS);
        if looks {
            self.looked = Some(now);
        } else {
            judged.near.clear();
        }
        if judged.verdicts.is_empty() && judged.near.is_empty() && !looks {
            return None;
        }
        let (kept, at) = (Arc::clone(&self.kept), Timestamp::now().as_duration().as_secs_f64());
        Some(move || {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let mut samples = Vec::new();
            let rules = basis.rules.clone();
            let mut sees = HashSet::new();
            for (process, memory, then, when) in &judged.verdicts {
                let at = at - now.saturating_duration_since(*when).as_secs_f64();
                sees.insert(process.id);
                samples.extend(kept.note(&rules, process, *memory, *then, dry_run, at));
            }
            if looks {
                kept.judge_by(&rules);
                let mut stand = HashSet::new();
                let near = inspect::near_limit(basis, &judged.near, |id, rss, least| {
                    let is_due = !sees.contains(&id) && kept.is_to_be_looked_at(id, rss, least, at);
                    if !is_due {
                        stand.insert(id);
                    }
                    is_due
                });
                sees.extend(stand);
                for (process, memory, verdict) in near.iter().flatten() {
                    if matches!(verdict, Verdict::Unsure(_)) {
                        // The next look may know.
                        kept.looks.remove(&process.id);
                    }
                    if sees.insert(process.id) {
                        samples.extend(kept.note(&rules, process, *memory, verdict.into(), dry_run, at));
                    }
                }
                samples.extend(kept.gone(&sees, at));
            }
            samples
        })
    }
}

impl Kept {
    /// With other rules each process is looked at again.
    fn judge_by(&mut self, rules: &Rules) {
        if self.rules.as_ref() != Some(rules) {
            self.looks.clear();
            self.rules = Some(rules.clone());
        }
    }

    /// Whether a process with `rss` has changed since the last close look at it, by a step of the smallest limit. That look may
    /// walk over all of its pages, and a database has many processes that stand still.
    fn is_to_be_looked_at(&mut self, id: ProcessId, rss: Bytes, least: Bytes, at: f64) -> bool {
        let stands = |(then, when): &(Bytes, f64)| {
            then.0.abs_diff(rss.0) < (least.0 / STEP).max(1) && at - when < AGAIN
        };
        let is_due = !self.looks.get(&id).is_some_and(stands);
        if is_due {
            self.looks.insert(id, (rss, at));
        }
        is_due
    }

    /// The sample of a process, unless the last one is the same.
    fn note(
        &mut self,
        rules: &Rules,
        process: &Process,
        memory: SystemMemory,
        then: Decided,
        dry_run: bool,
        at: f64,
    ) -> Option<Sample> {
        // memmon itself is no process to judge again: its pid is another one's at that time.
        if process.id.pid == rules.own_pid || process.kernel_thread {
            return None;
        }
        let rss = process.rss;
        let step = Bytes(rules.limit_of(process, &memory).0 / STEP);
        let is_the_same = |last: &Last| {
            last.then == then && last.rss.0.abs_diff(rss.0) < step.0.max(1) && at - last.at < AGAIN
        };
        if self.samples.get(&process.id).is_some_and(is_the_same) {
            return None;
        }
        self.samples.insert(process.id, Last { at, rss, then });
        let seen = Seen::new(process, memory, then, dry_run, rules.wanted());
        Some(Sample { at_unix_seconds: at, id: process.id, seen: Some(Box::new(seen)) })
    }

    /// Samples of the processes that are not above a quarter any more, of which nothing was seen this time.
    fn gone(&mut self, sees: &HashSet<ProcessId>, at: f64) -> Vec<Sample> {
        let gone: Vec<_> = self.samples.keys().copied().filter(|id| !sees.contains(id)).collect();
        self.samples.retain(|id, _| sees.contains(id));
        // One that is not near its own limit has no sample, and need not be looked at again either.
        self.looks.retain(|id, (_, looked)| sees.contains(id) || *looked >= at);
        gone.into_iter().map(|id| Sample { at_unix_seconds: at, id, seen: None }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inspect::Basis,
        observe::procfs::Accuracy,
        policy::{Limits, fixtures},
    };

    const MEMORY: SystemMemory = SystemMemory { total: Bytes(64 << 30), available: Bytes(32 << 30) };

    #[test]
    fn a_process_is_written_when_it_changes_once_an_hour_and_when_it_is_gone() {
        let mut rules = fixtures::rules();
        rules.limits = Limits::new(100.0, Bytes(3200)).unwrap();
        let mut kept = Kept::default();
        let mut note = |rss: u64, then: Decided, at: f64| {
            let process = Process { rss: Bytes(rss), ..fixtures::hog() };
            kept.note(&rules, &process, MEMORY, then, false, at).is_some()
        };
        assert!(note(1000, Decided::Within, 0.0));
        assert!(!note(1099, Decided::Within, 1.0) && !note(901, Decided::Within, 2.0), "less than a step");
        assert!(note(1100, Decided::Within, 3.0));
        let doubt = Decided::Unsure;
        assert!(note(1100, doubt, 4.0) && !note(1100, doubt, 3603.0) && note(1100, doubt, 3604.0));
        let gone = kept.gone(&HashSet::new(), 3605.0);
        assert!(matches!(&gone[..], [Sample { seen: None, .. }]), "{gone:?}");
        assert_eq!(kept.gone(&HashSet::new(), 3606.0), []);
    }

    #[test]
    fn a_process_that_stands_still_is_not_looked_at_again_under_the_same_rules() {
        let mut kept = Kept::default();
        let (id, least) = (fixtures::hog().id, Bytes(3200));
        let mut looks = |rss: u64, at: f64| kept.is_to_be_looked_at(id, Bytes(rss), least, at);
        assert!(looks(1000, 0.0));
        assert!(!looks(1099, 1.0) && !looks(901, 2.0), "less than a step");
        assert!(looks(1100, 3.0) && !looks(1100, 3602.0) && looks(1100, 3603.0));
        let rules = fixtures::rules();
        kept.judge_by(&rules);
        assert!(kept.is_to_be_looked_at(id, Bytes(1100), least, 3604.0));
        kept.judge_by(&rules);
        assert!(!kept.is_to_be_looked_at(id, Bytes(1100), least, 3605.0));
        kept.gone(&HashSet::new(), 3606.0);
        assert!(kept.is_to_be_looked_at(id, Bytes(1100), least, 3607.0), "it was not near meanwhile");
    }

    #[test]
    fn this_process_is_seen_near_a_small_limit_and_looks_are_rare() {
        let mut rules = fixtures::rules();
        rules.limits = Limits::new(100.0, Bytes(1 << 20)).unwrap();
        rules.own_pid = crate::model::Pid(0);
        let own = crate::model::Pid(std::process::id());
        let near = || {
            let reading = crate::model::Reading {
                pid: own,
                start: None,
                rss: Bytes(1 << 20),
                held: Bytes::ZERO,
                shmem: Bytes::ZERO,
                error: Bytes::ZERO,
            };
            Judged { verdicts: vec![], near: vec![reading] }
        };
        let basis = || Basis { rules: rules.clone(), accuracy: Accuracy::StatmExact, survey: None };
        let (mut sampler, start) = (Sampler::default(), Instant::now());
        let samples = sampler.job(near(), basis(), true, start).unwrap()();
        let [Sample { id, seen: Some(seen), .. }] = &samples[..] else { panic!("{samples:?}") };
        assert_eq!((id.pid, seen.dry_run), (own, true));
        assert!(sampler.job(near(), basis(), true, start + BETWEEN_LOOKS / 2).is_none());
        let job = sampler.job(Judged::default(), basis(), true, start + BETWEEN_LOOKS).unwrap();
        assert!(matches!(&job()[..], [Sample { seen: None, .. }]), "it is seen no more");
    }
}

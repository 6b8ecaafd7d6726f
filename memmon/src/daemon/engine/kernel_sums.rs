//! Sums that the kernel side keeps: it wakes memmon at the crossing, so that looks are needed only where it cannot.
//!
//! The kernel's sum of a user is never less than what any group of that user's processes holds: each page counts at least
//! once. As long as it is below the limit of a group, the group is within it, and no look is needed. Beyond that, as when
//! processes share memory, looks decide, as with /proc, and a level above the current sum makes them sooner.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use crate::daemon::clock::Now;
use crate::daemon::conditions::Degradation;
use crate::daemon::engine::Engine;
use crate::daemon::source::SumWatch;
use crate::model::{Bytes, KernelSum, Per, ProcessId};

/// Pause between two looks while the kernel watches all sums: a process that changes its uid, and then neither grows nor calls
/// exec, is found by a look.
pub(super) const WATCHED_PAUSE: Duration = Duration::from_secs(5);

/// The result of a look at the sums for those of the kernel.
#[derive(Default)]
pub(super) struct Watched {
    levels: HashMap<KernelSum, Bytes>,
    near: bool,
    /// Whether a sum has to be looked at because the kernel does not watch it.
    unwatched: bool,
}

impl Engine<'_> {
    /// Has the kernel keep the sums that rules limit.
    pub(super) fn keep_kernel_sums(&mut self) {
        let least = |users: bool| {
            let (rules, memory) = (self.settings.rules(), self.settings.memory());
            let kept = rules.sums.iter().filter(|sum| {
                sum.per.is_kept_by_kernel()
                    && (sum.per == Per::Cgroup) != users
                    && self.settings.current().kernel.instant
            });
            let limits = kept.filter_map(|sum| rules.limit_under(Some(&sum.rule), &memory));
            limits.map(|(_, limit)| Bytes(limit.0 / 2)).min()
        };
        let (users, cgroups) = (least(true), least(false));
        let kept = match self.sources.kernel() {
            Some(kernel) => kernel.keep_sums(users, cgroups),
            None => return,
        };
        self.report_sums(kept);
    }

    /// The meaning of the kernel's sum for a group, which has `bound` at most.
    pub(super) fn watch_in_kernel(
        &mut self,
        per: Per,
        members: &[ProcessId],
        (limit, bound): (Bytes, Bytes),
        watched: &mut Watched,
    ) -> bool {
        let found = self.kernel_sum(per, members);
        let Some((sum, figure)) = found else {
            watched.unwatched = true;
            return false;
        };
        let SumWatch { suffices, near, level } = figure.watch(limit, bound);
        let lowest = watched.levels.entry(sum).or_insert(level);
        *lowest = level.min(*lowest);
        watched.near |= near;
        watched.unwatched |= !suffices;
        suffices
    }

    fn kernel_sum(
        &mut self,
        per: Per,
        members: &[ProcessId],
    ) -> Option<(KernelSum, crate::daemon::source::SumFigure)> {
        let is_unmapped = |process: &ProcessId| self.sources.is_unmapped(process.pid);
        if !per.is_kept_by_kernel()
            || !self.settings.current().kernel.instant
            || members.iter().any(is_unmapped)
        {
            return None;
        }
        self.sources.kernel()?.sum_over(per, &mut members.iter().map(|process| process.pid))
    }

    /// Has the kernel wake memmon for the sums as a look found them. Returns whether it watches all.
    pub(super) fn watch_sums(&mut self, watched: &Watched, now: Now) -> bool {
        let rules = self.settings.rules();
        // Groups of the other kinds may come to be.
        let all_kept = rules.sums.iter().all(|sum| sum.per.is_kept_by_kernel());
        let kept = self.settings.current().kernel.instant;
        let Some(kernel) = self.sources.kernel() else { return false };
        let set = kernel.set_sum_levels(&watched.levels).and_then(|()| kernel.set_sum_near(watched.near));
        let is_set = set.is_ok();
        let is_whole = kernel.has_whole_sums();
        self.report_sums(set);
        self.sums.note_near(watched.near);
        if watched.near {
            self.gear_near_sum(now);
        }
        all_kept && kept && is_set && is_whole && !watched.unwatched
    }

    /// Counts the sums again if there was no room for a process, and there is now: once per scan.
    pub(super) fn repair_kernel_sums(&mut self) {
        if !self.settings.rules().sums.is_empty()
            && !self.sources.has_unmapped()
            && let Some(kernel) = self.sources.kernel()
        {
            let repaired = kernel.repair_sums();
            self.report_sums(repaired);
        }
    }

    fn report_sums(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.reports.works(Degradation::NoKernelSums),
            Err(error) => self.reports.degraded(Degradation::NoKernelSums, || {
                format!("the kernel does not wake memmon for what several processes hold together, so that memmon looks: {error}")
            }),
        }
    }
}

//! The sums that the kernel side keeps, in bytes.

use std::{collections::HashMap, io};

use super::{kernel_map::Kernel, places::Places};
use crate::{
    daemon::source::SumFigure,
    model::{Bytes, KernelSum, Per, Pid},
    observe::bpf::KeptSums,
};

/// The cgroup at the root of a hierarchy. On a machine with cgroups v1 all processes are in that of the unified one.
const ROOT_CGROUP: u64 = 1;

impl Kernel {
    /// The processes that changed their user or cgroup since the last call, as far as the sums that are kept show it.
    pub(crate) fn moved(&mut self) -> Vec<Pid> {
        self.places.take_moved()
    }

    /// Keeps the sums of users, and of cgroups, for which there is a level, at which each sum wakes memmon if it has none of
    /// its own.
    pub(crate) fn keep_sums(&mut self, users: Option<Bytes>, cgroups: Option<Bytes>) -> io::Result<()> {
        let slack_pages = self.scale.pages(self.scale.error);
        let pages = |level: Option<Bytes>| level.map(|level| self.scale.pages(level));
        if users.is_none() && cgroups.is_none() {
            self.places = Places::default();
        }
        let kept = KeptSums { users: pages(users), cgroups: pages(cgroups), slack_pages };
        self.map.keep_sums(&kept)
    }

    /// Counts the sums again if a process had no room in them, and has it now.
    pub(crate) fn repair_sums(&mut self) -> io::Result<()> {
        if self.has_whole_sums() { Ok(()) } else { self.map.recount_sums() }
    }

    /// Whether every process counts in the sums that are kept, as far as it is known.
    pub(crate) fn has_whole_sums(&self) -> bool {
        self.map.has_whole_sums().unwrap_or(false)
    }

    /// Counts the sums again.
    pub(crate) fn recount_sums(&mut self) -> io::Result<()> {
        self.map.recount_sums()
    }

    /// The sum that holds at least as much as these processes, which are a group of this kind, with those that join it;
    /// `None` if the kernel keeps none, or not for certain.
    pub(crate) fn sum_over(
        &self,
        per: Per,
        members: &mut dyn Iterator<Item = Pid>,
    ) -> Option<(KernelSum, SumFigure)> {
        if !self.has_whole_sums() {
            return None;
        }
        let mut found = None;
        for pid in members {
            // One that has ended.
            let Some(entry) = self.map.get(pid).ok()? else { continue };
            let sum = match per {
                Per::User | Per::Program => KernelSum::User(crate::model::Uid(entry.sum_uid)),
                Per::Cgroup if entry.sum_cgroup > ROOT_CGROUP => KernelSum::Cgroup(entry.sum_cgroup),
                Per::Cgroup | Per::Unit | Per::Session | Per::Tree => return None,
            };
            if found.is_some_and(|found| found != sum) {
                return None;
            }
            found = Some(sum);
        }
        let sum = found?;
        let now = self.map.sum(sum).ok()?.unwrap_or_default();
        let each = self.scale.error;
        Some((sum, SumFigure { counted: self.scale.bytes(now.counted()), members: now.members, each }))
    }

    /// Has each of these sums wake memmon at its level, and all others at those of [`Self::keep_sums`].
    pub(crate) fn set_sum_levels(&mut self, levels: &HashMap<KernelSum, Bytes>) -> io::Result<()> {
        let pages = |(sum, level): (&KernelSum, &Bytes)| (*sum, self.scale.pages(*level));
        self.map.set_sum_levels(levels.iter().map(pages).collect())
    }

    /// Whether a sum is near its limit: then `rss_stat`, if attached, sees every process.
    pub(crate) fn set_sum_near(&mut self, near: bool) -> io::Result<()> {
        self.map.set_sum_near(near)
    }
}

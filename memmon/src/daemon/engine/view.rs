//! Access to the engine: for the event loop, which must know the next due times, and for queries.

use std::time::Instant;

use crate::config::Settings;
use crate::daemon::clock::Now;
use crate::daemon::conditions::Conditions;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::judged::Judged;
use crate::daemon::engine::state::over_limit::OverLimit;
use crate::daemon::source::kernel_map::Kernel;
use crate::daemon::source::sources::Sources;
use crate::enforce::{Victims, Waiting};
use crate::model::{Bytes, ProcessId, Reading, SystemMemory};
use crate::policy::Rate;

impl Engine<'_> {
    pub(crate) const fn settings(&self) -> &Settings {
        self.settings.current()
    }

    /// The limit of a process that no rule matches.
    pub(crate) fn limit(&self) -> Bytes {
        self.settings.limit()
    }

    /// The machine's memory at the last scan.
    pub(crate) const fn memory(&self) -> SystemMemory {
        self.settings.memory()
    }

    pub(crate) const fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The kernel map, for its descriptors and its log.
    pub(crate) const fn kernel(&mut self) -> Option<&mut Kernel> {
        self.sources.kernel()
    }

    /// The current content of the kernel map; `None` if there is no map, or it cannot be read.
    pub(crate) fn kernel_survey(&mut self) -> Option<(SystemMemory, Vec<Reading>)> {
        self.sources.kernel_survey()
    }

    pub(crate) const fn victims(&self) -> &Victims {
        &self.terminations.victims
    }

    /// Takes the processes that were judged, or came near a limit, since the last call; `None` if there are none.
    pub(crate) fn take_judged(&mut self) -> Option<Judged> {
        self.judged.take()
    }

    /// The reported conditions that are not resolved.
    pub(crate) const fn conditions(&self) -> &Conditions {
        self.reports.conditions()
    }

    /// The time to read the ring again, because the CPU budget was used up: until then its events wake nobody.
    pub(crate) const fn resume(&self) -> Option<Instant> {
        self.budget.resume()
    }

    /// The time at which [`Engine::recheck_next`] is due.
    pub(crate) fn next_recheck(&self) -> Option<Instant> {
        self.rechecks.next()
    }

    /// Number of processes that are looked at again because nothing could be decided about them yet.
    pub(crate) fn undecided(&self) -> usize {
        self.rechecks.queue.undecided()
    }

    /// The processes that are over their limit and stay.
    pub(crate) const fn over_limit(&self) -> &OverLimit {
        &self.reports.over_limit
    }

    /// The growth rate of each process that has one.
    pub(crate) fn growth_rates(&self, now: Now) -> Vec<(ProcessId, Rate)> {
        let rss = |process| self.sources.again(process).map(|reading| reading.rss);
        self.growth.rates(self.sources.error(), now.monotonic(), rss)
    }

    /// The programs whose next termination is delayed.
    pub(crate) fn delayed(&self, now: Now) -> Vec<Waiting<'_>> {
        self.backoff.offenders.waiting(now.since_boot(), &self.settings.backoff()).collect()
    }
}

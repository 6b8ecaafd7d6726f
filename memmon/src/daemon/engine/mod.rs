//! The engine: from a reading to a signal. It waits for nothing and knows no socket; the event loop calls it with the time.
//!
//! From a reading to a signal, these files call each other in one direction:
//!
//! ```text
//! scan ──┐  every interval                    ┌─▶ levels: when the kernel wakes memmon for it next
//! wake ──┼─▶ close_look ─▶ verdict ───────────┤
//! recheck┘        (forked, uncharged, delayed) └─▶ terminate ─▶ grace: until it ends, or SIGKILL
//! ```
//!
//! - `stop` sends SIGSTOP instead, and `throttle` slows a cgroup down;
//! - `sums` does the same for what several processes hold together; `kernel_sums` has the kernel wake memmon for that;
//! - `machine` chooses a process if the machine as a whole is short of memory; `terminate` ends it;
//! - `approach` warns about a process that nears its limit, and `gear` has the kernel count more exactly then;
//! - `state` has what the engine keeps between two calls, `view` shows it to others, `change` puts other settings into force.

mod approach;
mod change;
mod close_look;
mod delayed;
#[cfg(test)]
mod doubt_tests;
mod exemptions;
mod forked;
mod gear;
mod given_back;
mod grace;
mod kernel_sums;
mod lasting;
mod levels;
mod machine;
#[cfg(test)]
mod machine_tests;
mod machine_view;
mod machine_writers;
mod recheck;
mod scan;
pub(super) mod state;
mod stop;
mod subject;
mod sums;
#[cfg(test)]
mod sums_tests;
mod sums_view;
mod terminate;
#[cfg(test)]
mod tests;
mod throttle;
#[cfg(test)]
mod throttle_tests;
mod uncharged;
mod verdict;
mod view;
mod wake;

use anyhow::Context as _;

use crate::config::Settings;
use crate::daemon::clock::Now;
use crate::daemon::engine::state::backoff::Backoff;
use crate::daemon::engine::state::budget::CpuBudget;
use crate::daemon::engine::state::growth::GrowthTracker;
use crate::daemon::engine::state::judged::Judged;
use crate::daemon::engine::state::known_limits::KnownLimits;
use crate::daemon::engine::state::machine::MachineState;
use crate::daemon::engine::state::recheck::Rechecks;
use crate::daemon::engine::state::reports::{Observer, Reports};
use crate::daemon::engine::state::settings::SettingsInForce;
use crate::daemon::engine::state::stopped::StoppedProcesses;
use crate::daemon::engine::state::sum_trends::SumTrends;
use crate::daemon::engine::state::sums::Sums;
use crate::daemon::engine::state::terminations::Terminations;
use crate::daemon::engine::state::throttled::ThrottledCgroups;
use crate::daemon::source::sources::Sources;
use crate::daemon::stopped_file::StoppedFile;
use crate::daemon::throttler::Throttler;
use crate::enforce::Reaper;
use crate::model::{Bytes, SystemMemory};
use crate::policy::WakeLevels;

/// The engine's state.
pub(super) struct Engine<'a> {
    settings: SettingsInForce,
    sources: Sources,
    growth: GrowthTracker,
    budget: CpuBudget,
    terminations: Terminations,
    rechecks: Rechecks,
    backoff: Backoff,
    known_limits: KnownLimits,
    sums: Sums,
    sum_trends: SumTrends,
    stopped: StoppedProcesses,
    stopped_file: Option<StoppedFile>,
    throttled: ThrottledCgroups,
    throttler: Option<Throttler>,
    machine: MachineState,
    reports: Reports<'a>,
    judged: Judged,
}

impl<'a> Engine<'a> {
    /// An engine that sends what it reports to `observer`. `once`: it makes one scan, and looks at nothing again later.
    pub(super) fn new(
        settings: Settings,
        mut sources: Sources,
        memory: SystemMemory,
        once: bool,
        reaper: Reaper,
        observer: &'a dyn Observer,
        now: Now,
    ) -> anyhow::Result<Self> {
        sources.follow(&settings.rules);
        let settings = SettingsInForce::new(settings, memory);
        let terminations = Terminations::new(settings.timing(), reaper);
        let mut engine = Self {
            terminations: terminations.context("no epoll instance for victims")?,
            settings,
            sources,
            // No limit is zero, so the first measurement sets the levels.
            growth: GrowthTracker::new(WakeLevels::new(Bytes::ZERO, Bytes::ZERO, None)),
            budget: CpuBudget::new(now.instant()),
            rechecks: Rechecks::new(once),
            backoff: Backoff::default(),
            known_limits: KnownLimits::default(),
            sums: Sums::default(),
            sum_trends: SumTrends::default(),
            stopped: StoppedProcesses::default(),
            stopped_file: None,
            throttled: ThrottledCgroups::default(),
            throttler: None,
            machine: MachineState::default(),
            reports: Reports::new(observer),
            judged: Judged::default(),
        };
        engine.measured(memory, now);
        Ok(engine)
    }
}

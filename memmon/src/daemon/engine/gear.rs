//! Changes the gear of the kernel side when a process is near its limit, and back.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tracing::debug;

use crate::daemon::clock::Now;
use crate::daemon::conditions::Degradation;
use crate::daemon::engine::Engine;
use crate::{
    model::{Bytes, Gear, ProcessId},
    policy,
};

/// Time that attaching may take before it is reported. Right after a detachment, and under load, it took up to 168 ms on
/// Linux 6.18.
const LATE: Duration = Duration::from_millis(50);

impl Engine<'_> {
    /// Takes the exact gear, or holds it, if a process that crossed a level could be terminated. It is called after the
    /// crossing was handled, so that no signal waits for it.
    pub(super) fn gear_after_crossing(&mut self, process: ProcessId, at: Duration, now: Now) {
        let asks = self.sources.kernel().is_some_and(|kernel| kernel.asks_who_is_near(now.instant()));
        if asks && self.is_near(process) {
            let begun = now.monotonic();
            self.shift_gear(true, now);
            let attached = now.monotonic();
            let (since, took) = (attached.saturating_sub(at), attached.saturating_sub(begun));
            debug!(pid = process.pid.0, gear = ?self.sources.gear(), ?since, ?took, "near its limit");
        }
    }

    /// Takes the gear that the processes of a scan need, of which `growing` have reached the lowest level.
    pub(super) fn gear_after_scan(&mut self, growing: &BTreeSet<ProcessId>, now: Now) {
        let is_near = self.sums.is_near() || growing.iter().any(|process| self.is_near(*process));
        self.shift_gear(is_near, now);
    }

    /// Takes the exact gear because a sum is above half of its limit.
    pub(super) fn gear_near_sum(&mut self, now: Now) {
        if self.sources.gear() == Some(Gear::Calm) {
            self.shift_gear(true, now);
        }
    }

    /// Whether a process that has reached the lowest level could be terminated if it grew.
    fn is_near(&self, process: ProcessId) -> bool {
        let could_be_terminated = || {
            let confirmed = self.sources.confirm(process.pid, Some(process.start), Bytes::MAX);
            confirmed.is_ok_and(|process| {
                policy::could_be_terminated(self.settings.rules(), &process, &self.settings.memory())
            })
        };
        self.terminations.contains(process) || self.growth.is_watched(process) && could_be_terminated()
    }

    fn shift_gear(&mut self, is_near: bool, now: Now) {
        // Without levels no change of the counters wakes memmon in either gear.
        if !self.settings.current().kernel.instant {
            return;
        }
        let begun = Instant::now();
        let Some(shifted) = self.sources.kernel().and_then(|kernel| kernel.shift(is_near, now.instant()))
        else {
            return;
        };
        match shifted {
            Ok(Gear::Exact) if begun.elapsed() > LATE => {
                self.reports.works(Degradation::NoExactGear);
                self.reports.degraded(Degradation::LateGear, || {
                    let took = begun.elapsed().as_millis();
                    format!("attaching the exact gear took {took} ms: a crossing may have been noticed late")
                });
            }
            Ok(_) => {
                self.reports.works(Degradation::NoExactGear);
                self.reports.works(Degradation::LateGear);
            }
            Err(error) => self.reports.degraded(Degradation::NoExactGear, || {
                format!("the exact gear cannot be attached, so that crossings are noticed at ticks: {error}")
            }),
        }
    }
}

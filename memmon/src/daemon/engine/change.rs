//! Other settings: by a reload or by the clock. Terminations in progress continue under their old settings, but the new
//! rules can spare a victim; if dry run is now enabled, they are cancelled.

use std::rc::Rc;

use jiff::Zoned;

use crate::config::Settings;
use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::enforce::{Course, OpenedProcess, Victims};
use crate::model::{Breach, Bytes, ProcessId};
use crate::report::Event;

impl Engine<'_> {
    /// Puts other settings into force, and returns the former ones for [`Engine::hand_over`].
    pub(crate) fn replace_settings(&mut self, settings: Settings) -> Rc<Settings> {
        self.sources.follow(&settings.rules);
        self.reports.start_over();
        self.throttled.keep_reported(|_| false);
        self.sums.start_over(settings.rules.sums == self.settings.rules().sums);
        self.known_limits.clear();
        self.settings.replace(settings)
    }

    /// Continues terminations under the settings `former`, or cancels them, and has every process looked at again.
    pub(crate) fn hand_over(&mut self, former: &Rc<Settings>, now: Now) {
        let orders = if self.settings.current().dry_run {
            self.terminations.victims.call_off(now.instant())
        } else {
            self.hold_victims(former);
            self.terminations.victims.rules_changed(self.settings.timing(), now.instant())
        };
        self.run_orders(orders, now);
        self.release_throttles(now);
        self.reset_wake_levels(now);
        self.sources.sweep_next();
    }

    /// Puts the settings of `[[schedule]]` for the current time into force. Returns whether they changed.
    pub(crate) fn follow_schedule(&mut self, time: &Zoned) -> bool {
        if !self.settings.current().is_behind(time) {
            return false;
        }
        let mut settings = self.settings.current().clone();
        settings.follow(time);
        let former = self.settings.replace(settings);
        self.known_limits.clear();
        self.hold_victims(&former);
        let Settings { rules, check_interval: interval, .. } = self.settings.current();
        let (interval, bytes) = (*interval, rules.limits.bytes());
        let limit = self.sources.memory().map_or(bytes, |memory| self.settings.rules().limit(&memory).1);
        self.reports.emit(Event::Scheduled { limit, interval });
        true
    }

    fn hold_victims(&mut self, former: &Rc<Settings>) {
        let victims: Vec<ProcessId> = self.terminations.victims.iter().map(|(victim, _)| victim.id).collect();
        self.settings.hold(victims.into_iter(), former);
    }

    /// Runs the code from a wake to a signal once, with memmon itself as the victim, and without sending a signal: after
    /// memory was locked, this code stays in memory.
    pub(crate) fn warm_up(&self, now: Now) {
        let own = self.settings.rules().own_pid;
        let opened = OpenedProcess::open(own);
        let Ok(process) = self.sources.confirm(own, None, Bytes::ZERO) else { return };
        let verdict = self.settings.judge(&process);
        let memory = self.settings.memory();
        let (rule, limit) = self.settings.rules().limit(&memory);
        let breach =
            Breach { rule, limit, rss: process.rss, percent: process.rss.percent_of(memory.total), by: None };
        if let Ok(mut victims) = Victims::new(self.settings.timing()) {
            // Its orders are not executed.
            drop(victims.start_termination(process, breach, Course::default(), now.instant()));
        }
        drop((opened, verdict));
    }
}

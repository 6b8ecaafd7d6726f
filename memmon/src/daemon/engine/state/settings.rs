//! The settings in force, and the former ones for victims whose termination began under them.

use std::{collections::HashMap, rc::Rc, time::Duration};

use crate::config::{Settings, Termination};
use crate::enforce::{BackoffPolicy, Course, EscalationTiming};
use crate::model::{Action, Breach, Bytes, Exemption, Process, ProcessId, SystemMemory, Verdict};
use crate::policy::{self, LimitRule, Rules, WakeLevels};

/// Time that a killed process may take to exit before this is reported.
const LINGERING: Duration = Duration::from_secs(5);

/// The settings, and the machine's memory that percentages refer to.
pub(crate) struct SettingsInForce {
    current: Settings,
    memory: SystemMemory,
    /// For victims whose termination began before the last change.
    former: HashMap<ProcessId, Rc<Settings>>,
}

impl SettingsInForce {
    pub(crate) fn new(current: Settings, memory: SystemMemory) -> Self {
        Self { current, memory, former: HashMap::new() }
    }

    pub(crate) const fn current(&self) -> &Settings {
        &self.current
    }

    pub(crate) const fn rules(&self) -> &Rules {
        &self.current.rules
    }

    pub(crate) const fn memory(&self) -> SystemMemory {
        self.memory
    }

    pub(crate) const fn measured(&mut self, memory: SystemMemory) {
        self.memory = memory;
    }

    /// The limit of `[thresholds]`, which holds for a process that no rule matches.
    pub(crate) fn limit(&self) -> Bytes {
        self.rules().limit(&self.memory).1
    }

    /// The limits that processes have: that of `[thresholds]`, and those of the rules; `None` for a rule without a limit.
    pub(crate) fn limits(&self) -> Vec<Option<Bytes>> {
        let rules = std::iter::once(None).chain(self.rules().rules.iter().map(Some));
        rules.map(|rule| Some(self.rules().limit_under(rule, &self.memory)?.1)).collect()
    }

    /// The limit of `process`; the highest number if it has none.
    pub(crate) fn limit_of(&self, process: &Process) -> Bytes {
        self.rules().limit_of(process, &self.memory)
    }

    pub(crate) fn judge(&self, process: &Process) -> Verdict {
        policy::judge(self.rules(), process, &self.memory)
    }

    /// The wake levels of every process that was not looked at yet: it may have the smallest limit of all.
    pub(crate) fn wake_levels(&self, error: Bytes) -> WakeLevels {
        self.levels_of(self.rules().least_limit(&self.memory), error)
    }

    /// The wake levels of a process with this limit.
    pub(crate) fn levels_of(&self, limit: Bytes, error: Bytes) -> WakeLevels {
        WakeLevels::new(limit, error, self.current.warn_at_percent)
    }

    /// The rule by which the limit of `breach` was exceeded.
    pub(crate) fn rule_of(&self, breach: &Breach) -> Option<&LimitRule> {
        self.rules().named(breach.by?)
    }

    /// The first signal and the grace for a process that is in `breach` of a limit.
    pub(crate) fn course(&self, breach: &Breach) -> Course {
        self.rule_of(breach).map(|rule| Course { signal: rule.signal, grace: rule.grace }).unwrap_or_default()
    }

    pub(crate) const fn timing(&self) -> EscalationTiming {
        let Termination { grace, reclaim, .. } = self.current.termination;
        EscalationTiming { grace, lingering: LINGERING, reclaim }
    }

    pub(crate) const fn backoff(&self) -> BackoffPolicy {
        let Termination { repeat_limit, repeat_window, repeat_backoff, .. } = self.current.termination;
        BackoffPolicy { limit: repeat_limit, window: repeat_window, backoff: repeat_backoff }
    }

    /// The exemptions, which are no setting: they stay when the settings change.
    pub(crate) const fn exemptions_mut(&mut self) -> &mut Vec<Exemption> {
        &mut self.current.rules.exemptions
    }

    /// Puts other settings into force, and returns the former ones.
    pub(crate) fn replace(&mut self, mut settings: Settings) -> Rc<Settings> {
        settings.rules.exemptions.clone_from(&self.current.rules.exemptions);
        Rc::new(std::mem::replace(&mut self.current, settings))
    }

    /// Keeps the settings `former` for terminations in progress, which began under them.
    pub(crate) fn hold(&mut self, victims: impl Iterator<Item = ProcessId>, former: &Rc<Settings>) {
        for victim in victims {
            self.former.entry(victim).or_insert_with(|| Rc::clone(former));
        }
    }

    /// Forgets the former settings of processes that are no victims any more.
    pub(crate) fn keep(&mut self, is_victim: impl Fn(ProcessId) -> bool) {
        self.former.retain(|process, _| is_victim(*process));
    }

    /// The settings by which the termination of a victim is brought to its end: those under which it began.
    pub(crate) fn of_victim(&self, victim: ProcessId) -> &Settings {
        self.former.get(&victim).map_or(&self.current, |settings| settings)
    }

    /// The verdict on a victim as it was `found` now. Its limit is the one under which its termination began, but the
    /// current rules may protect it, too.
    pub(crate) fn judge_victim(&self, victim: ProcessId, found: &Process, memory: &SystemMemory) -> Verdict {
        let rules = &self.of_victim(victim).rules;
        match policy::judge(rules, found, memory) {
            Verdict::Terminate(breach) if *rules != self.current.rules => {
                match policy::judge_as_over(&self.current.rules, found, memory) {
                    Verdict::Terminate(_) | Verdict::Stop(_) if self.stops(found, memory) => Verdict::Within,
                    Verdict::Terminate(_) | Verdict::Stop(_) => Verdict::Terminate(breach),
                    spared => spared,
                }
            }
            verdict => verdict,
        }
    }

    /// Whether the current rules would have a process stopped, and not terminated.
    fn stops(&self, process: &Process, memory: &SystemMemory) -> bool {
        let rules = &self.current.rules;
        let stops = rules.decisive(process).is_some_and(|rule| rule.action == Action::Stop);
        // Above the hard ceiling of such a rule it is terminated.
        stops && !matches!(policy::judge(rules, process, memory), Verdict::Terminate(_))
    }

    /// The memory above which a victim has no grace period; `None` if no size ends it. `due`: its memory at the end of its
    /// delay, if its termination was delayed, or would have been; the ceiling counts from that.
    pub(crate) fn ceiling(&self, victim: &Process, due: Option<Bytes>) -> Option<Bytes> {
        let settings = self.of_victim(victim.id);
        let limit = settings.rules.limit_of(victim, &self.memory).max(due.unwrap_or_default());
        settings.ceiling(victim, limit)
    }
}

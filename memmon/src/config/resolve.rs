//! Turns typed keys into settings: what they mean together, in units, with the users of this machine.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use super::{
    keys,
    problems::Problems,
    raw::Typed,
    schedule::Pace,
    settings::{History, Log, Settings, Status},
    toml_document::{Given, Keys, List},
    users::Users,
    values::{Reader, uid},
    warning::{Concern, Warning},
};
use crate::{
    model::{Action, Bytes, Pid, Uid},
    policy::{Limits, Rules, Scope, UidRanges},
};

/// The settings of `typed` on a machine with these `users`; `None` only if a key has no valid meaning, which is then in
/// `problems`. The problems of all other keys are reported all the same.
pub(super) fn settings(
    typed: Typed,
    users: &dyn Users,
    own_pid: Pid,
    problems: &mut Problems<'_>,
) -> Option<(Settings, Vec<Warning>)> {
    let Typed {
        thresholds,
        whitelist,
        settings,
        schedule,
        rules,
        scope,
        machine,
        kernel,
        termination,
        log,
        status,
        history,
        metrics,
        notify,
    } = typed;
    let keys::Thresholds {
        ram_percent_threshold,
        ram_gb_threshold,
        check_interval,
        warn_at_percent,
        measure,
    } = thresholds;
    let keys::Settings { dry_run, log_file, enable_syslog } = settings;
    let keys::Log { format, level, lines_per_minute, command_lines } = log;
    let honour_oom_score_adj = whitelist.honour_oom_score_adj;

    let mut reader = Reader { users, problems, warnings: Vec::new() };
    let limits = default_limits()
        .and_then(|otherwise| reader.limits(ram_percent_threshold, ram_gb_threshold, otherwise));
    let schedule = limits.map(|limits| reader.schedule(schedule, Pace { check_interval, limits }));
    let names_at = whitelist.names.as_ref().map(|list| list.span.clone());
    let whitelist = reader.whitelist(whitelist);
    let (mut own_rules, mut sums) = reader.rules(rules, notify.reaches_users());
    let scope = reader.scope(scope);
    let machine = reader.machine(machine);
    if let Some(span) = names_at {
        reader.warn_of_names_that_fell_away(&span, &whitelist, &scope);
    }
    let log =
        Log { file: log_file, format, system_log: enable_syslog, level, lines_per_minute, command_lines };

    // Whether a process is stopped or terminated depends on it, and policy does not know [termination].
    let throttled = sums.iter_mut().map(|sum| &mut sum.rule).filter(|rule| rule.action == Action::Throttle);
    for rule in own_rules.iter_mut().filter(|rule| rule.action == Action::Stop).chain(throttled) {
        rule.hard_ceiling = rule.hard_ceiling.or(termination.hard_ceiling).or(Some(0.0));
    }
    let status = reader.status(status);
    let keys::History { days, max_mb } = history;
    let history = History { days, bytes: Bytes(u64::from(max_mb) * Bytes::MIB) };
    let notify = reader.notify(notify);
    let Reader { mut warnings, .. } = reader;
    warnings.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    let rules = Rules {
        limits: limits?,
        measure,
        whitelist,
        scope,
        honour_oom_score_adj,
        own_pid,
        rules: own_rules,
        sums,
        // The daemon adds those of `memmon exempt`.
        exemptions: vec![],
    };
    Some((
        Settings {
            rules,
            check_interval,
            warn_at_percent,
            schedule: schedule?,
            dry_run,
            awaits_enable: false,
            log,
            machine,
            kernel,
            termination,
            status,
            history,
            metrics,
            notify,
        },
        warnings,
    ))
}

/// The limits if no key sets them.
pub(super) fn default_limits() -> Option<Limits> {
    let keys::Thresholds { ram_percent_threshold, ram_gb_threshold, .. } = Keys::defaults();
    Limits::new(ram_percent_threshold?.into_inner(), Bytes::from_gb(ram_gb_threshold?.into_inner())).ok()
}

/// The keys, section by section.
impl Reader<'_, '_> {
    /// The limits as typed; one that is left out is that of `otherwise`.
    pub(super) fn limits(
        &mut self,
        percent: Given<f64>,
        gb: Given<f64>,
        otherwise: Limits,
    ) -> Option<Limits> {
        let span = percent.as_ref().map_or(0..0, Spanned::span);
        let percent = percent.map_or(otherwise.percent(), Spanned::into_inner);
        let bytes = gb.map_or(otherwise.bytes(), |gb| Bytes::from_gb(gb.into_inner()));
        if percent < 1.0 && !span.is_empty() {
            let value = self.problems.quote(span.clone());
            self.warn(&span, Concern::Fraction { value });
        }
        Limits::new(percent, bytes)
            .map_err(|error| self.problems.add(span, error.to_string(), "set both limits above 0"))
            .ok()
    }

    /// `[scope]` narrows and never widens: left out, everything is in scope; but empty, or with an empty list, it is
    /// refused, because the administrator may want everything or nothing. A user that this machine
    /// does not know matches no process, and neither does a scope with such users only.
    fn scope(&mut self, (raw, empty): (keys::Scope, Option<Range<usize>>)) -> Scope {
        let keys::Scope { users, uids, cgroups } = raw;
        if let Some(heading) = empty {
            let help = "name users, uids or cgroups; without this section every process is in scope";
            self.problems.add(heading, "[scope] is empty", help);
        }
        let help = "name at least one; without this key it does not narrow the scope";
        self.refuse_empty(&[&users, &uids, &cgroups], help);
        let ranges = users.is_some() || uids.is_some();
        let mut in_scope = Vec::new();
        if let Some(list) = &uids {
            in_scope.extend(self.uid_ranges(list));
        }
        if let Some(list) = &users {
            in_scope.extend(self.users(list).into_iter().map(|(uid, _)| uid..=uid));
            if in_scope.is_empty() {
                self.warn(&list.span, Concern::NobodyInScope);
            }
        }
        let cgroups = cgroups.map(|list| self.cgroups(&list));
        Scope { uids: ranges.then(|| UidRanges::from_iter(in_scope)), cgroups }
    }

    pub(super) fn uid_ranges(&mut self, list: &List<String>) -> Vec<RangeInclusive<Uid>> {
        let mut ranges = Vec::new();
        for (entry, span) in self.entries(list) {
            let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
            match (uid(first.trim()), uid(last.trim())) {
                (Some(first), Some(last)) if first <= last => ranges.push(first..=last),
                (Some(first), Some(last)) => {
                    self.refuse(list.name(), &span, format!("the lower end goes first: \"{last}-{first}\""));
                }
                _ => {
                    let help = "expected a uid or a range of them, \"1000-59999\"".to_owned();
                    self.refuse(list.name(), &span, help);
                }
            }
        }
        ranges
    }

    /// If this machine does not know the group, only root may query the status.
    fn status(&mut self, typed: keys::Status) -> Status {
        let keys::Status { group, exempt, mine } = typed;
        let exempt_at = exempt.as_ref().map(Spanned::span);
        let exempt = exempt.is_some_and(Spanned::into_inner);
        let Some(group) = group.filter(|group| !group.get_ref().is_empty()) else {
            if let Some(span) = exempt_at.filter(|_| exempt) {
                self.warn(&span, Concern::NoEffect { key: "status.exempt", without: "status.group" });
            }
            return Status { mine, ..Status::default() };
        };
        let span = group.span();
        let group = group.into_inner();
        let gid = uid(&group).map(|Uid(gid)| gid).or_else(|| self.users.gid(&group));
        if gid.is_none() {
            self.warn(&span, Concern::UnknownGroup { name: group.clone() });
        }
        Status { group: Some(group), gid, exempt, mine }
    }
}

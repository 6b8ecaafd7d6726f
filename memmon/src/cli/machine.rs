//! The facts that commands read of the machine: the processes that are over a limit right now, and the administrator's
//! consent.

use std::path::Path;

use anyhow::Context as _;

use super::{matches::RuleMatches, over, unit};
use crate::{
    config::{self, Consent, Settings, Warning},
    daemon,
    inspect::Onlooker,
    observe::support::{self, Facts},
    policy::{self, Rules},
};

/// Settings that this machine, or memmon's unit on it, does not allow.
pub(super) fn preflight(settings: &Settings) -> Vec<Warning> {
    let mut warnings = daemon::preflight(settings);
    warnings.extend(unit::warnings(settings));
    warnings
}

/// Whether the installed service, if it uses the configuration `file`, is in dry run until `memmon enable` is run.
pub(super) fn awaits_enable(file: Option<&Path>) -> bool {
    let default = Path::new(config::DEFAULT_PATH);
    file.is_none_or(|file| file == default)
        && default.parent().is_some_and(Path::is_dir)
        && config::consent(default) != Consent::Given
}

/// The processes over a limit right now, each with its verdict.
pub(super) fn running(rules: &Rules) -> anyhow::Result<over::Running> {
    let onlooker = onlooker(rules.clone())?;
    let (memory, suspects) = onlooker.suspects()?;
    let sums = onlooker.sums(None, &memory)?;
    let all = if rules.rules.is_empty() && rules.sums.is_empty() { vec![] } else { onlooker.all()? };
    let matches = policy::coverage(rules, &all).into_iter().map(RuleMatches::from).collect();
    let judged = |process| {
        let verdict = policy::judge(rules, &process, &memory);
        (process, verdict)
    };
    Ok(over::Running { memory, judged: suspects.into_iter().map(judged).collect(), sums, rules: matches })
}

/// An onlooker that reads all that any rule could measure.
pub(super) fn onlooker(rules: Rules) -> anyhow::Result<Onlooker> {
    let accuracy = support::assess(&Facts::gather()).accuracy();
    Ok(Onlooker::new(rules, accuracy).context("/proc is needed for this")?.in_detail())
}

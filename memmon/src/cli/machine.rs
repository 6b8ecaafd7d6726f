//! What the commands read of the machine: the processes that are over a limit right now, and the administrator's consent.

use std::path::Path;

use anyhow::Context as _;

use super::{check, unit};
use crate::{
    config::{self, Consent, Settings, Warning},
    daemon,
    observe::{
        procfs::{Accuracy, ProcRoot},
        support::{self, Facts},
    },
    policy::{self, Rules},
};

/// What this machine, and memmon's unit on it, do not allow.
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
pub(super) fn running(rules: &Rules) -> anyhow::Result<check::Running> {
    let (proc, accuracy) = open(rules)?;
    let survey = proc.survey(&accuracy)?;
    let (_, limit) = rules.limit(&survey.memory);
    let judged = policy::suspects(rules, &survey)
        .iter()
        // A process that ended meanwhile, or that shows the memory of another one, is not over any limit.
        .filter_map(|suspect| proc.confirm(suspect.pid, suspect.start, limit, &accuracy).ok())
        .map(|process| {
            let verdict = policy::judge(rules, &process, &survey.memory);
            (process, verdict)
        })
        .collect();
    Ok(check::Running { memory: survey.memory, judged })
}

/// /proc, and how exact it is on this kernel.
pub(super) fn open(rules: &Rules) -> anyhow::Result<(ProcRoot, Accuracy)> {
    let proc = ProcRoot::real().context("/proc is needed for this")?;
    let proc = proc.onlooking().measuring(rules.measure).wanting(rules.wanted());
    Ok((proc, support::assess(&Facts::gather()).accuracy()))
}

//! The service: whether it starts, whether it enforces or runs in dry run, and which units of v1 are in the way.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::plan::{self, ENABLED, Facts, Step, V1_UNITS};
use crate::shell;

/// The source of answers to questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// The answer to every question is yes.
    Yes,
    /// A user at a terminal answers.
    Person,
    /// There is no terminal: nothing that could do harm is done.
    Nobody,
}

impl Answers {
    pub(crate) fn find(yes: bool) -> Self {
        match (yes, shell::is_interactive()) {
            (true, _) => Self::Yes,
            (false, true) => Self::Person,
            (false, false) => Self::Nobody,
        }
    }

    /// Whether the answer to `question` is yes; an unclear answer counts as no.
    pub(crate) fn agree(self, question: &str) -> Result<bool> {
        match self {
            Self::Yes => Ok(true),
            Self::Nobody => Ok(false),
            Self::Person => shell::ask(question, false),
        }
    }
}

/// The way to start the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Enforcing,
    /// In dry run, with the reason.
    DryRun(&'static str),
    /// The service is not started; the reason, and the command that would start it.
    Not(&'static str),
}

/// The state of systemd, and the user's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) no_start: bool,
    pub(crate) systemd: bool,
    /// v1's service is in force, and the user did not agree to retire it.
    pub(crate) v1_stays: bool,
    /// `memmon enable` was run earlier.
    pub(crate) enabled: bool,
    pub(crate) answers: Answers,
}

/// Decides how the service starts. `agree` is called at most once, and only if everything else allows enforcing.
pub(crate) fn start(wishes: Wishes, agree: impl FnOnce() -> Result<bool>) -> Result<Start> {
    let Wishes { no_start, systemd, v1_stays, enabled, answers } = wishes;
    Ok(if no_start {
        Start::Not("as you asked; `systemctl enable --now memmon` starts it")
    } else if !systemd {
        Start::Not("systemd does not run here; `memmon run` watches in the foreground")
    } else if v1_stays {
        Start::DryRun("v1's service is still in force, and two of them would strike the same processes")
    } else if enabled {
        Start::Enforcing
    } else if answers == Answers::Nobody {
        Start::DryRun("there is no terminal to ask whether it may enforce (--yes agrees)")
    } else if agree()? {
        Start::Enforcing
    } else {
        Start::DryRun("you did not agree that it enforces")
    })
}

/// Files to remove for `start`: the drop-in of earlier installations, and an earlier consent to enforce.
pub(crate) fn contradictions(start: &Start, facts: &Facts) -> Vec<Step> {
    let consent = facts.files.contains_key(Path::new(ENABLED)).then(|| Step::Remove(ENABLED.into()));
    match start {
        Start::Not(_) => Vec::new(),
        Start::Enforcing => plan::remove_drop_in(facts),
        Start::DryRun(_) => plan::remove_drop_in(facts).into_iter().chain(consent).collect(),
    }
}

/// Has the installed memmon show what it would terminate, and ask. Whether it may enforce.
pub(crate) fn enable(binary: &Path, answers: Answers) -> Result<bool> {
    let mut enable = Command::new(binary);
    enable.arg("enable").args((answers == Answers::Yes).then_some("--yes"));
    println!("$ {}", shell::shown(&enable));
    // Its status also depends on the service that still runs: that is restarted later.
    enable.status().with_context(|| format!("cannot start {}", binary.display()))?;
    Ok(Path::new(ENABLED).exists())
}

/// Whether systemd is this machine's init (sd_booted(3)).
pub(crate) fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The units of v1 that run beside memmon now, or would after the next boot. A disabled unit still exists as a file.
pub(crate) fn v1_in_force() -> Result<Vec<&'static str>> {
    let says = |verb, unit| {
        // systemctl fails if the answer is not yes.
        let output = Command::new("systemctl").args([verb, unit]).output().context("cannot ask systemd")?;
        let word = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        anyhow::Ok(["enabled", "enabled-runtime", "active", "activating", "reloading"].contains(&&*word))
    };
    let mut found = Vec::new();
    for unit in V1_UNITS {
        if says("is-enabled", unit)? || says("is-active", unit)? {
            found.push(unit);
        }
    }
    Ok(found)
}

/// Runs systemctl and shows the command.
pub(crate) fn systemctl(arguments: &[&str]) -> Result<()> {
    shell::run(Command::new("systemctl").args(arguments))
}

/// Updates journalctl's catalog, which explains memmon's messages (`journalctl -x`).
pub(crate) fn update_catalog() -> Result<()> {
    shell::run(Command::new("journalctl").arg("--update-catalog"))
}

/// Shows the processes that the installed memmon, with the installed configuration, would terminate now.
///
/// # Errors
/// The configuration cannot be used.
pub(crate) fn show_check(binary: &Path, config: &Path) -> Result<()> {
    shell::run(Command::new(binary).arg("check").arg(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISHES: Wishes =
        Wishes { no_start: false, systemd: true, v1_stays: false, enabled: false, answers: Answers::Person };

    #[test]
    fn it_enforces_only_if_the_user_agreed() {
        for (wishes, agrees, expected) in [
            (WISHES, Some(true), "Enforcing"),
            (WISHES, Some(false), "DryRun"),
            (Wishes { answers: Answers::Yes, ..WISHES }, Some(true), "Enforcing"),
            (Wishes { answers: Answers::Nobody, ..WISHES }, None, "DryRun"),
            (Wishes { v1_stays: true, answers: Answers::Yes, ..WISHES }, None, "DryRun"),
            (Wishes { enabled: true, answers: Answers::Nobody, ..WISHES }, None, "Enforcing"),
            (Wishes { enabled: true, v1_stays: true, answers: Answers::Yes, ..WISHES }, None, "DryRun"),
            (Wishes { systemd: false, answers: Answers::Yes, ..WISHES }, None, "Not"),
            (Wishes { no_start: true, answers: Answers::Yes, ..WISHES }, None, "Not"),
        ] {
            let mut asked = false;
            let start = start(wishes, || {
                asked = true;
                Ok(agrees == Some(true))
            })
            .unwrap();
            assert!(format!("{start:?}").starts_with(expected), "{wishes:?}: {start:?}");
            assert_eq!(asked, agrees.is_some(), "{wishes:?}");
        }
    }

    #[test]
    fn a_dry_run_leaves_no_consent_and_enforcing_no_drop_in() {
        let mut facts = Facts::default();
        let [enforcing, dry_run, not] = [Start::Enforcing, Start::DryRun("x"), Start::Not("x")];
        assert_eq!(contradictions(&dry_run, &facts), []);
        for path in [plan::DRY_RUN, ENABLED] {
            facts.files.insert(path.into(), Vec::new());
        }
        assert_eq!(contradictions(&enforcing, &facts)[0], Step::Remove(plan::DRY_RUN.into()));
        assert!(!contradictions(&enforcing, &facts).contains(&Step::Remove(ENABLED.into())));
        assert!(contradictions(&dry_run, &facts).contains(&Step::Remove(ENABLED.into())));
        assert_eq!(contradictions(&not, &facts), []);
    }
}

//! The service: whether it starts, enforcing or only watching, and what of v1's stands in the way.

use std::{io::IsTerminal as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{
    machine::Machine,
    plan::{DRY_RUN, Facts, Step, V1_UNITS},
};
use crate::shell;

/// Who answers questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Everything is agreed to.
    Yes,
    /// A person at a terminal.
    Person,
    /// Nobody: what could do harm is not done.
    Nobody,
}

impl Answers {
    pub(crate) fn find(yes: bool) -> Self {
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        match (yes, terminal) {
            (true, _) => Self::Yes,
            (false, true) => Self::Person,
            (false, false) => Self::Nobody,
        }
    }

    /// Whether the answer to `question` is yes; without a clear word it is no.
    pub(crate) fn agree(self, question: &str) -> Result<bool> {
        match self {
            Self::Yes => Ok(true),
            Self::Nobody => Ok(false),
            Self::Person => {
                use std::io::Write as _;
                print!("{question} [y/N] ");
                std::io::stdout().flush()?;
                let mut answer = String::new();
                std::io::stdin().read_line(&mut answer)?;
                Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
            }
        }
    }
}

/// How the service is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Enforcing,
    /// With the reason.
    DryRun(&'static str),
    /// With the reason, and what would start it.
    Not(&'static str),
}

/// What there is of systemd, and what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) no_start: bool,
    pub(crate) systemd: bool,
    /// v1's service is in force and was not to be retired.
    pub(crate) v1_stays: bool,
    pub(crate) answers: Answers,
}

/// How the service starts. `agree` is asked at most once, and only where everything else is clear.
pub(crate) fn start(wishes: Wishes, agree: impl FnOnce() -> Result<bool>) -> Result<Start> {
    let Wishes { no_start, systemd, v1_stays, answers } = wishes;
    Ok(if no_start {
        Start::Not("as you asked; `systemctl enable --now memmon` starts it")
    } else if !systemd {
        Start::Not("systemd does not run here; `memmon run` watches in the foreground")
    } else if v1_stays {
        Start::DryRun("v1's service is still in force, and two of them would strike the same processes")
    } else if answers == Answers::Nobody {
        Start::DryRun("nobody could be asked whether it may enforce (--yes agrees)")
    } else if agree()? {
        Start::Enforcing
    } else {
        Start::DryRun("you did not agree that it enforces")
    })
}

/// What has to lie beside the unit for `start`.
pub(crate) fn drop_in(start: &Start, binary: &Path, facts: &Facts) -> Vec<Step> {
    let above = Path::new(DRY_RUN).parent().unwrap_or(Path::new("/"));
    let there = facts.files.contains_key(Path::new(DRY_RUN));
    match start {
        Start::Not(_) => Vec::new(),
        Start::Enforcing if there => {
            vec![Step::Remove(DRY_RUN.into()), Step::RemoveDirectory(above.to_owned())]
        }
        Start::Enforcing => Vec::new(),
        Start::DryRun(why) => {
            let text = format!(
                "# Written by `cargo xtask install`: {why}.\n# To let memmon enforce: remove this file, then\n\
                 # systemctl daemon-reload && systemctl restart memmon\n[Service]\nExecStart=\n\
                 ExecStart={} run --dry-run\n",
                binary.display()
            );
            let create =
                (!facts.directories.contains(above)).then(|| Step::CreateDirectory(above.to_owned()));
            let write = Step::Write { path: DRY_RUN.into(), mode: 0o644, content: text.into_bytes() };
            create.into_iter().chain([write]).collect()
        }
    }
}

/// Whether systemd is this machine's init (sd_booted(3)).
pub(crate) fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Those of v1's units that run beside memmon now, or would at the next boot. One that is disabled is still a file.
pub(crate) fn v1_in_force() -> Result<Vec<&'static str>> {
    let says = |verb, unit| {
        // Another answer than yes is a failure for it.
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

/// Lets systemd do something with `unit`, in the open.
pub(crate) fn systemctl(arguments: &[&str]) -> Result<()> {
    shell::run(Command::new("systemctl").args(arguments))
}

/// Lets journalctl know what memmon's messages mean (`journalctl -x`), or no longer.
pub(crate) fn update_catalog() -> Result<()> {
    shell::run(Command::new("journalctl").arg("--update-catalog"))
}

/// Shows whom the installed memmon, with the installed configuration, would terminate now.
///
/// # Errors
/// The configuration cannot be used.
pub(crate) fn show_check(machine: &Machine, binary: &Path, config: &Path) -> Result<()> {
    shell::run(Command::new(machine.place(binary)).arg("check").arg(machine.place(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISHES: Wishes =
        Wishes { no_start: false, systemd: true, v1_stays: false, answers: Answers::Person };

    #[test]
    fn it_enforces_only_where_somebody_agreed() {
        for (wishes, agrees, expected) in [
            (WISHES, Some(true), "Enforcing"),
            (WISHES, Some(false), "DryRun"),
            (Wishes { answers: Answers::Yes, ..WISHES }, Some(true), "Enforcing"),
            (Wishes { answers: Answers::Nobody, ..WISHES }, None, "DryRun"),
            (Wishes { v1_stays: true, answers: Answers::Yes, ..WISHES }, None, "DryRun"),
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
    fn a_dry_run_can_be_seen_beside_the_unit_and_is_gone_when_it_enforces() {
        let binary = Path::new("/usr/local/sbin/memmon");
        let steps = drop_in(&Start::DryRun("x"), binary, &Facts::default());
        let [Step::CreateDirectory(above), Step::Write { path, content, .. }] = &steps[..] else {
            panic!("{steps:?}")
        };
        assert_eq!(path.parent(), Some(&**above));
        let text = String::from_utf8_lossy(content);
        assert!(text.ends_with("ExecStart=\nExecStart=/usr/local/sbin/memmon run --dry-run\n"), "{text}");
        let mut facts = Facts::default();
        assert_eq!(drop_in(&Start::Enforcing, binary, &facts), []);
        facts.files.insert(DRY_RUN.into(), Vec::new());
        assert_eq!(drop_in(&Start::Enforcing, binary, &facts)[0], Step::Remove(DRY_RUN.into()));
        assert_eq!(drop_in(&Start::Not("x"), binary, &facts), []);
    }
}

//! `memmon enable` and `memmon disable`: an administrator decides whether the service terminates processes.
//!
//! The decision is a file beside the configuration ([`config::consent_file`]); a reload puts it into force.

use std::{
    env,
    io::{self, BufRead as _, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use jiff::Zoned;
use nix::unistd;

use super::{exit::Exit, machine, over};
use crate::{
    config::{self, Consent, NameService},
    daemon,
    model::{Escaped, configuration_files},
    status::{Body, Client, Query, SOCKET},
};

/// Let the service terminate processes: show which ones are over the limit right now, and ask
///
/// memmon starts in dry run after an installation. This ends it, at once and for every later start; upgrades keep it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Enable {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// The configuration that the service uses; by default /etc/memmon/config.toml
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
}

/// Let the service terminate nothing from now on: dry run, at once and for every later start
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Disable {
    /// The configuration that the service uses; by default /etc/memmon/config.toml
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
}

/// Time that the daemon may take to put a reload into force.
const SOON: Duration = Duration::from_secs(10);

/// Shows what would be terminated, asks, and gives consent.
pub(super) fn enable(asked: &Enable, out: &mut dyn Write) -> anyhow::Result<Exit> {
    needs_root()?;
    let config = in_use(asked.config.as_deref());
    let loaded = config::load(asked.config.as_deref(), &NameService)?;
    ensure!(
        !loaded.settings.dry_run,
        "dry_run = true in [settings] of {} keeps memmon in dry run: set it to false, then enable memmon again",
        files(config, &loaded.fragments),
    );
    if !loaded.fragments.is_empty() {
        writeln!(out, "Configuration: {}", files(config, &loaded.fragments))?;
    }
    daemon::can_enforce(&loaded.settings)?;
    for warning in loaded.warnings.iter().chain(&machine::preflight(&loaded.settings)) {
        writeln!(out, "Warning: {warning}")?;
    }
    let mut settings = loaded.settings;
    settings.follow(&Zoned::now());
    let running = machine::running(&settings.rules)?;
    over::write(&settings.rules, &running, &NameService, out)?;
    over::write_sums(&settings.rules, &running, &NameService, out)?;
    out.flush()?;

    if !asked.yes {
        ensure!(
            io::stdin().is_terminal() && io::stdout().is_terminal(),
            "nothing was changed, as there is no terminal to ask at: --yes agrees beforehand"
        );
        write!(out, "Let memmon terminate these, and whatever exceeds a limit from now on? [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was changed");
    }
    let user = env::var("SUDO_USER").unwrap_or_else(|_| "root".to_owned());
    let when = Zoned::now().strftime("%Y-%m-%d %H:%M:%S %z").to_string();
    let file = config::consent_file(config);
    config::give_consent(config, &when, &Escaped(user.as_bytes()).to_string())
        .and_then(|()| match config::consent(config) {
            Consent::Given => Ok(()),
            Consent::Missing => Err(io::Error::other("it is gone again")),
            Consent::Untrusted(reason) => Err(io::Error::other(reason)),
        })
        .with_context(|| format!("{} cannot be written", file.display()))?;
    writeln!(out, "memmon is enabled ({}); `memmon disable` takes that back", file.display())?;
    put_into_force(config, false, out)
}

/// Takes consent back.
pub(super) fn disable(asked: &Disable, out: &mut dyn Write) -> anyhow::Result<Exit> {
    needs_root()?;
    let config = in_use(asked.config.as_deref());
    let file = config::consent_file(config);
    let was =
        config::withdraw_consent(config).with_context(|| format!("{} cannot be removed", file.display()))?;
    writeln!(out, "memmon {} enabled", if was { "is no longer" } else { "was not" })?;
    put_into_force(config, true, out)
}

/// The configuration in use.
fn in_use(asked: Option<&Path>) -> &Path {
    asked.unwrap_or(Path::new(config::DEFAULT_PATH))
}

fn files(config: &Path, fragments: &[PathBuf]) -> String {
    let shown = |path: &Path| Escaped(path.as_os_str().as_encoded_bytes()).to_string();
    configuration_files(&shown(config), fragments.iter().map(|path| shown(path)))
}

fn needs_root() -> anyhow::Result<()> {
    ensure!(unistd::geteuid().is_root(), "only root may decide this: use sudo");
    Ok(())
}

/// Has the service read its configuration again, and waits until it is in dry run or not, as it should be.
fn put_into_force(config: &Path, dry_run: bool, out: &mut dyn Write) -> anyhow::Result<Exit> {
    if config != Path::new(config::DEFAULT_PATH) {
        writeln!(
            out,
            "A memmon that runs with this configuration takes notice at its next start or reload (SIGHUP)."
        )?;
        return Ok(Exit::Ok);
    }
    let Some(before) = daemon_state() else {
        writeln!(out, "memmon is not running: `systemctl enable --now memmon` starts it")?;
        return Ok(Exit::Ok);
    };
    let active = Command::new("systemctl").args(["is-active", "--quiet", "memmon.service"]).status();
    if !active.is_ok_and(|status| status.success()) {
        bail!(
            "the memmon that runs (pid {}) is not the service: `kill -HUP {}` has it read its configuration again",
            before.pid,
            before.pid
        );
    }
    let reload = Command::new("systemctl").args(["reload", "memmon.service"]).status();
    ensure!(
        reload.is_ok_and(|status| status.success()),
        "`systemctl reload memmon` failed: systemctl status memmon"
    );
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        if daemon_state().is_some_and(|state| state.dry_run == dry_run) {
            writeln!(
                out,
                "{}",
                if dry_run {
                    "The service is in dry run now."
                } else {
                    "The service enforces its limits now."
                }
            )?;
            return Ok(Exit::Ok);
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!(
        "the service is {} after the reload: `memmon status` and `journalctl -u memmon` show why",
        if dry_run { "not in dry run" } else { "still in dry run" }
    )
}

fn daemon_state() -> Option<Box<crate::status::Status>> {
    let mut client = Client::connect(Path::new(SOCKET)).ok()?;
    match client.get(Query::Status) {
        Ok(Body::Status(status)) => Some(status),
        _ => None,
    }
}

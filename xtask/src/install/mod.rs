//! `cargo xtask install` and `cargo xtask uninstall`: put all files of memmon in their places, and remove them.
//!
//! `items` lists the files, `plan` (pure) decides what to do with them on this machine, `machine` reads and changes the
//! machine, `service` decides whether memmon starts and whether it enforces, `manifest` records what to remove later.

mod items;
mod machine;
mod manifest;
mod plan;
mod service;
#[cfg(test)]
mod tests;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use fs_err as fs;

#[cfg(test)]
pub(crate) use self::items::Kind;
pub(crate) use self::items::{Item, items};
use self::{
    items::CONFIG,
    machine::Machine,
    manifest::MANIFEST,
    plan::{Facts, Step},
    service::{Answers, Start, Wishes},
};
use crate::{
    build::{self, Release},
    privileges::Privileges,
    progress::Progress,
    setup, shell, workspace,
};

/// Build memmon and install it, with its unit, configuration, log rotation, manuals and completions
///
/// An edited configuration is never overwritten. Before memmon enforces, this command shows the processes that are over the
/// limits right now and asks; without a terminal (and without --yes) memmon starts in dry run. If v1 is installed, its
/// configuration is taken over, and its service is disabled if you agree.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Install into this directory as if it were the machine's root, and start nothing
    #[arg(long, value_name = "DIRECTORY")]
    destdir: Option<PathBuf>,
    /// Install programs and manuals below this directory
    #[arg(long, value_name = "DIRECTORY", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Do not start the service
    #[arg(long)]
    no_start: bool,
    /// Agree to everything: memmon enforces at once, and v1 is retired
    #[arg(long)]
    yes: bool,
    /// Install the files that an earlier run built
    #[arg(long)]
    no_build: bool,
}

/// Remove what `cargo xtask install` installed; an edited configuration and the log are kept
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Uninstall {
    /// The directory that was installed into
    #[arg(long, value_name = "DIRECTORY")]
    destdir: Option<PathBuf>,
    /// Remove the configuration, the logs, the history and the exemptions as well
    #[arg(long)]
    purge: bool,
}

const NO_SUDO: &str = "this needs root, and sudo is not installed: run the same command as root";

/// Installs.
pub(crate) fn main(options: &Options) -> Result<()> {
    let Options { destdir, prefix, no_start, yes, no_build } = options;
    let is_root = Privileges::of_this_process()?.is_root;
    // A build takes minutes.
    check_before_build(options, is_root, shell::find("sudo").is_some())?;
    let release = if *no_build { build::built_before()? } else { release()? };
    if destdir.is_none() && !is_root {
        return again_as_root(&["--no-build"]);
    }
    let machine = Machine::at(destdir.as_deref().unwrap_or(Path::new("/")));
    let items = items(&release, prefix)?;
    let mut facts = machine.look(&items)?;
    let answers = Answers::find(*yes);
    if let Some(config) = config_in_force(&facts).filter(|path| machine.place(path).exists()) {
        // A configuration that does not load stops the installation, before a service that would fail to start.
        service::show_check(&release.binary, &machine.place(config)).context("nothing was installed")?;
    }
    let systemd = destdir.is_none() && service::systemd_runs();
    let v1 = if systemd { service::v1_in_force()? } else { Vec::new() };
    facts.retire_v1 = systemd;
    if !v1.is_empty() {
        let names = v1.join(" and ");
        println!("v1's service is in force here: {names}");
        facts.retire_v1 = answers.agree(&format!("Disable {names}, which memmon replaces?"))?;
        if !facts.retire_v1 {
            println!("it stays as it is");
        }
    }
    perform(&machine, &plan::install(&items, &facts))?;
    if destdir.is_some() {
        return Ok(());
    }

    let v1_stays = !v1.is_empty() && !facts.retire_v1;
    let enabled = facts.files.contains_key(Path::new(plan::ENABLED));
    let wishes = Wishes { no_start: *no_start, systemd, v1_stays, enabled, answers };
    let binary = prefix.join("sbin/memmon");
    if !v1.is_empty() && facts.retire_v1 {
        v1.iter().try_for_each(|unit| service::systemctl(&["disable", "--now", unit]))?;
        println!(
            "v1's files are left in /opt/memory-monitor and /etc/systemd/system: remove them when you like"
        );
    }
    let start = service::start(wishes, || service::enable(&binary, answers))?;
    perform(&machine, &service::contradictions(&start, &facts))?;
    if wishes.systemd {
        service::systemctl(&["daemon-reload"])?;
        service::update_catalog()?;
    }
    match start {
        Start::Not(why) => println!("memmon was not started: {why}"),
        Start::DryRun(why) => {
            service::systemctl(&["enable", "memmon.service"])?;
            service::systemctl(&["restart", "memmon.service"])?;
            println!("memmon runs in dry run: {why}; `memmon enable` ends that");
        }
        Start::Enforcing => {
            service::systemctl(&["enable", "memmon.service"])?;
            service::systemctl(&["restart", "memmon.service"])?;
            println!("memmon watches and enforces: `journalctl -u memmon -f`");
        }
    }
    Ok(())
}

/// Refuses what could not be installed after the build.
fn check_before_build(options: &Options, is_root: bool, has_sudo: bool) -> Result<()> {
    let Options { destdir, prefix, .. } = options;
    if !prefix.is_absolute() {
        bail!("--prefix {}: it must be an absolute path", prefix.display());
    }
    if destdir.is_none() && !is_root && !has_sudo {
        bail!("{NO_SUDO}");
    }
    Ok(())
}

/// Builds a new release. The tools that build the BPF half are installed first if they are missing.
fn release() -> Result<Release> {
    let mut progress = Progress::before(build::STEPS);
    build::release(&setup::toolchain(&mut progress)?, &mut progress)
}

/// Puts `items` into the empty tree `root`, and nothing else.
pub(crate) fn stage(items: &[Item], root: &Path) -> Result<()> {
    let machine = Machine::at(root);
    let steps = plan::install(items, &machine.look(items)?);
    let is_record = |step: &Step| matches!(step, Step::Write { path, .. } | Step::CreateDirectory(path) if path.starts_with("/var"));
    steps.iter().filter(|step| !is_record(step)).try_for_each(|step| machine.perform(step))
}

/// The configuration that an installed memmon would use, if it exists already.
fn config_in_force(facts: &Facts) -> Option<&'static Path> {
    [CONFIG, plan::V1_CONFIG].into_iter().map(Path::new).find(|path| facts.files.contains_key(*path))
}

/// Uninstalls.
pub(crate) fn away(options: &Uninstall) -> Result<()> {
    let Uninstall { destdir, purge } = options;
    if destdir.is_none() && !Privileges::of_this_process()?.is_root {
        return again_as_root(&[]);
    }
    let machine = Machine::at(destdir.as_deref().unwrap_or(Path::new("/")));
    let facts = machine.look(&[])?;
    if facts.manifest.is_empty() {
        bail!(
            "nothing was installed here by `cargo xtask install` ({} is not there)",
            machine.place(MANIFEST).display()
        );
    }
    let systemd = destdir.is_none() && service::systemd_runs();
    if systemd {
        service::systemctl(&["disable", "--now", "memmon.service"])?;
    }
    let shipped = fs::read(workspace::root().join("config.toml"))?;
    perform(&machine, &plan::uninstall(&shipped, &facts, *purge))?;
    if systemd {
        service::systemctl(&["daemon-reload"])?;
        service::update_catalog()?;
    }
    Ok(())
}

/// Performs `steps` and prints each.
fn perform(machine: &Machine, steps: &[Step]) -> Result<()> {
    for step in steps {
        println!("{step}");
        machine.perform(step)?;
    }
    Ok(())
}

/// Runs the same command through sudo(8), with `more` arguments.
fn again_as_root(more: &[&str]) -> Result<()> {
    if shell::find("sudo").is_none() {
        bail!("{NO_SUDO}");
    }
    let this = env::current_exe().context("cannot find this program's path")?;
    shell::run(Command::new("sudo").arg(this).args(env::args_os().skip(1)).args(more))
}

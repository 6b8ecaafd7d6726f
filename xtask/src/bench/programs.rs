//! memmon, and the programs that it is compared to: built, or fetched if possible.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use fs_err as fs;

use super::child::{Mounts, Running};
use crate::{debian_programs, ebpf, shell, toolchain, workspace};

/// The input of every section.
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    pub(crate) quick: bool,
    pub(crate) long: bool,
}

impl Bench {
    /// The number of rounds, full or quick.
    pub(crate) const fn rounds(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// Paths of programs.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) memmon: PathBuf,
    /// memmon/examples/load, which starts the hog beside it.
    pub(crate) load: PathBuf,
    /// Folder for configurations and build output of the benchmarks.
    pub(crate) scratch: PathBuf,
    /// A python with psutil, or the reason why there is none.
    python: Result<PathBuf, String>,
    earlyoom: Result<PathBuf, String>,
}

impl Programs {
    /// Builds memmon as a release or, if `quick`, as a debug build. With `peers`, fetches the programs that it is compared to,
    /// if they are available.
    pub(crate) fn get(quick: bool, peers: bool) -> Result<Self> {
        let tools = toolchain::find()?;
        ebpf::build(&tools)?;
        let root = workspace::root();
        let mut build = workspace::cargo();
        build.args(["build", "--quiet", "--package=memmon", "--bin=memmon"]);
        build.args(["--example=load", "--example=hog"]);
        let profile = if quick { "debug" } else { "release" };
        if !quick {
            build.arg("--release");
        }
        shell::run(&mut build)?;
        let built = workspace::target_dir().join(profile);
        let scratch = root.join("target/bench");
        fs::create_dir_all(&scratch)?;
        let fetched = |fetch: fn(&Path) -> Result<PathBuf>| match peers {
            true => fetch(&scratch).map_err(|error| format!("{error:#}")),
            false => Err("not requested".to_owned()),
        };
        Ok(Self {
            memmon: built.join("memmon"),
            load: built.join("examples/load"),
            python: fetched(python),
            earlyoom: fetched(earlyoom),
            scratch,
        })
    }

    /// The same programs, with another memmon.
    pub(crate) fn with(&self, memmon: PathBuf) -> Self {
        Self { memmon, ..self.clone() }
    }

    /// One of the loads.
    pub(crate) fn load(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.load);
        command.args(words);
        command
    }

    /// Starts one of the loads.
    pub(crate) fn start(&self, words: &[&str]) -> Result<Running> {
        Running::start(&mut self.load(words), Mounts::Shared)
    }

    /// Starts one of the loads that report when they are ready, and waits for that.
    pub(crate) fn start_ready(&self, words: &[&str]) -> Result<Running> {
        let mut load = self.start(words)?;
        load.line("that it is ready", |line| line == "ready")?;
        Ok(load)
    }

    /// The polling design with psutil, which passes over all processes every `interval` seconds.
    pub(crate) fn polling(&self, interval: f64) -> Result<Command, String> {
        let mut command = Command::new(self.python.as_ref()?);
        command
            .arg(workspace::root().join("xtask/bench/polling.py"))
            .args([interval.to_string(), (2_u64 << 30).to_string()]);
        Ok(command)
    }

    /// earlyoom with its defaults, in dry run.
    pub(crate) fn earlyoom(&self) -> Result<Command, String> {
        let mut command = Command::new(self.earlyoom.as_ref()?);
        command.args(["--dryrun", "-r", "0"]);
        Ok(command)
    }
}

/// A virtual environment with psutil from PyPI.
fn python(scratch: &Path) -> Result<PathBuf> {
    let environment = scratch.join("venv");
    let python = environment.join("bin/python");
    if shell::read(Command::new(&python).args(["-c", "import psutil"])).is_err() {
        shell::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        shell::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "psutil"]))?;
    }
    Ok(python)
}

/// Unpacks Debian's package. It is never installed, because that would start the service.
fn earlyoom(scratch: &Path) -> Result<PathBuf> {
    let folder = scratch.join("earlyoom");
    let program = folder.join("usr/bin/earlyoom");
    if !shell::is_executable(&program) {
        debian_programs::unpack(&mut Command::new("apt-get"), &["earlyoom"], &folder)?;
    }
    Ok(program)
}

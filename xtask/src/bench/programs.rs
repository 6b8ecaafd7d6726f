//! memmon, and the programs that it is compared to: built, or fetched if possible.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    ebpf, shell,
    toolchain::{self, ToolchainChoice},
    workspace,
};

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
        let tools = toolchain::choose(ToolchainChoice::Auto, &toolchain::look())?;
        ebpf::build(&tools)?;
        let root = workspace::root();
        let mut build = shell::cargo();
        build.current_dir(root).args([
            "build",
            "--quiet",
            "--package=memmon",
            "--bin=memmon",
            "--example=load",
            "--example=hog",
        ]);
        let profile = if quick { "debug" } else { "release" };
        if !quick {
            build.arg("--release");
        }
        shell::run(&mut build)?;
        let built = target_dir()?.join(profile);
        let scratch = root.join("target/bench");
        fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
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

/// The folder of cargo's build output.
fn target_dir() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find this program's path")?;
    // target/debug/xtask
    Ok(this.ancestors().nth(2).unwrap_or(Path::new("target")).to_owned())
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
        fs::create_dir_all(&folder)?;
        shell::run(Command::new("apt-get").args(["download", "--quiet=2", "earlyoom"]).current_dir(&folder))?;
        let package = fs::read_dir(&folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get downloaded nothing")?;
        shell::run(Command::new("dpkg").arg("-x").arg(package).arg(&folder))?;
    }
    Ok(program)
}

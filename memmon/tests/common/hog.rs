//! Starts and controls hogs; examples/hog.rs lists their steps.

use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{TestUser, eventually, is_dead, lines::Lines};

/// Maximum of memory for all hogs of one test binary together.
const MOST: u64 = 1 << 30;

static HELD: AtomicU64 = AtomicU64::new(0);

/// A hog. Dropping it kills and reaps it; its own children die with it.
pub struct Hog {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines,
    share: u64,
}

impl TestUser {
    /// Starts a hog as this user. `script` is split at blanks.
    pub fn hog(&self, script: &str) -> Hog {
        self.hog_after("", script)
    }

    /// The same, and waits until it has come to its step `hold`.
    pub fn holding(&self, script: &str) -> Hog {
        let hog = self.hog(script);
        hog.begun("hold");
        hog
    }

    /// Starts a hog as [`TestUser::hog`] does, with steps that root runs first (`oom-adj -900`, `file PATH 10M`).
    pub fn hog_after(&self, as_root: &str, script: &str) -> Hog {
        self.hog_by(&mut Command::new(program()), as_root, script)
    }

    /// The same by a command of a hog, which gets its steps here.
    pub fn hog_by(&self, command: &mut Command, as_root: &str, script: &str) -> Hog {
        let uid = format!("uid {}", self.uid);
        let hog = Hog::start_by(command, &format!("{as_root} {uid} {script}"));
        hog.ready(&uid);
        hog
    }
}

/// Processes that this test starts count as started by runit, as long as this lives: memmon knows a supervisor by its comm.
pub struct Supervisor(String);

impl Supervisor {
    /// Takes the name.
    pub fn pretend() -> Self {
        let before = fs::read_to_string(COMM).unwrap_or_else(|error| panic!("{COMM}: {error}"));
        fs::write(COMM, "runsv").unwrap_or_else(|error| panic!("{COMM}: {error}"));
        Self(before)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = fs::write(COMM, &self.0);
    }
}

const COMM: &str = "/proc/self/comm";

impl Hog {
    /// Starts a hog as the user that runs the test.
    pub fn start(script: &str) -> Self {
        Self::start_by(&mut Command::new(program()), script)
    }

    fn start_by(command: &mut Command, script: &str) -> Self {
        // The sum of the sizes in the script: an upper bound, not an exact figure.
        let share = script.split_whitespace().filter_map(megabytes).sum::<u64>() << 20;
        let held = HELD.fetch_add(share, Ordering::Relaxed) + share;
        assert!(held <= MOST, "the hogs of this test would hold {held} bytes");
        let mut child = command
            .args(script.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("starting a hog: {error}"));
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both are pipes")
        };
        Self { child, stdin: Some(stdin), lines: Lines::of(stdout), share }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it reports that `step` is done.
    pub fn ready(&self, step: &str) {
        self.line(&format!("{} ready {step}", self.pid()));
    }

    /// Waits until it reports that it began `step`. If that is `hold`, all earlier steps are done.
    pub fn begun(&self, step: &str) {
        self.line(&format!("{} begin {step}", self.pid()));
    }

    /// Waits until it has reported this twice.
    pub fn begun_again(&self, step: &str) {
        let line = format!("{} begin {step}", self.pid());
        let times = || self.lines.so_far().into_iter().filter(|found| *found == line).count();
        eventually(&format!("{line} twice"), || times() >= 2);
    }

    /// Waits for its first child by `how` (`fork`, `vfork-exec`) and returns that child's pid.
    pub fn child(&self, how: &str) -> u32 {
        let start = format!("{} ready {how} ", self.pid());
        let hog = format!("hog {}", self.pid());
        let line = self.lines.wait_for(&hog, &start, |found| found.starts_with(&start));
        line[start.len()..].parse().unwrap_or_else(|error| panic!("the pid in `{line}`: {error}"))
    }

    /// The pids of `count` children, in the order in which they were forked.
    pub fn children(&self, how: &str, count: usize) -> Vec<u32> {
        let start = format!("{} ready {how} ", self.pid());
        let pids = || -> Vec<u32> {
            let lines = self.lines.so_far();
            lines.iter().filter_map(|line| line.strip_prefix(&start)?.parse().ok()).collect()
        };
        eventually("the children", || pids().len() >= count);
        pids()
    }

    /// Waits for a line, for example of a child: `123 ready anon 20M`. Earlier lines count, too.
    pub fn line(&self, line: &str) {
        self.lines.wait_for(&format!("hog {}", self.pid()), line, |found| found == line);
    }

    /// The state letter of /proc/PID/stat: `T` for stopped, `Z` for a zombie.
    pub fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?')
    }

    /// Ends `hold`.
    pub fn release(&mut self) {
        self.stdin = None;
    }

    /// Sends it SIGTERM, which ends `wait-term`.
    pub fn term(&self) {
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, Signal::SIGTERM).unwrap_or_else(|error| panic!("SIGTERM to hog {pid}: {error}"));
    }

    /// Whether it still runs. This does not reap it, so that no other process can get its pid.
    pub fn is_alive(&self) -> bool {
        !is_dead(self.pid())
    }

    /// Waits for its end.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                other => panic!("hog {} is still there after {within:?}: {other:?}", self.pid()),
            }
        }
    }

    /// Waits for its end and returns the signal that ended it, if one did.
    pub fn ended_by(&mut self, within: Duration) -> Option<i32> {
        self.ended(within).signal()
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // Only this value reaps the child, so that the pid is still the child's.
        let _ = self.child.kill();
        let _ = self.child.wait();
        HELD.fetch_sub(self.share, Ordering::Relaxed);
    }
}

fn megabytes(word: &str) -> Option<u64> {
    word.strip_suffix('M').and_then(|digits| digits.parse().ok())
}

/// The hog that `cargo test` built.
pub fn program() -> PathBuf {
    example("hog", &["hog.rs", "shared/mod.rs"])
}

/// The example with these sources that `cargo test` built, next to the test binaries.
pub fn example(name: &str, sources: &[&str]) -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_memmon"));
    let program = binary.with_file_name("examples").join(name);
    let age = |path: &Path| fs::metadata(path).and_then(|found| found.modified());
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let written = sources.iter().filter_map(|part| age(&examples.join(part)).ok()).max();
    match (age(&program), written) {
        (Err(error), _) => panic!("{}: {error}; run `cargo build --example {name}`", program.display()),
        // Without the source (in a VM) the build's age cannot be checked.
        (Ok(built), Some(written)) if built < written => {
            panic!("{} is older than its source; run `cargo build --example {name}`", program.display())
        }
        _ => program,
    }
}

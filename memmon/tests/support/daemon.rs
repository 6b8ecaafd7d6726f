//! The one way in which tests start an enforcing memmon.

use std::{
    fs,
    io::{self, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{TestUser, descends_from, lines::Lines, processes_of};

/// What an enforcing run may be given on its command line besides its configuration.
const ARGUMENTS: [&str; 6] = ["--source", "auto", "ebpf", "proc", "--once", "--dry-run"];

/// A configuration that can touch nothing but processes of one test user.
pub struct ScopedConfig {
    text: String,
    uid: u32,
}

impl ScopedConfig {
    /// `text` without a `[scope]`, which is added here.
    ///
    /// Panics unless the outcome is TOML whose scope is `users = ["<uid>"]` and nothing else: what memmon would
    /// make of anything else is not to be found out on a machine that matters.
    pub fn new(user: &TestUser, text: &str) -> Self {
        let uid = user.uid;
        let text = format!("{text}\n[scope]\nusers = [\"{uid}\"]\n");
        assert_scoped(&text, uid);
        Self { text, uid }
    }
}

fn assert_scoped(text: &str, uid: u32) {
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("no valid TOML: {error}\n{text}"));
    let only: toml::Table = [("users".into(), vec![uid.to_string()].into())].into_iter().collect();
    assert_eq!(table.get("scope"), Some(&only.into()), "an enforcing memmon needs this very scope");
}

/// A running memmon in a mount namespace of its own: no pin, lock or log of it stays, and tests do not meet.
pub struct Daemon {
    child: Child,
    lines: Lines,
    dir: TempDir,
    uid: u32,
}

impl Daemon {
    /// The event that says that the daemon watches now, in the JSON format.
    const STARTED: &str = r#""event":"started""#;

    /// Starts `memmon run` with this configuration and waits until it says that it watches.
    ///
    /// The configuration should say `format = "json"` under `[log]`, which [`Daemon::started`] waits for;
    /// [`Daemon::spawn`] does not wait.
    pub fn start(config: &ScopedConfig, arguments: &[&str]) -> Self {
        let daemon = Self::spawn(config, arguments);
        daemon.started();
        daemon
    }

    /// Starts `memmon run` and returns at once.
    pub fn spawn(config: &ScopedConfig, arguments: &[&str]) -> Self {
        for argument in arguments {
            assert!(ARGUMENTS.contains(argument), "{argument} is not for enforcing tests");
        }
        let uid = config.uid;
        let foreign: Vec<u32> =
            processes_of(uid).into_iter().filter(|&pid| !descends_from(pid, std::process::id())).collect();
        assert!(foreign.is_empty(), "processes of uid {uid} that this test did not start: {foreign:?}");

        let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("temporary directory: {error}"));
        write_config(&dir, config);
        let (reader, writer) = io::pipe().unwrap_or_else(|error| panic!("pipe: {error}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_memmon"));
        command.args(["run", "--config"]).arg(dir.path().join(CONFIG)).args(arguments);
        command
            .stdin(Stdio::null())
            .stderr(writer.try_clone().unwrap_or_else(|error| panic!("pipe: {error}")));
        command.stdout(writer).current_dir(dir.path()).env("NO_COLOR", "1");
        in_private_mounts(&mut command);
        let child = command.spawn().unwrap_or_else(|error| panic!("starting memmon: {error}"));
        drop(command); // with its ends of the pipe, so that the reader sees the daemon's end
        Self { child, lines: Lines::of(reader), dir, uid }
    }

    /// Waits until it says that it watches.
    pub fn started(&self) -> String {
        self.line("the started event", |line| line.replace(' ', "").contains(Self::STARTED))
    }

    /// The daemon's pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A directory that lives as long as the daemon: for its log file, say.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Waits for a line on stdout or stderr, from the first one on, that `matches`. `what` is for the failure.
    pub fn line(&self, what: &str, matches: impl Fn(&str) -> bool) -> String {
        self.lines.wait_for("memmon", what, matches)
    }

    /// All that it said so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.so_far()
    }

    /// Puts another configuration in place and sends SIGHUP. It is bound to the same user.
    pub fn reload(&self, config: &ScopedConfig) {
        assert_eq!(config.uid, self.uid, "a reload stays with its user");
        write_config(&self.dir, config);
        self.signal(Signal::SIGHUP);
    }

    /// Sends it SIGHUP, SIGINT, …
    pub fn signal(&self, signal: Signal) {
        // The child is not reaped before `stop` or `drop`: its pid is its own.
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, signal).unwrap_or_else(|error| panic!("{signal} to memmon: {error}"));
    }

    /// Sends SIGTERM, demands a clean end within a second, and returns all that it said.
    pub fn stop(mut self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(1);
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                other => panic!("memmon did not end: {other:?}; it said:\n{}", self.lines().join("\n")),
            }
        };
        let said = self.lines().join("\n");
        assert!(status.success(), "exit {:?}, signal {:?}; it said:\n{said}", status.code(), status.signal());
        self.lines.to_the_end()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let _ = writeln!(io::stderr(), "memmon said:\n{}", self.lines().join("\n"));
        }
    }
}

const CONFIG: &str = "config.toml";

/// Written beside and moved into place: a reload never meets half a file, and so never one without its scope.
fn write_config(dir: &TempDir, config: &ScopedConfig) {
    assert_scoped(&config.text, config.uid);
    let (draft, place) = (dir.path().join("draft"), dir.path().join(CONFIG));
    let written = fs::write(&draft, &config.text).and_then(|()| fs::rename(&draft, &place));
    written.unwrap_or_else(|error| panic!("{}: {error}", place.display()));
}

/// bpffs at its usual place, empty /run and /var/log: pins, locks, sockets and logs of the host are out of reach,
/// and all that memmon leaves there is gone with its last process.
#[expect(unsafe_code, reason = "runs between fork and exec")]
pub fn in_private_mounts(command: &mut Command) {
    let prepare = || {
        // SAFETY: one integer; the daemon must not outlive a test that is killed.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        unshare(CloneFlags::CLONE_NEWNS)?;
        let (none, no_data) = (None::<&str>, None::<&str>);
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, no_data)?;
        for place in ["/run", "/var/log"] {
            mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=16m"))?;
        }
        match mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), no_data) {
            // A kernel without BPF: the daemon itself says so.
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            other => Ok(other?),
        }
    };
    // SAFETY: system calls only; short strings are copied to the stack, nothing is allocated.
    unsafe { command.pre_exec(prepare) };
}

//! Starts an enforcing memmon for tests. There is no other way to do so.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{
    TestUser, descends_from,
    lines::Lines,
    log::SOON,
    processes_of,
    unit::{self, DropIn},
};

/// Arguments that an enforcing run may have, besides its configuration.
const ARGUMENTS: [&str; 7] =
    ["--source", "auto", "ebpf", "proc", "--once", "--dry-run", "--dry-run-until-enabled"];

/// A configuration that can only touch processes of one test user.
pub struct ScopedConfig {
    text: String,
    uid: u32,
}

impl ScopedConfig {
    /// Adds the `[scope]` to `text`, which must not have one.
    ///
    /// Panics unless the result is TOML whose scope is `users = ["<uid>"]` (and `cgroups`), because with any other scope
    /// memmon might touch processes of the host.
    pub fn new(user: &TestUser, text: &str) -> Self {
        let uid = user.uid;
        let text = format!("{text}\n[scope]\nusers = [\"{uid}\"]\n");
        assert_scoped(&text, uid);
        Self { text, uid }
    }

    /// The same, narrowed to cgroups as well: a process must be in both.
    pub fn and_in_cgroup(self, glob: &str) -> Self {
        let Self { text, uid } = self;
        let text = format!("{text}cgroups = [\"{glob}\"]\n");
        assert_scoped(&text, uid);
        Self { text, uid }
    }

    fn table(&self) -> toml::Table {
        parsed(&self.text)
    }
}

fn parsed(text: &str) -> toml::Table {
    text.parse().unwrap_or_else(|error| panic!("invalid TOML: {error}\n{text}"))
}

fn assert_scoped(text: &str, uid: u32) {
    let table = parsed(text);
    let mut scope = table.get("scope").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    // `cgroups` can only narrow the scope further.
    scope.remove("cgroups");
    let only: toml::Table = [("users".into(), vec![uid.to_string()].into())].into_iter().collect();
    assert_eq!(scope, only, "an enforcing memmon needs exactly this scope");
}

/// A running memmon in its own mount namespace: its pin, lock and log disappear with it, and tests do not interfere.
pub struct Daemon {
    child: Child,
    lines: Lines,
    dir: TempDir,
    uid: u32,
    mounts: Option<File>,
}

impl Daemon {
    /// Parts of the line that reports the start, in the JSON format and in v1's.
    const STARTED: [&str; 2] = [r#""event":"started""#, " started. Limit: "];

    /// Starts `memmon run` with this configuration and waits until it watches.
    pub fn start(config: &ScopedConfig, arguments: &[&str]) -> Self {
        let daemon = Self::spawn(config, arguments);
        daemon.started();
        daemon
    }

    /// Starts `memmon run` and returns at once.
    pub fn spawn(config: &ScopedConfig, arguments: &[&str]) -> Self {
        Self::spawn_prepared(config, arguments, |_| {})
    }

    /// The same, after `prepare` changed the command (its `pre_exec` runs after the mounts).
    pub fn spawn_prepared(
        config: &ScopedConfig,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        Self::spawn_where(config, arguments, |command| {
            in_private_mounts(command);
            prepare(command);
        })
    }

    /// Starts another memmon in the mount namespace of this one, which may have ended: they share pin, lock and logs.
    pub fn spawn_beside(&self, config: &ScopedConfig, arguments: &[&str]) -> Self {
        self.spawn_beside_prepared(config, arguments, |_| {})
    }

    /// The same, after `prepare` changed the command.
    pub fn spawn_beside_prepared(
        &self,
        config: &ScopedConfig,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        Self::spawn_where(config, arguments, |command| {
            in_mounts(command, self.mounts());
            prepare(command);
        })
    }

    /// Starts `memmon run` through another program, such as `unshare --fork --pid`, in its own mounts. A signal would
    /// reach that program, so the run must end by itself.
    pub fn spawn_by(launcher: &[&str], config: &ScopedConfig, arguments: &[&str]) -> Self {
        assert!(arguments.contains(&"--once"), "nothing else ends it");
        Self::spawn_as(launcher, temporary(), config, arguments, in_private_mounts)
    }

    /// The same through a program that forwards signals to memmon and ends it with itself. Waits until memmon watches.
    pub fn start_by(launcher: &[&str], config: &ScopedConfig, arguments: &[&str]) -> Self {
        let daemon = Self::spawn_as(launcher, temporary(), config, arguments, in_private_mounts);
        daemon.started();
        daemon
    }

    /// Starts `memmon run` with no more rights than the unit gives it, without a drop-in, after these commands of a shell in its
    /// own mounts, and waits until it watches.
    pub fn start_as_unit(shell: &str, config: &ScopedConfig, arguments: &[&str]) -> Self {
        let launcher = ["sh", "-ec", &format!("{shell}\nexec \"$0\" \"$@\"")];
        let daemon = Self::spawn_as(&launcher, temporary(), config, arguments, |command| {
            unit::with_rights(command, &DropIn::default());
            in_private_mounts(command);
        });
        daemon.started();
        daemon
    }

    /// Starts `memmon run` with its configuration in `dir`, and waits until it watches.
    pub fn start_in(dir: TempDir, config: &ScopedConfig, arguments: &[&str]) -> Self {
        let daemon = Self::spawn_as(&[], dir, config, arguments, in_private_mounts);
        daemon.started();
        daemon
    }

    fn spawn_where(config: &ScopedConfig, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        Self::spawn_as(&[], temporary(), config, arguments, prepare)
    }

    fn spawn_as(
        launcher: &[&str],
        dir: TempDir,
        config: &ScopedConfig,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        for argument in arguments {
            assert!(ARGUMENTS.contains(argument), "{argument} is not allowed in enforcing tests");
        }
        let uid = config.uid;
        let foreign: Vec<u32> =
            processes_of(uid).into_iter().filter(|&pid| !descends_from(pid, std::process::id())).collect();
        assert!(foreign.is_empty(), "processes of uid {uid} that this test did not start: {foreign:?}");

        write_config(&dir, config);
        let (reader, writer) = io::pipe().unwrap_or_else(|error| panic!("pipe: {error}"));
        let mut words = launcher.iter().copied().chain([env!("CARGO_BIN_EXE_memmon")]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(["run", "--config"]).arg(dir.path().join(CONFIG)).args(arguments);
        command
            .stdin(Stdio::null())
            .stderr(writer.try_clone().unwrap_or_else(|error| panic!("pipe: {error}")));
        command.stdout(writer).current_dir(dir.path()).env("NO_COLOR", "1");
        // A launcher may need more itself.
        if launcher.is_empty() && unit::is_asked_for() {
            unit::with_rights(&mut command, &DropIn::of(&config.table()));
        }
        prepare(&mut command);
        let child = command.spawn().unwrap_or_else(|error| panic!("starting memmon: {error}"));
        drop(command); // closes its ends of the pipe, so that the reader sees the daemon's end
        // A daemon that ended at once has no namespace any more.
        let mounts = File::open(format!("/proc/{}/ns/mnt", child.id())).ok();
        Self { child, lines: Lines::of(reader), dir, uid, mounts }
    }

    /// Waits until it watches. Returns the line that reports it.
    pub fn started(&self) -> String {
        self.line("the started event", |line| Self::STARTED.iter().any(|part| line.contains(part)))
    }

    /// A command in the daemon's mount namespace, also after the daemon's end.
    pub fn beside(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        in_mounts(&mut command, self.mounts());
        command
    }

    fn mounts(&self) -> &File {
        self.mounts.as_ref().unwrap_or_else(|| panic!("memmon ended before its mounts could be opened"))
    }

    /// The daemon's pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A directory that exists as long as the daemon, for example for its log file.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Waits for a line on stdout or stderr that `matches`. Earlier lines count, too. `what` is for the failure.
    pub fn line(&self, what: &str, matches: impl Fn(&str) -> bool) -> String {
        self.lines.wait_for("memmon", what, matches)
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.so_far()
    }

    /// Replaces the configuration, for the next reload. The scope must name the same user.
    pub fn edit(&self, config: &ScopedConfig) {
        assert_eq!(config.uid, self.uid, "a reload must keep its user");
        write_config(&self.dir, config);
    }

    /// Replaces the configuration and sends SIGHUP.
    pub fn reload(&self, config: &ScopedConfig) {
        self.edit(config);
        self.signal(Signal::SIGHUP);
    }

    /// Writes the fragment `name` of its configuration, for the next reload. It must not have a scope of its own.
    pub fn write_fragment(&self, name: &str, text: &str) {
        assert!(!text.contains("scope"), "the scope is that of the configuration file: {text}");
        let folder = self.dir.path().join("conf.d");
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(name), text));
        written.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }

    /// All lines until its end, which must have come already.
    pub fn last_words(&self) -> Vec<String> {
        self.lines.to_the_end()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // The child is not reaped before `stop` or `drop`, so the pid is still the child's.
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, signal).unwrap_or_else(|error| panic!("{signal} to memmon: {error}"));
    }

    /// Waits for its end.
    pub fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                other => panic!("memmon did not end: {other:?}; output:\n{}", self.lines().join("\n")),
            }
        }
    }

    /// Sends SIGTERM, asserts a clean end, and returns all lines.
    pub fn stop(self) -> Vec<String> {
        self.stop_by(Signal::SIGTERM)
    }

    /// The same with another signal.
    pub fn stop_by(mut self, signal: Signal) -> Vec<String> {
        self.signal(signal);
        let status = self.ended(SOON);
        let output = self.lines().join("\n");
        assert!(
            status.success(),
            "exit {:?}, signal {:?}; output:\n{output}",
            status.code(),
            status.signal()
        );
        self.lines.to_the_end()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let routine = ["system_memory", "scan_complete"].map(|kind| format!("\"event\":\"{kind}\""));
            let mut output = self.lines();
            output.retain(|line| !routine.iter().any(|kind| line.contains(kind)));
            let _ = writeln!(io::stderr(), "memmon's output, without routine events:\n{}", output.join("\n"));
        }
    }
}

const CONFIG: &str = "config.toml";

fn temporary() -> TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("temporary directory: {error}"))
}

/// Writes a draft and renames it, so that a reload never reads an incomplete file, and so never one without its scope.
fn write_config(dir: &TempDir, config: &ScopedConfig) {
    assert_scoped(&config.text, config.uid);
    let (draft, place) = (dir.path().join("draft"), dir.path().join(CONFIG));
    let written = fs::write(&draft, &config.text).and_then(|()| fs::rename(&draft, &place));
    // A daemon that does not run as root must be able to read it.
    let written = written.and_then(|()| fs::set_permissions(dir.path(), Permissions::from_mode(0o755)));
    written.unwrap_or_else(|error| panic!("{}: {error}", place.display()));
}

/// Mounts a bpffs at its usual place, and an empty /run, /var/log and /var/lib: pins, locks, sockets, logs and what another
/// memmon keeps are out of reach, and everything that memmon leaves there disappears with its last process.
#[expect(unsafe_code, reason = "runs between fork and exec")]
pub fn in_private_mounts(command: &mut Command) {
    let prepare = || {
        // The daemon must not outlive a test that is killed.
        // SAFETY: prctl takes one integer here.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        unshare(CloneFlags::CLONE_NEWNS)?;
        let (none, no_data) = (None::<&str>, None::<&str>);
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, no_data)?;
        for place in ["/run", "/var/log", "/var/lib"] {
            mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=16m"))?;
        }
        match mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), no_data) {
            // A kernel without BPF: the daemon itself reports it.
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            other => Ok(other?),
        }
    };
    // SAFETY: system calls only; short strings are copied to the stack, nothing is allocated.
    unsafe { command.pre_exec(prepare) };
}

/// Makes `file` appear in the place of `over` in the command's mount namespace, which must be its own already.
#[expect(unsafe_code, reason = "runs between fork and exec")]
pub fn with_file(command: &mut Command, file: &Path, over: &'static str) {
    let file = file.to_owned();
    let prepare = move || Ok(mount(Some(&file), over, None::<&str>, MsFlags::MS_BIND, None::<&str>)?);
    // SAFETY: one system call, whose short strings are copied to the stack; nothing is allocated.
    unsafe { command.pre_exec(prepare) };
}

/// Makes the command enter the mount namespace `namespace`.
#[expect(unsafe_code, reason = "runs between fork and exec")]
fn in_mounts(command: &mut Command, namespace: &File) {
    let namespace = namespace.try_clone().unwrap_or_else(|error| panic!("mount namespace: {error}"));
    let enter = move || {
        // SAFETY: one integer, as above.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(setns(&namespace, CloneFlags::CLONE_NEWNS)?)
    };
    // SAFETY: system calls only, nothing is allocated.
    unsafe { command.pre_exec(enter) };
}

//! Processes that are measured, or make the load: they say lines, their CPU time is read, and they die with this one.
#![expect(unsafe_code, reason = "what is set up between fork and exec")]

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    time::clock_getcpuclockid,
    unistd::Pid,
};

/// How long a child may be silent while something is expected of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child with its output. Dropping it kills and reaps it.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

/// Which mounts a child sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mounts {
    /// Those of this process.
    Shared,
    /// bpffs where it belongs, and /run and /var/log empty: what is left there is gone with the child.
    Private,
}

impl Running {
    /// Starts `command`. It is killed when this thread ends, however that comes: start everything from the main thread.
    pub(crate) fn start(command: &mut Command, mounts: Mounts) -> Result<Self> {
        let (reader, writer) = io::pipe().context("cannot make a pipe")?;
        command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer).env("NO_COLOR", "1");
        let prepare = move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if mounts == Mounts::Private {
                private_mounts()?;
            }
            Ok(())
        };
        // SAFETY: system calls only; short strings are copied to the stack, nothing is allocated.
        unsafe { command.pre_exec(prepare) };
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        // The command holds the writing ends; the reader waits for the last of them.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let stdin = child.stdin.take();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
            // Whoever does not listen any more wants no lines either, but the child must not block on them.
            lines.by_ref().take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
            lines.for_each(drop);
        });
        Ok(Self { child, stdin, lines, said: Vec::new() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that `matches`, with its end cut off; `what` it is, for the failure.
    pub(crate) fn line(&mut self, what: &str, matches: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if matches(&line) => return Ok(line),
                Ok(line) => self.said.push(line),
                Err(why) => {
                    let state = if why == RecvTimeoutError::Timeout { "is silent" } else { "ended" };
                    let last = self.said.len().saturating_sub(10);
                    bail!(
                        "process {} {state} without {what}; it said:\n{}",
                        self.pid(),
                        self.said[last..].join("\n")
                    );
                }
            }
        }
    }

    /// One line to its standard input.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its input is closed")?;
        writeln!(stdin, "{line}").context("it does not listen")
    }

    /// User and system time of all its threads so far, those included that have ended.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let clock = clock_getcpuclockid(self.as_pid()).context("no CPU clock of a child")?;
        Ok(clock.now().context("a child's CPU clock cannot be read")?.into())
    }

    /// A file of its directory in /proc.
    pub(crate) fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid());
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        // The child is reaped by `stop`, `release` and `drop` only: its pid is its own.
        kill(self.as_pid(), signal).with_context(|| format!("cannot send {signal}"))
    }

    /// Ends it by SIGTERM, as an administrator would.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.ended()
    }

    /// Closes its input and waits for its end.
    pub(crate) fn release(mut self) -> Result<()> {
        self.stdin = None;
        self.ended()
    }

    fn ended(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(2));
        }
        bail!("process {} does not end", self.pid())
    }

    fn as_pid(&self) -> Pid {
        Pid::from_raw(self.pid().cast_signed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn private_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let (none, no_data) = (None::<&str>, None::<&str>);
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, no_data)?;
    for place in ["/run", "/var/log"] {
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=64m"))?;
    }
    match mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), no_data) {
        // A kernel without BPF: memmon itself says so.
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        other => Ok(other?),
    }
}

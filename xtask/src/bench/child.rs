//! Processes that are measured, or that make the load: their output is read by lines, their CPU time is read, and they end
//! with this process.
#![expect(unsafe_code, reason = "what is set up between fork and exec")]

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use fs_err as fs;
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

/// The longest time that a child may print nothing while a line is expected.
const PATIENCE: Duration = Duration::from_secs(60);

/// A child with its output. Dropping it kills and reaps it.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    printed: Vec<String>,
}

/// The mounts that a child sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mounts {
    /// The mounts of this process.
    Shared,
    /// bpffs at its usual place, and an empty /run, /var/log and /var/lib, which disappear with the child.
    Private,
}

impl Running {
    /// Starts `command`. It is killed when this thread ends for any reason, so start everything from the main thread.
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
            // When the receiver is gone, the lines are read and dropped, so that the child does not block on them.
            lines.by_ref().take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
            lines.for_each(drop);
        });
        Ok(Self { child, stdin, lines, printed: Vec::new() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line that `matches` and returns it without its end; an error names `what` was expected.
    pub(crate) fn line(&mut self, what: &str, matches: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if matches(&line) => return Ok(line),
                Ok(line) => self.printed.push(line),
                Err(why) => {
                    let state = if why == RecvTimeoutError::Timeout { "is silent" } else { "ended" };
                    let last = self.printed.len().saturating_sub(10);
                    bail!(
                        "process {} {state} without {what}; its output:\n{}",
                        self.pid(),
                        self.printed[last..].join("\n")
                    );
                }
            }
        }
    }

    /// Waits for its end, for so long at most, and returns all lines that no one waited for, and whether it succeeded.
    pub(crate) fn finish(mut self, within: Duration) -> Result<(Vec<String>, bool)> {
        let deadline = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.printed.push(line),
                Err(RecvTimeoutError::Timeout) => bail!("process {} does not end", self.pid()),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    return Ok((std::mem::take(&mut self.printed), status.success()));
                }
            }
        }
    }

    /// Writes one line to its standard input.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its input is closed")?;
        writeln!(stdin, "{line}").context("it does not read its input")
    }

    /// User and system time of all its threads so far, including threads that have ended.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let clock = clock_getcpuclockid(self.as_pid()).context("no CPU clock of a child")?;
        Ok(clock.now().context("a child's CPU clock cannot be read")?.into())
    }

    /// A file of its directory in /proc.
    pub(crate) fn proc(&self, file: &str) -> Result<String> {
        Ok(fs::read_to_string(format!("/proc/{}/{file}", self.pid()))?)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        // Only `stop`, `release` and `drop` reap the child, so the pid is still its own.
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
    for place in ["/run", "/var/log", "/var/lib"] {
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=64m"))?;
    }
    match mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), no_data) {
        // On a kernel without BPF, memmon itself reports that.
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        other => Ok(other?),
    }
}

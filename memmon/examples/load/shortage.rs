//! A small machine that becomes short of memory, for tests and measurements of `[machine]` at real speeds: a cgroup of 400 MB in
//! a pid namespace of its own, in which all processes in sight are. memmon takes the cgroup's limit for the machine's, and
//! reads /proc, because the kernel would report other pids by BPF. It runs there beside a database of 100 MB that is idle, and
//! one of these loads of another user:
//!
//! | load | processes |
//! |---|---|
//! | `hog` | one that takes 280 MB as fast as it can |
//! | `workers` | eight that take 60 MB each, 20 MB a second |
//! | `storm` | thirty that take 15 MB each, 15 MB a second; one starts every 0.1 s |
//! | `leak` | one that has 30 MB and takes 250 MB more, 20 MB a second |
//!
//! The output of memmon is passed on. The load starts some time after memmon's first scan. As soon as each of its processes has
//! ended, or has all of its memory, and none of them has ended for two seconds, memmon gets SIGTERM, and a line of JSON has the
//! outcome: `{"event":"load_over","pids":[…],"database_lives":true}`, with the pids of the load as memmon has them.
//! The last line is `{"event":"machine_over","killed_by_kernel":0,"least_free_bytes":…}`.
#![expect(clippy::print_stdout, reason = "the tests and the benchmark read it")]
#![expect(unsafe_code, reason = "fork(2) makes the first process of a pid namespace")]

use std::{
    env,
    io::{self, BufRead as _, BufReader},
    process::{self, Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::{self, ForkResult, Pid},
};
use serde_json::json;

use crate::{memory_cgroup::MemoryCgroup, shared::die_with_parent};

/// Memory of the machine.
const TOTAL: u64 = 400 << 20;
const DATABASE: &str = "anon 100M hold";
/// Time without an end of a process of the load after which it is over.
const QUIET: Duration = Duration::from_secs(2);
/// Time after which a run has failed in which memmon or a process of the load shows nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// The processes of the machine.
pub(crate) struct Shortage<'a> {
    pub(crate) load: &'a str,
    /// The users of the load and of the database.
    pub(crate) users: [u32; 2],
    /// Time between memmon's first scan and the load.
    pub(crate) delay: Duration,
    /// memmon with its arguments.
    pub(crate) memmon: &'a [&'a str],
}

/// The scripts of a load's processes, for the hog (hog.rs), and the time between two starts.
fn processes(load: &str) -> Result<(Vec<&'static str>, Duration)> {
    Ok(match load {
        "hog" => (vec!["grow 280M max hold"], Duration::ZERO),
        "workers" => (vec!["grow 60M 20M/s hold"; 8], Duration::ZERO),
        "storm" => (vec!["grow 15M 15M/s hold"; 30], Duration::from_millis(100)),
        "leak" => (vec!["anon 30M grow 250M 20M/s hold"], Duration::ZERO),
        _ => bail!("{load} is no load: hog, workers, storm, leak"),
    })
}

impl Shortage<'_> {
    /// Makes the machine, and runs all of it.
    pub(crate) fn run(&self) -> Result<()> {
        processes(self.load)?;
        let cgroup = MemoryCgroup::create(&format!("memmon-load-{}", self.users[0]), TOTAL)?;
        unshare(CloneFlags::CLONE_NEWPID).context("cannot make a pid namespace")?;
        // SAFETY: this process has one thread, so no lock is held by a thread that is not copied.
        let status = match unsafe { unistd::fork() }? {
            ForkResult::Parent { child } => waitpid(child, None)?,
            ForkResult::Child => {
                let ended = cgroup.enter().and_then(|()| self.run_inside());
                if let Err(error) = &ended {
                    println!("load: {error:#}");
                }
                // The parent removes the cgroup.
                process::exit(i32::from(ended.is_err()));
            }
        };
        let least_free = cgroup.most_used().map(|used| TOTAL.saturating_sub(used));
        let killed = cgroup.killed_by_kernel()?;
        println!(
            "{}",
            json!({ "event": "machine_over", "killed_by_kernel": killed, "least_free_bytes": least_free })
        );
        ensure!(matches!(status, WaitStatus::Exited(_, 0)), "the machine's first process: {status:?}");
        Ok(())
    }

    /// All that happens there: this is its first process, whose end ends the others.
    fn run_inside(&self) -> Result<()> {
        die_with_parent()?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        let (none, no_data) = (None::<&str>, None::<&str>);
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, no_data)?;
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), no_data)
            .context("cannot mount /proc")?;

        let [user, other] = self.users;
        let mut stage = Stage::new();
        let database = stage.hog(other, DATABASE)?;
        stage.until("the database's memory", |stage| stage.processes[database].is_settled())?;
        let (program, arguments) = self.memmon.split_first().context("no memmon")?;
        let memmon = stage.start(Kind::Memmon, Command::new(program).args(arguments))?;
        stage.until("memmon's first scan", |stage| stage.has_scanned)?;
        thread::sleep(self.delay);

        let (scripts, pause) = processes(self.load)?;
        for script in scripts {
            stage.hog(user, script)?;
            let next = Instant::now() + pause;
            while let Some(left) = next.checked_duration_since(Instant::now()) {
                stage.step(left)?;
            }
        }
        stage.until("the end of the load", Stage::is_quiet)?;

        let database_lives = stage.processes[database].state == State::Holds;
        let pids: Vec<u32> = stage.processes[memmon + 1..].iter().map(|hog| hog.child.id()).collect();
        kill(Pid::from_raw(stage.processes[memmon].child.id().cast_signed()), Signal::SIGTERM)?;
        stage.until("memmon's end", |stage| stage.processes[memmon].state == State::Ended)?;
        println!("{}", json!({ "event": "load_over", "pids": pids, "database_lives": database_lives }));
        Ok(())
    }
}

/// The processes on the machine, and what they show.
struct Stage {
    processes: Vec<Process>,
    sender: Sender<Shown>,
    shown: Receiver<Shown>,
    has_scanned: bool,
    /// The time of the last change of any process's state.
    changed: Instant,
}

struct Process {
    kind: Kind,
    /// With its standard input, at whose end a hog's `hold` is over.
    child: Child,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Memmon,
    Hog,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Runs,
    /// A hog that has all of its memory.
    Holds,
    Ended,
}

/// A line of the process with this number; `None` at its end.
struct Shown(usize, Option<String>);

impl Process {
    fn is_settled(&self) -> bool {
        self.state != State::Runs
    }
}

impl Stage {
    fn new() -> Self {
        let (sender, shown) = channel();
        Self { processes: Vec::new(), sender, shown, has_scanned: false, changed: Instant::now() }
    }

    /// Starts a hog, and returns its number.
    fn hog(&mut self, user: u32, script: &str) -> Result<usize> {
        let program = env::current_exe()?.with_file_name("hog");
        let script = format!("uid {user} {script}");
        self.start(Kind::Hog, Command::new(program).args(script.split(' ')))
    }

    fn start(&mut self, kind: Kind, command: &mut Command) -> Result<usize> {
        let number = self.processes.len();
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        // The command holds the writing ends; the reader waits for the last of them.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.processes.push(Process { kind, child, state: State::Runs });
        let sender = self.sender.clone();
        thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map_while(Result::ok).map(Some);
            lines.chain([None]).all(|line| sender.send(Shown(number, line)).is_ok())
        });
        Ok(number)
    }

    /// Waits until `condition` holds.
    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
            self.step(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Waits for the next line, for so long at most.
    fn step(&mut self, longest: Duration) -> Result<()> {
        let Ok(Shown(number, line)) = self.shown.recv_timeout(longest) else { return Ok(()) };
        let process = &mut self.processes[number];
        match (process.kind, line) {
            (Kind::Memmon, Some(line)) => {
                self.has_scanned |= line.contains("Scan complete.");
                println!("{line}");
            }
            (Kind::Hog, Some(line)) if line.ends_with(" begin hold") => {
                (process.state, self.changed) = (State::Holds, Instant::now());
            }
            (Kind::Hog, Some(_)) => {}
            (kind, None) => {
                (process.state, self.changed) = (State::Ended, Instant::now());
                let status = process.child.wait()?;
                if kind == Kind::Memmon || status.code().is_some() {
                    ensure!(status.success(), "{kind:?} ended: {status}");
                }
            }
        }
        Ok(())
    }

    /// Whether nothing has happened for some time, and nothing will.
    fn is_quiet(&self) -> bool {
        let hogs = || self.processes.iter().filter(|process| process.kind == Kind::Hog);
        hogs().all(Process::is_settled) && self.changed.elapsed() >= QUIET
    }
}

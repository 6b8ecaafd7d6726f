//! Real software: what memmon does about it, and whether it is charged for what its end gives back.
//!
//! `cargo xtask test --real` unpacks the packages, runs these tests, and prints their table.
#![expect(unsafe_code, reason = "a process enters its cgroup and becomes the user between fork and exec")]

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

use memmon::{
    model::{Bytes, Measure},
    observe::procfs::{Accuracy, ProcRoot},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid, setgid, setgroups, setuid},
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually, is_dead,
    log::{SOURCES, config},
    processes_of,
};

const LIMIT: u64 = 64 << 20;
const LIMIT_OF_64_MIB: (&str, &str) = ("thresholds.ram_gb_threshold", "0.0625");

/// A memory cgroup for one program and its children.
pub(crate) struct Group(PathBuf);

impl Group {
    pub(crate) fn new(name: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let root = if root.join("memory").is_dir() { root.join("memory") } else { root.to_owned() };
        let group = root.join(format!("memmon-test-{name}-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        assert!(group.join("memory.stat").exists(), "this test needs the memory controller of cgroups");
        Self(group)
    }

    /// Anonymous and shared memory in it: what the end of a process can give back. Page cache stays.
    fn memory(&self) -> u64 {
        let stat = fs::read_to_string(self.0.join("memory.stat")).unwrap();
        let amount = |key: &str| {
            stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse::<u64>().ok())
        };
        // Versions 2 and 1.
        amount("anon").or_else(|| amount("rss")).unwrap() + amount("shmem").unwrap()
    }

    /// The file to which a process writes `0` to enter.
    pub(crate) fn entry(&self) -> File {
        File::options().write(true).open(self.0.join("cgroup.procs")).unwrap()
    }

    /// Has the command run in it, as the user, and end with the test.
    fn run(&self, command: &mut Command, user: &TestUser) {
        let (entry, uid) = (self.entry(), user.uid);
        let prepare = move || {
            (&entry).write_all(b"0")?;
            setgroups(&[])?;
            setgid(Gid::from_raw(uid))?;
            setuid(Uid::from_raw(uid))?;
            // SAFETY: prctl takes one integer here.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            Ok(())
        };
        // SAFETY: system calls only, nothing is allocated.
        unsafe { command.pre_exec(prepare) };
    }

    /// Compares the charged memory of a process with what its end gives back, and adds a line to the table. `end` ends it.
    pub(crate) fn row(&self, what: &str, verdict: &str, pid: u32, end: impl FnOnce()) {
        let (resident, charged, before) = (rss(pid), charged(pid), self.memory());
        end();
        eventually("its end", || is_dead(pid));
        // The kernel sums up the figures of the processors every two seconds.
        let close = |back: u64| charged.abs_diff(back) <= (charged.max(back) / 20).max(4 << 20);
        let mut back = 0;
        for _ in 0..60 {
            back = before.saturating_sub(self.memory());
            if close(back) {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let row = format!(
            "{what:<40} {:>8.1} {:>8.1} {:>8.1}   {verdict}\n",
            mib(resident),
            mib(charged),
            mib(back)
        );
        if let Some(table) = std::env::var_os("MEMMON_REAL_TABLE") {
            let mut table = File::options().append(true).create(true).open(table).unwrap();
            table.write_all(row.as_bytes()).unwrap();
        }
        assert!(close(back), "charged and given back differ by more than 5 % and 4 MiB: {row}");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..400 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A program of other people's.
pub(crate) struct Software {
    child: Child,
    input: Option<ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
    group: Group,
}

impl Software {
    pub(crate) fn start(user: &TestUser, name: &str, command: &mut Command) -> Self {
        let group = Group::new(name);
        group.run(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()), user);
        let mut child = command.spawn().unwrap();
        let (input, lines) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, lines, group }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended early");
        line.trim().to_owned()
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits until its memory stands still above the limit.
    pub(crate) fn settled(&self, pid: u32) {
        let mut last = 0;
        eventually("memory that stands still", || {
            thread::sleep(Duration::from_millis(200));
            let now = rss(pid);
            now > LIMIT && std::mem::replace(&mut last, now) == now
        });
    }

    /// [`Group::row`] for the program itself or a process that it has started.
    pub(crate) fn row(&mut self, what: &str, verdict: &str, pid: u32, end: impl FnOnce()) {
        let Self { child, group, .. } = self;
        group.row(what, verdict, pid, || {
            end();
            if pid == child.id() {
                child.wait().unwrap();
            }
        });
    }
}

impl Drop for Software {
    /// Ends it with all that it has started: what is left in its own cgroup.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let left = fs::read_to_string(self.group.0.join("cgroup.procs")).unwrap_or_default();
        // 0 stands for a process of another pid namespace, and kill(2) would take it for the test's own group.
        for pid in left.lines().filter_map(|pid| pid.parse().ok()).filter(|pid: &i32| *pid > 1) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

pub(crate) fn rss(pid: u32) -> u64 {
    let kib = crate::common::status_field(pid, "VmRSS:").unwrap_or_default();
    kib.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() << 10
}

fn charged(pid: u32) -> u64 {
    let root = ProcRoot::real().unwrap().onlooking().measuring(Measure::Charged);
    let process = root.confirm(memmon::model::Pid(pid), None, Bytes(LIMIT), &Accuracy::StatmExact).unwrap();
    process.gives_back().0
}

/// A folder on a disk that the user may write to, which is removed at the end.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

/// A program with the libraries and modules that were unpacked for it.
fn unpacked(program: &Path) -> Command {
    let root = PathBuf::from(std::env::var_os("MEMMON_REAL").unwrap());
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = Command::new(program);
    let all = [libraries.clone(), libraries.join("blas"), libraries.join("lapack")];
    command.env("LD_LIBRARY_PATH", std::env::join_paths(all).unwrap());
    command.env("PYTHONPATH", root.join("usr/lib/python3/dist-packages")).env("OPENBLAS_NUM_THREADS", "1");
    command
}

pub(crate) fn python(script: &str) -> Command {
    let mut command = unpacked(Path::new("/usr/bin/python3"));
    command.args(["-u", "-c", script]);
    command
}

pub(crate) fn watch(user: &TestUser, whitelisted: Option<u32>) -> Daemon {
    let pids = format!("{:?}", Vec::from_iter(whitelisted));
    let changes = [LIMIT_OF_64_MIB, ("termination.grace", "5"), ("whitelist.pids", &pids)];
    Daemon::start(&config(user, &changes), &["--source", SOURCES[0]])
}

/// Asserts that the program lives on with memmon, and then ends it to see what that gives back.
fn lives(user: &TestUser, what: &str, mut software: Software) {
    let pid = software.pid();
    software.settled(pid);
    let daemon = watch(user, None);
    daemon.reported("uncharged", pid);
    daemon.scanned();
    assert!(daemon.every("killing").is_empty(), "{what}");
    daemon.stop();
    software.row(what, "left alone", pid, || end(pid, Signal::SIGKILL));
    drop(software);
    eventually("the end of all", || processes_of(user.uid).is_empty());
}

/// Asserts that memmon ends the program.
fn is_ended(user: &TestUser, what: &str, mut software: Software) {
    let pid = software.pid();
    software.settled(pid);
    software.row(what, "SIGTERM", pid, || {
        let daemon = watch(user, None);
        daemon.reported("killing", pid);
        eventually("its end", || is_dead(pid));
        assert_eq!(daemon.every("killing").len(), 1, "{what}");
        daemon.stop();
    });
    drop(software);
    eventually("the end of all", || processes_of(user.uid).is_empty());
}

/// Signals a process that this test started.
fn end(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// A Redis of 90 MB without a port, and a connection to it.
fn redis(user: &TestUser, folder: &Path) -> (Software, UnixStream) {
    let root = PathBuf::from(std::env::var_os("MEMMON_REAL").unwrap());
    let mut command = unpacked(&root.join("usr/bin/redis-server"));
    let socket = folder.join("socket");
    command.args(["--port", "0", "--save", "", "--enable-debug-command", "local"]);
    // A snapshot takes some seconds.
    command.args(["--rdb-key-save-delay", "60", "--loglevel", "warning"]);
    command.arg("--dir").arg(folder).arg("--unixsocket").arg(&socket);
    let software = Software::start(user, "redis", &mut command);
    eventually("the socket", || UnixStream::connect(&socket).is_ok());
    let mut client = UnixStream::connect(&socket).unwrap();
    assert!(ask(&mut client, "DEBUG POPULATE 75000 key 1000").starts_with("+OK"));
    (software, client)
}

fn ask(client: &mut UnixStream, question: &str) -> String {
    write!(client, "{question}\r\n").unwrap();
    let mut answer = vec![0; 64 << 10];
    let length = client.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_REAL"]
fn a_snapshot_of_redis_completes() {
    let (user, folder) = (TestUser::claim(), folder());
    let (mut redis, mut client) = redis(&user, folder.path());
    let pid = redis.pid();
    redis.settled(pid);
    // Redis itself is protected; its child is not.
    let daemon = watch(&user, Some(pid));
    assert!(ask(&mut client, "BGSAVE").starts_with('+'));
    eventually("the child", || !children(pid).is_empty());
    let child = children(pid)[0];
    assert!(rss(child) > LIMIT);
    daemon.scanned();
    redis.row("Redis 7: child of BGSAVE", "left alone", child, || {
        eventually("the snapshot", || {
            thread::sleep(Duration::from_millis(100));
            ask(&mut client, "INFO persistence").contains("rdb_bgsave_in_progress:0")
        });
    });
    assert!(ask(&mut client, "INFO persistence").contains("rdb_last_bgsave_status:ok"));
    assert!(daemon.every("killing").is_empty());
    daemon.stop();
    drop(redis);
    eventually("the end of all", || processes_of(user.uid).is_empty());
}

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_REAL"]
fn a_redis_over_its_limit_is_ended_before_its_child() {
    let (user, folder) = (TestUser::claim(), folder());
    let (redis, mut client) = redis(&user, folder.path());
    assert!(ask(&mut client, "BGSAVE").starts_with('+'));
    eventually("the child", || !children(redis.pid()).is_empty());
    is_ended(&user, "Redis 7 with its child of BGSAVE", redis);
}

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_JAVA"]
fn a_java_heap_is_charged_once_with_every_collector() {
    for (collector, what) in
        [("-XX:+UseG1GC", "JVM 17 with G1"), ("-XX:+UseZGC", "JVM 17 with ZGC, mapped three times")]
    {
        let user = TestUser::claim();
        let mut command = Command::new(std::env::var_os("MEMMON_JAVA").unwrap());
        // A program of the JRE itself that waits for ever.
        command.args([collector, "-Xms80m", "-Xmx80m", "-XX:+AlwaysPreTouch", "-XX:-UsePerfData"]);
        command.args(["-m", "java.rmi/sun.rmi.registry.RegistryImpl", "0"]).current_dir("/");
        is_ended(&user, what, Software::start(&user, "java", &mut command));
    }
}

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_REAL"]
fn workers_of_a_python_pool_are_charged_for_their_own_memory_only() {
    const SCRIPT: &str = "
import multiprocessing, os, sys, time
data = bytearray(b'x') * (80 << 20)
def say(text):
    # One write for a whole line, as others write as well.
    os.write(1, (text + '\\n').encode())
def start():
    sum(data[::4096])
    say(str(os.getpid()))
def grow():
    global own
    own = bytearray(b'y') * (90 << 20)
    say(f'grown {os.getpid()}')
    time.sleep(3600)
pool = multiprocessing.get_context('fork').Pool(3, start)
sys.stdin.readline()
pool.apply_async(grow)
sys.stdin.readline()
";
    let user = TestUser::claim();
    let mut pool = Software::start(&user, "python", &mut python(SCRIPT));
    let workers: Vec<u32> = (0..3).map(|_| pool.line().parse().unwrap()).collect();
    let parent = pool.pid();
    for worker in &workers {
        pool.settled(*worker);
    }
    let daemon = watch(&user, Some(parent));
    daemon.scanned();
    assert!(daemon.every("killing").is_empty());
    daemon.stop();
    pool.say("grow");
    let greedy: u32 = pool.line().strip_prefix("grown ").unwrap().parse().unwrap();
    pool.row("Python pool: worker with 90 MiB of its own", "SIGTERM", greedy, || {
        let daemon = watch(&user, Some(parent));
        daemon.reported("terminated", greedy);
        daemon.scanned();
        let struck: Vec<_> = daemon.every("killing").iter().map(|event| event["pid"].clone()).collect();
        assert_eq!(struck, [greedy]);
        daemon.stop();
    });
    let other = *workers.iter().find(|worker| **worker != greedy).unwrap();
    // The pool starts another worker for each that ends, which must not be in the figure.
    end(parent, Signal::SIGSTOP);
    pool.row("Python pool: worker, copy on write", "left alone", other, || end(other, Signal::SIGKILL));
    drop(pool);
    eventually("the end of all", || processes_of(user.uid).is_empty());
}

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_REAL"]
fn mapped_files_are_not_charged() {
    let user = TestUser::claim();
    for (what, script) in [
        (
            "Python: a mapped file, read once",
            "
import mmap, sys
file = open(sys.argv[1], 'w+b')
for _ in range(100): file.write(b'x' * (1 << 20))
file.flush()
view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
print(sum(view[at] for at in range(0, 100 << 20, 4096)))
sys.stdin.readline()
",
        ),
        (
            "numpy: a memmap",
            "
import numpy, sys
numpy.memmap(sys.argv[1], numpy.uint8, 'w+', shape=(100 << 20,)).fill(1)
view = numpy.memmap(sys.argv[1], numpy.uint8, 'r')
print(int(view[::4096].sum()))
sys.stdin.readline()
",
        ),
        (
            "LMDB: a database that was read",
            "
import lmdb, os, sys
def base(): return lmdb.open(sys.argv[1], map_size=1 << 28, subdir=False, sync=False, lock=False)
if os.fork() == 0:
    with base().begin(write=True) as write:
        for key in range(25000): write.put(b'%08d' % key, b'x' * 4000)
    os._exit(0)
os.wait()
with base().begin() as read:
    print(sum(len(value) for _, value in read.cursor()))
sys.stdin.readline()
",
        ),
    ] {
        let folder = folder();
        let mut command = python(script);
        command.arg(folder.path().join("data"));
        let mut software = Software::start(&user, "mapped", &mut command);
        software.line();
        lives(&user, what, software);
    }
}

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_QEMU"]
fn a_qemu_whose_memory_is_a_memfd_is_ended() {
    let user = TestUser::claim();
    let mut command = Command::new(std::env::var_os("MEMMON_QEMU").unwrap());
    command.args(["-accel", "tcg,tb-size=16", "-machine", "q35,memory-backend=m", "-m", "150M"]);
    command.args(["-object", "memory-backend-memfd,id=m,size=150M,prealloc=on", "-S", "-nodefaults"]);
    command.args(["-display", "none", "-monitor", "none", "-serial", "none"]).current_dir("/");
    is_ended(&user, "QEMU on memfd", Software::start(&user, "qemu", &mut command));
}

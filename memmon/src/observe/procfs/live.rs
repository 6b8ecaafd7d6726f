//! Tests of `procfs` on the running kernel, for behaviour that captured trees cannot show.
#![expect(unsafe_code, reason = "the tests create the processes that they look at with fork and clone")]

use std::fs;
use std::hint::black_box;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getpid, getuid};

use super::*;
use crate::model::{Bytes, Fact, Name, Pid, Process, ProcessId, Reading, StartTime, Uid, Unconfirmed};

const CHUNK: usize = 64 << 20;
/// Memory that other tests in this process may allocate or free meanwhile, and that a fork leaves behind.
const SLACK: u64 = 12 << 20;

/// A child of this test; dropping it kills and reaps the child.
struct Child(nix::unistd::Pid);

impl Child {
    /// Runs `body`, which must neither allocate nor panic, in a fork, which then waits to be killed.
    fn running(body: impl FnOnce()) -> Self {
        // SAFETY: the child runs `body` and makes system calls, and never returns into the test harness.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                body();
                wait_for_the_end()
            }
        }
    }

    fn pid(&self) -> Pid {
        model(self.0)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Until the child is reaped, no other process can have its pid.
        if let Ok(WaitStatus::StillAlive) = waitpid(self.0, Some(WaitPidFlag::WNOHANG)) {
            let _ = kill(self.0, Signal::SIGKILL);
            let _ = waitpid(self.0, None);
        }
    }
}

fn wait_for_the_end() -> ! {
    loop {
        // SAFETY: pause takes no arguments and touches no memory but errno.
        unsafe { libc::pause() };
    }
}

/// Creates a process or thread that shares this one's memory and only waits.
fn clone_that_waits(stack: &mut [u8], flags: libc::c_int) -> libc::c_int {
    extern "C" fn wait(_: *mut libc::c_void) -> libc::c_int {
        wait_for_the_end()
    }
    let top = stack.as_mut_ptr_range().end.map_addr(|address| address & !15);
    // SAFETY: the callers keep `stack` until the clone has ended, and nothing else uses it.
    unsafe { libc::clone(wait, top.cast(), libc::CLONE_VM | flags, std::ptr::null_mut()) }
}

/// Maps `CHUNK` bytes of memory, all of it resident.
fn take_memory() {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE);
    // SAFETY: a new mapping at an address of the kernel's choice, never unmapped.
    unsafe { libc::mmap(std::ptr::null_mut(), CHUNK, access, kind, -1, 0) };
}

fn model(pid: nix::unistd::Pid) -> Pid {
    Pid(pid.as_raw().unsigned_abs())
}

fn root() -> ProcRoot {
    ProcRoot::real().unwrap()
}

fn confirm(pid: Pid) -> Result<Process, Unconfirmed> {
    root().confirm(pid, None, Bytes::ZERO, &Accuracy::StatmExact)
}

fn reading(pid: Pid) -> Option<Reading> {
    let survey = root().survey(&Accuracy::StatmExact).unwrap();
    survey.readings.into_iter().find(|reading| reading.pid == pid)
}

fn wait_until(what: &str, reached: impl Fn() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < Duration::from_secs(20), "timed out: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn close(one: Bytes, other: Bytes) -> bool {
    one.0.abs_diff(other.0) <= SLACK
}

/// The procfs crate is an independent reader of the same files. (memmon does not watch with it: it requires names to be
/// UTF-8, so a process could hide behind another name, and a pass with it takes several times as long.)
#[test]
fn results_equal_those_of_the_procfs_crate() {
    let child = Child::running(|| {});
    wait_until("the child waits", || root().waiting(child.pid()).unwrap().state == 'S');
    let ours = root().confirm(child.pid(), None, Bytes::MAX, &Accuracy::StatmExact).unwrap();
    let theirs = ::procfs::process::Process::new(child.0.as_raw()).unwrap();
    let (stat, status, statm) = (theirs.stat().unwrap(), theirs.status().unwrap(), theirs.statm().unwrap());

    assert_eq!(ours.id, ProcessId { pid: child.pid(), start: StartTime(stat.starttime) });
    assert_eq!(ours.parent, Pid(stat.ppid.unsigned_abs()));
    assert_eq!((ours.real_uid, ours.effective_uid), (Uid(status.ruid), Uid(status.euid)));
    assert_eq!(ours.rss, pages(statm.resident, ::procfs::page_size()));
    assert_eq!(ours.names.comm, Name::from(stat.comm.as_str()));
    let exe = theirs.exe().unwrap();
    assert_eq!(ours.names.exe, Fact::Known(Name::new(exe.as_os_str().as_bytes())));
    let arguments = theirs.cmdline().unwrap();
    assert_eq!(ours.names.argv0, Fact::Known(Name::from(arguments[0].as_str())));
    let score = theirs.oom_score_adj().unwrap();
    assert_eq!(ours.oom_score_adj, Fact::Known(score));

    use ::procfs::Current;
    let memory = ::procfs::Meminfo::current().unwrap();
    assert_eq!(root().memory().unwrap().total, Bytes(memory.mem_total));
}

#[test]
fn survey_and_confirm_see_memory_that_is_allocated() {
    let me = model(getpid());
    let is_seen = |read: &dyn Fn() -> Bytes| {
        let before = read();
        let chunk = black_box(vec![1_u8; CHUNK]);
        let is_close = close(read(), before + Bytes(chunk.len() as u64));
        drop(chunk);
        is_close
    };
    // Other tests of this process allocate memory as well, but not all the time.
    wait_until("the survey sees it", || is_seen(&|| reading(me).unwrap().rss));
    wait_until("a confirmation sees it", || is_seen(&|| confirm(me).unwrap().rss));
}

#[test]
fn this_process_is_confirmed_with_all_its_facts() {
    let process = confirm(model(getpid())).unwrap();
    let exe = std::env::current_exe().unwrap();
    let argv0 = std::env::args_os().next().unwrap();
    assert_eq!(process.names.exe, Fact::Known(Name::new(exe.as_os_str().as_bytes())));
    assert_eq!(process.names.argv0, Fact::Known(Name::new(argv0.as_bytes())));
    assert_eq!(process.real_uid, Uid(getuid().as_raw()));
    assert_eq!(process.parent, model(nix::unistd::getppid()));
    assert!(!process.kernel_thread);
    let another = StartTime(process.id.start.0 + 1);
    let expected = root().confirm(process.id.pid, Some(another), Bytes::ZERO, &Accuracy::StatmExact);
    assert!(matches!(expected, Err(Unconfirmed::AnotherProcess { .. })));
}

#[test]
fn the_machine_has_memory_and_this_process_is_listed() {
    let memory = root().memory().unwrap();
    assert!(memory.available > Bytes::ZERO && memory.available < memory.total);
    assert!(root().pids().unwrap().contains(&model(getpid())));
}

#[test]
fn statm_and_smaps_rollup_agree_about_an_idle_process() {
    let child = Child::running(take_memory);
    let pid = child.pid();
    let waits = || root().waiting(pid).unwrap().state == 'S';
    wait_until("the child has its memory and waits", || {
        confirm(pid).unwrap().rss >= Bytes(CHUNK as u64) && waits()
    });
    let statm = confirm(pid).unwrap().rss;
    let lags = Accuracy::StatmLags { bound: Bytes(SLACK) };
    let exact = root().confirm(pid, None, statm, &lags).unwrap();
    assert_eq!(exact.error, Bytes::ZERO, "smaps_rollup of a child is readable");
    assert!(statm.0.abs_diff(exact.rss.0) <= 3 * 2 * 64 * root().page_size, "{statm:?} and {exact:?}");
    let far = root().confirm(pid, None, statm + Bytes(10 * SLACK), &lags).unwrap();
    assert_eq!(far.error, Bytes(SLACK));
}

#[test]
fn memory_outlives_the_first_thread() {
    let mut stack = vec![0_u8; 64 << 10];
    let child = Child::running(|| {
        take_memory();
        clone_that_waits(&mut stack, libc::CLONE_SIGHAND | libc::CLONE_THREAD);
        // SAFETY: ends only this thread, the first; if the clone failed, that is the whole process.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    let pid = child.pid();
    wait_until("the first thread ended", || root().process(pid).unwrap().statm("").unwrap().size == 0);
    let least = Bytes(CHUNK as u64);
    assert!(reading(pid).unwrap().rss >= least);
    let process = confirm(pid).unwrap();
    assert!(process.rss >= least);
    let exe = std::env::current_exe().unwrap();
    assert_eq!(process.names.exe, Fact::Known(Name::new(exe.as_os_str().as_bytes())));
    let lags = Accuracy::StatmLags { bound: Bytes(SLACK) };
    let exact = root().confirm(pid, None, process.rss, &lags).unwrap();
    assert!(exact.error == Bytes::ZERO && close(exact.rss, process.rss));
}

/// It handles no signal before its child calls exec or ends.
#[test]
fn a_process_in_vfork_that_is_sent_sigstop_counts_as_stopped() {
    let mut stack = vec![0_u8; 64 << 10];
    let child = Child::running(|| {
        clone_that_waits(&mut stack, libc::CLONE_VFORK | libc::SIGCHLD);
    });
    let pid = child.pid();
    wait_until("the child waits for its own", || root().waiting(pid).unwrap().state == 'D');
    assert!(!root().is_stopped(pid));
    kill(child.0, Signal::SIGSTOP).unwrap();
    assert!(root().is_stopped(pid));
    kill(child.0, Signal::SIGCONT).unwrap();
    assert!(!root().is_stopped(pid));
    let own = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let own = nix::unistd::Pid::from_raw(own.trim().parse().unwrap());
    kill(own, Signal::SIGKILL).unwrap();
}

#[test]
fn borrowed_memory_belongs_to_its_owner() {
    let mut stack = vec![0_u8; 64 << 10];
    let child = clone_that_waits(&mut stack, libc::SIGCHLD);
    assert!(child > 0, "{}", io::Error::last_os_error());
    let child = Child(nix::unistd::Pid::from_raw(child));
    let me = model(getpid());
    assert_eq!(confirm(child.pid()), Err(Unconfirmed::Borrowed { owner: me }));
    assert!(confirm(me).is_ok());
}

/// /proc/TID is there for each thread, although no listing of /proc shows it.
#[test]
fn the_number_of_a_thread_is_no_process() {
    let (number, of_thread) = std::sync::mpsc::channel();
    let (end, waits) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        number.send(nix::unistd::gettid()).unwrap();
        // Until `end` is dropped.
        let _ = waits.recv();
    });
    let tid = model(of_thread.recv().unwrap());
    assert_eq!(confirm(tid), Err(Unconfirmed::Thread { process: model(getpid()) }));
    drop(end);
    thread.join().unwrap();
}

#[test]
fn a_zombie_has_no_memory_and_a_reaped_one_is_gone() {
    let child = Child::running(|| {});
    let pid = child.pid();
    let held = root().process(pid).unwrap();
    kill(child.0, Signal::SIGKILL).unwrap();
    wait_until("the child is a zombie", || root().waiting(pid).unwrap().state == 'Z');
    assert_eq!(reading(pid), None);
    assert_eq!(confirm(pid).unwrap().rss, Bytes::ZERO);
    waitpid(child.0, None).unwrap();
    assert_eq!(confirm(pid), Err(Unconfirmed::Gone));
    let error = held.read("", "stat").unwrap_err();
    assert!(error.raw_os_error().is_some_and(|number| ended(Errno::from_raw(number))), "{error}");
}

/// A path of more than 4096 bytes is more than the kernel shows, and anybody can have one.
#[test]
fn an_executable_too_deep_to_be_named_is_withheld() {
    let place = tempfile::tempdir().unwrap();
    let directory = |at: BorrowedFd<'_>, path: &str| {
        openat(at, path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
    };
    let root = std::fs::File::open(place.path()).unwrap();
    let mut deep = directory(root.as_fd(), ".");
    let name = "d".repeat(250);
    for _ in 0..18 {
        nix::sys::stat::mkdirat(&deep, name.as_str(), Mode::S_IRWXU).unwrap();
        deep = directory(deep.as_fd(), &name);
    }
    let shown = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&deep));
    std::fs::copy("/bin/sleep", format!("{shown}/sleep")).unwrap();
    // While another test forks, its child has the copied file open for writing for a moment (ETXTBSY).
    let mut child = loop {
        match std::process::Command::new("./sleep").arg("60").current_dir(&shown).spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
            spawned => break spawned.unwrap(),
        }
    };
    // The exec is over as soon as there are a name and arguments of the program.
    let deadline = Instant::now() + Duration::from_secs(20);
    let found = loop {
        let found = confirm(Pid(child.id())).unwrap();
        if Instant::now() > deadline
            || (found.names.comm == Name::from("sleep") && found.names.argv0 != Fact::Absent)
        {
            break found;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((found.names.exe, found.names.argv0), (Fact::Withheld, Fact::Known(Name::from("./sleep"))));
}

#[test]
fn a_real_environment_names_the_slurm_job() {
    let mut sleep = std::process::Command::new("sleep");
    let mut child = sleep.arg("60").env("SLURM_JOB_ID", "4711").spawn().unwrap();
    let root = ProcRoot { has_slurm: true, ..root() };
    // The look at the program right after exec may find the old one.
    wait_until("the job", || {
        let found = root.confirm(Pid(child.id()), None, Bytes::MAX, &Accuracy::StatmExact);
        found.is_ok_and(|process| process.launch.slurm_job_id == Some(4711))
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

//! Tests of entries from fork to exit, and of pids that are used again.

#![expect(unsafe_code, reason = "clone(2) with CLONE_VM, which nothing safe offers")]

use std::{fs, os::fd::BorrowedFd, process::Command, thread, time::Duration};

use memmon::model::Pid;
use memmon_common::NEVER;
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
    sys::wait::{WaitPidFlag, waitpid},
};

use crate::{
    agrees, attach,
    common::{eventually, hog::Hog},
    crossings, entries, entry, expect_entry, go_on, identity, is_about, pages, start_time,
};

/// Forks real children, one after the other, which end at once.
pub(crate) fn fork_times(count: u32) {
    let script = "i=0; while [ $i -lt $0 ]; do (exit 0); i=$((i+1)); done";
    let done = Command::new("sh").args(["-c", script, &count.to_string()]).status();
    assert!(done.is_ok_and(|status| status.success()));
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn exit_removes_the_entry_before_the_parent_is_notified() {
    let map = attach(4096);
    for _ in 0..50 {
        let hog = Hog::start("anon 5M threads 2 1M hold");
        hog.begun("hold");
        let pid = hog.pid();
        assert!(entry(&map, pid).is_some());
        drop(hog);
        assert_eq!(entry(&map, pid), None);
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn thousands_of_forks_leave_no_entries() {
    let mut map = attach(4096);
    thread::scope(|scope| {
        scope.spawn(|| fork_times(1500));
        scope.spawn(|| fork_times(1500));
        // These hogs are killed while they grow, and while the others fork.
        for _ in 0..40 {
            let hog = Hog::start("grow 50M 500M/s hold");
            hog.begun("grow 50M 500M/s");
            thread::sleep(Duration::from_millis(5));
        }
    });
    let counters = map.counters().unwrap();
    assert!(counters.inserts >= 3040, "{counters:?}");
    assert_eq!((counters.insert_full, counters.remove_failed), (0, 0), "{counters:?}");
    eventually("a map with only living processes", || {
        entries(&mut map).iter().all(|&(pid, _)| start_time(pid).is_some())
    });
    // The reverse: each process with memory of its own is in the map.
    eventually("a map with all living processes", || {
        let known = entries(&mut map);
        living().into_iter().all(|pid| known.iter().any(|&(one, _)| one == pid))
    });
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_pid_that_is_used_again_is_another_process() {
    let mut map = attach(4096);
    let first = Hog::start("anon 30M hold");
    first.begun("hold");
    let (pid, old) = (first.pid(), identity(first.pid()));
    assert!(map.set_wake_level(old, NEVER).unwrap().is_some());
    drop(first);
    thread::sleep(Duration::from_millis(20)); // two ticks, the resolution of start times in /proc

    let again = (0..5000)
        .find_map(|_| {
            fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
            Some(Hog::start("wait-term anon 60M hold")).filter(|hog| hog.pid() == pid)
        })
        .unwrap_or_else(|| panic!("pid {pid} was not used again"));
    again.begun("wait-term");
    assert_ne!(identity(pid), old);
    is_about(agrees(&map, pid).anon_pages, 0);
    assert_eq!(map.set_wake_level(old, 1).unwrap(), None, "the old process is gone");
    assert_eq!(expect_entry(&map, pid).wake_at, NEVER, "which is the default so far");

    map.set_default_wake_level(pages(40)).unwrap();
    go_on(&again);
    again.begun("hold");
    assert_eq!(crossings(&mut map, pid).len(), 1, "the old process's level does not hold for the new one");
    is_about(agrees(&map, pid).anon_pages, pages(60));
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_thread_that_calls_exec_becomes_the_process() {
    let map = attach(4096);
    let hog = Hog::start("anon 60M leader-exits exec another anon 20M hold");
    hog.begun("hold");
    is_about(agrees(&map, hog.pid()).anon_pages, pages(20));
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_memory_of_a_fork_is_known_until_the_process_calls_exec() {
    let map = attach(4096);
    let hog = Hog::start("anon 60M fork anon 20M wait-term free anon 50M stop exec another hold end hold");
    let child = hog.child("fork");
    let pid = nix::unistd::Pid::from_raw(child.cast_signed());
    let send = |signal| nix::sys::signal::kill(pid, signal).unwrap();
    hog.line(&format!("{child} begin wait-term"));
    let (elder, process) = (expect_entry(&map, hog.pid()), expect_entry(&map, child));
    is_about(process.inherited_pages, pages(60));
    assert_eq!((process.elder, process.elder_mm), (hog.pid(), elder.mm));
    assert_eq!((elder.inherited_pages, elder.elder), (0, 0), "it has called exec itself");

    send(Signal::SIGTERM);
    hog.line(&format!("{child} ready anon 50M"));
    is_about(agrees(&map, child).anon_pages, pages(50));
    is_about(expect_entry(&map, child).inherited_pages, 0);
    eventually("exec", || {
        send(Signal::SIGCONT);
        expect_entry(&map, child).elder == 0
    });
    assert_eq!(expect_entry(&map, child).inherited_pages, 0);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_borrows_memory_has_no_entry() {
    let before = attach(4096);
    let borrower = Borrower::start();
    let after = attach(4096);
    for map in [&before, &after] {
        assert_eq!(entry(map, borrower.0.cast_unsigned()), None);
        assert!(entry(map, std::process::id()).is_some());
    }
    drop(borrower);
    assert!(entry(&before, std::process::id()).is_some(), "its exit does not remove our entry");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_full_map_is_counted_and_logged_once() {
    let mut map = attach(2);
    fork_times(20);
    let counters = map.counters().unwrap();
    assert!(counters.insert_full >= 20, "{counters:?}");
    assert!(entries(&mut map).len() <= 2);
    assert!(readable(map.log_fd()));
    map.forward_log();
    fork_times(20);
    assert!(!readable(map.log_fd()), "it is logged only once");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_new_seed_adds_missing_processes() {
    let mut map = attach(4096);
    let hog = Hog::start("anon 30M hold");
    hog.begun("hold");
    let inserts = map.counters().unwrap().inserts;
    map.remove(Pid(hog.pid())).unwrap();
    map.remove(Pid(hog.pid())).unwrap();
    assert_eq!(entry(&map, hog.pid()), None);
    map.refresh().unwrap();
    is_about(agrees(&map, hog.pid()).anon_pages, pages(30));
    assert!(map.counters().unwrap().inserts > inserts);
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).unwrap() > 0
}

/// Processes with memory that root may read.
pub(crate) fn living() -> Vec<u32> {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).is_ok_and(|maps| !maps.is_empty())
    })
    .collect()
}

/// A process that runs in this one's memory, as between vfork and exec, and sleeps.
struct Borrower(i32);

impl Borrower {
    fn start() -> Self {
        extern "C" fn sleep_on(_: *mut libc::c_void) -> libc::c_int {
            loop {
                // SAFETY: pause takes no arguments and touches only its own stack.
                unsafe { libc::pause() };
            }
        }
        let stack = Box::leak(vec![0_u128; 4096].into_boxed_slice());
        let top = stack.as_mut_ptr_range().end;
        // SAFETY: a stack that is never freed, of which the callee needs a few bytes; it calls nothing but pause(2).
        let pid = unsafe {
            libc::clone(sleep_on, top.cast(), libc::CLONE_VM | libc::SIGCHLD, std::ptr::null_mut())
        };
        assert!(pid > 0, "clone: {}", std::io::Error::last_os_error());
        Self(pid)
    }
}

impl Drop for Borrower {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0);
        // Our own child, not reaped yet, so the pid is still the child's.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
    }
}

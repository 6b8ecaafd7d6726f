//! Shared code of the integration tests: test users, hogs, and the one way to start an enforcing memmon.
//!
//! memmon is made to kill and tests run as root, so this code guarantees three things for every test: a hog dies with
//! its test, an enforcing daemon has a `[scope]` that names only the test's own user, and the daemon is not started
//! while a process of that user exists that the test did not start.
//!
//! Tests that need root are marked `#[ignore = "kernel: needs root"]`; `cargo xtask test` runs them if it can.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test binary uses its own part of this"
)]
#![expect(clippy::panic, reason = "a test that cannot continue fails with the reason")]

pub mod cgroup;
pub mod daemon;
pub mod hog;
pub mod lines;
pub mod log;
pub mod meminfo;
pub mod termination;
pub mod unit;

use std::{
    fs,
    io::Write as _,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Maximum time that a test waits for anything on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A uid that no other test on this machine uses while this value lives. It needs no passwd entry.
pub struct TestUser {
    /// The uid, which is also the gid.
    pub uid: u32,
    /// An abstract socket, which disappears with the process, so that no claim is ever left behind.
    _claim: UnixDatagram,
}

impl TestUser {
    /// Claims a uid, and makes sure that no process has it. Only root can become another user.
    pub fn claim() -> Self {
        require_root();
        (47_001..47_100)
            .find_map(|uid| {
                let address = SocketAddr::from_abstract_name(format!("memmon-test-uid-{uid}")).ok()?;
                let claim = UnixDatagram::bind_addr(&address).ok()?;
                processes_of(uid).is_empty().then_some(Self { uid, _claim: claim })
            })
            .unwrap_or_else(|| panic!("uids 47001 to 47099 are all in use: did other tests leave processes?"))
    }
}

/// Fails if the test does not run as root, so that the reason is clear.
pub fn require_root() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
}

/// Pids of living processes whose real, effective, saved or file system uid is `uid`.
pub fn processes_of(uid: u32) -> Vec<u32> {
    let uid = uid.to_string();
    let owned = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
            status
                .lines()
                .filter_map(|line| line.strip_prefix("Uid:"))
                .any(|uids| uids.split_whitespace().any(|one| one == uid))
        })
    };
    pids().filter(owned).filter(|&pid| !is_dead(pid)).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap_or_else(|error| panic!("/proc: {error}"));
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Whether the process is gone, or all of its threads are zombies. It is alive if only its leader has exited.
pub fn is_dead(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.filter_map(Result::ok).all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X']))
    })
}

/// Whether `ancestor` is `pid` itself or one of its ancestors, as far as the chain of parents shows.
pub fn descends_from(pid: u32, ancestor: u32) -> bool {
    let mut current = pid;
    while current > 1 {
        if current == ancestor {
            return true;
        }
        let Some(parent) = status_field(current, "PPid:").and_then(|text| text.parse().ok()) else {
            return false;
        };
        current = parent;
    }
    false
}

/// One field of /proc/PID/status.
pub fn status_field(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()))
}

/// Makes `file` as large as its file system.
pub fn fill(file: &Path) {
    let opened = fs::OpenOptions::new().create(true).append(true).open(file);
    let mut opened = opened.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut size = 16 << 20;
    while size > 4096 {
        if opened.write_all(&vec![1; size]).is_err() {
            size /= 2;
        }
    }
}

/// Waits until `condition` holds, for conditions that no output line shows.
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// The same with another timeout.
pub fn within(timeout: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {timeout:?}");
        // Rarely enough to leave the CPU to the process that it waits for.
        thread::sleep(Duration::from_millis(5));
    }
}

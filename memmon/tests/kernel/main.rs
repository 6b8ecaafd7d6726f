//! Tests of the BPF programs on the running kernel, with real processes: every figure is compared with an exact one.
//!
//! They need root, kernel BTF and, for the pin, bpftool; `cargo xtask test` runs them if it can.
#![cfg(feature = "ebpf")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot continue fails with the reason")]

mod cgroup_limits;
#[path = "../common/mod.rs"]
mod common;
mod counts;
mod gears;
mod lives;
mod mappings;
mod pin;
mod sums;
mod wakes;

use std::{
    fs,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use memmon::{
    model::{Pid, ProcessId, StartTime},
    observe::{
        bpf::{KernelMap, Options},
        support::{Btf, Facts, assess},
    },
};
use memmon_common::{Event, Offsets, ProcessRss, STEP, kind};
use nix::sys::signal::{Signal, kill};

use common::{eventually, hog::Hog};

/// Pages in `megabytes`.
fn pages(megabytes: u64) -> u64 {
    (megabytes << 20) / facts().page_size
}

/// Attaches without a pin, with room for `capacity` processes.
fn attach(capacity: u32) -> KernelMap {
    attach_with(&Options { capacity, pin_dir: None, two_gears: false })
}

fn attach_with(options: &Options) -> KernelMap {
    common::require_root();
    KernelMap::attach(&offsets(), options).unwrap_or_else(|error| panic!("attaching: {error}"))
}

fn facts() -> &'static Facts {
    static FACTS: LazyLock<Facts> = LazyLock::new(Facts::gather);
    &FACTS
}

fn offsets() -> Offsets {
    match &facts().btf {
        Btf::Read(Ok(offsets)) => *offsets,
        other => panic!("no layout: {other:?}"),
    }
}

/// Maximum error of the map for a process with this number of threads, in pages.
fn error(threads: u64) -> u64 {
    // Before 6.2 a thread folds its counts in at its 65th fault, and each fault in a file may map neighbouring pages as
    // well (`fault_around_bytes`, 64 KiB). Small processes that just started come near this maximum.
    let page_size = facts().page_size;
    let around = if offsets().rss_legacy != 0 { 65 * (64 << 10) / page_size * threads } else { 0 };
    around.max(assess(facts()).counter_error.of(threads).0 / page_size) + STEP
}

fn entry(map: &KernelMap, pid: u32) -> Option<ProcessRss> {
    map.get(Pid(pid)).unwrap_or_else(|error| panic!("reading the map: {error}"))
}

fn expect_entry(map: &KernelMap, pid: u32) -> ProcessRss {
    entry(map, pid).unwrap_or_else(|| panic!("pid {pid} is not in the map"))
}

/// All entries of the map, in one batched read.
fn entries(map: &mut KernelMap) -> Vec<(u32, ProcessRss)> {
    let mut all = Vec::new();
    map.read(|pid, process| all.push((pid.0, *process)))
        .unwrap_or_else(|error| panic!("reading the map: {error}"));
    all
}

/// Field 22 of /proc/PID/stat.
fn start_time(pid: u32) -> Option<StartTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = stat.rsplit_once(") ")?.1.split(' ').nth(19)?;
    ticks.parse().ok().map(StartTime)
}

fn identity(pid: u32) -> ProcessId {
    let start = start_time(pid).unwrap_or_else(|| panic!("pid {pid} is gone"));
    ProcessId { pid: Pid(pid), start }
}

/// The exact number of resident pages, from the page tables. It is read from a living thread, because the leader may
/// have exited.
fn exact(pid: u32) -> u64 {
    let threads =
        fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|error| panic!("pid {pid}: {error}"));
    let kib = threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("smaps")).ok())
        .map(|maps| {
            maps.lines()
                .filter_map(|line| line.strip_prefix("Rss:")?.split_whitespace().next()?.parse::<u64>().ok())
                .sum::<u64>()
        })
        .max()
        .unwrap_or_else(|| panic!("pid {pid} has no thread"));
    (kib << 10) / facts().page_size
}

/// Compares the map with the exact figure, and returns the entry. The process must be idle.
fn agrees(map: &KernelMap, pid: u32) -> ProcessRss {
    let (process, exact) = (expect_entry(map, pid), exact(pid));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(1, Iterator::count);
    let (rss, error) = (process.rss_pages(), error(threads as u64));
    assert!(
        rss.abs_diff(exact) <= error,
        "pid {pid}: {rss} pages in the map, {exact} exact, error of {error} allowed"
    );
    assert_eq!(Some(StartTime::from_boottime_ns(process.start_boottime)), start_time(pid));
    assert!(process.peak_pages >= rss);
    process
}

/// Compares `value` with `expected`, both in pages, within the counters' error. `value` may be larger by a hog's own few
/// megabytes (shared memory, if its program is on a tmpfs), and by a huge page in place of a small one.
fn is_about(value: u64, expected: u64) {
    let (least, most) = (expected.saturating_sub(error(1)), expected + error(1) + pages(4));
    assert!((least..=most).contains(&value), "{value} pages, not {least} to {most}");
}

/// Step in which a counter moves, for one thread that faults page after page.
fn stride() -> u64 {
    let huge = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).unwrap().unwrap();
    if huge.contains("[always]") {
        pages(2)
    } else if offsets().rss_legacy != 0 {
        // Faults after which a thread folds its own counts in (`TASK_RSS_EVENTS_THRESH`).
        65
    } else {
        // `percpu_counter_batch`.
        (2 * online.cast_unsigned()).max(32)
    }
}

/// Takes all events off the ring and returns the crossings of `pid`.
fn crossings(map: &mut KernelMap, pid: u32) -> Vec<Event> {
    map.events().filter(|event| event.tgid == pid && event.kind == kind::CROSSED).collect()
}

/// Ends the hog's `wait-term`.
fn go_on(hog: &Hog) {
    signal(hog, Signal::SIGTERM);
}

/// Ends the hog's `stop`.
fn resume(hog: &Hog) {
    eventually("the hog's stop", || hog.state() == 'T');
    signal(hog, Signal::SIGCONT);
}

fn signal(hog: &Hog, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(hog.pid().cast_signed());
    // A child of ours that is not reaped yet: the pid is still its own.
    kill(pid, signal).unwrap_or_else(|error| panic!("{signal} to hog {pid}: {error}"));
}

/// Checks repeatedly for a short time, to show that nothing happens.
fn for_a_while(mut check: impl FnMut()) {
    let end = Instant::now() + Duration::from_millis(200);
    while Instant::now() < end {
        check();
        thread::sleep(Duration::from_millis(5));
    }
}

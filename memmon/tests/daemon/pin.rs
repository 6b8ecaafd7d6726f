//! A daemon's objects in the kernel while it runs: a map that other programs can read, and BPF programs; and what is left of
//! them after its end, and after a crash.

use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, Output},
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    log::{SOON, config},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
    unistd::{SysconfVar, sysconf},
};
use serde_json::Value;

const TERM: Option<i32> = Some(libc::SIGTERM);

/// Lists the pin in the daemon's mounts, also after the daemon's end.
fn pin(daemon: &Daemon) -> Command {
    let mut list = daemon.beside("ls");
    list.args(["-l", "/sys/fs/bpf/memmon/processes"]);
    list
}

/// Entries of the pinned map, as bpftool shows them.
fn dump(daemon: &Daemon) -> Vec<Value> {
    let mut bpftool = daemon.beside("bpftool");
    bpftool.args(["--json", "map", "dump", "pinned", "/sys/fs/bpf/memmon/processes"]);
    let Output { status, stdout, stderr } = bpftool.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let entries: Vec<Value> = serde_json::from_slice(&stdout).unwrap();
    entries.into_iter().map(|mut entry| entry["formatted"].take()).collect()
}

/// The programs that are attached through the daemon's descriptors.
fn programs(daemon: &Daemon) -> Vec<u32> {
    let folder = fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid())).unwrap();
    let text = folder.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap_or_default());
    let id = |text: String| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    text.filter_map(id).collect()
}

fn is_loaded(program: u32) -> bool {
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["prog", "show", "id", &program.to_string()]).output().unwrap().status.success()
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and bpftool"]
fn the_map_can_be_read_by_others_and_all_is_gone_after_the_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let user = TestUser::claim();
        let changes = [("thresholds.ram_gb_threshold", "0.5"), ("kernel.gear", "\"always\"")];
        let daemon = Daemon::start(&config(&user, &changes), &["--source", "ebpf"]);
        let hog = user.hog("rename shown anon 60M shmem 20M hold");
        hog.begun("hold");

        let entries = dump(&daemon);
        let entry = entries.iter().find(|entry| entry["key"] == hog.pid()).unwrap();
        let value = &entry["value"];
        let page = sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap().unsigned_abs();
        let mib = |key: &str| (value[key].as_u64().unwrap() * page) >> 20;
        // The kernel may swap out some idle memory.
        assert!((58..70).contains(&(mib("anon_pages") + mib("swap_entries"))), "{value:#}");
        assert!((18..30).contains(&mib("shmem_pages")), "{value:#}");
        assert!(mib("peak_pages") >= 77 && value["file_pages"].is_u64(), "{value:#}");
        assert_eq!(value["uid"], user.uid, "{value:#}");
        let comm: Vec<u8> = value["comm"]
            .as_array()
            .unwrap()
            .iter()
            .map(|byte| byte.as_u64().unwrap().try_into().unwrap())
            .collect();
        assert_eq!(comm, *b"shown\0\0\0\0\0\0\0\0\0\0\0");

        let programs = programs(&daemon);
        assert!(programs.len() >= 4, "{programs:?}");
        assert!(programs.iter().all(|&program| is_loaded(program)), "{programs:?}");
        assert!(pin(&daemon).output().unwrap().status.success());
        let mut after = daemon.beside("ls");
        daemon.stop_by(signal);
        let left = after.args(["-A", "/sys/fs/bpf"]).output().unwrap();
        let left = String::from_utf8(left.stdout).unwrap();
        // The kernel's own files there (CONFIG_BPF_PRELOAD) stay.
        assert!(left.lines().all(|name| name.ends_with(".debug")), "left in bpffs: {left}");
        eventually("the end of the programs", || !programs.iter().any(|&program| is_loaded(program)));
    }
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and bpftool"]
fn a_pin_that_a_crash_leaves_is_replaced_by_the_next_start() {
    let user = TestUser::claim();
    let config = config(&user, &[]);
    let mut crashed = Daemon::start(&config, &["--source", "ebpf"]);
    let programs = programs(&crashed);
    crashed.signal(Signal::SIGKILL);
    crashed.ended(SOON);
    assert!(pin(&crashed).output().unwrap().status.success(), "the pin outlives it");
    eventually("the end of its programs", || !programs.iter().any(|&program| is_loaded(program)));

    let next = crashed.spawn_beside(&config, &["--source", "ebpf"]);
    next.started();
    let small = user.hog("anon 5M hold");
    small.begun("hold");
    assert!(dump(&next).iter().any(|entry| entry["key"] == small.pid()), "the pin is the new map's");
    assert_eq!(next.terminated(&mut user.hog("anon 40M hold")).0, TERM);
    next.stop();
    assert!(!pin(&crashed).output().unwrap().status.success(), "the pin is gone with it");
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and bpftool"]
fn an_entry_that_was_lost_is_repaired_and_only_that_is_called_a_defect() {
    let user = TestUser::claim();
    // With two gears a scan adds it before anything is compared.
    let changes = [("thresholds.ram_gb_threshold", "0.5"), ("kernel.gear", "\"always\"")];
    let changes = config(&user, &changes);
    let daemon = Daemon::start(&changes, &["--source", "ebpf"]);
    let hog = user.hog("anon 5M hold");
    hog.begun("hold");
    daemon.scanned();
    // The first process of a machine, whose memory has no owner, is not reported as a defect either.
    assert!(daemon.every("map_defect").is_empty());

    let mut bpftool = daemon.beside("bpftool");
    bpftool.args(["map", "delete", "pinned", "/sys/fs/bpf/memmon/processes", "key", "hex"]);
    bpftool.args(hog.pid().to_ne_bytes().map(|byte| format!("{byte:02x}")));
    assert!(bpftool.output().unwrap().status.success());
    let has_it = || dump(&daemon).iter().any(|entry| entry["key"] == hog.pid());
    assert!(!has_it());
    // A sweep begins at the next scan after a reload.
    daemon.reload(&changes);
    assert_eq!(daemon.event("map_defect")["missed"], 1);
    assert!(has_it());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_second_daemon_that_sees_only_the_firsts_pin_is_refused_too() {
    let own_run = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        Ok(mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=16m"))?)
    };
    let user = TestUser::claim();
    let config = config(&user, &[]);
    let first = Daemon::start(&config, &["--source", "ebpf"]);
    for source in ["auto", "ebpf"] {
        let mut second =
            first.spawn_beside_prepared(&config, &["--source", source, "--dry-run"], |command| {
                // SAFETY: system calls only, whose strings are short and copied to the stack.
                unsafe { command.pre_exec(own_run) };
            });
        let code = second.ended(SOON).code();
        let printed = second.last_words().join("\n");
        assert_eq!(code, Some(3), "{printed}");
        assert!(
            printed.contains("another memmon watches this machine") && !printed.contains("\"started\""),
            "{printed}"
        );
    }
    assert!(pin(&first).output().unwrap().status.success(), "the first keeps its pin");
    assert_eq!(first.terminated(&mut user.hog("anon 40M hold")).0, TERM);
    first.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_pin_that_is_not_available_is_reported_and_costs_nothing_else() {
    let read_only = || {
        let (none, flags) = (None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
        Ok(mount(none, "/sys/fs/bpf", none, flags, none)?)
    };
    let user = TestUser::claim();
    let daemon = Daemon::spawn_prepared(&config(&user, &[]), &["--source", "ebpf"], |command| {
        // SAFETY: one system call, whose strings are on the stack.
        unsafe { command.pre_exec(read_only) };
    });
    daemon.started();
    let what = "the map is not pinned: cannot make /sys/fs/bpf/memmon: Read-only file system";
    daemon.line("why there is no pin", |line| line.contains("\"degraded\"") && line.contains(what));
    assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and bpftool"]
fn an_older_process_is_in_the_map_whatever_became_of_its_first_thread() {
    let user = TestUser::claim();
    let scripts =
        ["anon 60M", "leader-exits anon 60M", "threads 6 10M", "exec other anon 60M", "anon 60M vfork"];
    let hogs = scripts.map(|script| user.hog(&format!("{script} hold")));
    hogs.iter().for_each(|hog| hog.begun("hold"));
    let changes = [("thresholds.ram_gb_threshold", "0.5")];
    let daemon = Daemon::start(&config(&user, &changes), &["--source", "ebpf"]);
    let entries = dump(&daemon);
    for (hog, script) in hogs.iter().zip(scripts) {
        let of = |pid: u32| entries.iter().find(|entry| entry["key"] == pid);
        let value = &of(hog.pid()).unwrap_or_else(|| panic!("not in the map: {script}"))["value"];
        let page = sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap().unsigned_abs();
        assert!(value["anon_pages"].as_u64().unwrap() * page > 55 << 20, "{script}: {value:#}");
        if script.ends_with("vfork") {
            assert!(of(hog.child("vfork")).is_none(), "a child that borrows memory has no entry");
        }
    }
    daemon.stop();
}

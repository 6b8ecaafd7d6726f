//! Tests of the pin: its content, the pin of a crashed run, and its removal.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::Command,
};

use memmon::observe::bpf::{AttachError, KernelMap, Options, PinError, default_pin_dir};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use serde_json::Value;

use crate::{
    agrees, attach_with,
    common::{self, eventually, hog::Hog},
    expect_entry, offsets,
};

/// Gives this thread its own mounts, with a bpffs at the usual place.
fn private_bpffs() {
    common::require_root();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), none).unwrap();
}

fn bpftool(arguments: &[&str]) -> Result<Value, String> {
    let outcome = Command::new("bpftool").arg("--json").args(arguments).output();
    let outcome = outcome.unwrap_or_else(|error| panic!("bpftool is needed: {error}"));
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    if outcome.status.success() { Ok(serde_json::from_str(&text).unwrap()) } else { Err(text) }
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and bpftool"]
fn the_map_is_pinned_by_field_names_and_gone_at_the_end() {
    private_bpffs();
    let dir = default_pin_dir().unwrap();
    assert_eq!(dir, Path::new("/sys/fs/bpf/memmon"));
    let file = dir.join("processes");
    let path = file.to_str().unwrap();

    // A pin that a crashed run of another version may have left.
    fs::create_dir(&dir).unwrap();
    let stale =
        ["map", "create", path, "type", "array", "key", "4", "value", "8", "entries", "1", "name", "stale"];
    bpftool(&stale).ok(); // it succeeds without JSON
    assert!(file.exists());

    let options = Options { capacity: 4096, pin_dir: Some(dir.clone()), two_gears: false };
    let map = attach_with(&options);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let hog = Hog::start("anon 30M hold");
    hog.begun("hold");

    let about = bpftool(&["map", "show", "pinned", path]).unwrap();
    assert_eq!((&about["name"], &about["max_entries"]), (&"PROCESSES".into(), &4096.into()));
    let dump = bpftool(&["map", "dump", "pinned", path]).unwrap();
    let shown = dump.as_array().unwrap().iter().map(|entry| &entry["formatted"]);
    let shown = shown.into_iter().find(|entry| entry["key"] == hog.pid()).unwrap();
    let process = agrees(&map, hog.pid());
    for (field, value) in [
        ("start_boottime", process.start_boottime),
        ("file_pages", process.file_pages),
        ("anon_pages", process.anon_pages),
        ("shmem_pages", process.shmem_pages),
        ("swap_entries", process.swap_entries),
        ("peak_pages", process.peak_pages),
        ("uid", process.uid.into()),
    ] {
        assert_eq!(shown["value"][field], value, "{field}");
    }

    let second = KernelMap::attach(&offsets(), &options).err();
    assert!(matches!(second, Some(AttachError::Pin(PinError::AlreadyRunning(_)))), "{second:?}");

    drop(map);
    assert!(!dir.exists());
    // A program that still existed would keep its map.
    let id = about["id"].to_string();
    eventually("the end of the programs", || bpftool(&["map", "show", "id", &id]).is_err());
    drop(attach_with(&options));
    assert!(!dir.exists());
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn everything_else_works_without_the_pin() {
    private_bpffs();
    let dir = default_pin_dir().unwrap();
    let options = Options { capacity: 4096, pin_dir: Some(dir.clone()), two_gears: false };
    // A directory of another user is not used, and stays.
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(47_001), None).unwrap();
    let map = attach_with(&options);
    assert!(matches!(map.unpinned(), Some(PinError::Foreign { uid: 47_001, .. })), "{:?}", map.unpinned());
    assert!(expect_entry(&map, std::process::id()).rss_pages() > 0);
    drop(map);
    assert!(fs::read_dir(&dir).unwrap().next().is_none());
    fs::remove_dir(&dir).unwrap();

    // Read-only, as in a container.
    let none = None::<&str>;
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, "/sys/fs/bpf", none, read_only, none).unwrap();
    let map = attach_with(&options);
    let why = map.unpinned().unwrap().to_string();
    assert!(why.starts_with("cannot make /sys/fs/bpf/memmon: Read-only"), "{why}");
    assert!(expect_entry(&map, std::process::id()).rss_pages() > 0);
}

//! The limit of a real cgroup, with a real process in it: what `[machine]` watches if every process in sight is in there.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use memmon::{model::Bytes, observe::procfs::ProcRoot};

use crate::common::{self, hog::Hog};

const MIB: u64 = Bytes::MIB;

/// A cgroup with a limit, in the hierarchy that has the memory controller. It goes with the test.
struct Limited {
    folder: PathBuf,
    name: String,
}

impl Limited {
    fn new(limit: u64) -> Self {
        common::require_root();
        let name = format!("memmon-test-limit-{}", process::id());
        let (mount, file) = if Path::new("/sys/fs/cgroup/memory").exists() {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            ("/sys/fs/cgroup", "memory.max")
        };
        let folder = Path::new(mount).join(&name);
        fs::create_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let limited = Self { folder, name: format!("/{name}") };
        limited.write(file, &limit.to_string());
        limited
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.join(file), text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_in_a_limited_cgroup_leaves_what_the_limit_leaves() {
    let limited = Limited::new(200 * MIB);
    let mut hog = Hog::start("wait-term anon 120M hold");
    hog.begun("wait-term");
    limited.write("cgroup.procs", &hog.pid().to_string());
    // A /proc in which this process is the only one, as in a container.
    let proc = tempfile::tempdir().unwrap();
    let own = |file: &str| format!("/proc/{}/{file}", hog.pid());
    for folder in ["1", "self"] {
        fs::create_dir(proc.path().join(folder)).unwrap();
    }
    for (from, to) in [
        (own("cgroup"), "1/cgroup"),
        (own("statm"), "1/statm"),
        ("/proc/self/mountinfo".to_owned(), "self/mountinfo"),
        ("/proc/meminfo".to_owned(), "meminfo"),
    ] {
        fs::copy(from, proc.path().join(to)).unwrap();
    }
    let root = ProcRoot::at(proc.path()).unwrap();
    let machine = root.machine_memory().unwrap();
    let found = root.limited_cgroups(&root.memory_cgroups().unwrap());
    let [cgroup] = &found[..] else { panic!("one limit: {found:?}") };
    assert_eq!(cgroup.name.to_string(), limited.name);
    let available = || {
        let within = root.memory_within(cgroup, &machine).expect("its limit is below the machine's memory");
        assert_eq!(within.memory.total.0, 200 * MIB);
        within.memory.available.0 / MIB
    };
    let before = available();
    assert!((180..=200).contains(&before), "{before} MiB");
    hog.term();
    hog.begun("hold");
    let after = available();
    // The kernel charges in batches, and page tables count.
    assert!((before - 130..=before - 118).contains(&after), "{before} MiB, then {after}");
    hog.release();
    hog.ended(std::time::Duration::from_secs(60));
}

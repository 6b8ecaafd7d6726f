//! Tests of the limits of cgroups: captured files, and a real cgroup where the tests may make one.

use super::super::testing::Tree;
use super::*;
use crate::model::Pressure;

const MIB: u64 = Bytes::MIB;

fn machine() -> MachineMemory {
    MachineMemory {
        memory: SystemMemory { total: Bytes(1024 * MIB), available: Bytes(512 * MIB) },
        swap_total: Bytes(100 * MIB),
        swap_free: Bytes(80 * MIB),
        elsewhere: Elsewhere { hugetlb: Bytes(7), ..Elsewhere::default() },
        pressure: Some(Pressure { some: 9.0, full: 5.0, ..Pressure::default() }),
    }
}

/// Total and available memory, total and free swap, in MiB.
fn figures(version: Version, files: &Files) -> Option<[u64; 4]> {
    let found = within(version, files, &machine())?;
    let figures = [found.memory.total, found.memory.available, found.swap_total, found.swap_free];
    Some(figures.map(|figure| figure.0 / MIB))
}

/// Version, limit, usage, page cache, limit of swap (v1: with memory), usage of swap, and what is found.
type Case = (Version, String, u64, u64, String, u64, Option<[u64; 4]>);

#[test]
fn a_limit_has_its_figures_in_place_of_the_machines() {
    let mib = |number: u64| format!("{}\n", number * MIB);
    let cases: [Case; 10] = [
        (Version::V2, mib(400), 300, 0, "max\n".into(), 0, Some([400, 100, 100, 80])),
        (Version::V2, mib(400), 300, 120, "max\n".into(), 0, Some([400, 220, 100, 80])),
        (Version::V2, mib(400), 410, 0, "0\n".into(), 0, Some([400, 0, 0, 0])),
        (Version::V2, mib(400), 300, 0, mib(50), 20, Some([400, 100, 50, 30])),
        (Version::V2, mib(400), 300, 0, mib(500), 20, Some([400, 100, 100, 80])),
        (Version::V2, "max\n".into(), 300, 0, "max\n".into(), 0, None),
        // No less than the machine has.
        (Version::V2, mib(1024), 300, 0, "max\n".into(), 0, None),
        (Version::V1, mib(400), 300, 50, mib(450), 310, Some([400, 150, 50, 40])),
        (Version::V1, mib(400), 300, 50, "9223372036854771712\n".into(), 310, Some([400, 150, 100, 80])),
        (Version::V1, "9223372036854771712\n".into(), 300, 50, String::new(), 0, None),
    ];
    for (version, limit, usage, cache, swap_limit, swap_usage, expected) in cases {
        let prefix = if version == Version::V1 { "total_" } else { "" };
        // Shared memory is page cache as well, but cannot be reclaimed.
        let stat = format!(
            "file 999999999\n{prefix}inactive_file {}\n{prefix}active_file {MIB}\n{prefix}shmem 5\n",
            (cache * MIB).saturating_sub(MIB)
        );
        let stat = if cache == 0 { String::new() } else { stat };
        let files = Files {
            limit: limit.clone(),
            usage: mib(usage),
            stat,
            swap_limit,
            swap_usage: mib(swap_usage),
            pressure: String::new(),
        };
        assert_eq!(figures(version, &files), expected, "{version:?} {limit:?} {files:?}");
    }
    assert_eq!(figures(Version::V2, &Files::default()), None);
}

#[test]
fn pressure_and_other_memory_are_those_of_the_cgroup() {
    let files = Files {
        limit: (400 * MIB).to_string(),
        usage: "1\n".into(),
        stat: "shmem 5\nslab_unreclaimable 6\n".into(),
        pressure: "some avg10=1.50 avg60=0 total=1\nfull avg10=0.25 avg60=0 total=1\n".into(),
        ..Files::default()
    };
    let found = within(Version::V2, &files, &machine()).unwrap();
    let pressure = found.pressure.map(|Pressure { some, full, .. }| (some, full));
    assert_eq!(pressure, Some((1.5, 0.25)));
    assert_eq!(found.elsewhere, Elsewhere { shmem: Bytes(5), slab: Bytes(6), hugetlb: Bytes::ZERO });
}

/// A tree of cgroups of version 2 below `tree`, mounted from the cgroup `root`.
fn mounted(tree: &Tree, root: &str) {
    let at = tree.path().join("cgroups");
    let mounts = format!(
        "22 1 8:1 / / rw - ext4 /dev/sda rw\n30 22 0:26 {root} {} rw - cgroup2 cgroup2 rw\n",
        at.display()
    );
    tree.write("self/mountinfo", mounts);
    tree.write("meminfo", "MemTotal:  1048576 kB\nMemAvailable:  524288 kB\n");
}

fn process(tree: &Tree, pid: u32, cgroup: &str) {
    tree.cat(pid);
    tree.write(&format!("{pid}/cgroup"), format!("0::{cgroup}\n"));
}

fn names(tree: &Tree) -> Vec<String> {
    let hierarchy = tree.root().memory_cgroups().unwrap();
    tree.root().limited_cgroups(&hierarchy).iter().map(|cgroup| cgroup.name.to_string()).collect()
}

#[test]
fn the_limit_is_one_that_all_processes_are_below() {
    let tree = Tree::new();
    mounted(&tree, "/");
    process(&tree, 1, "/box/init.scope");
    process(&tree, 42, "/box/job");
    assert_eq!(names(&tree), [""; 0], "no limit");
    tree.write("cgroups/box/memory.max", "419430400\n");
    tree.write("cgroups/box/init.scope/memory.max", "104857600\n");
    tree.write("cgroups/box/job/memory.max", "1048576\n");
    assert_eq!(names(&tree), ["/box"], "the others hold a part of the processes");
    tree.write("cgroups/memory.max", "838860800\n");
    assert_eq!(names(&tree), ["/", "/box"]);
    process(&tree, 43, "/elsewhere");
    assert_eq!(names(&tree), ["/"]);
    // One without memory is no process to watch.
    for file in ["43/statm", "43/task/43/statm"] {
        tree.write(file, "0 0 0 0 0 0 0\n");
    }
    assert_eq!(names(&tree), ["/", "/box"]);
    tree.spoil("42/cgroup");
    assert_eq!(names(&tree), [""; 0], "a process that may be anywhere");
    std::fs::remove_dir(tree.path().join("42/cgroup")).unwrap();
    process(&tree, 42, "/box/job");
    assert_eq!(names(&tree), ["/", "/box"]);
    process(&tree, 44, "/../other");
    assert_eq!(names(&tree), [""; 0], "outside of what memmon can see");
}

#[test]
fn a_mount_from_outside_of_the_namespace_is_passed_over() {
    let tree = Tree::new();
    mounted(&tree, "/");
    let own = std::fs::read_to_string(tree.path().join("self/mountinfo")).unwrap();
    let outer = "29 22 0:26 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    tree.write("self/mountinfo", format!("{outer}{own}"));
    tree.write("cgroups/memory.max", "419430400\n");
    process(&tree, 1, "/");
    assert_eq!(names(&tree), ["/"]);
    tree.write("self/mountinfo", outer);
    assert_eq!(tree.root().memory_cgroups(), None);
}

#[test]
fn a_container_has_its_cgroup_mounted() {
    let tree = Tree::new();
    mounted(&tree, "/docker/1234");
    tree.write("cgroups/memory.max", "419430400\n");
    tree.write("cgroups/memory.current", "314572800\n");
    process(&tree, 1, "/docker/1234");
    let root = tree.root();
    let [found] = &root.limited_cgroups(&root.memory_cgroups().unwrap())[..] else { panic!("one limit") };
    assert_eq!(found.name.to_string(), "/docker/1234");
    let machine = root.machine_memory().unwrap();
    let within = root.memory_within(found, &machine).unwrap();
    assert_eq!((within.memory.total.0 / MIB, within.memory.available.0 / MIB), (400, 100));
    process(&tree, 1, "/../../init.scope");
    assert_eq!(names(&tree), [""; 0], "a container that sees the processes of its host");
}

//! `[machine]` at real speeds: memmon and a load on a small machine, made of cgroups and namespaces, that becomes short of memory.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use crate::common::{
    TestUser,
    daemon::Daemon,
    hog::{self, example},
    log::config,
};

/// Longer than the load waits for anything.
const LONGEST: Duration = Duration::from_secs(600);

const SOURCES: [&str; 5] =
    ["load/main.rs", "load/memory.rs", "load/memory_cgroup.rs", "load/shortage.rs", "shared/mod.rs"];

/// memmon reads /proc there (examples/load/shortage.rs), as in a container.
fn memmon_ends_some_of(load: &str, needed: usize) {
    let (user, other) = (TestUser::claim(), TestUser::claim());
    let [uid, other_uid] = [user.uid, other.uid].map(|uid| uid.to_string());
    hog::program();
    let program = example("load", &SOURCES);
    let launcher = [program.to_str().unwrap(), "shortage", load, &uid, &other_uid, "0"];
    let changes = [
        ("thresholds.ram_gb_threshold", "16"),
        // Between two scans it is the look at the machine alone that shows the shortage.
        ("thresholds.check_interval", "30"),
        ("termination.grace", "2"),
        // Twice the default, so that a machine that is slow in places still ends the first in time. A memmon that took memory for
        // steady after an end would look again after all of it is gone (by the load's speed), on any machine.
        ("machine.available_percent", "10"),
        ("machine.warn", "{ available_percent = 20 }"),
    ];
    let mut daemon = Daemon::start_by(&launcher, &config(&user, &changes), &[]);
    let status = daemon.ended(LONGEST);
    let printed = daemon.last_words().join("\n");
    assert!(status.success(), "{status}:\n{printed}");

    let over = daemon.event("load_over");
    assert_eq!(over["database_lives"], true, "{load}:\n{printed}");
    assert_eq!(daemon.event("machine_over")["killed_by_kernel"], 0, "{load}:\n{printed}");
    let of_load: BTreeSet<u64> = over["pids"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    let records = daemon.every("terminated");
    for record in &records {
        assert_eq!(record["rule"], "machine", "{record}");
        assert!(record["pid"].as_u64().is_some_and(|pid| of_load.contains(&pid)), "{record}");
    }
    // One more ends if the others grow meanwhile by what its end gave back. A smaller memmon, a release build, needs fewer to end.
    assert!((1..=needed + 1).contains(&records.len()), "{} ended:\n{printed}", records.len());
    let low = daemon.every("memory_low");
    assert!(
        !low.is_empty() && low.iter().all(|low| low["cgroup"] == format!("/memmon-load-{uid}")),
        "{low:?}"
    );
}

#[test]
#[ignore = "kernel: needs root, mounts and a memory cgroup"]
fn a_process_that_takes_nearly_all_memory_at_once_ends() {
    memmon_ends_some_of("hog", 1);
}

#[test]
#[ignore = "kernel: needs root, mounts and a memory cgroup"]
fn as_many_of_eight_that_grow_together_end_as_it_takes_before_the_kernel_ends_any() {
    memmon_ends_some_of("workers", 4);
}

#[test]
#[ignore = "kernel: needs root, mounts and a memory cgroup"]
fn as_many_of_a_storm_of_processes_end_as_it_takes_before_the_kernel_ends_any() {
    memmon_ends_some_of("storm", 14);
}

#[test]
#[ignore = "kernel: needs root, mounts and a memory cgroup"]
fn a_process_that_leaks_slowly_ends() {
    memmon_ends_some_of("leak", 1);
}

//! Sums of units and of cgroups, in real and nested ones. In each test the limit of `[thresholds]` for one process is 32 MiB.

use serde_json::Value;

use crate::common::{
    TestUser,
    cgroup::Cgroup,
    daemon::Daemon,
    hog::Hog,
    log::{SOURCES, config},
};

const TERM: Option<i32> = Some(libc::SIGTERM);

/// A hog that has its memory from the moment on at which it is in its place.
fn in_place(user: &TestUser, mib: u32, take: impl FnOnce(&Hog)) -> Hog {
    let hog = user.hog(&format!("wait-term anon {mib}M hold"));
    hog.begun("wait-term");
    take(&hog);
    hog.term();
    hog.begun("hold");
    hog
}

fn rule(user: &TestUser, per: &str) -> String {
    format!("[{{ name = \"together\", uids = [\"{}\"], per = \"{per}\", gb = 0.05859375 }}]", user.uid)
}

/// Waits until the sums were looked at a few times more.
fn looked_at(daemon: &Daemon) {
    daemon.scanned();
    std::thread::sleep(std::time::Duration::from_millis(300));
    daemon.scanned();
}

fn ends_alone(daemon: &Daemon, largest: &mut Hog, spared: &[&Hog], key: &str, value: &str) -> Value {
    let (signal, record) = daemon.terminated(largest);
    assert_eq!(signal, TERM);
    let sum = &record["sum"];
    assert_eq!((&sum["rule_name"], &sum[key]), (&"together".into(), &value.into()), "{record}");
    looked_at(daemon);
    assert!(spared.iter().all(|hog| hog.is_alive()));
    assert_eq!(daemon.every("killing").len(), 1);
    record["sum"].clone()
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_unit_is_summed_with_all_cgroups_inside_it() {
    for source in SOURCES {
        let user = TestUser::claim();
        let service = Cgroup::new("unit", &["x.service", "payload", "worker.scope"]);
        let other = Cgroup::new("other-unit", &["y.scope"]);
        let daemon = Daemon::start(&config(&user, &[("rule", &rule(&user, "unit"))]), &["--source", source]);
        let mut main = in_place(&user, 26, |hog| service.take_above(hog, 2));
        let payload = in_place(&user, 18, |hog| service.take_above(hog, 1));
        let elsewhere = [24, 18].map(|mib| in_place(&user, mib, |hog| other.take(hog)));
        looked_at(&daemon);
        assert_eq!(daemon.every("killing"), Vec::<Value>::new(), "each of the units is below 60 MiB");
        let worker = in_place(&user, 20, |hog| service.take(hog));
        let spared = [&payload, &worker, &elsewhere[0], &elsewhere[1]];
        let sum = ends_alone(&daemon, &mut main, &spared, "unit", "x.service");
        assert_eq!((&sum["per"], &sum["members"]), (&"unit".into(), &3.into()));
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_cgroup_is_summed_without_those_inside_it_and_a_process_counts_where_it_was_moved() {
    for source in SOURCES {
        let user = TestUser::claim();
        let outer = Cgroup::new("sum", &["x.service", "inner"]);
        let daemon =
            Daemon::start(&config(&user, &[("rule", &rule(&user, "cgroup"))]), &["--source", source]);
        let above = [20, 18].map(|mib| in_place(&user, mib, |hog| outer.take_above(hog, 1)));
        let inside = [20, 18].map(|mib| in_place(&user, mib, |hog| outer.take(hog)));
        // It comes from a cgroup in which it is alone.
        let apart = Cgroup::new("apart", &["z.service"]);
        let mut moved = in_place(&user, 26, |hog| apart.take(hog));
        looked_at(&daemon);
        assert_eq!(daemon.every("killing"), Vec::<Value>::new(), "together 76 MiB, and 38 MiB in each");
        outer.take(&moved);
        let spared = [&above[0], &above[1], &inside[0], &inside[1]];
        let path = format!("{}/x.service/inner", outer.name());
        let sum = ends_alone(&daemon, &mut moved, &spared, "cgroup", &path);
        assert_eq!((&sum["per"], &sum["members"]), (&"cgroup".into(), &3.into()));
        daemon.stop();
    }
}

//! Processes in cgroups that are nested so deeply that /proc does not show their path.

use std::fs;

use crate::common::{
    TestUser,
    cgroup::Cgroup,
    daemon::Daemon,
    log::{SOURCES, config},
};

/// More than 4096 bytes in all.
const LEVELS: usize = 20;

#[test]
#[ignore = "needs root and cgroup v2"]
fn a_cgroup_too_deep_to_be_shown_neither_protects_a_process_nor_ends_it() {
    let user = TestUser::claim();
    let long = "d".repeat(250);
    let deep = Cgroup::new("deep", &vec![&*long; LEVELS]);
    for source in SOURCES {
        let mut hog = user.hog("anon 60M hold");
        hog.begun("hold");
        deep.take(&hog);
        // Linux before 6.8 shows nothing of it, later ones cut it.
        match fs::read_to_string(format!("/proc/{}/cgroup", hog.pid())) {
            Ok(shown) => {
                let longest = shown.lines().map(str::len).max().unwrap();
                assert!((4000..5000).contains(&longest), "{longest} bytes are shown");
            }
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG), "{error}"),
        }

        // A scope that it is not in, and one that it is in by its name's beginning only.
        for elsewhere in ["/memmon-test-elsewhere/**".to_owned(), format!("{}/d/**", deep.name())] {
            let out_of_scope = config(&user, &[]).and_in_cgroup(&elsewhere);
            let daemon = Daemon::start(&out_of_scope, &["--source", source]);
            daemon.scanned();
            assert!(hog.is_alive());
            let pid = hog.pid();
            assert!(daemon.about("unsure", pid).is_empty() && daemon.about("killing", pid).is_empty());
            daemon.stop();
        }

        let in_scope = config(&user, &[]).and_in_cgroup(&format!("{}/**", deep.name()));
        let daemon = Daemon::start(&in_scope, &["--source", source]);
        let (signal, record) = daemon.terminated(&mut hog);
        assert_eq!(signal, Some(libc::SIGTERM));
        let cgroup = record["cgroup"].as_str().unwrap();
        assert!(cgroup.starts_with(&deep.name()) && cgroup.len() < 4096, "{} bytes", cgroup.len());
        daemon.stop();
    }
}

#[test]
#[ignore = "needs root and cgroup v2"]
fn the_record_of_a_process_in_a_container_names_the_container() {
    let user = TestUser::claim();
    let id = "0123456789abcdef".repeat(4);
    // As Docker names it without systemd.
    let container = Cgroup::new("container", &["docker", &*id]);
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let mut hog = user.hog("wait-term anon 60M hold");
        hog.begun("wait-term");
        container.take(&hog);
        hog.term();
        let (signal, record) = daemon.terminated(&mut hog);
        assert_eq!(signal, Some(libc::SIGTERM));
        let expected = serde_json::json!({ "container": { "id": id, "runtime": "docker" } });
        assert_eq!(record["workload"], expected, "{record}");
        daemon.stop();
    }
}

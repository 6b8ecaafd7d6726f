//! Processes in cgroups that are nested so deeply that /proc does not show their path, and in those of jobs and containers.

use std::{fs, path::Path};

use crate::common::{
    TestUser,
    cgroup::Cgroup,
    daemon::Daemon,
    hog::{Hog, Supervisor},
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

#[test]
#[ignore = "needs root and cgroup v2"]
fn the_record_of_a_process_in_a_pod_has_the_names_that_its_runtime_wrote_down() {
    let user = TestUser::claim();
    let (id, pod) = ("fedcba9876543210".repeat(4), "11111111-2222-3333-4444-555555555555");
    // As kubelet names it without systemd.
    let container = Cgroup::new("pod", &["kubepods", "besteffort", &format!("pod{pod}"), &*id]);
    let daemon = Daemon::start(&config(&user, &[]), &[]);
    let folder = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}");
    let bundle = "{\"annotations\":{\"io.kubernetes.cri.container-name\":\"web\",\
                  \"io.kubernetes.cri.sandbox-name\":\"shop\",\"io.kubernetes.cri.sandbox-namespace\":\"default\"}}";
    let written = daemon
        .beside("sh")
        .args(["-c", "umask 022 && mkdir -p \"$0\" && printf %s \"$1\" >\"$0/config.json\"", &folder, bundle])
        .status()
        .unwrap();
    assert!(written.success());
    let (_, record) = daemon.terminated(&mut inside(&user, &container));
    let expected = serde_json::json!({ "container": {
        "id": id, "pod": pod, "name": "web", "pod_name": "shop", "namespace": "default"
    } });
    assert_eq!(record["workload"], expected, "{record}");
    daemon.stop();
}

/// A hog in that cgroup with all of its memory.
fn inside(user: &TestUser, cgroup: &Cgroup) -> Hog {
    let hog = user.hog("wait-term anon 40M hold");
    hog.begun("wait-term");
    cgroup.take(&hog);
    hog.term();
    hog
}

const REPEATED: [(&str, &str); 2] =
    [("termination.repeat_limit", "2"), ("termination.repeat_backoff", "600")];

#[test]
#[ignore = "needs root and cgroup v2"]
fn an_array_of_jobs_is_no_crash_loop_and_a_loop_within_a_job_is_one() {
    let _supervisor = Supervisor::pretend();
    for source in SOURCES {
        let user = TestUser::claim();
        let daemon = Daemon::start(&config(&user, &REPEATED), &["--source", source]);
        for job in 1..=4 {
            let cgroup = Cgroup::slurm(job);
            let (signal, record) = daemon.terminated(&mut inside(&user, &cgroup));
            assert_eq!(signal, Some(libc::SIGTERM));
            assert_eq!(record["workload"]["slurm"]["job"], job, "{record}");
        }
        assert!(daemon.every("held_back").is_empty());
        let job = Cgroup::slurm(5);
        for _ in 0..2 {
            daemon.terminated(&mut inside(&user, &job));
        }
        let third = inside(&user, &job);
        daemon.reported("held_back", third.pid());
        drop(third);
        daemon.stop();
    }
}

const POD: &str = "11111111-2222-3333-4444-555555555555";

/// A hog in a container's cgroup with kubelet's mount, and with all of its memory.
fn in_pod(user: &TestUser, folder: &Path, name: Option<&str>, cgroup: &Cgroup) -> Hog {
    let last_words = |name: &str| {
        let containers = folder.join(format!("kubelet/pods/{POD}/containers")).join(name);
        fs::create_dir_all(&containers).unwrap();
        let (file, onto) = (containers.join("0a1b2c3d"), folder.join("termination-log"));
        for path in [&file, &onto] {
            fs::write(path, "").unwrap();
        }
        format!("mount {} {}", file.display(), onto.display())
    };
    let mount = name.map(last_words).unwrap_or_default();
    let hog = user.hog_after(&mount, "wait-term anon 40M hold");
    hog.begun("wait-term");
    cgroup.take(&hog);
    hog.term();
    hog
}

/// kubelet gives a container another cgroup at each start. Its name is that of the file which kubelet mounts into it.
#[test]
#[ignore = "needs root, mounts and cgroup v2"]
fn a_container_of_a_pod_that_comes_back_waits_and_those_beside_it_do_not() {
    let folder = tempfile::tempdir().unwrap();
    for source in SOURCES {
        let user = TestUser::claim();
        let daemon = Daemon::start(&config(&user, &REPEATED), &["--source", source]);
        let pod = Cgroup::new("pod", &["kubepods", "burstable", &format!("pod{POD}")]);
        let start = |name, id: &str| {
            let cgroup = pod.with(&id.repeat(64));
            (in_pod(&user, folder.path(), name, &cgroup), cgroup)
        };
        for id in ["1", "2"] {
            let (mut hog, _cgroup) = start(Some("web"), id);
            let (signal, record) = daemon.terminated(&mut hog);
            assert_eq!(signal, Some(libc::SIGTERM));
            // No runtime has written down a name.
            assert_eq!(record["workload"]["container"]["name"], "web", "{record}");
            assert_eq!(record["workload"]["container"]["id"], id.repeat(64), "{record}");
        }
        let (web, web_cgroup) = start(Some("web"), "3");
        daemon.reported("held_back", web.pid());
        for (name, id) in [(Some("sidecar"), "4"), (None, "5"), (None, "6"), (None, "7")] {
            let (mut other, _cgroup) = start(name, id);
            let (_, record) = daemon.terminated(&mut other);
            assert_eq!(record["workload"]["container"]["name"].as_str(), name, "{record}");
        }
        assert!(web.is_alive());
        let held = daemon.every("held_back");
        assert_eq!(held.len(), 1, "{held:?}");
        drop((web, web_cgroup));
        daemon.stop();
    }
}

/// A service of Podman's has another container after each restart (`podman run --rm`).
#[test]
#[ignore = "needs root and cgroup v2"]
fn a_service_that_runs_a_new_container_each_time_is_a_crash_loop() {
    for source in SOURCES {
        let user = TestUser::claim();
        let daemon = Daemon::start(&config(&user, &REPEATED), &["--source", source]);
        let started = |digit: &str| {
            let payload = format!("libpod-payload-{}", digit.repeat(64));
            let cgroup = Cgroup::new("quadlet", &["web.service", &payload]);
            (inside(&user, &cgroup), cgroup)
        };
        for digit in ["a", "b"] {
            let (mut hog, _cgroup) = started(digit);
            let (_, record) = daemon.terminated(&mut hog);
            assert_eq!(record["workload"]["unit"], "web.service", "{record}");
            assert_eq!(record["workload"]["container"]["id"], digit.repeat(64), "{record}");
        }
        let (third, _cgroup) = started("c");
        daemon.reported("held_back", third.pid());
        drop(third);
        daemon.stop();
    }
}

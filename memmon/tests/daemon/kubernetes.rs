//! The DaemonSet of contrib/kubernetes: valid by Kubernetes' own schemas, and with rights that are enough, in a container of runc
//! that has exactly those.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::common::{
    TestUser,
    daemon::Daemon,
    log::{RARELY, config},
};

const TERM: Option<i32> = Some(libc::SIGTERM);
const PYTHON: &str = "/usr/bin/python3";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/kubernetes");

fn real(path: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("MEMMON_REAL").unwrap()).join(path)
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// The system's Python, with Kubernetes' schemas and PyYAML.
fn python() -> Command {
    let mut python = Command::new(PYTHON);
    python.env("PYTHONPATH", real("kubernetes"));
    python
}

/// The manifests as kustomize composes them, in a file.
fn manifests(folder: &Path) -> PathBuf {
    let file = folder.join("manifests.yaml");
    fs::write(&file, printed(Command::new(real("usr/bin/kubectl")).args(["kustomize", FOLDER]))).unwrap();
    file
}

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_REAL"]
fn the_manifests_are_valid_by_the_schemas_of_kubernetes() {
    let folder = tempfile::tempdir().unwrap();
    let mut validate = python();
    let verdicts = printed(
        validate
            .args(["-m", "kubernetes_validate", "--strict"])
            .arg(manifests(folder.path()))
            .env("LC_ALL", "C"),
    );
    for kind in ["namespace", "configmap", "daemonset"] {
        assert!(verdicts.contains(&format!("passed for resource {kind}/memmon")), "{verdicts}");
    }
    let configuration = format!("{FOLDER}/config.toml");
    printed(Command::new(env!("CARGO_BIN_EXE_memmon")).args(["check", &configuration]));
}

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_REAL"]
fn a_pod_with_the_rights_of_the_manifest_sees_and_ends_a_hog_of_its_node() {
    let (user, folder) = (TestUser::claim(), tempfile::tempdir().unwrap());
    let (manifests, bundle) = (manifests(folder.path()), folder.path().join("bundle"));
    fs::create_dir(&bundle).unwrap();
    let pod = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/pod.py");
    let modules = format!("PYTHONPATH={}", real("kubernetes").display());
    let runc = real("usr/sbin/runc");
    let paths = [Path::new(pod), &manifests, &runc, &bundle].map(|path| path.to_str().unwrap());
    let launcher = [&["env", modules.as_str(), PYTHON][..], &paths].concat();
    let daemon = Daemon::start_by(&launcher, &config(&user, &[RARELY]), &["--source", "ebpf"]);
    assert_eq!(daemon.every("started")[0]["dry_run"], false);

    let mut hog = user.hog("anon 20M wait-term anon 40M hold");
    hog.begun("wait-term");
    hog.term();
    // No scan comes: the kernel's event wakes memmon.
    let (signal, _) = daemon.terminated(&mut hog);
    assert_eq!((signal, daemon.scans()), (TERM, 1));

    // The probe as the kubelet runs it.
    let state = bundle.join("state");
    let name = fs::read_dir(&state).unwrap().next().unwrap().unwrap().file_name();
    let mut probe = daemon.beside(runc.to_str().unwrap());
    probe.arg("--root").arg(&state).arg("exec").arg(name);
    let status: Value =
        serde_json::from_str(&printed(probe.args(["/usr/sbin/memmon", "status", "--json"]))).unwrap();
    assert_eq!(status["source"]["name"], "ebpf", "{status}");
    daemon.stop();
}

//! The DaemonSet of contrib/kubernetes: valid by Kubernetes' own schemas, and with rights that are enough, in a container of runc
//! that has exactly those. The Helm chart makes the same pod.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

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

/// The command that renders the Helm chart with these values.
fn chart(values: &Value) -> Command {
    let mut render = python();
    render.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/chart.py"), &format!("{FOLDER}/chart")]);
    render.arg(values.to_string());
    render
}

/// The ConfigMap and the DaemonSet of the chart.
fn rendered(values: &Value) -> [Value; 2] {
    let printed: Value = serde_json::from_str(&printed(&mut chart(values))).unwrap();
    let complaints = printed["lint"].as_array().unwrap();
    // Severity 1 is advice: it wants an icon.
    assert!(complaints.iter().all(|complaint| complaint["severity"] == 1), "{complaints:?}");
    let of = |kind: &str| {
        let mut all = printed["manifests"].as_array().unwrap().iter();
        all.find(|manifest| manifest["kind"] == kind).unwrap().clone()
    };
    assert_eq!(printed["manifests"].as_array().unwrap().len(), 2);
    ["ConfigMap", "DaemonSet"].map(of)
}

/// By Helm's own library. The chart's pod is that of the base for kustomize, whose rights are tried below.
#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_REAL"]
fn the_helm_chart_makes_the_pod_of_the_base_for_kustomize() {
    let folder = tempfile::tempdir().unwrap();
    let [config, pods] = rendered(&json!({}));
    let to_json = "import json, sys, yaml; json.dump([*yaml.safe_load_all(open(sys.argv[1]))], sys.stdout)";
    let base = printed(python().args(["-c", to_json]).arg(manifests(folder.path())));
    let base: Vec<Value> = serde_json::from_str(&base).unwrap();
    let of_base = |kind: &str| base.iter().find(|manifest| manifest["kind"] == kind).unwrap();
    assert_eq!(config["data"], of_base("ConfigMap")["data"]);
    let mut expected = of_base("DaemonSet")["spec"].clone();
    let spec = &mut expected["template"]["spec"];
    // kustomize gives it a name of its own for each content, and the chart replaces the pods by an annotation.
    spec["volumes"][0]["configMap"]["name"] = "memmon".into();
    spec["containers"][0]["imagePullPolicy"] = "IfNotPresent".into();
    assert_eq!(pods["spec"]["template"]["spec"], *spec);
    assert_eq!(pods["spec"]["updateStrategy"], expected["updateStrategy"]);
    let (selector, labels) = (&pods["spec"]["selector"], &pods["spec"]["template"]["metadata"]["labels"]);
    for label in ["name", "instance"].map(|name| format!("app.kubernetes.io/{name}")) {
        assert_eq!((&selector["matchLabels"][&label], &labels[&label]), (&json!("memmon"), &json!("memmon")));
    }

    let file = folder.path().join("chart.yaml");
    fs::write(&file, format!("{config}\n---\n{pods}\n")).unwrap();
    let mut validate = python();
    validate.args(["-m", "kubernetes_validate", "--strict"]).arg(&file).env("LC_ALL", "C");
    let verdicts = printed(&mut validate);
    for kind in ["configmap", "daemonset"] {
        assert!(verdicts.contains(&format!("passed for resource {kind}/memmon")), "{verdicts}");
    }
}

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_REAL"]
fn the_values_of_the_helm_chart_count_and_an_unknown_one_is_refused() {
    let checksum =
        |pods: &Value| pods["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone();
    let [_, default] = rendered(&json!({}));
    let [config, pods] = rendered(&json!({
        "config": "[settings]\ndry_run = false\n",
        "image": { "repository": "registry.example.org/memmon", "tag": "2.0.1" },
        "nodeSelector": { "pool": "batch" },
        "tolerations": [],
        "seccompProfile": { "type": "RuntimeDefault" },
    }));
    assert_eq!(config["data"]["config.toml"], "[settings]\ndry_run = false\n");
    assert_ne!(checksum(&default), checksum(&pods), "a changed configuration replaces the pods");
    let pod = &pods["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(container["image"], "registry.example.org/memmon:2.0.1");
    assert_eq!(container["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!((&pod["nodeSelector"]["pool"], pod.get("tolerations")), (&json!("batch"), None));
    for (values, key) in
        [(json!({ "dryRun": true }), "dryRun"), (json!({ "image": { "repo": "x" } }), "repo")]
    {
        let output = chart(&values).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(key), "{error}");
    }
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

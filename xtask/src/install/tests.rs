//! Installations into directories, and their removal.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::*;
use crate::build::Release;

const SHIPPED: &str = include_str!("../../../config.toml");

#[test]
fn what_could_not_be_installed_is_refused_before_the_build() {
    let into = |destdir: Option<&str>, prefix: &str| Options {
        destdir: destdir.map(PathBuf::from),
        prefix: PathBuf::from(prefix),
        no_start: false,
        yes: false,
        no_build: false,
    };
    let refused = |options: &Options, is_root, has_sudo| {
        check_before_build(options, is_root, has_sudo)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert_eq!(
        refused(&into(Some("/tmp/x"), "usr"), true, true),
        "--prefix usr: it must be an absolute path"
    );
    assert_eq!(refused(&into(None, "/usr"), false, false), NO_SUDO);
    for (options, is_root, has_sudo) in [
        (into(None, "/usr"), true, false),
        (into(None, "/usr"), false, true),
        (into(Some("/tmp/x"), "/usr"), false, false),
    ] {
        assert_eq!(refused(&options, is_root, has_sudo), "");
    }
}

#[test]
fn the_root_is_shown_with_one_slash() {
    assert_eq!(Step::CreateDirectory(PathBuf::from("/")).to_string(), "create /");
    assert_eq!(
        Step::RemoveDirectory(PathBuf::from("/usr/local")).to_string(),
        "remove /usr/local/ if it is empty"
    );
}

/// A machine in a directory, with the folders of a system without memmon.
struct Tree {
    directory: tempfile::TempDir,
    release: Release,
}

impl Tree {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let built = directory.path().join("built");
        fs::create_dir_all(&built).unwrap();
        for name in ["memmon", "memmon.8", "memmon.toml.5", "memmon.bash", "_memmon", "memmon.fish"] {
            fs::write(built.join(name), format!("the first {name}")).unwrap();
        }
        let release = Release { binary: built.join("memmon"), manual: built };
        let tree = Self { directory, release };
        for folder in
            ["/etc/logrotate.d", "/usr/local/sbin", "/usr/local/share/man", "/var/log", "/etc/systemd/system"]
        {
            fs::create_dir_all(tree.machine().place(folder)).unwrap();
        }
        tree.write("/etc/passwd", "root");
        tree
    }

    fn machine(&self) -> Machine {
        Machine::at(&self.directory.path().join("root"))
    }

    fn write(&self, path: &str, text: &str) {
        let place = self.machine().place(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.machine().place(path)).ok()
    }

    /// Every file and directory, with its mode and content.
    fn all(&self) -> BTreeMap<PathBuf, (u32, Option<String>)> {
        fn walk(folder: &Path, all: &mut BTreeMap<PathBuf, (u32, Option<String>)>) {
            for entry in folder.read_dir().unwrap() {
                let path = entry.unwrap().path();
                let mode = path.metadata().unwrap().permissions().mode();
                all.insert(path.clone(), (mode, fs::read_to_string(&path).ok()));
                if path.is_dir() {
                    walk(&path, all);
                }
            }
        }
        let mut all = BTreeMap::new();
        walk(&self.machine().place("/"), &mut all);
        all
    }

    fn install(&self, prefix: &str, retire_v1: bool) -> Vec<String> {
        let machine = self.machine();
        let items = items(&self.release, Path::new(prefix)).unwrap();
        let facts = Facts { retire_v1, ..machine.look(&items).unwrap() };
        let steps = plan::install(&items, &facts);
        steps.iter().for_each(|step| machine.perform(step).unwrap());
        steps.iter().map(Step::to_string).collect()
    }

    fn uninstall(&self, purge: bool) -> Vec<String> {
        let machine = self.machine();
        let steps = plan::uninstall(SHIPPED.as_bytes(), &machine.look(&[]).unwrap(), purge);
        steps.iter().for_each(|step| machine.perform(step).unwrap());
        steps.iter().map(Step::to_string).collect()
    }
}

#[test]
fn an_uninstall_leaves_nothing_behind() {
    for prefix in ["/usr/local", "/usr", "/opt/memmon"] {
        let tree = Tree::new();
        let before = tree.all();
        tree.install(prefix, false);
        assert_eq!(tree.read(&format!("{prefix}/sbin/memmon")).unwrap(), "the first memmon");
        assert_eq!(tree.read("/etc/memmon/config.toml").unwrap(), SHIPPED);
        // A second installation changes nothing.
        let installed = tree.all();
        assert_eq!(tree.install(prefix, false), [] as [&str; 0]);
        assert_eq!(tree.all(), installed);
        tree.uninstall(false);
        assert_eq!(tree.all(), before, "{prefix}");
    }
}

/// Fragments are those of the administrator or of other packages.
#[test]
fn the_folder_for_fragments_exists_and_goes_only_if_nobody_uses_it() {
    let tree = Tree::new();
    tree.install("/usr/local", false);
    assert!(tree.read("/etc/memmon/conf.d/README").is_some());
    tree.write("/etc/memmon/conf.d/web.toml", "# a fragment");
    tree.uninstall(true);
    assert_eq!(tree.read("/etc/memmon/conf.d/web.toml").unwrap(), "# a fragment");
    assert_eq!(tree.read("/etc/memmon/conf.d/README"), None);
}

#[test]
fn another_version_or_prefix_replaces_the_first_and_is_taken_away_like_it() {
    let tree = Tree::new();
    let before = tree.all();
    tree.install("/usr/local", false);
    fs::write(&tree.release.binary, "the second").unwrap();
    tree.install("/usr/local", false);
    assert_eq!(tree.read("/usr/local/sbin/memmon").unwrap(), "the second");
    tree.install("/usr", false);
    assert_eq!(tree.read("/usr/sbin/memmon").unwrap(), "the second");
    assert_eq!(tree.read("/usr/local/sbin/memmon"), None);
    tree.uninstall(false);
    assert_eq!(tree.all(), before);
}

#[test]
fn an_edited_configuration_is_never_overwritten_and_removed_only_when_asked() {
    let tree = Tree::new();
    let before = tree.all();
    tree.install("/usr/local", false);
    let edited = "[settings]\nlog_file = \"/var/log/other.log\"\n";
    tree.write("/etc/memmon/config.toml", edited);
    let steps = tree.install("/usr/local", false);
    assert!(steps[0].contains("was edited and stays as it is"), "{steps:?}");
    assert_eq!(tree.read("/etc/memmon/config.toml").unwrap(), edited);
    assert_eq!(tree.read("/etc/memmon/config.toml.new").unwrap(), SHIPPED);

    tree.write("/var/log/other.log", "a line");
    tree.write("/var/log/other.log.1.gz", "more");
    tree.write("/var/log/other.logs", "not memmon's");
    for name in ["exemptions.json", "history.redb", "stopped.json", "throttled.json"] {
        tree.write(&format!("/var/lib/memmon/{name}"), "what memmon keeps");
    }
    let steps = tree.uninstall(false);
    assert!(steps.iter().any(|step| step.contains("--purge removes it")), "{steps:?}");
    assert_eq!(tree.read("/etc/memmon/config.toml").unwrap(), edited);
    assert_eq!(tree.read("/etc/memmon/config.toml.new"), None);
    assert!(tree.read("/var/log/other.log").is_some());
    assert!(tree.read("/var/lib/memmon/history.redb").is_some());
    assert!(steps.iter().any(|step| step.contains("the history and the exemptions are kept")), "{steps:?}");

    tree.uninstall(true);
    assert!(tree.read("/var/log/other.logs").is_some());
    fs::remove_file(tree.machine().place("/var/log/other.logs")).unwrap();
    assert_eq!(tree.all(), before);
}

#[test]
fn the_rotation_is_that_of_the_log_that_is_written() {
    let tree = Tree::new();
    tree.write("/etc/memmon/config.toml", "[settings]\nlog_file = '/srv/log/memmon'\n");
    tree.install("/usr/local", false);
    assert!(tree.read("/etc/logrotate.d/memmon").unwrap().starts_with("/srv/log/memmon {\n    daily\n"));

    let tree = Tree::new();
    tree.write("/etc/memmon/config.toml", "[settings]\nlog_file = ''\n");
    tree.install("/usr/local", false);
    assert_eq!(tree.read("/etc/logrotate.d/memmon"), None);
}

#[test]
fn v1_hands_its_configuration_over_and_its_service_only_if_that_is_agreed() {
    let v1 = "[thresholds]\nram_gb_threshold = 7.5\n";
    let files = [
        ("/opt/memory-monitor/config.toml", v1),
        ("/opt/memory-monitor/memory_monitor.py", "import psutil"),
        ("/etc/systemd/system/memory-monitor.service", "[Service]"),
        ("/etc/logrotate.d/memory-monitor", "/var/log/memory_monitor.log {}"),
    ];
    for agreed in [false, true] {
        let tree = Tree::new();
        files.iter().for_each(|(path, text)| tree.write(path, text));
        let before = tree.all();
        let steps = tree.install("/usr/local", agreed);
        assert!(steps[0].starts_with("v1's /opt/memory-monitor/config.toml is taken over"), "{steps:?}");
        assert_eq!(tree.read("/etc/memmon/config.toml").unwrap(), v1);
        // Two files that rotate one log are an error for logrotate.
        assert_eq!(tree.read("/etc/logrotate.d/memory-monitor").is_none(), agreed);
        assert_eq!(tree.read("/etc/logrotate.d/memmon").is_some(), agreed);
        for (path, text) in &files[..3] {
            assert_eq!(tree.read(path).as_deref(), Some(*text));
        }
        tree.uninstall(true);
        let mut after = tree.all();
        if agreed {
            let (from, to) = ("/opt/memory-monitor/logrotate.disabled", "/etc/logrotate.d/memory-monitor");
            let kept = after.remove(&tree.machine().place(from)).unwrap();
            after.insert(tree.machine().place(to), kept);
        }
        assert_eq!(after, before);
    }
}

#[test]
fn consent_and_the_drop_in_of_earlier_installations_go_with_the_rest() {
    let tree = Tree::new();
    let before = tree.all();
    tree.install("/usr/local", false);
    tree.write(plan::ENABLED, "");
    tree.write(plan::DRY_RUN, "");
    tree.uninstall(false);
    assert_eq!(tree.all(), before);
}

#[test]
#[ignore = "needs systemd-analyze"]
fn systemd_has_no_complaint_about_the_unit() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("memmon.service");
    let shipped = workspace::root().join("systemd/memmon.service");
    // memmon is not installed here.
    let text = fs::read_to_string(&shipped).unwrap().replace("/usr/sbin/memmon", "/bin/true");
    fs::write(&unit, text).unwrap();
    // For an unknown key it prints a line but does not fail.
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    assert_eq!((String::from_utf8_lossy(&verify.stderr), verify.status.success()), ("".into(), true));

    let threshold = ["security", "--offline=true", "--threshold=20"];
    let security = Command::new("systemd-analyze").args(threshold).arg(&shipped).output().unwrap();
    let printed = String::from_utf8_lossy(&security.stdout);
    assert!(security.status.success(), "{printed}");
    let exposure = printed.lines().find_map(|line| line.split_once("memmon.service: ")).unwrap().1;
    let exposure = exposure.split(' ').next().unwrap();
    assert!(exposure.parse::<f64>().unwrap() <= 2.0, "{exposure}");
    let promised = fs::read_to_string(&shipped).unwrap();
    assert!(
        promised.contains(&format!("rates it {exposure};")),
        "{exposure} is not the exposure that the unit states"
    );
}

/// The settings of the unit. Their effect is tested under systemd, by xtask/vm/scenarios, and by memmon's own tests
/// (daemon/limits.rs).
#[test]
fn the_unit_has_its_settings() {
    let unit = fs::read_to_string(workspace::root().join("systemd/memmon.service")).unwrap();
    let lines: Vec<_> = unit.lines().filter(|line| !line.starts_with('#')).collect();
    for line in [
        "Type=notify",
        "ExecStart=/usr/sbin/memmon run --dry-run-until-enabled",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        "RestartPreventExitStatus=2 3 4",
        "WatchdogSec=60",
        "OOMScoreAdjust=-900",
        "CPUQuota=10%",
        "CPUQuotaPeriodSec=1s",
        "CPUWeight=10000",
        "MemoryMax=100M",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "RuntimeDirectory=memmon",
        "StateDirectory=memmon",
        "ReadWritePaths=/var/log -/sys/fs/bpf",
        "PrivateNetwork=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "SystemCallArchitectures=native",
        "WantedBy=multi-user.target",
    ] {
        assert!(lines.contains(&line), "{line} is not in the unit");
    }
    // A filter that begins with an allowed set denies everything else.
    let filter = lines.iter().find_map(|line| line.strip_prefix("SystemCallFilter=")).unwrap();
    assert!(filter.starts_with("@system-service "), "{filter}");
}

/// Each capability has its reason above it.
#[test]
fn every_capability_has_its_reason() {
    let unit = fs::read_to_string(workspace::root().join("systemd/memmon.service")).unwrap();
    let (above, rest) = unit.split_once("CapabilityBoundingSet=").unwrap();
    let reasons = above.rsplit("\n\n").next().unwrap();
    let capabilities: Vec<_> = rest.lines().next().unwrap().split(' ').collect();
    for capability in &capabilities {
        let name = capability.strip_prefix("CAP_").unwrap();
        assert!(reasons.contains(name), "{capability} has no reason: {reasons}");
    }
    for needed in ["CAP_BPF", "CAP_PERFMON", "CAP_KILL", "CAP_SYS_PTRACE"] {
        assert!(capabilities.contains(&needed), "{needed}");
    }
}

/// Daily, seven kept, compressed, and without a signal: memmon notices the rename, and SIGHUP would reload its configuration.
#[test]
fn the_log_is_rotated_as_v1_did_and_no_signal_is_sent() {
    let rotation = fs::read_to_string(workspace::root().join("systemd/memmon.logrotate")).unwrap();
    let lines: Vec<_> = rotation.lines().map(str::trim).collect();
    for line in ["/var/log/memory_monitor.log {", "daily", "rotate 7", "compress", "nocreate"] {
        assert!(lines.contains(&line), "{line} is not in the rotation");
    }
    for word in ["script", "postrotate", "kill", "systemctl"] {
        assert!(
            !lines.iter().any(|line| !line.starts_with('#') && line.contains(word)),
            "{word} in {rotation}"
        );
    }
}

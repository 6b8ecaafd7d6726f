//! A daemon's metrics, read by the programs that they are for: the textfile by promtool, and the listener by Prometheus.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::common::{
    PATIENCE, TestUser,
    daemon::Daemon,
    eventually,
    log::{SOURCES, config},
    within,
};
use nix::sys::stat::{Mode, umask};
use serde_json::Value;

fn promtool() -> PathBuf {
    PathBuf::from(std::env::var_os("MEMMON_PROMTOOL").unwrap())
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The body of the response to a GET of `path`; none if the daemon does not listen yet.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

/// The value of one metric in a text of metrics.
fn figure(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// A Prometheus that reads `target` every second and has memmon's rules. It ends with the test.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/prometheus/memmon.rules.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs:\n- job_name: memmon\n  static_configs: [{{targets: ['{target}']}}]\n",
            rules.display()
        );
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, text).unwrap();
        let address = free();
        let mut command = Command::new(promtool().with_file_name("prometheus"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=error");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Self { child, address, _folder: folder }
    }

    /// The current values of a query.
    fn query(&self, query: &str) -> Vec<f64> {
        let text = get(self.address, &format!("/api/v1/query?query={query}")).unwrap_or_default();
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let found = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        found.iter().filter_map(|one| one["value"][1].as_str()?.parse().ok()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Checks that `promtool check metrics` accepts the text.
fn promtool_accepts(text: &str) {
    let mut check = Command::new(promtool());
    let mut check =
        check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && complaints.is_empty(), "{complaints}\n{text}");
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and MEMMON_PROMTOOL: `cargo xtask setup --for-tests`"]
fn prometheus_reads_what_a_daemon_does() {
    let user = TestUser::claim();
    let address = free();
    let listen = format!("\"{address}\"");
    let daemon = Daemon::start(&config(&user, &[("metrics.listen", &listen)]), &[]);
    let prometheus = Prometheus::start(address);
    eventually("a first reading", || prometheus.query("memmon_config_generation") == [1.0]);
    // The same as `curl …/metrics | promtool check metrics`.
    promtool_accepts(&get(address, "/metrics").unwrap());
    let mut hog = user.hog("anon 40M hold");
    daemon.terminated(&mut hog);
    // The alert is about an increase: the reading before the first termination was 0.
    eventually("the termination", || prometheus.query("sum(memmon_terminations_total)") == [1.0]);
    eventually("the alert", || {
        !prometheus.query("ALERTS{alertname=\"MemmonTerminatedProcess\",alertstate=\"firing\"}").is_empty()
    });
    // A reader that comes late gets no metrics for a moment.
    eventually("a histogram", || {
        prometheus.query("count(memmon_scan_duration_seconds_bucket)>bool(1)") == [1.0]
    });

    let other = [
        ("metrics.listen", &*listen),
        ("thresholds.ram_gb_threshold", "0.0625"),
        ("thresholds.check_interval", "0.2"),
        ("settings.dry_run", "true"),
    ];
    daemon.reload(&config(&user, &other));
    for (figure, value) in
        [("limit_bytes", f64::from(64 << 20)), ("check_interval_seconds", 0.2), ("dry_run", 1.0)]
    {
        eventually(figure, || prometheus.query(&format!("memmon_{figure}")) == [value]);
    }

    let typo = [("metrics.listen", listen.as_str()), ("metrics.lisen", "1")];
    daemon.reload(&config(&user, &typo));
    daemon.event("reload_failed");
    eventually("the refused reload", || prometheus.query("memmon_config_last_reload_successful") == [0.0]);
    daemon.stop();
    eventually("its end", || {
        !prometheus.query("ALERTS{alertname=\"MemmonGone\",alertstate=\"pending\"}").is_empty()
    });
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and MEMMON_PROMTOOL: `cargo xtask setup --for-tests`"]
fn the_textfile_is_one_that_promtool_likes() {
    for source in SOURCES {
        let user = TestUser::claim();
        let path = "/run/memmon.prom";
        let changes = [("metrics.textfile", &*format!("{path:?}"))];
        // The umask of the unit.
        let before = umask(Mode::from_bits_truncate(0o027));
        let daemon = Daemon::start(&config(&user, &changes), &["--source", source]);
        umask(before);
        let seen = format!("/proc/{}/root{path}", daemon.pid());
        let read = || fs::read_to_string(&seen).unwrap_or_default();
        // The file is written every 15 seconds; the first one may be from before the first scan.
        within(2 * PATIENCE, "a scan in the file", || {
            figure(&read(), "memmon_processes").is_some_and(|many| many > 1.0)
        });
        let text = read();
        assert_eq!(figure(&text, &format!("memmon_source{{source=\"{source}\"}}")), Some(1.0), "{text}");
        assert_eq!(figure(&text, "memmon_limit_bytes"), Some(f64::from(32 << 20)), "{text}");
        let entries = figure(&text, "memmon_map_entries").unwrap();
        assert_eq!(entries > 1.0, *source == "ebpf", "{text}");
        assert!(!text.contains("pid"), "{text}");
        assert_eq!(
            fs::metadata(&seen).unwrap().permissions().mode() & 0o777,
            0o644,
            "the mode does not depend on the umask"
        );
        promtool_accepts(&text);
        daemon.stop();
    }
}

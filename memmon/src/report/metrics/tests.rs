//! Tests of the figures with their readers: promtool, and clients of every kind.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::report::{Console, Machine, Outputs, Reporter, samples};

fn metrics() -> Metrics {
    let metrics = Metrics::default();
    for event in samples::samples() {
        metrics.observe(&event);
    }
    metrics.reads(Source::Ebpf);
    metrics.in_force(Bytes(Bytes::GIB), Duration::from_secs(15), true);
    metrics.map(MapFigures { entries: 245, capacity: 32_768, refused: 0, lost: 3 });
    metrics.scanned(Duration::from_millis(3));
    metrics.rules([samples::sum().rule].into_iter());
    metrics.sums(&[(samples::sum().rule, samples::sum().limit)], &[&samples::sum()]);
    metrics.notified("mail", "sent", 2);
    metrics
}

#[test]
fn every_event_is_counted_where_it_belongs() {
    let text = metrics().openmetrics();
    for line in [
        r#"memmon_terminations_total{rule="gb",signal="SIGTERM",outcome="exited"} 3"#,
        r#"memmon_terminations_total{rule="gb",signal="SIGKILL",outcome="exited"} 2"#,
        r#"memmon_terminations_total{rule="gb",signal="SIGKILL",outcome="reclaimed"} 1"#,
        r#"memmon_terminations_total{rule="gb",signal="none",outcome="exited"} 1"#,
        r#"memmon_terminations_total{rule="machine",signal="SIGTERM",outcome="exited"} 1"#,
        r#"memmon_would_terminate_total{rule="gb"} 1"#,
        r#"memmon_signals_failed_total{signal="SIGTERM"} 1"#,
        "memmon_held_back_total 1",
        "memmon_spared_total 12",
        "memmon_in_doubt_total 7",
        "memmon_processes 245",
        "memmon_map_entries 245",
        "memmon_map_defects_total 3",
        "memmon_lost_crossings_total 3",
        "memmon_lost_events_total 99",
        "memmon_limit_bytes 1073741824",
        "memmon_check_interval_seconds 15.0",
        "memmon_dry_run 1",
        r#"memmon_source{source="ebpf"} 1"#,
        r#"memmon_source{source="proc"} 0"#,
        "memmon_config_generation 2",
        "memmon_config_last_reload_successful 0",
        "memmon_overshoot_bytes_count 6",
        "memmon_oom_killed_total 1",
        "memmon_overshoot_bytes_sum 9663676416.0",
        "memmon_scan_duration_seconds_count 1",
        r#"memmon_notifications_total{channel="mail",outcome="sent"} 2"#,
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("pid=") && !text.contains("chrome"), "{text}");
}

#[test]
fn each_rule_has_its_figures_for_as_long_as_it_is_in_force() {
    let metrics = Metrics::default();
    let name = |name| RuleName::new(name).unwrap();
    let lines = || {
        let text = metrics.openmetrics();
        let of_rules = text.lines().filter(|line| line.starts_with("memmon_rule_"));
        of_rules.map(|line| line["memmon_rule_".len()..].to_owned()).collect::<Vec<_>>()
    };
    metrics.rules([name("students"), name("web")].into_iter());
    assert_eq!(lines().len(), 6, "counters begin at 0: {:?}", lines());
    for event in samples::samples() {
        metrics.observe(&match event {
            Event::Terminated { subject, mut record, given_back, sum: Some(sum) } => {
                record.breach.by = Some(sum.rule);
                Event::Terminated { subject, record, given_back, sum: Some(sum) }
            }
            Event::Killing { subject, mut breach, dry_run: true, sum, signal } => {
                breach.by = Some(name("web"));
                Event::Killing { subject, breach, dry_run: true, sum, signal }
            }
            event => event,
        });
    }
    let small = SumFigures { total: Bytes(5), members: 2, ..samples::sum() };
    let limits = [(name("students"), small.limit), (name("web"), Bytes(7))];
    metrics.sums(&limits, &[&samples::sum(), &small]);
    let found = lines();
    for line in [
        r#"terminations_total{rule="students"} 1"#,
        r#"terminations_total{rule="web"} 0"#,
        r#"would_terminate_total{rule="web"} 1"#,
        r#"held_back_total{rule="students"} 1"#,
        r#"sums{rule="students"} 2"#,
        r#"sums_over{rule="students"} 1"#,
        r#"sum_bytes{rule="students"} 3221225472"#,
        r#"sum_limit_bytes{rule="students"} 2147483648"#,
        r#"sum_processes{rule="students"} 20"#,
        r#"sums{rule="web"} 0"#,
        r#"sum_bytes{rule="web"} 0"#,
        r#"sum_limit_bytes{rule="web"} 7"#,
    ] {
        assert!(found.iter().any(|one| one == line), "{line} is not in {found:#?}");
    }
    let text = metrics.openmetrics();
    assert!(!text.contains("john") && !text.contains("uid") && !text.contains("1000\""), "{text}");
    // A reload takes a rule away, and with it its series.
    metrics.rules([name("web")].into_iter());
    assert!(lines().iter().all(|line| line.contains(r#"rule="web""#)), "{:?}", lines());
}

fn promtool() -> Command {
    Command::new(std::env::var_os("MEMMON_PROMTOOL").expect("set by `cargo xtask test`"))
}

#[test]
#[ignore = "needs MEMMON_PROMTOOL: `cargo xtask setup --for-tests`"]
fn promtool_finds_nothing_wrong() {
    let mut child = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = textfile::text_format(&metrics().openmetrics());
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.is_empty(), "{printed}\n{text}");
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/prometheus");
    for (verb, file) in [("check", "memmon.rules.yml"), ("test", "memmon.test.yml")] {
        let output = promtool().args([verb, "rules", file]).current_dir(&rules).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_counter_is_there_before_there_is_anything_to_count() {
    let text = Metrics::default().openmetrics();
    let ends: Vec<_> = text.lines().filter(|line| line.starts_with("memmon_terminations_total{")).collect();
    assert_eq!(ends.len(), 18, "{text}");
    assert!(ends.iter().all(|line| line.ends_with(" 0")), "{ends:?}");
    assert!(text.contains("memmon_signals_failed_total{signal=\"SIGKILL\"} 0\n"), "{text}");
}

#[test]
fn dashboard_and_alerts_ask_for_figures_that_there_are() {
    let text = metrics().openmetrics();
    let known: Vec<_> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let board = include_str!("../../../../contrib/grafana/memmon.json");
    let fleet = include_str!("../../../../contrib/grafana/memmon-fleet.json");
    let rules = include_str!("../../../../contrib/prometheus/memmon.rules.yml");
    let mut asked = 0;
    for word in [board, fleet, rules]
        .into_iter()
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
    {
        if word.starts_with("memmon_") {
            asked += 1;
            assert!(known.contains(&word), "there is no {word}");
        }
    }
    assert!(asked > 10);
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "not in time");
        thread::sleep(Duration::from_millis(5));
    }
}

fn reporter(folder: &Path, metrics: MetricsOutputs) -> Reporter {
    let machine =
        Machine { journal: folder.join("journal"), syslog: folder.join("log"), ..Machine::default() };
    Reporter::start(Outputs { console: Console::Off, machine, metrics, ..Outputs::default() }).unwrap()
}

#[test]
fn the_textfile_is_whole_and_in_the_older_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memmon.prom");
    // A file that a crash, or a user who may write there, left behind.
    let trap = folder.path().join("trap");
    std::os::unix::fs::symlink(&trap, folder.path().join(".memmon.prom.new")).unwrap();
    let reporter = reporter(folder.path(), MetricsOutputs { textfile: Some(path.clone()), listen: None });
    let text = eventually(|| fs::read_to_string(&path).ok());
    assert!(text.contains("# TYPE memmon_lost_events_total counter\nmemmon_lost_events_total 0\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    assert!(!trap.exists());
    assert!(reporter.finish(Duration::from_secs(20)));
    assert!(!path.exists(), "no figures of a memmon that has ended");
}

fn ask(mut stream: impl std::io::Read + std::io::Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_socket_serves_good_clients_whatever_bad_ones_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen = Some(Listen::Socket(path.clone()));
    let reporter = reporter(folder.path(), MetricsOutputs { textfile: None, listen });
    let connect = || UnixStream::connect(&path).ok();
    eventually(connect);
    // Half open, one byte, garbage, gone: as many of them as are served at once.
    let mut mute: Vec<_> = (0..14).map(|_| connect().unwrap()).collect();
    mute[0].write_all(b"G").unwrap();
    let mut garbage = connect().unwrap();
    garbage.write_all(&[0xff; 4096]).unwrap();
    let accept = "Accept: application/openmetrics-text;version=1.0.0\r\n";
    let answer = ask(connect().unwrap(), &format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{accept}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    let answer = ask(connect().unwrap(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("memmon_limit_bytes") && !answer.contains("# EOF"), "{answer}");
    assert!(ask(connect().unwrap(), "GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404"));
    assert!(ask(connect().unwrap(), "PUT /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 405"));
    // A head without an end is not kept in memory.
    let mut long = connect().unwrap();
    long.write_all(("GET /metrics HTTP/1.1\r\nX: ".to_owned() + &"x".repeat(20_000)).as_bytes()).unwrap();
    let mut status = [0; 12];
    long.read_exact(&mut status).unwrap();
    assert_eq!(status, *b"HTTP/1.1 431");
    // More clients than are served at once: the oldest ones are disconnected, and no client waits for them.
    let mut more: Vec<_> = (0..100).map(|_| connect().unwrap()).collect();
    let begun = Instant::now();
    assert!(ask(connect().unwrap(), "GET /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200"));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(more[0].read(&mut [0]).unwrap(), 0, "thrown out");
    assert!(reporter.finish(Duration::from_secs(20)));
    assert!(!path.exists());
}

/// In a folder that others may write to, a link could stand where the socket is to be. Only root has rights that another
/// user could abuse by it.
#[test]
fn no_socket_is_put_where_others_may_write() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let path = shared.join("metrics.sock");
    let textfile = folder.path().join("memmon.prom");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let listen = Some(Listen::Socket(path.clone()));
    let reporter = reporter(folder.path(), MetricsOutputs { textfile: None, listen: listen.clone() });
    if nix::unistd::geteuid().is_root() {
        eventually(|| reporter.metrics().openmetrics().contains("memmon_degraded_total 1\n").then_some(()));
        assert!(!path.exists());
    }
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
    let machine =
        Machine { journal: folder.path().join("j"), syslog: folder.path().join("s"), ..Machine::default() };
    let metrics = MetricsOutputs { textfile: Some(textfile), listen };
    reporter.replace(Outputs { console: Console::Off, machine, metrics, ..Outputs::default() });
    eventually(|| UnixStream::connect(&path).ok());
    eventually(|| (fs::metadata(&path).unwrap().permissions().mode() & 0o777 == 0o660).then_some(()));
    assert!(reporter.finish(Duration::from_secs(20)));
}

#[test]
fn a_reload_leaves_alone_what_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.sock");
    let textfile = folder.path().join("memmon.prom");
    let metrics = |textfile| MetricsOutputs { textfile, listen: Some(Listen::Socket(path.clone())) };
    let reporter = reporter(folder.path(), metrics(None));
    eventually(|| UnixStream::connect(&path).ok());
    let place = || std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(&path).unwrap());
    let before = place();
    let machine =
        Machine { journal: folder.path().join("j"), syslog: folder.path().join("s"), ..Machine::default() };
    let metrics = metrics(Some(textfile.clone()));
    reporter.replace(Outputs { console: Console::Off, machine, metrics, ..Outputs::default() });
    let written = eventually(|| fs::read_to_string(&textfile).ok());
    assert!(written.contains("memmon_degraded_total 0\n"), "{written}");
    let answer = ask(UnixStream::connect(&path).unwrap(), "GET /metrics HTTP/1.0\r\n\r\n");
    assert!(answer.contains("\nmemmon_degraded_total 0\n"), "{answer}");
    assert_eq!(place(), before, "the same socket");
    assert!(reporter.finish(Duration::from_secs(20)));
}

#[test]
fn loopback_and_textfile_end_with_their_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let textfile = folder.path().join("memmon.prom");
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = Some(Listen::Loopback(address));
    let reporter = reporter(folder.path(), MetricsOutputs { textfile: Some(textfile.clone()), listen });
    let stream = eventually(|| TcpStream::connect(address).ok());
    eventually(|| textfile.exists().then_some(()));
    assert!(ask(stream, "GET /metrics HTTP/1.0\r\n\r\n").contains("memmon_degraded_total"));
    let machine =
        Machine { journal: folder.path().join("j"), syslog: folder.path().join("s"), ..Machine::default() };
    reporter.replace(Outputs { console: Console::Off, machine, ..Outputs::default() });
    eventually(|| TcpStream::connect(address).is_err().then_some(()));
    eventually(|| (!textfile.exists()).then_some(()));
    assert!(reporter.finish(Duration::from_secs(20)));
}

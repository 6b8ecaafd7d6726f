//! Queries of a real daemon's status: by permitted users, by other users, and by hostile clients.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    process::{Command, Output},
};

use crate::common::{
    TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually, status_field,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A limit of 40 MB, and a scan every 0.2 s.
fn config(user: &TestUser, more: &str) -> ScopedConfig {
    config_for(user, &user.uid.to_string(), more)
}

fn config_for(user: &TestUser, group: &str, more: &str) -> ScopedConfig {
    let text = format!(
        "thresholds = {{ ram_gb_threshold = 0.04, check_interval = 0.2 }}\nsettings.enable_syslog = false\n\
         log.format = \"json\"\nstatus.group = \"{group}\"\n{more}\n"
    );
    ScopedConfig::new(user, &text)
}

/// The daemon's socket, seen through its own mounts.
fn socket(daemon: &Daemon) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", daemon.pid())).join("run/memmon/memmon.sock")
}

fn memmon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memmon"));
    command.args(arguments);
    command
}

/// `memmon status --json`.
fn status(daemon: &Daemon) -> Value {
    let output = memmon(&["status", "--json", "--socket"]).arg(socket(daemon)).output().unwrap();
    assert!(output.status.success(), "{}", printed(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn scanned(daemon: &Daemon) {
    // It listens a moment after it logs that it starts.
    let listens = || memmon(&["status", "--socket"]).arg(socket(daemon)).output().unwrap().status.success();
    eventually("an answer", listens);
    eventually("a scan", || status(daemon)["counts"]["scans"].as_u64() > Some(0));
}

#[test]
#[ignore = "kernel: needs root"]
fn a_daemon_reports_its_work_its_configuration_and_its_source() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, ""), &["--dry-run", "--source", "proc"]);
    scanned(&daemon);
    let reported = status(&daemon);
    assert_eq!(reported["pid"], daemon.pid());
    assert_eq!(reported["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(reported["dry_run"], true);
    assert_eq!(reported["source"], json!({ "name": "proc", "reason": "asked for" }));
    assert_eq!(reported["limit"]["rule"], "gb");
    assert_eq!(reported["limit"]["limit_bytes"], 42_949_672);
    assert_eq!(reported["config"]["file"], daemon.dir().join("config.toml").to_str().unwrap());
    assert_eq!((&reported["config"]["generation"], &reported["map"]), (&json!(1), &Value::Null));
    assert_eq!(reported["counts"]["processes"], reported["last_scan"]["scanned"]);
    assert!(reported["last_scan"]["wall_seconds"].as_f64() > Some(0.0), "{reported}");

    let text = memmon(&["status", "--socket"]).arg(socket(&daemon)).output().unwrap();
    let text = printed(&text);
    assert!(text.contains("  mode       dry run: nothing is signalled\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    // A failed reload keeps the configuration and is shown; a successful one replaces it.
    daemon.reload(&config(&user, "log.level = \"loud\""));
    eventually("the failed reload", || !status(&daemon)["config"]["last_error"].is_null());
    let error = status(&daemon)["config"]["last_error"].to_string();
    assert!(error.contains("level"), "{error}");
    daemon.reload(&config(&user, "termination.grace = 1"));
    eventually("the reload", || status(&daemon)["config"]["generation"] == 2);
    assert_eq!(status(&daemon)["config"]["last_error"], Value::Null);

    // A path to its directory that works even after its mounts are gone.
    let place = fs::File::open(socket(&daemon).parent().unwrap()).unwrap();
    let place = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
    let there = || fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert!(there().iter().any(|name| name == "memmon.sock"), "{:?}", there());
    daemon.stop();
    assert!(!there().iter().any(|name| name == "memmon.sock"), "{:?}", there());
}

#[test]
#[ignore = "kernel: needs root"]
fn explain_judges_by_the_rules_of_the_daemon_or_names_its_file() {
    let user = TestUser::claim();
    let hog = user.holding("anon 60M hold");
    let daemon = Daemon::start(&config(&user, ""), &["--dry-run", "--source", "proc"]);
    scanned(&daemon);
    let explained = |more: &[&str]| {
        let mut explain = daemon.beside(env!("CARGO_BIN_EXE_memmon"));
        let output = explain.args(["explain", &hog.pid().to_string()]).args(more).output().unwrap();
        assert!(output.status.success(), "{}", printed(&output));
        printed(&output)
    };
    let file = daemon.dir().join("config.toml").to_str().unwrap().to_owned();
    let text = explained(&[]);
    let source: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let expected = format!("by the rules of the running memmon (pid {}), from {file}", daemon.pid());
    assert_eq!(source.join(" "), expected, "{text}");
    assert!(text.contains("exceeds ram_gb_threshold 41.0MB"), "{text}");
    assert!(text.contains(&format!("uids {}\n", user.uid)), "{text}");

    // The file has changed, and the daemon goes on as it was.
    let other = "thresholds.ram_gb_threshold = 1000\nthresholds.ram_percent_threshold = 100\n";
    daemon.edit(&ScopedConfig::new(&user, other));
    assert!(explained(&[]).contains("exceeds ram_gb_threshold 41.0MB"));
    let text = explained(&["--config", &file]);
    assert_eq!(text.lines().next().unwrap(), format!("by the rules of {file}"));
    assert!(text.contains("left alone: "), "{text}");
    let json: Value = serde_json::from_str(&explained(&["--json"])).unwrap();
    assert_eq!(json[0]["rules_from"], expected.trim_start_matches("by the rules of "));
    assert_eq!(json[0]["rules"]["limits"]["bytes"], 42_949_672);

    daemon.signal(Signal::SIGTERM);
    eventually("the end of the daemon", || explained(&[]).lines().next().unwrap().ends_with(" (no daemon)"));
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_map_is_reported_and_so_are_those_nearest_their_limit() {
    let user = TestUser::claim();
    let hog = user.holding("anon 60M hold");
    let daemon = Daemon::start(&config(&user, ""), &["--dry-run", "--source", "ebpf"]);
    scanned(&daemon);
    let reported = status(&daemon);
    assert!(reported["map"]["entries"].as_u64() > Some(1), "{reported}");
    assert!(reported["map"]["capacity"].as_u64() >= reported["map"]["entries"].as_u64(), "{reported}");

    let mut client = memmon::status::Client::connect(&socket(&daemon)).unwrap();
    let body = client.get(memmon::status::Query::Processes).unwrap();
    let memmon::status::Body::Processes(table) = body else { panic!("{body:?}") };
    let row = table.rows.iter().find(|row| row.id.pid.0 == hog.pid()).unwrap();
    assert_eq!(
        (row.uid.0, row.verdict.to_string(), row.why.as_str()),
        (user.uid, "terminate".to_owned(), "ram_gb_threshold")
    );
    let parts = row.parts.unwrap();
    assert!(row.rss_bytes.0 >= 60 << 20 && parts.anon.0 >= 60 << 20, "{row:?}");
    assert!(table.processes >= table.rows.len() && table.over >= 1);
    let others: Vec<_> = table.rows.iter().filter(|row| row.uid.0 != user.uid).collect();
    assert!(
        !others.is_empty() && others.iter().all(|row| row.verdict.to_string() == "protected"),
        "{others:?}"
    );
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_growing_process_is_reported_with_its_time_to_the_limit() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, ""), &["--dry-run", "--source", "ebpf"]);
    scanned(&daemon);
    // From half of the limit to most of it in 8 s, and not over it.
    let hog = user.hog("anon 18M grow 16M 2M/s hold");
    let mut client = memmon::status::Client::connect(&socket(&daemon)).unwrap();
    let mut table = None;
    // Both answers, until both have it: a rate that is not much above the counters' error comes and goes.
    eventually("a slope of about 2 MiB/s in both answers", || {
        let growing = &status(&daemon)["climbing"][0];
        let rate = growing["growth_bytes_per_second"].as_f64();
        let left = growing["seconds_to_limit"].as_f64();
        let body = client.get(memmon::status::Query::Processes).unwrap();
        let memmon::status::Body::Processes(answer) = body else { panic!("{body:?}") };
        let row = answer.rows.iter().find(|row| row.id.pid.0 == hog.pid());
        let is_in_the_table = row.is_some_and(|row| {
            row.growth.bytes_per_second > Some(0.0)
                && row.growth.seconds_to_limit.is_some_and(|left| left < 40.0)
        });
        table = Some(answer);
        growing["pid"] == hog.pid()
            && rate.is_some_and(|rate| (1e6..8e6).contains(&rate))
            && left.is_some_and(|left| (0.0..40.0).contains(&left))
            && is_in_the_table
    });
    let table = table.unwrap();
    let others = table.rows.iter().filter(|row| row.rss_bytes.0 < 10 << 20);
    assert!(
        others.into_iter().all(|row| row.growth.bytes_per_second.is_none()),
        "small processes have no growth rate"
    );
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn a_dry_run_lists_what_it_would_terminate_and_what_is_protected() {
    let user = TestUser::claim();
    let large = user.holding("anon 40M hold");
    let tar = user.holding("rename tar anon 40M hold");
    let listed = "whitelist.names = [\"tar\"]\nwhitelist.protect_root = true";
    let daemon = Daemon::start(&config(&user, listed), &["--dry-run", "--source", "proc"]);
    scanned(&daemon);
    let status = status(&daemon);
    let of =
        |pid: u32| status["over_limit"].as_array().unwrap().iter().find(|one| one["pid"] == pid).cloned();
    let tar_pid = tar.pid();
    let (large_row, tar_row) = (of(large.pid()).unwrap(), of(tar_pid).unwrap());
    assert_eq!(
        (&large_row["would_terminate"], &large_row["why"]),
        (&true.into(), &"ram_gb_threshold".into())
    );
    assert_eq!((&tar_row["would_terminate"], &tar_row["comm"]), (&false.into(), &"tar".into()));
    assert!(tar_row["why"].as_str().unwrap().contains("whitelist.names"), "{tar_row}");
    let day = &status["dry_run_days"][0];
    assert_eq!((&day["times"], &day["programs"][0]["uid"]), (&1.into(), &user.uid.into()), "{status}");
    // Nothing out of scope is listed, and each protected process is reported once, over many scans.
    assert!(status["over_limit"].as_array().unwrap().iter().all(|one| one["uid"] == user.uid), "{status}");
    let reported = |daemon: &Daemon| daemon.about("over_but_protected", tar_pid).len();
    daemon.scanned();
    assert_eq!(reported(&daemon), 1);
    daemon.stop();
}

/// As `memmon top` shows it: not as it was at the crossing.
#[test]
#[ignore = "kernel: needs root"]
fn a_process_over_its_limit_is_listed_with_the_memory_that_it_has_now() {
    let user = TestUser::claim();
    let growing = user.hog("rename tar anon 41M wait-term anon 60M hold");
    growing.begun("wait-term");
    let text = "thresholds = { ram_gb_threshold = 0.04, check_interval = 3600 }\nwhitelist.names = [\"tar\"]\n\
                whitelist.protect_root = true\nlog.format = \"json\"\n";
    let daemon = Daemon::start(&ScopedConfig::new(&user, text), &["--dry-run", "--source", "proc"]);
    let row = || {
        status(&daemon)["over_limit"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["pid"] == growing.pid())
            .cloned()
    };
    eventually("the first scan", || row().is_some());
    assert!(row().unwrap()["rss_bytes"].as_u64() < Some(90 << 20));
    growing.term();
    growing.begun("hold");
    // Clients that ask within a tenth of a second get the same answer.
    eventually("the memory that it has now", || row().unwrap()["rss_bytes"].as_u64() >= Some(100 << 20));
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn victims_are_reported_while_they_are_and_after() {
    let user = TestUser::claim();
    let mut stubborn = user.holding("ignore-term anon 60M hold");
    let daemon = Daemon::start(&config(&user, "termination.grace = 5"), &["--source", "proc"]);
    eventually("the grace", || status(&daemon)["in_flight"][0]["phase"] == "grace");
    let reported = status(&daemon);
    if let Some(victim) = reported["in_flight"].get(0) {
        assert_eq!(victim["pid"], stubborn.pid(), "{reported}");
        assert!(victim["left_seconds"].as_f64() <= Some(5.0), "{reported}");
    }
    assert_eq!(stubborn.ended_by(crate::common::PATIENCE), Some(libc::SIGKILL));
    eventually("the record", || status(&daemon)["counts"]["terminated"] == 1);
    let reported = status(&daemon);
    let record = &reported["recent"][0];
    assert_eq!((&record["pid"], &record["uid"]), (&json!(stubborn.pid()), &json!(user.uid)), "{reported}");
    assert!(record["peak_bytes"].as_u64() >= Some(60 << 20), "{record}");
    assert!(record["signal_to_exit_seconds"].as_f64() >= Some(5.0), "{record}");
    assert_eq!(reported["in_flight"], json!([]));
    let text = memmon(&["status", "--socket"]).arg(socket(&daemon)).output().unwrap();
    assert!(printed(&text).contains("Last terminations:\n"), "{}", printed(&text));
    daemon.stop();
}

/// `memmon status` within the daemon's mounts, as another user.
fn status_as(daemon: &Daemon, uid: u32) -> Output {
    let (pid, id) = (daemon.pid().to_string(), uid.to_string());
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid, "-m", "-S", &id, "-G", &id]).arg(env!("CARGO_BIN_EXE_memmon")).arg("status");
    command.output().unwrap()
}

#[test]
#[ignore = "kernel: needs root"]
fn root_and_one_group_may_ask_and_nobody_else() {
    let (user, stranger) = (TestUser::claim(), TestUser::claim());
    let daemon = Daemon::start(&config(&user, ""), &["--dry-run", "--source", "proc"]);
    scanned(&daemon);
    let mode = || fs::metadata(socket(&daemon)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o660);
    let member = status_as(&daemon, user.uid);
    assert!(member.status.success(), "{}", printed(&member));
    let refused = status_as(&daemon, stranger.uid);
    assert_eq!(refused.status.code(), Some(1), "{}", printed(&refused));
    assert!(printed(&refused).contains("you may not use "), "{}", printed(&refused));

    // The mode of the socket is not the only check.
    fs::set_permissions(socket(&daemon), fs::Permissions::from_mode(0o666)).unwrap();
    let refused = status_as(&daemon, stranger.uid);
    assert!(printed(&refused).contains("only root and the group"), "{}", printed(&refused));

    // Without a group, only root may query it from the reload on.
    daemon.reload(&config_for(&user, "", ""));
    eventually("the reload", || mode() == 0o600);
    assert!(!status_as(&daemon, user.uid).status.success());
    eventually("the reload", || status(&daemon)["config"]["generation"] == 2);
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn hostile_clients_neither_stop_nor_bloat_it() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, ""), &["--dry-run", "--source", "proc"]);
    scanned(&daemon);
    let field = |key| -> u64 {
        let text = status_field(daemon.pid(), key).unwrap();
        text.trim_end_matches(" kB").trim().parse().unwrap()
    };
    // A daemon in dry run is not locked in memory: the kernel may reclaim its pages, and those of files are not growth.
    let held = || field("RssAnon:") + field("VmSwap:");
    let open = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let (kib_before, open_before) = (held(), open());
    let scans = || status(&daemon)["counts"]["scans"].as_u64().unwrap();
    let scans_before = scans();

    // A half-open connection, half a line, a megabyte of noise, and endless queries without reading the answers.
    let mut clients = Vec::new();
    for turn in 0..100 {
        let mut client = UnixStream::connect(socket(&daemon)).unwrap();
        client.set_nonblocking(true).unwrap();
        let sent = match turn % 4 {
            0 => Ok(()),
            1 => client.write_all(b"{\"v\":1,\"get\":\"sta"),
            2 => client.write_all(&vec![0xff; 1 << 20]),
            _ => client.write_all("{\"v\":1,\"get\":\"processes\"}\n".repeat(4000).as_bytes()),
        };
        drop(sent); // it ends early when the daemon stops reading
        clients.push(client);
    }
    assert!(open() <= open_before + 40, "{} descriptors, {open_before} before", open());
    // Later clients are still answered.
    eventually("three more scans", || scans() >= scans_before + 3);
    assert!(held() < kib_before + 4096, "{} kB, {kib_before} before", held());
    drop(clients);
    // Each client would leave one; a second thread for rechecks, if one ever takes long, keeps four.
    eventually("their end", || open() <= open_before + 8);

    // The daemon stops as fast as usual while a client is connected.
    let mut waiting = UnixStream::connect(socket(&daemon)).unwrap();
    daemon.stop();
    assert_eq!(waiting.read(&mut [0; 16]).unwrap_or(0), 0);
}

#[test]
#[ignore = "kernel: needs root"]
fn the_socket_of_a_killed_daemon_is_no_daemon() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, ""), &["--dry-run", "--source", "proc"]);
    scanned(&daemon);
    let place = fs::File::open(socket(&daemon).parent().unwrap()).unwrap();
    let path =
        format!("/proc/{}/fd/{}/memmon.sock", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&place));
    daemon.signal(Signal::SIGKILL);
    drop(daemon);
    assert!(fs::symlink_metadata(&path).is_ok(), "it could not clear up");
    let output = memmon(&["status", "--socket", &path]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(printed(&output).contains("start it (systemctl start memmon)"), "{}", printed(&output));
}

#[test]
#[ignore = "kernel: needs root"]
fn a_removed_runtime_directory_comes_back() {
    let user = TestUser::claim();
    let listen = "metrics.listen = \"/run/memmon/metrics.sock\"";
    let daemon = Daemon::start(&config(&user, listen), &["--dry-run", "--source", "proc"]);
    scanned(&daemon);
    let runtime = socket(&daemon).parent().unwrap().to_owned();
    let metrics = runtime.join("metrics.sock");
    eventually("the socket for metrics", || UnixStream::connect(&metrics).is_ok());
    fs::remove_dir_all(&runtime).unwrap();
    eventually("an answer", || {
        memmon(&["status", "--socket"]).arg(socket(&daemon)).output().unwrap().status.success()
    });
    eventually("the socket for metrics", || UnixStream::connect(&metrics).is_ok());
    eventually("its mode", || fs::metadata(&metrics).unwrap().permissions().mode() & 0o777 == 0o660);
    assert_eq!(fs::read_to_string(runtime.join("lock")).unwrap(), format!("{}\n", daemon.pid()));
    let second = daemon.spawn_beside(&config(&user, ""), &["--source", "proc"]);
    second.line("the refusal", |line| line.contains("another memmon"));
    drop(second);
    for path in ["/run/memmon/memmon.sock", "/run/memmon/lock", "/run/memmon/metrics.sock"] {
        daemon.line("what was removed", |line| line.contains(path) && line.contains("was removed: memmon"));
    }
    assert_eq!(status(&daemon)["degraded"].to_string().matches("removed").count(), 0);
    daemon.stop();
    assert!(!runtime.exists());
}

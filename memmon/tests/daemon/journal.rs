//! A daemon's messages in journald: they are found by their kind, with their fields and explanations.

use std::process::{Child, Command, Output};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    log::{SOON, config},
};
use serde_json::Value;

/// The MESSAGE_ID of a termination's record.
const TERMINATED: &str = "MESSAGE_ID=f3289371f0d242f083ebf990973733dd";

/// A journald in the mounts of a test, with memmon's catalog, and separate from the machine's own. It ends with the test.
struct Journald(Child);

impl Journald {
    fn start(beside: &Daemon) -> Self {
        let catalog = concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd/memmon.catalog");
        let script = "set -e\n\
            mkdir -p /var/lib/systemd\n\
            for place in /etc/systemd /usr/lib/systemd/catalog; do mount -t tmpfs none $place; done\n\
            printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=no\\n' >/etc/systemd/journald.conf\n\
            cp \"$1\" /usr/lib/systemd/catalog/\n\
            journalctl --update-catalog\n\
            exec /usr/lib/systemd/systemd-journald\n";
        let journald = Self(beside.beside("sh").args(["-c", script, "sh", catalog]).spawn().unwrap());
        let socket = "/run/systemd/journal/socket";
        let listens = || beside.beside("test").args(["-S", socket]).status().unwrap().success();
        eventually("journald's socket", listens);
        journald
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn journalctl(daemon: &Daemon, arguments: &[&str]) -> String {
    let mut command: Command = daemon.beside("journalctl");
    let Output { stdout, .. } =
        command.args(["--directory=/run/log/journal", "--no-pager"]).args(arguments).output().unwrap();
    String::from_utf8(stdout).unwrap()
}

#[test]
#[ignore = "kernel: needs root and journalctl"]
fn journald_has_every_figure_and_explains_a_termination() {
    let user = TestUser::claim();
    // The mounts exist before the daemon logs anything.
    let mut place = Daemon::start(&config(&user, &[]), &["--once", "--dry-run", "--source", "proc"]);
    assert!(place.ended(SOON).success());
    let _journald = Journald::start(&place);
    let changes = [("settings.enable_syslog", "true"), ("log.format", "\"text\"")];
    let daemon = place.spawn_beside(&config(&user, &changes), &["--source", "proc"]);
    daemon.started();
    let mut hog = user.hog("anon 40M hold");
    assert_eq!(hog.ended_by(SOON), Some(libc::SIGTERM));

    let mut found = Vec::new();
    eventually("the record", || {
        let text = journalctl(&place, &["--output=json", TERMINATED]);
        found = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        !found.is_empty()
    });
    let [record] = &found[..] else { panic!("{found:?}") };
    let field = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| field(name).parse::<u64>().unwrap_or_default();
    assert_eq!(field("MEMMON_PID"), hog.pid().to_string(), "{record}");
    assert_eq!(field("OBJECT_PID"), hog.pid().to_string(), "{record}");
    assert_eq!(field("_PID"), daemon.pid().to_string(), "{record}");
    assert_eq!(
        (field("MEMMON_RULE"), field("MEMMON_CAUSE")),
        ("gb".to_owned(), "term".to_owned()),
        "{record}"
    );
    assert_eq!(
        (field("PRIORITY"), field("SYSLOG_IDENTIFIER")),
        ("6".to_owned(), "memmon".to_owned()),
        "{record}"
    );
    let (limit, rss) = (number("MEMMON_LIMIT_BYTES"), number("MEMMON_RSS_AT_TERM_BYTES"));
    assert_eq!((limit, number("MEMMON_OVERSHOOT_BYTES")), (32 << 20, rss - limit), "{record}");
    assert!(field("MESSAGE").starts_with("Terminated: PID="), "{record}");

    let explained = journalctl(&place, &["--catalog", TERMINATED]);
    assert!(
        explained.contains("Subject: ") && explained.contains("Documentation: man:memmon(8)"),
        "{explained}"
    );
    assert!(explained.contains(&limit.to_string()), "with the figures of the case: {explained}");
    assert!(!explained.contains("MEMMON_"), "none is missing: {explained}");
    daemon.stop();
}

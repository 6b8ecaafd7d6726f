//! Mail of a real daemon, through a relay that does not run at first.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Instant,
};

use crate::common::{
    TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually,
    log::{SOON, config},
};

use nix::mount::{MsFlags, mount};

const TERM: Option<i32> = Some(libc::SIGTERM);

/// A daemon for which the test's user has the name `tester`.
#[expect(unsafe_code, reason = "runs between fork and exec")]
fn with_a_name(user: &TestUser, folder: &Path, config: &ScopedConfig, arguments: &[&str]) -> Daemon {
    let (passwd, uid) = (folder.join("passwd"), user.uid);
    let system = fs::read_to_string("/etc/passwd").unwrap();
    fs::write(&passwd, format!("{system}tester:x:{uid}:{uid}::/:/bin/sh\n")).unwrap();
    let daemon = Daemon::spawn_prepared(config, arguments, |command| {
        let named = move || Ok(mount(Some(&passwd), "/etc/passwd", NONE, MsFlags::MS_BIND, NONE)?);
        // SAFETY: a system call only.
        unsafe { command.pre_exec(named) };
    });
    daemon.started();
    daemon
}

const NONE: Option<&str> = None;

/// The letter about one process comes before that has reached its limit, and no other one does.
#[test]
#[ignore = "kernel: needs root and MEMMON_SMTPD_PYTHON: `cargo xtask setup --for-tests`"]
fn a_user_gets_mail_near_the_limit_if_the_rule_says_so_and_nothing_in_a_dry_run() {
    let mut relay = Relay::start("plain", 0);
    let folder = tempfile::tempdir().unwrap();
    let user = TestUser::claim();
    let rules = "[{ name = \"early\", args = [\"*wait-term*\"], notify_user = \"before\" }, \
                 { name = \"never\", names = [\"hog\"], notify_user = \"never\" }]";
    let port = relay.2.clone();
    let changes = [
        ("rule", rules),
        ("notify.mail_to", "[\"%u@example.com\"]"),
        ("notify.smtp_port", &*port),
        ("notify.interval", "1"),
    ];
    let config = config(&user, &changes);

    let dry = with_a_name(&user, folder.path(), &config, &["--source", "proc", "--dry-run"]);
    let hog = user.hog("anon 29M wait-term hold");
    dry.reported("approaching", hog.pid());
    dry.scanned();
    dry.stop();
    drop(hog);

    let daemon = with_a_name(&user, folder.path(), &config, &["--source", "proc"]);
    let others = user.hog("anon 29M hold");
    daemon.reported("approaching", others.pid());
    let mut hog = user.hog("anon 29M wait-term anon 20M hold");
    let warned = daemon.reported("approaching", hog.pid());
    assert!(warned["rss_bytes"].as_u64() < Some(32 << 20), "{warned}");
    let letter = relay.line();
    assert!(letter.contains("['tester@example.com']"), "{letter}");
    assert!(letter.contains(&format!("PID=3D{},", hog.pid())), "{letter}");
    assert!(!letter.contains(&format!("PID=3D{},", others.pid())), "{letter}");
    assert!(hog.is_alive());
    hog.term();
    hog.ended(SOON);
    // Letters that still wait are sent before the end. There is none, because the rule does not ask for one afterwards.
    let last_words = daemon.stop().join("\n");
    assert!(last_words.contains("\"event\":\"terminated\""), "{last_words}");
    drop(others);
    relay.0.kill().unwrap();
    assert_eq!(relay.line(), "", "one letter");
}

/// An SMTP server that ends with the test, and its port.
struct Relay(Child, BufReader<ChildStdout>, String);

impl Relay {
    fn start(tls: &str, port: u16) -> Self {
        let python = std::env::var_os("MEMMON_SMTPD_PYTHON").unwrap();
        let mut command = Command::new(python);
        command.args(["-c", include_str!("../common/smtpd.py"), "0"]).args([tls, "open", &port.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut relay = Self(child, lines, String::new());
        let printed = relay.line();
        assert!(port == 0 || printed == port.to_string());
        relay.2 = printed;
        relay
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A key and a certificate for localhost in one file, and the certificate in another one.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (both, alone) = (folder.join("both.pem"), folder.join("cert.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]);
    openssl.args([
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    let made = openssl.arg("-keyout").arg(&both).arg("-out").arg(&alone).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = fs::read_to_string(&both).unwrap() + &fs::read_to_string(&alone).unwrap();
    fs::write(&both, text).unwrap();
    (both, alone)
}

#[test]
#[ignore = "kernel: needs root, openssl and MEMMON_SMTPD_PYTHON: `cargo xtask setup --for-tests`"]
fn a_dead_relay_delays_no_signal_and_gets_its_mail_when_it_is_back() {
    let user = TestUser::claim();
    let folder = tempfile::tempdir().unwrap();
    let (both, alone) = certificate(folder.path());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let changes = [
        ("notify.mail_to", "[\"dead@example.com\", \"admin@example.com\"]"),
        ("notify.smtp_port", &port.to_string()),
        ("notify.smtp_starttls", "true"),
        ("notify.interval", "1"),
    ];
    let config = config(&user, &changes);
    let daemon = Daemon::spawn_prepared(&config, &["--source", "proc"], |command| {
        command.env("SSL_CERT_FILE", &alone);
    });
    daemon.started();
    let mut hog = user.hog("anon 40M hold");
    let pid = hog.pid();
    assert_eq!(daemon.terminated(&mut hog).0, TERM);
    eventually("a word of the failure", || {
        let printed = daemon.every("degraded");
        printed.iter().any(|event| event["what"].as_str().unwrap().starts_with("notification by mail failed"))
    });
    // While the mail waits for its next attempt, terminations continue as usual.
    let begun = Instant::now();
    assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
    assert!(begun.elapsed() < SOON);

    let mut relay = Relay::start(both.to_str().unwrap(), port);
    let mail = relay.line();
    assert!(mail.contains("['admin@example.com'], None, True, "), "by STARTTLS: {mail}");
    assert!(
        mail.contains(&format!("Terminated: PID=3D{pid},")),
        "what could not be sent, quoted-printable: {mail}"
    );
    eventually("a report of the unknown recipient", || {
        let printed = daemon.every("diagnostic");
        printed.iter().any(|event| {
            let text = event["text"].as_str().unwrap();
            text.starts_with("a notification did not reach dead@example.com: ")
        })
    });
    daemon.stop();
}

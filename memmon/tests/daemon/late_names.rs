//! A user that the configuration names is created after memmon has started, as by the package of a service.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
};

use tempfile::NamedTempFile;

use crate::common::{
    TestUser,
    daemon::{Daemon, ScopedConfig, with_file},
    log::{SOURCES, config},
};

const TERM: Option<i32> = Some(libc::SIGTERM);

/// The users that memmon knows: those of this machine, and others.
struct Passwd(NamedTempFile);

impl Passwd {
    fn new() -> Self {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), fs::read("/etc/passwd").unwrap()).unwrap();
        Self(file)
    }

    fn start(&self, config: &ScopedConfig, source: &str) -> Daemon {
        let prepare = |command: &mut std::process::Command| with_file(command, self.0.path(), "/etc/passwd");
        let daemon = Daemon::spawn_prepared(config, &["--source", source], prepare);
        daemon.started();
        daemon
    }

    fn create(&self, name: &str, uid: u32) {
        append(self.0.path(), &format!("{name}:x:{uid}:{uid}::/:/bin/sh\n"));
    }
}

fn append(file: &Path, text: &str) {
    OpenOptions::new().append(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_user_who_is_created_later_is_protected_without_a_reload() {
    for source in SOURCES {
        let (user, passwd) = (TestUser::claim(), Passwd::new());
        let config = config(&user, &[("whitelist.users", "[\"memmon-late\"]")]);
        let daemon = passwd.start(&config, source);
        let mut early = user.hog("anon 40M hold");
        assert_eq!(daemon.terminated(&mut early).0, TERM);

        passwd.create("memmon-late", user.uid);
        daemon.event("reloaded");
        let hog = user.hog("anon 40M hold");
        daemon.reported("over_but_protected", hog.pid());
        daemon.scanned();
        assert!(hog.is_alive());
        assert!(!daemon.status()["config"]["warnings"].to_string().contains("memmon-late"));
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_configuration_that_was_edited_meanwhile_waits_for_a_reload() {
    let (user, passwd) = (TestUser::claim(), Passwd::new());
    let config = config(&user, &[("whitelist.users", "[\"memmon-late\"]")]);
    let daemon = passwd.start(&config, "proc");
    append(&daemon.dir().join("config.toml"), "# half of an edit: [termi");
    passwd.create("memmon-late", user.uid);
    let line = daemon.line("the report", |line| line.contains("exists now, and does not count yet"));
    assert!(line.contains("memmon-late") && line.contains("systemctl reload memmon"), "{line}");
    let mut hog = user.hog("anon 40M hold");
    assert_eq!(daemon.terminated(&mut hog).0, TERM);
    daemon.stop();
}

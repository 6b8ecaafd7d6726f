//! The hook of contrib/desktop: notifications on the desktop of the user, by a real session bus.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::Stdio,
};

use serde_json::Value;

use crate::common::{TestUser, daemon::Daemon, log::config};

const HOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/desktop/memmon-desktop");
const BUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/desktop.py");

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_REAL"]
fn a_user_sees_on_the_desktop_which_process_was_ended() {
    let user = TestUser::claim();
    let changes =
        [("notify.hook", "\"/run/hooks/hook\""), ("notify.hook_user", "\"root\""), ("notify.interval", "1")];
    let daemon = Daemon::start(&config(&user, &changes), &[]);
    // /run is private to the daemon.
    let uid = user.uid.to_string();
    // dbus-daemon serves no user without a name.
    let place = format!(
        "mkdir /run/hooks && install -m 755 {HOOK} /run/hooks/hook && \
         install -d -m 700 -o {uid} -g {uid} /run/user/{uid} && \
         {{ cat /etc/passwd; echo tester:x:{uid}:{uid}::/:/bin/sh; }} >/run/passwd && mount --bind /run/passwd /etc/passwd"
    );
    assert!(daemon.beside("sh").args(["-c", &place]).status().unwrap().success());
    let modules = PathBuf::from(std::env::var_os("MEMMON_REAL").unwrap()).join("kubernetes");
    let mut desktop = daemon
        .beside("/usr/bin/python3")
        .args([BUS, &uid, &format!("/run/user/{uid}/bus")])
        .env("PYTHONPATH", modules)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(desktop.stdout.take().unwrap()).lines();
    assert_eq!(
        lines.next().expect("dbus-daemon, of Debian's package of that name, is missing").unwrap(),
        "ready"
    );
    let mut hog = user.hog("anon 40M hold");
    let (signal, record) = daemon.terminated(&mut hog);
    assert_eq!(signal, Some(libc::SIGTERM));
    let shown: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(shown["title"], "A program of yours was ended");
    assert_eq!(shown["text"], record["message"]);
    desktop.kill().unwrap();
    desktop.wait().unwrap();
    daemon.stop();
}

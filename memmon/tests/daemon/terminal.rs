//! Lines on the terminal of a process that is terminated, in a real terminal.

use std::{
    fs::{self, File, Permissions},
    io::Read as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{PermissionsExt as _, chown},
    },
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use nix::{
    pty::{OpenptyResult, openpty},
    unistd::ttyname,
};

use crate::common::{TestUser, daemon::Daemon, eventually, hog, log::config, processes_of};

/// A terminal that belongs to a user, and what was written to it.
struct Terminal {
    end: OwnedFd,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    /// `mode` as `mesg y` (0620) and `mesg n` (0600) set it.
    fn of(user: &TestUser, mode: u32) -> Self {
        let OpenptyResult { master, slave } = openpty(None, None).unwrap();
        let name = ttyname(&slave).unwrap();
        chown(&name, Some(user.uid), None).unwrap();
        fs::set_permissions(&name, Permissions::from_mode(mode)).unwrap();
        let shown = Arc::<Mutex<String>>::default();
        let written = Arc::clone(&shown);
        thread::spawn(move || {
            let (mut master, mut buffer) = (File::from(master), [0; 4096]);
            // EIO: the last process has closed its end.
            while let Ok(count) = master.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                written.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        Self { end: slave, shown }
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a hog in a session of its own, with this as its terminal.
    fn hog(&self, user: &TestUser, script: &str) -> Child {
        let end = || Stdio::from(self.end.as_fd().try_clone_to_owned().unwrap());
        Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(hog::program())
            .args(["uid", &user.uid.to_string()])
            .args(script.split(' '))
            .stdin(end())
            .stdout(Stdio::null())
            .stderr(end())
            .spawn()
            .unwrap()
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn the_user_of_a_terminated_process_learns_on_its_terminal_why_it_ended() {
    for (mode, terminal_key, expected) in
        [(0o620, "true", true), (0o600, "true", false), (0o620, "false", false)]
    {
        let user = TestUser::claim();
        let daemon = Daemon::start(&config(&user, &[("notify.terminal", terminal_key)]), &[]);
        let terminal = Terminal::of(&user, mode);
        let mut session = terminal.hog(&user, "ignore-term anon 40M hold");
        let killing = daemon.event("killing");
        let pid = killing["pid"].as_u64().unwrap();
        assert!(killing["tty"].as_str().unwrap().starts_with("pts/"), "{killing}");
        session.wait().unwrap();
        let reported = || terminal.shown().contains("did not exit. It is killed");
        if expected {
            eventually("the lines", reported);
            let shown = terminal.shown();
            assert!(shown.contains(&format!("memmon: your process {pid} (hog) has ")), "{shown}");
            assert!(shown.contains("its limit is "), "{shown}");
        }
        eventually("the end of all", || processes_of(user.uid).is_empty());
        daemon.stop();
        assert_eq!(reported(), expected, "{:?}", terminal.shown());
    }
}

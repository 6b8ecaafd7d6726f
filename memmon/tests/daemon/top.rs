//! `memmon top` in a real terminal (tmux), whose screen is read back.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use crate::common::{
    TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually,
};

/// A separate tmux server with one window of 80 by 24, in which `memmon top` runs. It ends with this value.
struct Terminal {
    directory: tempfile::TempDir,
}

impl Terminal {
    /// Runs `command`, which can be `memmon top` alone.
    fn run(command: &str) -> Self {
        let terminal = Self { directory: tempfile::tempdir().unwrap() };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command]);
        terminal
    }

    fn start(environment: &str, arguments: &str) -> Self {
        let terminal = Self { directory: tempfile::tempdir().unwrap() };
        // The file shows the exit code; `cat` shows whether the terminal is back to normal.
        let ended = terminal.directory.path().join("ended");
        let command = format!(
            "{environment} {} top --interval 0.2 {arguments}; echo ended $? > {ended}; cat",
            env!("CARGO_BIN_EXE_memmon"),
            ended = ended.display()
        );
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &command]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.directory.path().join("tmux"))
            .args(arguments)
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The screen with its colours.
    fn coloured(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn shows(&self, text: &str) -> String {
        eventually(&format!("{text:?} on the screen"), || self.screen().contains(text));
        self.screen()
    }

    fn ended(&self) -> String {
        let path = self.directory.path().join("ended");
        eventually("the end of top", || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')));
        fs::read_to_string(&path).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let server = Command::new("tmux")
            .arg("-S")
            .arg(self.directory.path().join("tmux"))
            .arg("kill-server")
            .output();
        drop(server);
    }
}

/// Whether the text has SGR colours: 30 to 37, 90 to 97, 38;….
fn is_coloured(screen: &str) -> bool {
    screen.split('\u{1b}').filter_map(|part| part.strip_prefix('[')?.split_once('m')).any(|(codes, _)| {
        codes.split(';').any(|code| {
            code.parse().is_ok_and(|code: u32| (30..=38).contains(&code) || (90..=97).contains(&code))
        })
    })
}

#[test]
#[ignore = "needs tmux"]
fn without_a_daemon_top_looks_for_itself() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    // A short list of names, so that the explanation fits on the screen.
    let keys = "settings.log_file = ''\nthresholds.ram_gb_threshold = 0.001\nwhitelist.names = ['sshd']\n";
    fs::write(&config, keys).unwrap();
    let arguments = format!("--socket /nonexistent/sock --config {}", config.display());
    let terminal = Terminal::start("LC_ALL=C.UTF-8 NO_COLOR=1", &arguments);
    let screen = terminal.shows("no daemon: own look at /proc");
    assert!(screen.contains("limit 1.0MB") && screen.contains("█"), "{screen}");
    assert!(terminal.shows("/ filter  tab group  s sort (memory)").lines().count() <= 24);
    assert!(!is_coloured(&terminal.coloured()), "NO_COLOR: {}", terminal.coloured());

    // A name of its own, because the pid may be a part of another pid.
    let pid = std::process::id();
    let own = format!("own-{pid}-");
    fs::write(format!("/proc/{pid}/comm"), &own).unwrap();
    terminal.press(&["/"]);
    terminal.press(&["-l", &own]);
    terminal.press(&["Enter"]);
    terminal.shows(&format!("Filter: {own}  (1 of "));
    terminal.press(&["Enter"]);
    terminal.shows(&format!("pid {pid}, "));
    terminal.press(&["PageDown"]);
    let screen = terminal.shows("thresholds              exceeded");
    assert!(screen.contains("whitelist.pids"), "{screen}");
    terminal.press(&["x"]);
    terminal.shows("PID USER");
    // Many keys at once must not take a redraw each.
    let begun = Instant::now();
    terminal.press(&["/"]);
    terminal.press(&["-l", &"x".repeat(200)]);
    terminal.press(&["Enter"]);
    terminal.shows(&format!("Filter: {own}{}  (0 of ", "x".repeat(32 - own.len())));
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    terminal.shows("Esc shows all.");
    terminal.press(&["Escape"]);
    terminal.shows("PID USER");
    terminal.press(&["Space"]);
    terminal.shows("FROZEN");
    terminal.tmux(&["resize-window", "-x", "130", "-y", "30"]);
    let screen = terminal.shows("ANON   FILE  SHMEM");
    assert!(screen.contains(&format!(", by the rules of {}\n", config.display())), "{screen}");
    for (columns, lines, header) in [
        ("60", "20", "    PID NAME               RSS LIMIT  GROWTH  LEFT VERDICT\n"),
        ("40", "8", "    PID NAME               RSS VERDICT\n"),
    ] {
        terminal.tmux(&["resize-window", "-x", columns, "-y", lines]);
        let screen = terminal.shows(header);
        let below = screen.split(header).nth(1).unwrap().lines().take(4);
        let pids = below.map(|line| line.get(..7).unwrap().trim().parse::<u32>());
        assert!(pids.clone().all(|pid| pid.is_ok()) && pids.count() == 4, "{screen}");
    }
    terminal.press(&["q"]);
    assert_eq!(terminal.ended(), "ended 0\n");
}

#[test]
#[ignore = "needs tmux"]
fn top_ends_with_its_terminal() {
    let memmon = env!("CARGO_BIN_EXE_memmon");
    let folder = tempfile::tempdir().unwrap();
    let code = folder.path().join("code");
    let terminal = Terminal::run(&format!(
        "trap '' HUP; {memmon} top --interval 0.2 --socket /nonexistent/sock; echo $? >{}",
        code.display()
    ));
    terminal.shows("no daemon: own look at /proc");
    assert!(!code.exists());
    drop(terminal);
    eventually("the end of top", || std::fs::read_to_string(&code).is_ok_and(|code| code.ends_with('\n')));
    let code = std::fs::read_to_string(&code).unwrap();
    assert!(["0\n", "1\n"].contains(&&*code), "it ended itself, and no signal did: {code}");
}

#[test]
#[ignore = "kernel: needs root, and tmux"]
fn with_a_daemon_top_shows_what_it_sees() {
    let user = TestUser::claim();
    let name = format!("hog-{}-", user.uid);
    let hog = user.hog(&format!("rename {name} anon 60M hold"));
    hog.begun("hold");
    let config = "thresholds = { ram_gb_threshold = 0.04, check_interval = 0.2 }\nsettings.enable_syslog = false\nlog.format = 'json'";
    let daemon = Daemon::start(&ScopedConfig::new(&user, config), &["--dry-run", "--source", "proc"]);
    let socket = format!("--socket /proc/{}/root{}", daemon.pid(), memmon::status::SOCKET);
    let terminal = Terminal::start("LC_ALL=C.UTF-8 TERM=screen-256color", &socket);
    let screen = terminal.shows("  proc  dry run  limit 41.0MB");
    assert!(screen.contains(" over, 0 being terminated, 0 terminated  scan "), "{screen}");
    terminal.press(&["/"]);
    terminal.press(&["-l", &name]);
    terminal.press(&["Enter"]);
    terminal.shows("(1 of ");
    let screen = terminal.shows("over");
    let row = screen.lines().find(|line| line.trim_start().starts_with(&hog.pid().to_string())).unwrap();
    let rss = row.split_whitespace().nth(3).unwrap().trim_end_matches("MB").parse::<f64>();
    assert!(row.contains("terminate") && rss.is_ok_and(|rss| rss >= 60.0), "{screen}");
    assert!(is_coloured(&terminal.coloured()), "{}", terminal.coloured());
    terminal.press(&["Enter"]);
    let screen = terminal.shows(&format!("pid {}, {name}", hog.pid()));
    assert!(screen.contains("by the rules of the running memmon (pid "), "{screen}");
    terminal.press(&["PageDown"]);
    terminal.shows("terminated: ");
    terminal.press(&["q"]);

    daemon.stop();
    terminal.shows("no daemon");
    terminal.press(&["C-c"]);
    assert_eq!(terminal.ended(), "ended 0\n");
}

#[test]
#[ignore = "kernel: needs root, and tmux"]
fn with_a_daemon_top_shows_groups_with_what_they_hold_together() {
    let user = TestUser::claim();
    let hogs: Vec<_> = (0..3).map(|_| user.hog("anon 24M hold")).collect();
    for hog in &hogs {
        hog.begun("hold");
    }
    let uid = user.uid;
    let config = format!(
        "thresholds = {{ ram_gb_threshold = 0.5, check_interval = 0.2 }}\nsettings.enable_syslog = false\nlog.format = 'json'\n\
         rule = [{{ name = 'together', uids = ['{uid}'], per = 'user', gb = 0.125 }}]"
    );
    let daemon = Daemon::start(&ScopedConfig::new(&user, &config), &["--dry-run", "--source", "proc"]);
    let socket = format!("--socket /proc/{}/root{}", daemon.pid(), memmon::status::SOCKET);
    let terminal = Terminal::start("LC_ALL=C.UTF-8 NO_COLOR=1", &socket);
    terminal.shows("PID USER");
    // The cells of the first line that begins with this.
    let line_of = |start: &str| -> Vec<String> {
        let screen = terminal.shows(start);
        let line = screen.lines().find(|line| line.starts_with(start)).map(str::to_owned);
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let is_sum = |cells: &[String]| {
        let holds = cells[1].trim_end_matches("MB").parse::<f64>();
        assert!(cells[0] == "3" && holds.is_ok_and(|holds| (72.0..110.0).contains(&holds)), "{cells:?}");
        assert!(cells[2] == "128MB" && cells[3].ends_with('%'), "{cells:?}");
        assert_eq!(cells.last().map(String::as_str), Some("together"), "{cells:?}");
    };
    terminal.press(&["Tab"]);
    terminal.shows("tab group (user)");
    is_sum(&line_of(&format!("{uid} "))[1..]);
    terminal.press(&["Tab"]);
    terminal.shows("tab group (unit)");
    terminal.press(&["Tab"]);
    terminal.shows("tab group (rule)");
    is_sum(&line_of(&format!("together: user {uid}"))[3..]);
    terminal.press(&["Tab"]);
    terminal.shows("PID USER");
    terminal.press(&["q"]);
    assert_eq!(terminal.ended(), "ended 0\n");
    daemon.stop();
}

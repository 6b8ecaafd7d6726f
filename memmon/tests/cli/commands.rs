//! The command line as scripts and people meet it. Needs no rights and touches nothing.

use std::{
    fs::{self, File, Permissions},
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::Path,
    process::{Command, Output},
};

use nix::{
    sys::stat::Mode,
    unistd::{geteuid, mkfifo},
};

use serde_json::Value;

/// Exit code, stdout, stderr.
fn memmon(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_memmon"));
    let Output { status, stdout, stderr } =
        command.args(arguments).current_dir(dir).env_remove("NO_COLOR").output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(!(stdout.clone() + &stderr).contains('\x1b'), "colours into a pipe: {stdout}{stderr}");
    (status.code().unwrap(), stdout, stderr)
}

/// A folder with this config.toml.
fn configured(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), text).unwrap();
    dir
}

#[test]
fn a_wrong_configuration_is_reported_with_its_place_by_check_and_run_alike() {
    let dir = configured("[thresholds]\nram_gb_treshold = 2\n\n[whitelist]\nnames = [\"[\"]\n");
    let (code, out, checked) = memmon(dir.path(), &["check", "config.toml"]);
    assert_eq!((code, &out[..]), (2, ""));
    insta::assert_snapshot!(checked, @r#"
    error: unknown key `ram_gb_treshold` in [thresholds]
     --> config.toml:2:1
      |
    2 | ram_gb_treshold = 2
      | ^^^^^^^^^^^^^^^ did you mean `ram_gb_threshold`?

    error: `names` cannot be "["
     --> config.toml:5:10
      |
    5 | names = ["["]
      |          ^^^ unclosed character class; missing ']'
    "#);
    let (code, out, run) = memmon(dir.path(), &["run", "--dry-run", "--config", "config.toml"]);
    assert_eq!((code, &out[..]), (2, ""), "nothing was started");
    assert_eq!(run, format!("memmon: {checked}"));
    let (code, _, missing) = memmon(dir.path(), &["run", "--dry-run", "--config", "nowhere.toml"]);
    assert_eq!(code, 2, "{missing}");
    assert!(missing.contains("nowhere.toml"), "{missing}");
}

#[test]
fn check_reports_the_effect_of_a_configuration_here() {
    let dir = configured(
        "[thresholds]\nram_gb_threshold = 1000\nram_percent_threshold = 100\n[settings]\nlog_file = \"\"\n",
    );
    let (code, out, err) = memmon(dir.path(), &["check", "config.toml"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("config.toml") && out.contains("1000"), "{out}");
    assert!(out.contains("root") && (out.clone() + &err).contains("protect_root"), "{out}{err}");
}

#[test]
fn explain_answers_for_a_pid_and_for_a_name() {
    let dir = configured("[whitelist]\nnames = [\"nobody-has-this-name\"]\n[settings]\nlog_file = \"\"\n");
    let own = std::process::id().to_string();
    let (code, by_pid, err) = memmon(dir.path(), &["explain", &own, "--config", "config.toml"]);
    assert_eq!(code, 0, "{err}");
    assert!(by_pid.contains(&own), "{by_pid}");

    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    let (code, out, err) = memmon(dir.path(), &["explain", comm.trim(), "--json", "--config", "config.toml"]);
    assert_eq!(code, 0, "{err}");
    let found: Value = serde_json::from_str(&out).unwrap();
    let found = found.as_array().unwrap();
    assert!(found.iter().any(|process| process.to_string().contains(&own)), "{out}");

    let (code, out, err) =
        memmon(dir.path(), &["explain", "nobody-has-this-name", "--config", "config.toml"]);
    assert_eq!((code, &out[..]), (1, ""), "{err}");
    assert!(err.contains("nobody-has-this-name"), "{err}");
}

#[test]
fn explain_answers_for_a_user_a_unit_and_a_rule() {
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let own = own.trim();
    let uid = nix::unistd::getuid().to_string();
    let dir = configured(&format!(
        "[[rule]]\nname = 'this'\nnames = ['{own}']\nnone = true\n\
         [[rule]]\nname = 'late'\nnames = ['{own}']\ngb = 1\n\
         [[rule]]\nname = 'mine'\nuids = ['{uid}']\nper = 'user'\ngb = 1000\naction = 'warn'\n"
    ));
    let pid = std::process::id();
    let (code, out, err) = memmon(dir.path(), &["explain", "--user", &uid, "--config", "config.toml"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&format!("({uid}): ")) && out.contains("rule this"), "{out}");
    assert!(
        out.contains("rule mine: user ") && out.contains("would exceed its limit with more than"),
        "{out}"
    );
    let asked = ["explain", "--rule", "late", "--config", "config.toml"];
    let (code, out, err) = memmon(dir.path(), &asked);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("matched by this, which comes before it"), "{out}");
    let asked = ["explain", "--rule", "this", "--json", "--config", "config.toml"];
    let (code, out, err) = memmon(dir.path(), &asked);
    assert_eq!(code, 0, "{err}");
    let found: Value = serde_json::from_str(&out).unwrap();
    let processes = found["decides"][0]["processes"].as_array().unwrap();
    assert!(processes.iter().any(|process| process["pid"] == pid), "{found:#}");
    let asked = ["explain", "--unit", "nobody-has-this.service", "--config", "config.toml"];
    let (code, out, err) = memmon(dir.path(), &asked);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("unit nobody-has-this.service: no process right now"), "{out}");
    for (asked, expected, message) in [
        (["--rule", "none-such"], 1, "no rule has the name \"none-such\"; there are this, late, mine"),
        (["--user", "nobody-has-this-name"], 1, "no user has the name \"nobody-has-this-name\""),
        (["--unit", "a.slice"], 2, "this is no service or scope"),
    ] {
        let arguments = ["explain", asked[0], asked[1], "--config", "config.toml"];
        let (code, _, err) = memmon(dir.path(), &arguments);
        assert_eq!(code, expected, "{err}");
        assert!(err.contains(message), "{err}");
    }
}

#[test]
fn a_wrong_command_line_has_the_exit_code_2_whatever_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    for (line, message) in [
        ("exempt 1", "--for is missing"),
        ("exempt 1 --for 2h", "--why is missing"),
        ("exempt 1 --for soon --why a", "--for <TIME>"),
        ("exempt 1 --for 2h --why \t", "--why cannot be used"),
        ("history --since never", "--since cannot be \"never\""),
        ("replay --since never", "--since cannot be \"never\""),
    ] {
        let arguments: Vec<_> = line.split(' ').collect();
        let (code, out, err) = memmon(dir.path(), &arguments);
        assert_eq!((code, &out[..]), (2, ""), "{line}: {err}");
        assert!(err.contains(message), "{line}: {err}");
    }
}

#[test]
fn without_a_daemon_each_command_names_what_starts_one() {
    let dir = tempfile::tempdir().unwrap();
    for line in ["exempt 1 --for 2h --why a", "exempt --list", "status", "history --mine"] {
        let arguments: Vec<_> = line.split(' ').chain(["--socket", "/nonexistent/memmon.sock"]).collect();
        let (code, _, err) = memmon(dir.path(), &arguments);
        assert_eq!(code, 1, "{line}: {err}");
        assert!(err.contains("start it (systemctl start memmon)"), "{line}: {err}");
    }
}

#[test]
fn doctor_answers_in_words_and_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let (words_code, words, _) = memmon(dir.path(), &["doctor"]);
    let (code, out, err) = memmon(dir.path(), &["doctor", "--json"]);
    assert_eq!(code, words_code, "{err}");
    let reported: Value = serde_json::from_str(&out).unwrap();
    assert!(reported.is_object(), "{reported}");
    assert!(words.contains("pidfd") && words.contains("BTF"), "{words}");
}

#[test]
fn help_has_the_exit_codes_and_a_wrong_word_is_one() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["run", "--help"], &["check", "--help"], &["explain", "--help"]] {
        let (code, out, _) = memmon(dir.path(), arguments);
        assert_eq!(code, 0);
        assert!(out.contains("Exit codes:") && out.contains("another memmon"), "{out}");
    }
    let (code, _, err) = memmon(dir.path(), &["rum"]);
    assert_eq!(code, 2);
    assert!(err.contains("'run'"), "{err}");
}

#[test]
fn a_pattern_of_another_language_is_answered_with_globs() {
    let dir = configured("[whitelist]\nnames = ['(sshd|tmux)']\n[settings]\nlog_file = \"\"\n");
    let (code, out, err) = memmon(dir.path(), &["check", "config.toml"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("\"(sshd|tmux)\" looks like a regular expression"), "{out}");
    assert!(out.contains("write \"sshd\", \"tmux\""), "{out}");
    let asked = ["explain", "^nobody-has-(this|that)$", "--config", "config.toml"];
    let (code, _, err) = memmon(dir.path(), &asked);
    assert_eq!(code, 1);
    assert!(err.contains("\"nobody-has-that\", \"nobody-has-this\""), "{err}");
}

#[test]
fn check_shows_which_processes_each_rule_of_each_file_matches() {
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    let own = own.trim();
    let dir = configured(&format!("[[rule]]\nname = 'this'\nnames = ['{own}']\nnone = true\n"));
    fs::create_dir(dir.path().join("conf.d")).unwrap();
    let fragment = format!(
        "[[rule]]\nname = 'late'\nnames = ['{own}', 'x']\ngb = 1\n[[rule]]\nname = 'nobody'\nnames = ['nobody-is-so']\ngb = 1"
    );
    fs::write(dir.path().join("conf.d/a.toml"), fragment).unwrap();
    let (code, out, err) = memmon(dir.path(), &["check", "config.toml"]);
    assert_eq!((code, &err[..]), (0, ""));
    assert!(out.starts_with("# config.toml\n# conf.d/a.toml\n"), "{out}");
    let line =
        |rule: &str| out.lines().find(|line| line.starts_with(&format!("  {rule}: "))).unwrap().to_owned();
    assert!(line("this").contains(" process"), "{out}");
    assert!(line("late").contains("no process, as the ") && line("late").contains("this above it"), "{out}");
    assert!(line("nobody").starts_with("  nobody: no process"), "{out}");
    let (_, out, _) = memmon(dir.path(), &["check", "--json", "config.toml"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    let pids = report["running"]["rules"][0]["processes"].as_array().unwrap();
    assert!(pids.iter().any(|process| process["pid"] == std::process::id()), "{pids:?}");
    assert_eq!(report["fragments"], serde_json::json!(["conf.d/a.toml"]));
}

#[test]
fn names_that_a_list_drops_from_the_default_are_reported_by_check_and_the_start() {
    let dir = configured(
        "[whitelist]\nnames = [\"myapp\"]\n[settings]\nlog_file = \"\"\nenable_syslog = false\n[kernel]\nsource = \"proc\"\n",
    );
    let (code, out, err) = memmon(dir.path(), &["check", "config.toml"]);
    assert_eq!(code, 0, "{err}");
    let once = ["run", "--dry-run", "--once", "--config", "config.toml"];
    let (code, _, started) = memmon(dir.path(), &once);
    assert!(code == 0 && started.contains("no longer protected: systemd, sshd"), "{started}");
    let line =
        out.lines().find(|line| line.contains("no longer protected")).unwrap_or_else(|| panic!("{out}"));
    assert!(line.contains("systemd, sshd"), "{line}");
    for (manager, place) in
        [("dpkg", "/usr/bin/dpkg"), ("pacman", "/usr/bin/pacman"), ("dnf", "/usr/bin/dnf")]
    {
        let listed = line.split([' ', ',', ';']).any(|word| word == manager);
        assert_eq!(listed, Path::new(place).exists(), "only those of this machine: {line}");
    }
}

/// Each of them held up the start or the reload for ever, or filled the memory.
#[test]
fn a_configuration_that_is_no_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    mkfifo(&place("fifo"), Mode::S_IRWXU).unwrap();
    fs::create_dir(place("directory")).unwrap();
    symlink("/dev/zero", place("zero")).unwrap();
    File::create(place("large")).unwrap().set_len(1 << 40).unwrap();
    for (name, refused) in [
        ("fifo", "it is a FIFO, not a regular file"),
        ("directory", "it is a directory, not a regular file"),
        ("zero", "it is a device, not a regular file"),
        ("large", "it has more than 256KB, the most that memmon reads of it"),
    ] {
        let commands = [&["check", name][..], &["run", "--dry-run", "--once", "--config", name]];
        for command in commands {
            let (code, out, err) = memmon(dir.path(), command);
            assert_eq!((code, &*out), (2, ""), "{command:?}");
            assert!(err.contains(&format!("cannot read {name}: {refused}")), "{command:?}: {err}");
        }
    }
}

#[test]
fn a_configuration_that_may_not_be_read_is_refused_and_not_taken_for_none() {
    let dir = configured("");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path().join("config.toml"), Permissions::from_mode(0o0)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_memmon"));
    command.args(["check", "config.toml"]).current_dir(dir.path());
    if geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(
        status.code() == Some(2) && stderr.contains("config.toml: Permission denied"),
        "{status} {stderr}"
    );
}

#[test]
fn settings_that_cannot_work_here_are_reported_by_check_and_by_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();
    let place = place.display();
    fs::write(dir.path().join("hook"), "#!/bin/sh\n").unwrap();
    fs::write(dir.path().join("auth"), "user\npassword\n").unwrap();
    fs::set_permissions(dir.path().join("auth"), Permissions::from_mode(0o644)).unwrap();
    symlink("elsewhere", dir.path().join("memmon.log")).unwrap();
    let text = format!(
        "[thresholds]\nram_gb_threshold = 100000\n[settings]\nlog_file = \"{place}/memmon.log\"\nenable_syslog = false\n\
         [metrics]\ntextfile = \"{place}/missing/x.prom\"\n[kernel]\nsource = \"proc\"\n\
         [notify]\nhook = \"{place}/hook\"\nmail_to = [\"a@b.invalid\"]\nsmtp_auth_file = \"{place}/auth\"\n"
    );
    fs::write(dir.path().join("config.toml"), text).unwrap();
    let (code, checked, err) = memmon(dir.path(), &["check", "config.toml"]);
    assert_eq!(code, 0, "warnings only: {err}");
    let (code, _, started) = memmon(dir.path(), &["run", "--dry-run", "--once", "--config", "config.toml"]);
    assert_eq!(code, 0, "{started}");
    for printed in [
        format!("settings.log_file cannot be used: {place}/memmon.log: refused, it is a symbolic link"),
        format!("metrics.textfile cannot be used: {place}/missing: No such file or directory"),
        format!("notify.smtp_auth_file cannot be used: {place}/auth: others may read it: chmod 600 it"),
        "notify.hook cannot be used: ".to_owned(),
        "ram_gb_threshold has no effect on this machine: ram_percent_threshold is the lower limit".to_owned(),
    ] {
        // Without mail nothing reads its password.
        if printed.contains("smtp_auth_file") && !cfg!(feature = "mail") {
            continue;
        }
        assert!(checked.contains(&printed), "{printed}\n{checked}");
        assert!(started.contains(&printed), "{printed}\n{started}");
    }
    assert!(!dir.path().join("elsewhere").exists(), "a look writes nothing");

    let dir = configured("[notify]\nmail_to = [\"a@b\", \"a b@c\"]\nsmtp_host = \"relay.\"\n");
    let (code, _, err) = memmon(dir.path(), &["check", "config.toml"]);
    assert!(code == 2 && err.contains("`smtp_host` cannot be \"relay.\""), "{err}");
    assert_eq!(err.contains("`mail_to` cannot be \"a b@c\""), cfg!(feature = "mail"), "{err}");
}

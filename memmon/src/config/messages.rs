//! Every mistake with the message that it is answered with, as an administrator sees it.

use std::path::Path;

use super::{
    FakeUsers, parse,
    tests::{SHIPPED, error, warnings},
};

#[test]
fn an_empty_scope_is_refused() {
    insta::assert_snapshot!(error("[scope]\n[log]"), @"
    error: [scope] is empty
     --> config.toml:1:2
      |
    1 | [scope]
      |  ^^^^^ name users, uids or cgroups; without this section every process is in scope
    ");
    insta::assert_snapshot!(error("scope = { users = [], uids = [], cgroups = [] }"), @"
    error: `users` is an empty list
     --> config.toml:1:19
      |
    1 | scope = { users = [], uids = [], cgroups = [] }
      |                   ^^ name at least one; without this key it does not narrow the scope

    error: `uids` is an empty list
     --> config.toml:1:30
      |
    1 | scope = { users = [], uids = [], cgroups = [] }
      |                              ^^ name at least one; without this key it does not narrow the scope

    error: `cgroups` is an empty list
     --> config.toml:1:44
      |
    1 | scope = { users = [], uids = [], cgroups = [] }
      |                                            ^^ name at least one; without this key it does not narrow the scope
    ");
}

#[test]
fn unknown_keys_are_reported_with_what_was_meant() {
    insta::assert_snapshot!(error("dry_run = true\n[thresholds]\nram_gb_treshold = 2\n"), @"
    error: `dry_run` stands outside of any section
     --> config.toml:1:1
      |
    1 | dry_run = true
      | ^^^^^^^ this key belongs in [settings]

    error: unknown key `ram_gb_treshold` in [thresholds]
     --> config.toml:3:1
      |
    3 | ram_gb_treshold = 2
      | ^^^^^^^^^^^^^^^ did you mean `ram_gb_threshold`?
    ");
    insta::assert_snapshot!(error("[treshold]\n[network]\nport = 9100\n[whitelist]\nlog_file = '/x'\nformt = 1\ncolour = 1"), @"
    error: unknown section [treshold]
     --> config.toml:1:2
      |
    1 | [treshold]
      |  ^^^^^^^^ did you mean [thresholds]?

    error: unknown section [network]
     --> config.toml:2:2
      |
    2 | [network]
      |  ^^^^^^^ expected one of: [thresholds], [whitelist], [settings], [scope], [machine], [kernel], [termination], [log], [status], [history], [metrics], [notify], [[schedule]], [[rule]]

    error: unknown key `log_file` in [whitelist]
     --> config.toml:5:1
      |
    5 | log_file = '/x'
      | ^^^^^^^^ this key belongs in [settings]

    error: unknown key `formt` in [whitelist]
     --> config.toml:6:1
      |
    6 | formt = 1
      | ^^^^^ did you mean `format` in [log]?

    error: unknown key `colour` in [whitelist]
     --> config.toml:7:1
      |
    7 | colour = 1
      | ^^^^^^ expected one of: pids, names, users, names_file, exe, args, uids, groups, cgroups, units, protect_root, honour_oom_score_adj
    ");
}

#[test]
fn wrong_types_are_reported_with_the_right_one() {
    insta::assert_snapshot!(error(
        r#"[thresholds]
ram_gb_threshold = "2.5"
check_interval = "soon"
[whitelist]
pids = 1
names = ["sshd", 7, true]
users = [1000]
[settings]
dry_run = "yes"
log_file = 2025-10-03
[[termination]]
"#
    ), @r#"
    error: `ram_gb_threshold` cannot be a string
     --> config.toml:2:20
      |
    2 | ram_gb_threshold = "2.5"
      |                    ^^^^^ expected a number: write it without quotes

    error: `check_interval` cannot be a string
     --> config.toml:3:18
      |
    3 | check_interval = "soon"
      |                  ^^^^^^ expected a number: seconds between scans, from 0.1 to 86400

    error: `pids` is an integer, not a list
     --> config.toml:5:8
      |
    5 | pids = 1
      |        ^ write it in brackets: [1]

    error: `names` cannot be an integer
     --> config.toml:6:18
      |
    6 | names = ["sshd", 7, true]
      |                  ^ expected a string: write "7"

    error: `names` cannot be a boolean
     --> config.toml:6:21
      |
    6 | names = ["sshd", 7, true]
      |                     ^^^^ expected a string

    error: `users` cannot be an integer
     --> config.toml:7:10
      |
    7 | users = [1000]
      |          ^^^^ expected a string: write "1000"

    error: `dry_run` cannot be a string
     --> config.toml:9:11
      |
    9 | dry_run = "yes"
      |           ^^^^^ expected true or false

    error: `log_file` cannot be a date or time
      --> config.toml:10:12
       |
    10 | log_file = 2025-10-03
       |            ^^^^^^^^^^ expected a string

    error: `termination` is a section
      --> config.toml:11:3
       |
    11 | [[termination]]
       |   ^^^^^^^^^^^ write [termination] on a line of its own, once, and its keys below
    "#);
}

#[test]
fn values_out_of_range_are_reported_with_the_range() {
    insta::assert_snapshot!(error("[thresholds]\nram_percent_threshold = 150\nram_gb_threshold = -2.0\ncheck_interval = 0"), @"
    error: `ram_percent_threshold` cannot be 150
     --> config.toml:2:25
      |
    2 | ram_percent_threshold = 150
      |                         ^^^ expected percent of all memory, from 0.01 to 100

    error: `ram_gb_threshold` cannot be -2.0
     --> config.toml:3:20
      |
    3 | ram_gb_threshold = -2.0
      |                    ^^^^ expected gigabytes of 2^30 bytes, from 0.001 to 1000000000

    error: `check_interval` cannot be 0
     --> config.toml:4:18
      |
    4 | check_interval = 0
      |                  ^ expected seconds between scans, from 0.1 to 86400
    ");
    for value in [
        "0", "-1", "nan", "+inf", "-inf", "1e999", "100.1", "0.001", "99999999999999999999", "true", "[]",
        "'x'",
    ] {
        let message = error(&format!("thresholds.ram_percent_threshold = {value}"));
        assert!(message.contains("config.toml:1:36"), "{message}");
    }
    for value in ["0", "-0.5", "nan", "inf", "1e300", "0.0001"] {
        for key in ["thresholds.ram_gb_threshold", "thresholds.check_interval", "termination.grace"] {
            let message = error(&format!("{key} = {value}"));
            assert!(message.contains(&format!(" cannot be {value}\n")), "{message}");
        }
    }
    for (key, values) in [
        ("whitelist.pids", ["[0]", "[-1]", "[4194305]"]),
        ("kernel.max_processes", ["0", "-5", "4194305"]),
        ("termination.repeat_limit", ["-1", "1001", "5.5"]),
        ("log.lines_per_minute", ["-1", "100001", "5.5"]),
        ("termination.repeat_window", ["0", "-5", "86401"]),
        ("termination.repeat_backoff", ["0", "nan", "'1'"]),
        ("notify.mail_to", ["['admin']", "['@b']", "[\"a@b\\nc\"]"]),
        ("notify.smtp_host", ["'relay.'", "'my relay'", "''"]),
        ("notify.smtp_host", ["'relay:25'", "'[::1]'", "'a..b'"]),
        ("notify.smtp_port", ["0", "65536", "-1"]),
        ("notify.hook", ["'hook'", "'/bin/'", "'~/x'"]),
        ("notify.hook_user", ["'mallory'", "''", "'-1'"]),
        ("metrics.textfile", ["'x.prom'", "'/x.txt'", "'/'"]),
        ("metrics.listen", ["'0.0.0.0:9819'", "'localhost'", "'run/x'"]),
        ("settings.log_file", ["'memmon.log'", "'/var/log/'", "\"/a\\u0000b\""]),
        ("scope.uids", ["['5-']", "['4294967295']", "['9-3']"]),
        ("scope.users", ["['']", "['99999999999']", "['-1']"]),
        ("scope.cgroups", ["['user.slice']", "['']", "['/a[']"]),
        ("whitelist.names", ["['']", "['a[b']", "['{']"]),
        ("kernel.source", ["'bpf'", "''", "'EBPF'"]),
    ] {
        for value in values {
            let message = error(&format!("{key} = {value}"));
            assert!(message.contains(" cannot be "), "{message}");
        }
    }
}

/// One of these kept mail from everybody.
#[test]
#[cfg(feature = "mail")]
fn addresses_are_those_that_the_sender_of_mail_takes() {
    for address in ["a b@c", "a@b, c@d", "a@b.", "a@-b", "Bob b@c", "a@b\u{e9}.\u{2028}"] {
        for text in [format!("mail_to = ['x@y', '{address}']"), format!("mail_from = '{address}'")] {
            let message = error(&format!("[notify]\n{text}"));
            assert!(message.contains("expected an address, \"admin@example.com\""), "{message}");
        }
    }
    // The name of a process's owner is part of a recipient's address only, in any place where a name fits.
    for address in ["%u@example.com", "me+%u@example.com", "%u <%u@%u.example.com>"] {
        assert!(parse(&format!("notify.mail_to = ['{address}']"), Path::new("c"), &FakeUsers(&[])).is_ok());
    }
    for address in ["%u", "%u@%u@example.com"] {
        let message = error(&format!("notify.mail_to = ['{address}']"));
        assert!(message.contains("\"admin@example.com\" or \"%u@example.com\" ("), "{message}");
    }
}

#[test]
fn a_relay_has_a_name_that_its_certificate_can_have() {
    for (host, fits) in [
        ("a".repeat(63), true),
        ("a".repeat(64), false),
        (format!("{}bc.d", "a.".repeat(124)), true),
        (format!("{}bcd.e", "a.".repeat(125)), false),
        ("192.0.2.1".to_owned(), true),
        ("::1".to_owned(), true),
        ("smtp_relay-1.example.com".to_owned(), true),
    ] {
        let text = format!("notify.smtp_host = '{host}'");
        let loaded = parse(&text, Path::new("c"), &FakeUsers(&[]));
        assert_eq!(loaded.is_ok(), fits, "{host}");
    }
}

#[test]
fn globs_ranges_and_words_are_reported_with_their_flaw() {
    insta::assert_snapshot!(error(
        r#"[whitelist]
names = ["sshd", "postgres[*"]
[settings]
log_file = "memmon.log"
[scope]
uids = ["59999-1000", "1000-"]
cgroups = ["user.slice/**"]
[kernel]
source = "epbf"
[log]
level = "verbose"
"#
    ), @r#"
    error: `names` cannot be "postgres[*"
     --> config.toml:2:18
      |
    2 | names = ["sshd", "postgres[*"]
      |                  ^^^^^^^^^^^^ unclosed character class; missing ']'

    error: `log_file` cannot be "memmon.log"
     --> config.toml:4:12
      |
    4 | log_file = "memmon.log"
      |            ^^^^^^^^^^^^ expected a path from the root, "/var/log/…", or "" for no file

    error: `uids` cannot be "59999-1000"
     --> config.toml:6:9
      |
    6 | uids = ["59999-1000", "1000-"]
      |         ^^^^^^^^^^^^ the lower end goes first: "1000-59999"

    error: `uids` cannot be "1000-"
     --> config.toml:6:23
      |
    6 | uids = ["59999-1000", "1000-"]
      |                       ^^^^^^^ expected a uid or a range of them, "1000-59999"

    error: `cgroups` cannot be "user.slice/**"
     --> config.toml:7:12
      |
    7 | cgroups = ["user.slice/**"]
      |            ^^^^^^^^^^^^^^^ a cgroup's path begins with a slash

    error: `source` cannot be "epbf"
     --> config.toml:9:10
      |
    9 | source = "epbf"
      |          ^^^^^^ did you mean "ebpf"?

    error: `level` cannot be "verbose"
      --> config.toml:11:9
       |
    11 | level = "verbose"
       |         ^^^^^^^^^ expected one of: "debug", "info", "warning", "error"
    "#);
}

#[test]
fn broken_syntax_is_reported_in_the_same_way() {
    insta::assert_snapshot!(error("[thresholds\nram_gb_threshold = 2\n"), @"
    error: not valid TOML: unclosed table
     --> config.toml:1:12
      |
    1 | [thresholds
      |            ^ expected `]`
    ");
    insta::assert_snapshot!(error("[thresholds]\nram_gb_threshold = \ncheck_interval = 5 s\n"), @"
    error: not valid TOML: a value is missing
     --> config.toml:2:20
      |
    2 | ram_gb_threshold =
      |                    ^ write it after the `=`

    error: not valid TOML: string values must be quoted
     --> config.toml:3:18
      |
    3 | check_interval = 5 s
      |                  ^^^ expected a number, true, false, a list, or a string in quotes
    ");
    insta::assert_snapshot!(error("[log]\nlevel = 'info'\nlevel = 'debug'\n[log]\n"), @"
    error: not valid TOML: duplicate key
     --> config.toml:3:1
      |
    3 | level = 'debug'
      | ^^^^^ it stands above already: remove one of the two

    error: not valid TOML: duplicate key
     --> config.toml:4:2
      |
    4 | [log]
      |  ^^^ it stands above already: remove one of the two
    ");
    insta::assert_snapshot!(error("[settings]\nlog_file = \"/var/log/x.log\n"), @r#"
    error: not valid TOML: invalid basic string
     --> config.toml:2:27
      |
    2 | log_file = "/var/log/x.log
      |                           ^ expected `"`
    "#);
}

#[test]
fn nothing_in_the_file_plays_tricks_on_a_terminal() {
    for (escape, turn) in [(r"\u001b", r"\u202e"), ("\u{1b}", "\u{202e}"), (r"\u009b", "\u{200b}")] {
        let text = format!("[\"a\\nb\"]\n[log]\n\"{escape}[2J{turn}\" = 1\nlevel = \"{escape}{turn}\"");
        let message = error(&text);
        let tricky = |c: char| c.is_control() || c == '\u{202e}' || c == '\u{200b}';
        assert!(!message.lines().any(|line| line.contains(tricky)), "{message}");
    }
    insta::assert_snapshot!(error("[log]\n\"\\u001b[2J\u{202e}\" = 1"), @r#"
    error: unknown key `\u{1b}[2J\u{202e}` in [log]
     --> config.toml:2:1
      |
    2 | "\u001b[2J\u{202e}" = 1
      | ^^^^^^^^^^^^^^^^^^^ expected one of: format, level, lines_per_minute, command_lines
    "#);
}

#[test]
fn probable_mistakes_are_warned_of() {
    insta::assert_snapshot!(warnings(SHIPPED), @r#"
    line 18: "docker" matches only what is called exactly that; its daemon is "dockerd"
    line 22: root is listed but not protected, as in v1: set protect_root = true to protect it
    "#);
    insta::assert_snapshot!(warnings(
        r#"[thresholds]
ram_percent_threshold = 0.1
[whitelist]
pids = [1, 7, 7]
names = ["gnome-terminal-server", "gnome-terminal-server*", "/usr/sbin/nginx", "/usr/lib/gdm3/*", "/opt/", "**/x", "{*,y}", "mysql", "nginx", "nginx"]
users = ["toor", "0", "mal\u001blory", "alice"]
"#
    ), @r#"
    line 2: ram_percent_threshold = 0.1 is less than one percent of memory: 10 is a tenth of it, not 0.1
    line 4: whitelist.pids: "7" is listed twice
    line 5: whitelist.names: "nginx" is listed twice
    line 5: "gnome-terminal-server" is longer than the 15 bytes of a comm: it can match an executable or argv[0] only
    line 5: "/usr/sbin/nginx" is a path, and names are compared: "nginx" would match every program of that name, `exe` takes paths
    line 5: "/usr/lib/gdm3/*" is a path, and names are compared: list the names of the programs in it, or give `exe` the path
    line 5: "/opt/" is a path, and names are compared: list the names of the programs in it, or give `exe` the path
    line 5: "**/x" is a path, and names are compared: "x" would match every program of that name, `exe` takes paths
    line 5: "{*,y}" matches every name: nothing will be terminated
    line 5: "mysql" matches only what is called exactly that; its daemon is "mysqld"
    line 6: whitelist.users: no user "mal\u{1b}lory" on this machine, the entry matches nobody until there is one
    line 6: root is listed but not protected, as in v1: set protect_root = true to protect it
    "#);
    assert!(!warnings("whitelist.names = ['docker', 'dockerd']").contains("its daemon"));
    assert_eq!(warnings("whitelist.users = ['root']\nwhitelist.protect_root = true"), "");
}

#[test]
fn patterns_of_another_language_are_warned_of_with_the_globs() {
    insta::assert_snapshot!(warnings(
        r#"[whitelist]
names = ["^(python|ipython)(2|3)?$", "(sshd|tmux)", 'a\.out', '^node\d+$', "(sd-pam)"]
users = ["student*"]
[scope]
cgroups = ['/user\.slice/.*']
"#
    ), @r#"
    line 2: whitelist.names: "^(python|ipython)(2|3)?$" looks like a regular expression, or another pattern that is no glob: write "ipython", "ipython[23]", "python", "python[23]"
    line 2: whitelist.names: "(sshd|tmux)" looks like a regular expression, or another pattern that is no glob: write "sshd", "tmux"
    line 2: whitelist.names: "a\.out" looks like a regular expression, or another pattern that is no glob: write "a.out"
    line 2: whitelist.names: "^node\d+$" looks like a regular expression, or another pattern that is no glob: no few globs mean the same, list the names
    line 2: whitelist.names takes the place of the default list, so that these are no longer protected: systemd, sshd, apt, apt-get, dpkg, dpkg-deb, unattended-upgr, dnf, dnf5, rpm, zypper, pacman, snapd, packagekitd; add those that this machine needs
    line 3: whitelist.users: no user "student*" on this machine, the entry matches nobody until there is one (users are listed one by one, without patterns)
    line 5: scope.cgroups: "/user\.slice/.*" looks like a regular expression, or another pattern that is no glob: write "/user.slice/**"
    "#);
    insta::assert_snapshot!(error("scope.cgroups = ['^/a/.*$']"), @r#"
    error: `cgroups` cannot be '^/a/.*$'
     --> config.toml:1:18
      |
    1 | scope.cgroups = ['^/a/.*$']
      |                  ^^^^^^^^^ a cgroup's path begins with a slash; as globs, not as a regular expression: "/a/**"
    "#);
}

#[test]
fn windows_that_cannot_be_meant_are_reported_with_the_reason() {
    insta::assert_snapshot!(error(
        r#"[[schedule]]
days = ["mon-fry", "someday"]
from = "9 am"
to = 2025-10-03
check_interval = 15
[[schedule]]
days = []
check_interval = 0
[[schedule]]
from = "09:00"
to = "09:00"
check_interval = 5
[[schedule]]
from = "09:00"
to = "17:00"
[[schedule]]
check_intervall = 5
[[schedule]]
from = "09:00"
check_interval = 5
[[schedule]]
days = ["tue"]
from = "10:00"
ram_gb_threshold = 5
"#
    ), @r#"
    error: `days` cannot be "mon-fry"
     --> config.toml:2:9
      |
    2 | days = ["mon-fry", "someday"]
      |         ^^^^^^^^^ did you mean "mon-fri"?

    error: `days` cannot be "someday"
     --> config.toml:2:20
      |
    2 | days = ["mon-fry", "someday"]
      |                    ^^^^^^^^^ expected days, "mon-fri", of mon, tue, wed, thu, fri, sat, sun

    error: `from` cannot be "9 am"
     --> config.toml:3:8
      |
    3 | from = "9 am"
      |        ^^^^^^ expected a time of day, "09:00" to "24:00"

    error: `to` cannot be a date or time
     --> config.toml:4:6
      |
    4 | to = 2025-10-03
      |      ^^^^^^^^^^ expected a time of day in quotes, "09:00"

    error: `days` is an empty list
     --> config.toml:7:8
      |
    7 | days = []
      |        ^^ name at least one, or remove the key: then it is every day

    error: `check_interval` cannot be 0
     --> config.toml:8:18
      |
    8 | check_interval = 0
      |                  ^ expected seconds between scans, from 0.1 to 86400

    error: nothing is from 09:00 to 09:00
      --> config.toml:11:6
       |
    11 | to = "09:00"
       |      ^^^^^^^ a window ends after it begins, on the next day perhaps; for all day leave out both

    error: this window changes nothing
      --> config.toml:13:1
       |
    13 | [[schedule]]
       | ^^^^^^^^^^^^ give it a check_interval, ram_percent_threshold or ram_gb_threshold

    error: unknown key `check_intervall` in [[schedule]]
      --> config.toml:17:1
       |
    17 | check_intervall = 5
       | ^^^^^^^^^^^^^^^ did you mean `check_interval`?

    error: this window never has its turn
      --> config.toml:21:1
       |
    21 | [[schedule]]
       | ^^^^^^^^^^^^ those above it cover it, and the first one decides: put it before them, or remove it
    "#);
    insta::assert_snapshot!(error("[schedule]\nchek_interval = 5\n[schedules]"), @"
    error: there may be several of `schedule`
     --> config.toml:1:2
      |
    1 | [schedule]
      |  ^^^^^^^^ write [[schedule]] on a line of its own, as often as needed, and its keys below

    error: unknown key `chek_interval` in [[schedule]]
     --> config.toml:2:1
      |
    2 | chek_interval = 5
      | ^^^^^^^^^^^^^ did you mean `check_interval`?

    error: unknown section [schedules]
     --> config.toml:3:2
      |
    3 | [schedules]
      |  ^^^^^^^^^ did you mean [[schedule]]?
    ");
    insta::assert_snapshot!(error("schedule = [1]"), @"
    error: `schedule` is a list of sections
     --> config.toml:1:13
      |
    1 | schedule = [1]
      |             ^ write [[schedule]] on a line of its own, as often as needed, and its keys below
    ");
}

//! Configurations as people write them, and what they mean.

mod shipped;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{Action, Bytes, GearChoice, Gid, LogFormat, Notify, NotifyUser, Signal, SourceChoice, Uid},
    policy::{RuleLimit, Rules},
};

const USERS: FakeUsers = FakeUsers(&[("root", 0), ("toor", 0), ("alice", 1000), ("bob", 1001)]);

pub(super) const SHIPPED: &str = include_str!("../../../config.toml");

/// The example in the README of v1, as it stands there.
const V1: &str = r#"[thresholds]
ram_percent_threshold = 10.0  # Kill if process uses >10% of total RAM
ram_gb_threshold = 2.0        # Kill if process uses >2GB RAM
check_interval = 30           # Check every 30 seconds

[whitelist]
pids = [1]                    # Never kill these PIDs
names = [                     # Never kill processes with these names
    "systemd",
    "kernel",
    "init",
    "sshd",
    "docker",
]
users = ["root"]              # Processes owned by these users

[settings]
dry_run = false               # Set true to test without killing
log_file = "/var/log/memory_monitor.log"
enable_syslog = true
"#;

pub(super) fn parsed(text: &str) -> Loaded {
    parse(text, Path::new("config.toml"), &USERS).unwrap_or_else(|error| panic!("{error}"))
}

fn rules(text: &str) -> Rules {
    parsed(text).settings.rules
}

pub(super) fn error(text: &str) -> String {
    parse(text, Path::new("config.toml"), &USERS).expect_err("this is not to load").to_string()
}

/// The help for the first problem.
pub(super) fn help(text: &str) -> String {
    match parse(text, Path::new("config.toml"), &USERS) {
        Err(ConfigError::Invalid { problems, .. }) => problems[0].help.clone(),
        other => panic!("{text}: {other:?}"),
    }
}

pub(super) fn warnings(text: &str) -> String {
    parsed(text).warnings.iter().map(|warning| format!("{warning}\n")).collect()
}

#[test]
fn the_defaults_are_those_of_v1() {
    let Settings {
        rules,
        check_interval,
        warn_at_percent,
        schedule,
        dry_run,
        awaits_enable: _,
        log,
        machine,
        kernel,
        termination,
        status,
        history,
        metrics,
        notify,
    } = parsed("").settings;
    assert_eq!(history, History { days: 90, bytes: Bytes(16 * Bytes::MIB) });
    assert_eq!(warn_at_percent, Some(80.0));
    assert_eq!(
        schedule,
        Schedule { otherwise: Pace { check_interval, limits: rules.limits }, windows: vec![] }
    );
    assert_eq!(rules.limits.percent(), 10.0);
    assert_eq!(rules.limits.bytes(), Bytes(2 * Bytes::GIB));
    assert_eq!(rules.whitelist.pids, [Pid(1)].into());
    let names = rules.whitelist.names.entries();
    assert_eq!(names[..5], ["systemd", "kernel", "init", "sshd", "docker"]);
    assert!(names[5..].iter().all(|name| whitelist::is_package_manager(name)), "{names:?}");
    assert_eq!(rules.whitelist.users, [Uid::ROOT].into());
    assert!(!rules.whitelist.protect_root && rules.honour_oom_score_adj);
    assert_eq!(rules.scope, crate::policy::Scope::default());
    assert_eq!(rules.own_pid, Pid(std::process::id()));
    assert_eq!(check_interval, Duration::from_secs(30));
    assert!(!dry_run);
    assert_eq!(
        log,
        Log {
            file: Some("/var/log/memory_monitor.log".into()),
            format: LogFormat::Text,
            system_log: true,
            level: LogLevel::Info,
            lines_per_minute: Some(20),
            command_lines: true,
        }
    );
    assert_eq!(machine, None);
    assert_eq!(metrics, Metrics::default());
    assert_eq!(
        notify,
        Notify { interval: Duration::from_secs(300), mail: None, hook: None, terminal: false }
    );
    assert_eq!(
        kernel,
        Kernel {
            source: SourceChoice::Auto,
            max_processes: None,
            gear: GearChoice::Auto,
            instant: true,
            realtime: true
        }
    );
    assert_eq!(
        termination,
        Termination {
            grace: Duration::from_secs(5),
            repeat_limit: 5,
            repeat_window: Duration::from_secs(600),
            repeat_backoff: Duration::from_secs(60),
            reclaim: true,
            hard_ceiling: Some(2.0),
            reserve_percent: Some(3.0)
        }
    );
    assert_eq!(status, Status { group: None, gid: None, exempt: false, mine: true });
}

#[test]
fn one_group_may_ask() {
    for (typed, gid) in
        [("alice", Some(1000)), ("1000", Some(1000)), ("47001", Some(47_001)), ("nobody-here", None)]
    {
        let status = parsed(&format!("status.group = '{typed}'")).settings.status;
        assert_eq!(status, Status { group: Some(typed.to_owned()), gid, exempt: false, mine: true });
    }
    assert_eq!(parsed("status.group = ''").settings.status, Status::default());
    assert_eq!(parsed("status.mine = false").settings.status, Status { mine: false, ..Status::default() });
    assert_eq!(
        warnings("status.group = 'nobody-here'"),
        "line 1: status.group: no group \"nobody-here\" on this machine, root alone may ask\n"
    );
}

#[test]
fn a_password_that_anyone_may_read_on_its_way_is_warned_of() {
    let with =
        |more: &str| warnings(&format!("[notify]\nmail_to = ['a@b.c']\nsmtp_auth_file = '/f'\n{more}"));
    assert_eq!(
        with("smtp_host = 'mail.b.c'"),
        "line 3: the password of smtp_auth_file goes to \"mail.b.c\" unencrypted: set smtp_starttls = true\n"
    );
    for fine in
        ["", "smtp_host = '127.0.0.1'", "smtp_host = '::1'", "smtp_host = 'b.c'\nsmtp_starttls = true"]
    {
        assert_eq!(with(fine), "", "{fine}");
    }
}

#[test]
fn the_shipped_file_and_that_of_v1_equal_the_defaults() {
    assert_eq!(parsed(SHIPPED).settings, parsed("").settings);
    assert_eq!(parsed("").warnings, []);
    // The names in v1's own file are protected, and no others.
    let mut v1 = parsed(V1).settings;
    let names = &mut v1.rules.whitelist.names;
    assert_eq!(names.entries(), ["systemd", "kernel", "init", "sshd", "docker"]);
    *names = rules("").whitelist.names;
    assert_eq!(v1, parsed("").settings);
}

#[test]
fn names_that_a_list_no_longer_protects_are_warned_of() {
    let fell_away = |text: &str| {
        let warnings = parsed(text).warnings.into_iter();
        let names = warnings.filter_map(|warning| match warning.concern {
            Concern::NamesFellAway { names } => Some(names.join(" ")),
            _ => None,
        });
        names.collect::<String>()
    };
    let all = fell_away("whitelist.names = ['myapp']");
    assert!(all.starts_with("systemd sshd apt apt-get dpkg ") && all.contains(" snapd"), "{all}");
    assert_eq!(fell_away("whitelist.names = []"), all, "an empty list is one");
    let managers = fell_away(V1);
    assert_eq!(format!("systemd sshd {managers}"), all);
    for text in ["", "whitelist.pids = [7]", SHIPPED] {
        assert_eq!(fell_away(text), "", "{text}");
    }
    // Those are root's, so that they are safe where root is.
    for text in ["whitelist.protect_root = true", "scope.uids = ['1000-60000']"] {
        assert_eq!(fell_away(&format!("whitelist.names = ['myapp']\n{text}")), "systemd sshd", "{text}");
    }
    assert!(fell_away("whitelist.names = ['s*']\nscope.uids = ['0']").starts_with("apt "));
    insta::assert_snapshot!(
        warnings("[whitelist]\nprotect_root = true\nnames = ['myapp']"),
        @"line 3: whitelist.names takes the place of the default list, so that these are no longer protected: systemd, sshd; add those that this machine needs"
    );
}

#[test]
fn keys_without_effect_are_warned_of() {
    insta::assert_snapshot!(
        warnings("[notify]\nmail_from = 'a@b'\nsmtp_auth_file = '/x'\nhook_user = 'alice'\nsmtp_host = 'localhost'"),
        @"
    line 2: notify.mail_from has no effect without notify.mail_to
    line 3: notify.smtp_auth_file has no effect without notify.mail_to
    line 4: notify.hook_user has no effect without notify.hook
    "
    );
    let text = "[notify]\nmail_from = 'a@b'\nmail_to = ['c@d']\nhook_user = 'alice'\nhook = '/x'";
    assert_eq!(warnings(text), "");
}

#[test]
fn keys_commented_out_in_the_shipped_file_are_right_too() {
    let text = SHIPPED
        .replace("\n# [scope]\n", "\n[scope]\n")
        .replace("\n# [machine]\n", "\n[machine]\n")
        .replace("\n# [[schedule]]\n", "\n[[schedule]]\n")
        .replace("\n# [[rule]]\n", "\n[[rule]]\n");
    let schedule = ["days", "from", "to", "check_interval", "ram_percent_threshold", "ram_gb_threshold"];
    let rule = ["name", "names", "not", "gb", "for", "per", "action", "grace"];
    let machine = "available_percent available_gb swap_free_percent pressure_some pressure_full warn";
    let text = [
        "users", "uids", "cgroups", "exe", "args", "groups", "units", "max_processes", "textfile", "listen",
        "mail_to", "mail_from", "smtp_auth_file", "hook", "stop_writers",
    ]
    .into_iter()
    .chain(schedule)
    .chain(rule)
    .chain(machine.split(' '))
    .fold(text, |text, key| text.replace(&format!("\n# {key} ="), &format!("\n{key} =")));
    let Settings { rules, machine, kernel, schedule, metrics, .. } = parsed(&text).settings;
    assert_eq!(machine, parsed("machine.available_percent = 5").settings.machine);
    assert_eq!(rules.scope.uids.expect("given").to_string(), "1000-59999, 1000, 47001");
    assert_eq!(rules.scope.cgroups.expect("given").entries(), ["/user.slice/**"]);
    assert_eq!(rules.rules[0].name.as_str(), "browsers");
    assert_eq!(kernel.max_processes, Some(32_768));
    assert!(metrics.textfile.is_some() && metrics.listen.is_some());
    assert_eq!(schedule.windows[0].pace.check_interval, Duration::from_secs(15));
}

#[test]
fn numbers_may_be_integers_or_floats() {
    let text = "thresholds = { ram_percent_threshold = 100, ram_gb_threshold = 0.5, check_interval = 0.5 }";
    let settings = parsed(text).settings;
    assert_eq!(settings.rules.limits.percent(), 100.0);
    assert_eq!(settings.rules.limits.bytes(), Bytes(Bytes::GIB / 2));
    assert_eq!(settings.check_interval, Duration::from_millis(500));
    assert_eq!(parsed("termination.grace = 0x10").settings.termination.grace, Duration::from_secs(16));
    assert_eq!(rules("thresholds.ram_gb_threshold = 1_000").limits.bytes(), Bytes(1000 * Bytes::GIB));
}

#[test]
fn every_choice_is_understood() {
    let settings = parsed("kernel.source = 'proc'\nlog = { format = 'json', level = 'error' }").settings;
    assert_eq!(settings.kernel.source, SourceChoice::Proc);
    assert_eq!((settings.log.format, settings.log.level), (LogFormat::Json, LogLevel::Error));
    assert_eq!(parsed("settings.log_file = ''").settings.log.file, None);
    let settings =
        parsed("settings = { dry_run = true, enable_syslog = false }\ntermination.reclaim = false").settings;
    assert!(settings.dry_run && !settings.log.system_log && !settings.termination.reclaim);
    assert!(!rules("whitelist.honour_oom_score_adj = false").honour_oom_score_adj);
}

#[test]
fn a_whitelist_may_be_emptied() {
    let whitelist = rules("[whitelist]\npids = []\nnames = []\nusers = []").whitelist;
    assert_eq!(whitelist, crate::policy::Whitelist::default());
}

#[test]
fn other_keys_of_the_whitelist_protect_by_what_they_name() {
    let whitelist = "exe = ['/usr/bin/*']\nargs = ['*x']\nuids = ['7', '100-199']\ngroups = ['alice', '44', 'ghosts']\n\
                     cgroups = ['/a/**']\nunits = ['user@7.service/x*.scope', 'a.service']";
    let text = format!("[whitelist]\n{whitelist}");
    let also = rules(&text).whitelist.also;
    assert_eq!(also.uids.expect("given").to_string(), "7, 100-199");
    assert_eq!(also.groups.expect("given"), [Gid(1000), Gid(44)].into());
    assert_eq!(also.units.expect("given").entries(), ["user@7.service/x*.scope", "a.service"]);
    insta::assert_snapshot!(warnings(&text), @r#"
    line 3: whitelist.args: every user can give their processes these arguments, and so protect them; add a whole command line only where that does no harm
    line 5: whitelist.groups: no group "ghosts" on this machine, the entry matches nobody until there is one
    "#);
    insta::assert_snapshot!(error("whitelist.exe = ['node', '^/usr/bin/(a|b)$']\nwhitelist.units = ['nginx']"), @r#"
    error: `exe` cannot be 'node'
     --> config.toml:1:18
      |
    1 | whitelist.exe = ['node', '^/usr/bin/(a|b)$']
      |                  ^^^^^^ the path of an executable begins with a slash; `names` takes names without a folder

    error: `exe` cannot be '^/usr/bin/(a|b)$'
     --> config.toml:1:26
      |
    1 | whitelist.exe = ['node', '^/usr/bin/(a|b)$']
      |                          ^^^^^^^^^^^^^^^^^^ the path of an executable begins with a slash; `names` takes names without a folder; as globs, not as a regular expression: "/usr/bin/[ab]"

    error: `units` cannot be 'nginx'
     --> config.toml:2:20
      |
    2 | whitelist.units = ['nginx']
      |                    ^^^^^^^ the name of a unit ends in .service or .scope
    "#);
}

#[test]
fn a_rule_is_read_with_all_its_keys() {
    let text = "[[rule]]\nname = 'web'\nnames = ['node']\nargs = ['*server.js*']\nusers = ['alice']\nuids = ['100-199']\n\
                not = { units = ['x.service'] }\ngb = 1.5\npercent = 5\nfor = '1.5m'\naction = 'warn'\nsignal = 'SIGINT'\ngrace = 20\n\
                hard_ceiling = 0\n[[rule]]\nname = 'batch'\nusers = ['alice']\nprefer = true\nnotify_user = 'both'\n[[rule]]\nname = 'db'\nexe = ['/usr/lib/postgresql/**']\nnone = true";
    let [web, batch, db] = &rules(text).rules[..] else { panic!("three rules") };
    assert_eq!([web.prefer, batch.prefer, db.prefer], [false, true, false]);
    assert_eq!((web.name.as_str(), web.action, web.hard_ceiling), ("web", Action::Warn, Some(0.0)));
    assert_eq!((web.signal, batch.notify_user), (Signal::Int, Some(NotifyUser::Both)));
    assert_eq!((web.lasting, web.grace), (Duration::from_secs(90), Some(Duration::from_secs(20))));
    assert_eq!(web.limit, RuleLimit::Own { percent: Some(5.0), bytes: Some(Bytes::from_gb(1.5)) });
    assert_eq!(web.matcher.uids.as_ref().expect("given").to_string(), "100-199, 1000");
    assert_eq!(
        web.matcher.not.as_ref().expect("given").units.as_ref().expect("given").entries(),
        ["x.service"]
    );
    assert_eq!((db.limit, db.signal), (RuleLimit::None, Signal::Term));
    insta::assert_snapshot!(warnings("[[rule]]\nname='a'\nnames=['b', 'longer-than-a-comm-is']\ngb=1\n[[rule]]\nname='c'\nnames=['b', 'longer-than-a-comm-is']\nunits=['x.service']\nnone=true"), @r#"
    line 3: "longer-than-a-comm-is" is longer than the 15 bytes of a comm: it can match an executable or argv[0] only
    line 6: rule c never decides: rule a above it matches all that it does, and the first one decides
    line 7: "longer-than-a-comm-is" is longer than the 15 bytes of a comm: it can match an executable or argv[0] only
    "#);
}

#[test]
fn a_rule_that_cannot_be_meant_is_refused() {
    insta::assert_snapshot!(error("[[rule]]\nname = 'a'\ngb = 1\n[[rule]]\nnames = ['x']\ngb = 0\n[[rule]]\nname = 'b'\nnames = []\n\
        not = { nmes = ['y'] }\nnone = true\ngb = 1\nsince = 'x'\nfor = 'long'\naction = 'kill'"), @r#"
    error: this rule matches every process
     --> config.toml:1:1
      |
    1 | [[rule]]
      | ^^^^^^^^ name the processes that it is about: names, exe, args, users, uids, groups, cgroups or units; the limits of all others are those of [thresholds]

    error: this rule has no name
     --> config.toml:4:1
      |
    4 | [[rule]]
      | ^^^^^^^^ add name = "…": logs, `memmon explain` and `memmon check` show the rule by it

    error: `gb` cannot be 0
     --> config.toml:6:6
      |
    6 | gb = 0
      |      ^ expected gigabytes of 2^30 bytes, from 0.001 to 1000000000

    error: `names` is an empty list
     --> config.toml:9:9
      |
    9 | names = []
      |         ^^ name at least one; without this key the rule does not look at it

    error: unknown key `nmes` in `not`
      --> config.toml:10:9
       |
    10 | not = { nmes = ['y'] }
       |         ^^^^ did you mean `names`?

    error: `gb` contradicts `none`
      --> config.toml:12:6
       |
    12 | gb = 1
       |      ^ `none = true` means that there is no limit: remove one of the two

    error: unknown key `since` in [[rule]]
      --> config.toml:13:1
       |
    13 | since = 'x'
       | ^^^^^ expected one of: name, names, names_file, users, exe, args, uids, groups, cgroups, units, not, gb, percent, none, for, per, strike, action, signal, grace, hard_ceiling, prefer, notify_user

    error: `for` cannot be a string
      --> config.toml:14:7
       |
    14 | for = 'long'
       |       ^^^^^^ expected a number of seconds, or a time with its unit, "10s", "2m"

    error: `action` cannot be 'kill'
      --> config.toml:15:10
       |
    15 | action = 'kill'
       |          ^^^^^^ expected one of: "terminate", "warn", "stop", "throttle"
    "#);
}

#[test]
fn whitelisted_users_are_names_or_uids() {
    let whitelist = rules("whitelist.users = ['alice', '47001']\nwhitelist.protect_root = true").whitelist;
    assert_eq!(whitelist.users, [Uid(1000), Uid(47_001)].into());
    assert!(whitelist.protect_root);
}

#[test]
fn a_scope_is_the_users_and_uids_and_in_the_cgroups() {
    let scope =
        rules("[scope]\nusers = ['alice', '7']\nuids = ['2000-2002']\ncgroups = ['/a/**', '/b']").scope;
    let uids = scope.uids.expect("given");
    for (uid, inside) in [(1000, true), (7, true), (2000, true), (2002, true), (2003, false), (0, false)] {
        assert_eq!(uids.contains(Uid(uid)), inside, "{uid}");
    }
    assert!(scope.cgroups.expect("given").matches(b"/a/b"));
    assert!(rules("scope.cgroups = ['/a']").scope.uids.is_none());
    assert!(rules("scope.uids = ['0']").scope.cgroups.is_none());
}

#[test]
fn a_scope_of_unknown_users_is_nobody_and_never_everybody() {
    let text = "[scope]\nusers = ['mallory']";
    let uids = rules(text).scope.uids.expect("a scope that nobody is in, not none");
    assert!([0, 1, 1000, u32::MAX].iter().all(|uid| !uids.contains(Uid(*uid))));
    insta::assert_snapshot!(warnings(text), @r#"
    line 2: scope.users: no user "mallory" on this machine, the entry matches nobody until there is one
    line 2: [scope] names no user that exists: nothing will be terminated
    "#);
}

/// A shipped file with `insertion` in place of the `length` bytes from `start`.
fn mutated(start: usize, length: usize, insertion: &str) -> String {
    let start = SHIPPED.floor_char_boundary(start % SHIPPED.len());
    let end = SHIPPED.floor_char_boundary(start + length).max(start);
    format!("{}{insertion}{}", &SHIPPED[..start], &SHIPPED[end..])
}

#[test]
fn a_file_made_to_hurt_is_refused_in_few_words() {
    let many: String = (0..5_000).map(|key| format!("k{key}=1\n")).collect();
    for text in [
        many.clone(),
        format!("a = {{ {} }}", many.replace('\n', ",")),
        format!("a = {}", "[".repeat(60_000)),
        format!("[{}]", vec!["a"; 100_000].join(".")),
        format!("thresholds.check_interval = {}", "9".repeat(250_000)),
        format!("[whitelist]\n{} = 1", "n".repeat(250_000)),
    ] {
        assert!(error(&text).len() < 10_000);
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_every_error_has_a_place(
        start in any::<usize>(),
        length in 0_usize..40,
        insertion in prop_oneof![".{0,12}", "[\\[\\]{}\"'=,.#\\\\\n0-9a-z -]{0,8}", Just("[scope]\n".to_owned())],
    ) {
        let text = mutated(start, length, &insertion);
        if let Err(error) = parse(&text, Path::new("c"), &USERS) {
            let message = error.to_string();
            prop_assert!(message.lines().all(|line| !line.contains(char::is_control)), "{message}");
            let ConfigError::Invalid { problems, .. } = error else { panic!("nothing was read") };
            prop_assert!(!problems.is_empty());
            let lines = text.matches('\n').count() + 1;
            prop_assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
        }
    }

    #[test]
    fn a_scope_that_is_written_is_never_everything(
        users in prop::option::of(prop::collection::vec("alice|mallory|7|", 0..3)),
        uids in prop::option::of(prop::collection::vec("5-7|0|9-3|", 0..3)),
        cgroups in prop::option::of(prop::collection::vec("/a/[*][*]|/b|c|", 0..3)),
    ) {
        let mut text = "[scope]\n".to_owned();
        for (key, list) in [("users", &users), ("uids", &uids), ("cgroups", &cgroups)] {
            text += &list.as_ref().map_or(String::new(), |list| format!("{key} = {list:?}\n"));
        }
        if let Ok(loaded) = parse(&text, Path::new("c"), &USERS) {
            let scope = loaded.settings.rules.scope;
            prop_assert_eq!(scope.uids.is_some(), users.is_some() || uids.is_some());
            prop_assert_eq!(scope.cgroups.is_some(), cgroups.is_some());
            prop_assert!(scope.uids.is_some() || scope.cgroups.is_some());
            let known = users.is_some_and(|list| list.iter().any(|user| user == "alice"));
            prop_assert_eq!(scope.uids.is_some_and(|uids| uids.contains(Uid(1000))), known);
        }
    }

    #[test]
    fn no_characters_make_it_panic(text in "\\PC{0,200}") {
        let _ = parse(&text, Path::new("c"), &USERS);
    }

    #[test]
    fn a_limit_that_loads_is_one_that_can_be_meant(percent in any::<f64>(), gb in any::<f64>(), interval in any::<f64>()) {
        let text = format!(
            "[thresholds]\nram_percent_threshold = {percent:?}\nram_gb_threshold = {gb:?}\ncheck_interval = {interval:?}"
        );
        let text = text.replace("NaN", "nan");
        let meant = parse(&text, Path::new("c"), &USERS);
        let sound = (0.01..=100.0).contains(&percent) && (0.001..=1e9).contains(&gb) && (0.1..=86_400.0).contains(&interval);
        prop_assert_eq!(meant.is_ok(), sound, "{}", text);
    }
}

#[test]
fn v1s_own_interval_by_the_hour_is_a_schedule() {
    let text = "thresholds.check_interval = 60
        [[schedule]]
        from = '09:00'
        to = 17:00:00
        check_interval = 15";
    let mut settings = parsed(text).settings;
    for (time, seconds) in [("08:59", 60), ("09:00", 15), ("16:59", 15), ("17:00", 60)] {
        let now = format!("2025-10-03T{time}:00[UTC]").parse().unwrap();
        let changes = settings.check_interval != Duration::from_secs(seconds);
        assert_eq!(settings.follow(&now), changes, "{time}");
        assert_eq!(settings.check_interval, Duration::from_secs(seconds), "{time}");
    }
}

#[test]
fn the_interval_in_the_readme_is_v1s_own_too() {
    let readme = include_str!("../../../README.md");
    let shown = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let schedule = parsed(shown).settings.schedule;
    assert_eq!(schedule.otherwise.check_interval, Duration::from_secs(60));
    let [window] = &schedule.windows[..] else { panic!("{schedule:?}") };
    assert_eq!((window.from.to_string(), window.to.to_string()), ("09:00".to_owned(), "17:00".to_owned()));
    assert_eq!(window.pace.check_interval, Duration::from_secs(15));
}

#[test]
fn a_window_may_change_limits_and_leaves_the_rest_as_it_is() {
    let text = "thresholds = { ram_gb_threshold = 4, check_interval = 7 }
        schedule = [{ days = ['Sat', 'sunday'], ram_percent_threshold = 50 }]";
    let mut settings = parsed(text).settings;
    assert!(settings.follow(&"2025-10-04T12:00[UTC]".parse().unwrap()));
    let limits = settings.rules.limits;
    assert_eq!((limits.percent(), limits.bytes()), (50.0, Bytes(4 * Bytes::GIB)));
    assert_eq!(settings.check_interval, Duration::from_secs(7));
    assert!(settings.follow(&"2025-10-06T12:00[UTC]".parse().unwrap()));
    assert_eq!(settings.rules.limits.percent(), 10.0);
}

#[test]
fn notifications_have_recipients_and_the_keys_that_they_need() {
    let notify = parsed("notify = { mail_to = ['a@b', 'Bob <b@c>'], hook = '/x/y', hook_user = 'alice' }")
        .settings
        .notify;
    let mail = notify.mail.unwrap();
    assert_eq!((mail.to.len(), &*mail.host, mail.port, mail.starttls), (2, "localhost", 25, false));
    assert_eq!(notify.hook.unwrap().user, Some(Uid(1000)));
    let hook = parsed("notify.hook = '/x/y'").settings.notify.hook.unwrap();
    assert_eq!(hook.user, Some(Uid(65_534)), "never root by accident");
}

#[test]
fn users_that_may_be_protected_are_kept_if_the_lookup_fails() {
    for key in ["whitelist", "scope"] {
        let text = format!("{key}.users = ['alice', 'who?']");
        let error = parse(&text, Path::new("config.toml"), &USERS).unwrap_err();
        assert!(matches!(error, ConfigError::NoAnswer { .. }), "{error}");
    }
    insta::assert_snapshot!(error("whitelist.users = ['who?']"), @r#"error: config.toml: it cannot be found out who "who?" is: connection refused; see to the name service (getent passwd), or write the uid"#);
    assert!(error("whitelist.users = ['who?', '-1']").contains("expected a user's name or uid"));
}

//! The action of a rule: the values that are read, and those that are refused.

use super::tests::{error, parsed, warnings};
use crate::model::Action;

#[test]
fn a_signal_that_makes_no_sense_as_the_first_one_is_refused_with_the_reason() {
    let refused = |signal: &str| error(&format!("[[rule]]\nname = 'a'\nnames = ['x']\nsignal = '{signal}'"));
    insta::assert_snapshot!(refused("SIGKILL"), @r#"
    error: `signal` cannot be 'SIGKILL'
     --> config.toml:4:10
      |
    4 | signal = 'SIGKILL'
      |          ^^^^^^^^^ SIGKILL is the last signal and never the first; with grace = 0.1 it follows at once; expected one of: "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU"
    "#);
    for (signal, why) in [
        ("SIGSTOP", "action = \"stop\" stops it"),
        ("SIGCONT", "without a handler it does nothing"),
        ("SIGSEGV", "write all its memory to the disk"),
        ("TERM", "expected one of: \"SIGTERM\""),
        ("SIGALRM", "expected one of: \"SIGTERM\", \"SIGINT\""),
        ("15", "expected one of"),
    ] {
        let error = refused(signal);
        assert!(error.contains(why), "{signal}: {error}");
    }
}

#[test]
fn a_rule_that_stops_knows_its_ceiling_and_is_for_single_processes() {
    let rules = |text: &str| parsed(text).settings.rules.rules;
    let text = "[[rule]]\nname = 'a'\nnames = ['x']\naction = 'stop'\n[[rule]]\nname = 'b'\nnames = ['y']\n\
                action = 'stop'\nhard_ceiling = 0\n[[rule]]\nname = 'c'\nnames = ['z']\ngrace = 1";
    let found = |rules: &[crate::policy::LimitRule]| {
        rules.iter().map(|rule| (rule.action, rule.hard_ceiling)).collect::<Vec<_>>()
    };
    let (stop, end) = (Action::Stop, Action::Terminate);
    assert_eq!(found(&rules(text)), [(stop, Some(2.0)), (stop, Some(0.0)), (end, None)]);
    let off = format!("termination.hard_ceiling = 0\n{text}");
    assert_eq!(found(&rules(&off)), [(stop, Some(0.0)), (stop, Some(0.0)), (end, None)]);
    insta::assert_snapshot!(error("[[rule]]\nname = 'a'\nnames = ['x']\nper = 'user'\ngb = 1\naction = 'stop'"), @r#"
    error: `stop` is for single processes
     --> config.toml:6:10
      |
    6 | action = 'stop'
      |          ^^^^^^ stopped processes keep their memory, so that a sum would not fall until all of them are stopped: remove `per`, or use action = "terminate" or "warn"
    "#);
}

#[test]
fn a_rule_that_throttles_knows_its_ceiling_and_is_for_units_and_cgroups() {
    let rule = |per: &str, more: &str| {
        format!("[[rule]]\nname = 'a'\nunits = ['x.service']\n{per}\ngb = 1\naction = 'throttle'\n{more}")
    };
    let found = |text: &str| {
        let sums = parsed(text).settings.rules.sums;
        sums.iter().map(|sum| (sum.rule.action, sum.rule.hard_ceiling)).collect::<Vec<_>>()
    };
    assert_eq!(found(&rule("per = 'unit'", "")), [(Action::Throttle, Some(2.0))]);
    assert_eq!(found(&rule("per = 'cgroup'", "hard_ceiling = 0")), [(Action::Throttle, Some(0.0))]);
    let off = format!("termination.hard_ceiling = 0\n{}", rule("per = 'unit'", ""));
    assert_eq!(found(&off), [(Action::Throttle, Some(0.0))]);
    for per in ["", "per = 'process'", "per = 'user'", "per = 'session'", "per = 'tree'", "per = 'program'"] {
        let error = error(&rule(per, ""));
        assert!(error.contains("`throttle` is for units and cgroups"), "{per}: {error}");
    }
    insta::assert_snapshot!(error(&rule("per = 'user'", "")), @r#"
    error: `throttle` is for units and cgroups
     --> config.toml:6:10
      |
    6 | action = 'throttle'
      |          ^^^^^^^^^^ it lowers the memory.high of a cgroup, which holds for all processes in it: add per = "unit" or per = "cgroup", or use another action
    "#);
}

#[test]
fn a_rule_notifies_users_only_if_something_reaches_them() {
    let rule = "[[rule]]\nname = 'a'\nnames = ['b']\nnotify_user = 'before'";
    insta::assert_snapshot!(warnings(rule), @"line 4: notify_user has no effect without notify.terminal, or an address with %u in notify.mail_to");
    for reached in ["notify.terminal = true", "notify.mail_to = ['%u@example.com']"] {
        assert_eq!(warnings(&format!("{reached}\n{rule}")), "");
    }
    insta::assert_snapshot!(error("notify.terminal = true\n[[rule]]\nname = 'a'\nnames = ['b']\nnotify_user = 'early'\n\
        [[rule]]\nname = 'c'\nuids = ['1-9']\nper = 'user'\ngb = 1\nnotify_user = 'both'"), @r#"
    error: `notify_user` cannot be 'early'
     --> config.toml:5:15
      |
    5 | notify_user = 'early'
      |               ^^^^^^^ expected one of: "before", "after", "both", "never"

    error: `notify_user` contradicts `per`
      --> config.toml:11:15
       |
    11 | notify_user = 'both'
       |               ^^^^^^ the rule for single processes that matches a process decides when its user is notified: remove it here, and add a rule without `per`
    "#);
}

#[test]
fn one_mistake_in_a_rule_has_one_message() {
    let rule = "[[rule]]\nname = 'a'\nnames = ['x']\n";
    let sum = "[[rule]]\nname = 'a'\nuids = ['1000-60000']\n";
    for (text, message) in [
        (format!("{rule}gbb = 1"), "unknown key `gbb`"),
        (format!("{rule}limit_gb = 1"), "unknown key `limit_gb`"),
        (format!("{rule}gb = 0"), "`gb` cannot be 0"),
        (format!("{rule}action = 'kill'"), "`action` cannot be 'kill'"),
        ("[[rule]]\nname = 'a'\nnmaes = ['x']\ngb = 1".to_owned(), "unknown key `nmaes`"),
        ("[[rule]]\nname = 'a'\nnames = 'x'\ngb = 1".to_owned(), "`names` is a string"),
        ("[[rule]]\nnam = 'a'\nnames = ['x']\ngb = 1".to_owned(), "unknown key `nam`"),
        ("[[rule]]\nname = 3\nnames = ['x']\ngb = 1".to_owned(), "`name` cannot be an integer"),
        (format!("{sum}per = 'user'\ngig = 1"), "unknown key `gig`"),
        (format!("{sum}perr = 'unit'\ngb = 1\naction = 'throttle'"), "unknown key `perr`"),
        (format!("{sum}perr = 'user'\ngb = 1\nstrike = 'newest'"), "unknown key `perr`"),
        ("[[schedule]]\ndays = ['mon']\ncheck_intervall = 5".to_owned(), "unknown key `check_intervall`"),
        ("[[schedule]]\ndays = ['mon']\ncheck_interval = 0".to_owned(), "`check_interval` cannot be 0"),
    ] {
        let printed = error(&text);
        assert_eq!(printed.matches("error: ").count(), 1, "{text}\n{printed}");
        assert!(printed.contains(message), "{printed}");
    }
    // Two mistakes have two.
    let printed = error(&format!("{rule}{}", "[[rule]]\nnames = ['x']\ngb = 0"));
    for message in ["this rule changes nothing", "this rule has no name", "`gb` cannot be 0"] {
        assert!(printed.contains(message), "{printed}");
    }
}

//! Rules for sums: what is read, and what is refused.

use std::path::Path;

use super::{FakeUsers, parse};
use crate::{
    model::{Bytes, Per},
    policy::{RuleLimit, Strike},
};

fn loaded(text: &str) -> Result<super::Loaded, super::ConfigError> {
    parse(text, Path::new("config.toml"), &FakeUsers(&[("alice", 1000)]))
}

#[test]
fn a_rule_with_per_is_one_for_a_sum_and_competes_with_its_like_only() {
    let text = "[[rule]]\nname = 'a'\nusers = ['alice']\nper = 'user'\nstrike = 'newest'\ngb = 4\n\
                [[rule]]\nname = 'b'\nusers = ['alice']\nper = 'unit'\npercent = 10\n\
                [[rule]]\nname = 'c'\nusers = ['alice']\nper = 'process'\ngb = 1\n\
                [[rule]]\nname = 'd'\nusers = ['alice']\nunits = ['x.scope']\nper = 'user'\nnone = true";
    let loaded = loaded(text).unwrap();
    let rules = loaded.settings.rules;
    let found: Vec<_> = rules
        .sums
        .iter()
        .map(|sum| (sum.rule.name.to_string(), sum.per, sum.strike, sum.rule.limit))
        .collect();
    let own = |percent, gb: Option<f64>| RuleLimit::Own { percent, bytes: gb.map(Bytes::from_gb) };
    assert_eq!(
        found,
        [
            ("a".to_owned(), Per::User, Strike::Newest, own(None, Some(4.0))),
            ("b".to_owned(), Per::Unit, Strike::Largest, own(Some(10.0), None)),
            ("d".to_owned(), Per::User, Strike::Largest, RuleLimit::None),
        ]
    );
    assert_eq!(rules.rules.iter().map(|rule| rule.name.to_string()).collect::<Vec<_>>(), ["c"]);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 18: rule d never decides: rule a above it matches all that it does, and the first one decides"
        ]
    );
}

#[test]
fn a_sum_that_cannot_be_meant_is_refused_at_its_line() {
    let error = loaded(
        "[[rule]]\nname = 'a'\nper = 'user'\ngb = 1\n[[rule]]\nname = 'b'\nnames = ['x']\nper = 'user'\n[[rule]]\n\
         name = 'c'\nnames = ['x']\nstrike = 'newest'\ngb = 1\n[[rule]]\nname = 'd'\nnames = ['x']\nper = 'users'\n\
         strike = 'oldest'\ngb = 1",
    )
    .unwrap_err();
    insta::assert_snapshot!(error, @r#"
    error: this rule matches every process
     --> config.toml:1:1
      |
    1 | [[rule]]
      | ^^^^^^^^ name the processes that count: names, exe, args, users, uids, groups, cgroups or units; of all users but the system's, uids = ["1000-60000"]

    error: this rule has no limit for its sum
     --> config.toml:5:1
      |
    5 | [[rule]]
      | ^^^^^^^^ give it gb or percent: what its processes may hold together; or none = true, so that they count in no sum of a rule below

    error: `strike` is for a sum
      --> config.toml:12:10
       |
    12 | strike = 'newest'
       |          ^^^^^^^^ it is the order in which the processes of a sum end: add per = "user", "unit", "cgroup", "session", "tree" or "program", or remove it

    error: `per` cannot be 'users'
      --> config.toml:17:7
       |
    17 | per = 'users'
       |       ^^^^^^^ did you mean "user"?

    error: `strike` cannot be 'oldest'
      --> config.toml:18:10
       |
    18 | strike = 'oldest'
       |          ^^^^^^^^ expected one of: "largest", "newest", "growing", "all"
    "#);
}

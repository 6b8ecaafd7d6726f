//! The words of `memmon explain`: causes, changes and amounts as parts of a sentence.

use std::mem;

use crate::{
    config::Users,
    model::{
        Action, Doubt, Escaped, Exemption, MatchKey, Name, NameField, Process, Protection, Signal,
        SystemMemory,
        units::{Span, apart},
    },
    policy::{Change, LimitRule, Matched, RuleLimit, Rules},
};

pub(super) fn because(protection: &Protection, users: &dyn Users) -> String {
    match protection {
        Protection::Init => "pid 1 is never touched".to_owned(),
        Protection::KernelThread => "a thread of the kernel is never touched".to_owned(),
        Protection::Memmon => "it is memmon itself".to_owned(),
        Protection::OutOfScope => "it is out of scope".to_owned(),
        Protection::Pid { pid } => format!("{pid} is in whitelist.pids"),
        Protection::Name { pattern, field, name } => {
            format!("{} in whitelist.names", matched(pattern, *field, name))
        }
        Protection::User { uid } => format!("{} is in whitelist.users", users.with_uid(*uid)),
        Protection::Match { key, pattern } => {
            format!(
                "its {} matches {} in whitelist.{}",
                fact_name(*key),
                quoted(pattern.as_bytes()),
                key.as_str()
            )
        }
        Protection::Root => "it is root's, and whitelist.protect_root is true".to_owned(),
        Protection::OomScoreAdj => "its oom_score_adj is -1000".to_owned(),
        Protection::Exempt(Exemption { id, until, by, why, of: _ }) => {
            format!(
                "it is exempt until {until}, by {}, because {why:?} (exemption {id})",
                users.with_uid(*by),
                why = why.as_str()
            )
        }
    }
}

pub(super) fn matched(pattern: &str, field: NameField, name: &Name) -> String {
    format!("its {} {} matches {}", field.as_str(), quoted(name.as_bytes()), quoted(pattern.as_bytes()))
}

pub(super) fn unclear(doubt: &Doubt) -> String {
    match doubt {
        Doubt::NameUnreadable(field) => {
            format!("its {} is unreadable, and might be in whitelist.names", field.as_str())
        }
        Doubt::FactUnreadable(key) => {
            format!("its {} is unreadable, and {} asks for it", fact_name(*key), key.as_str())
        }
        Doubt::CgroupUnreadable => {
            "its cgroup is unreadable, and scope or a list of cgroups asks for it".to_owned()
        }
        Doubt::OomScoreAdjUnreadable => "its oom_score_adj is unreadable, and might be -1000".to_owned(),
        Doubt::SharedMemoryUnknown => "the lookup of its shared memory is under way".to_owned(),
        Doubt::SharedMemoryUnreadable { reason } => {
            format!("its shared memory could not be looked up: {}", Escaped(reason.as_bytes()))
        }
        Doubt::InheritanceUnreadable => "what it inherited at its fork is unreadable".to_owned(),
        Doubt::WithinError { limit, rss, error } => {
            let (rss, limit) = apart(*rss, *limit);
            format!("{rss} resident, give or take {error}, is too near to its limit {limit}")
        }
    }
}

pub(super) fn change(change: &Change, process: &Process, users: &dyn Users) -> String {
    match change {
        Change::Shrink { to } => format!("with {} resident or less", apart(*to, process.rss).0),
        Change::Grow { above } => format!("with more than {} resident", apart(*above, process.rss).0),
        Change::GrowOwn { by } => format!("with {by} more of its own"),
        Change::SetLimit { limit, to } => format!("with {} = {to:.2}", limit.key()),
        Change::SetRuleLimit { rule, limit, to } => {
            format!("with {limit} = {to:.2} in rule {rule}")
        }
        Change::ListName(pattern) => format!("with {} in whitelist.names", quoted(pattern.as_bytes())),
        Change::ListPid(pid) => format!("with {pid} in whitelist.pids"),
        Change::ListUser(uid) => {
            format!("with {} in whitelist.users", quoted(users.name_or_uid(*uid).as_bytes()))
        }
        Change::ProtectRoot => "with whitelist.protect_root = true".to_owned(),
        Change::Lift(Protection::OutOfScope) => "inside scope".to_owned(),
        Change::Lift(Protection::Pid { pid }) => format!("without {pid} in whitelist.pids"),
        Change::Lift(Protection::Name { pattern, .. }) => {
            format!("without {} in whitelist.names", quoted(pattern.as_bytes()))
        }
        Change::Lift(Protection::User { uid }) => {
            format!("without {} in whitelist.users", quoted(users.name_or_uid(*uid).as_bytes()))
        }
        Change::Lift(Protection::Match { key, .. }) => format!("without whitelist.{}", key.as_str()),
        Change::Lift(Protection::Root) => "with whitelist.protect_root = false".to_owned(),
        Change::Lift(Protection::OomScoreAdj) => "with whitelist.honour_oom_score_adj = false".to_owned(),
        Change::Lift(Protection::Exempt(Exemption { id, .. })) => format!("without exemption {id}"),
        // Never offered: nothing lifts these, nor does reading again make a figure exact.
        Change::Lift(hard @ (Protection::Init | Protection::KernelThread | Protection::Memmon)) => {
            format!("were it not that {}", because(hard, users))
        }
        Change::Read(Doubt::NameUnreadable(field)) => {
            format!("with a readable {} that is not whitelisted", field.as_str())
        }
        Change::Read(Doubt::FactUnreadable(key)) => {
            format!("with a readable {} that matches nothing", fact_name(*key))
        }
        Change::Read(Doubt::CgroupUnreadable) => "with a readable cgroup that is in scope".to_owned(),
        Change::Read(Doubt::OomScoreAdjUnreadable) => "with a readable oom_score_adj above -1000".to_owned(),
        Change::Read(Doubt::SharedMemoryUnknown | Doubt::SharedMemoryUnreadable { .. }) => {
            "if all its shared memory is its own".to_owned()
        }
        Change::Read(Doubt::InheritanceUnreadable) => "if it shares nothing with an older process".to_owned(),
        Change::Read(Doubt::WithinError { .. }) => "with an exact figure".to_owned(),
    }
}

pub(super) const fn fact_name(key: MatchKey) -> &'static str {
    match key {
        MatchKey::Names => "name",
        MatchKey::Exe => "executable",
        MatchKey::Args => "command line",
        MatchKey::Uids => "user",
        MatchKey::Groups => "group",
        MatchKey::Cgroups => "cgroup",
        MatchKey::Units => "unit",
        MatchKey::Not => "exception",
    }
}

pub(super) fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", Escaped(bytes))
}

pub(super) fn quoted_list(entries: &[String]) -> String {
    list(entries.iter().map(|entry| quoted(entry.as_bytes())))
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    or_none(items.collect::<Vec<_>>().join(", "))
}

pub(super) fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

/// Whether a rule matches, and why not.
pub(super) fn asked(matched: &Matched) -> (&'static str, String) {
    match matched {
        Matched::Yes => ("matches", String::new()),
        Matched::No(MatchKey::Not) => ("no", "`not` matches".to_owned()),
        Matched::No(key) => ("no", format!("its {} does not match `{}`", fact_name(*key), key.as_str())),
        Matched::Withheld(key) => ("unclear", format!("its owner withholds its {}", fact_name(*key))),
        Matched::Unknown(doubt) => ("unclear", unclear(doubt)),
    }
}

/// The limit of a rule, and what follows.
pub(super) fn rule_limit(rule: &LimitRule, rules: &Rules, memory: &SystemMemory) -> String {
    let limit = match rules.limit_under(Some(rule), memory) {
        Some((_, limit)) if rule.limit == RuleLimit::Thresholds => {
            format!("over {limit}, by thresholds")
        }
        Some((_, limit)) => format!("over {limit}"),
        None => return "no limit".to_owned(),
    };
    let lasting =
        if rule.lasting.is_zero() { String::new() } else { format!(", for {}", Span(rule.lasting)) };
    let action = match (rule.action, rule.signal) {
        (Action::Warn, _) => ", only a warning".to_owned(),
        (Action::Stop, _) => ", stops it".to_owned(),
        (Action::Throttle, _) => ", slows its cgroup down".to_owned(),
        (Action::Terminate, Signal::Term) => String::new(),
        (Action::Terminate, signal) => format!(", {signal} first"),
    };
    format!("{limit}{lasting}{action}")
}

/// The lines as one text, without blanks at their ends.
pub(in crate::cli) fn joined_lines(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// A terminal's least width.
const COLUMNS: usize = 80;

/// `text` behind `first`, broken between words before column 80 and indented from the second line on.
pub(in crate::cli) fn wrapped(first: String, text: &str, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = first;
    let mut is_empty = true;
    for word in text.split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(mem::replace(&mut line, " ".repeat(indent)));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines
}

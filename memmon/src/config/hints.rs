//! Suggestions for a key or a word that does not exist. A user who follows a hint must not turn a configuration into its
//! opposite. So no hint leads from `[whitelist]` to `[scope]` or back, or to one of them by a guess; from a section about
//! some processes or hours to one about all of them; or from elsewhere to `[status]`, which gives rights.

use super::key::{Key, Section};

/// A key that is not known where it stands.
pub(super) struct Stray<'a> {
    /// The section, or none outside of any.
    pub(super) section: Option<&'static str>,
    pub(super) key: &'a str,
    pub(super) is_table: bool,
}

/// The effect of a section on the processes that it lists. All other sections list none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// memmon leaves them alone.
    Protects,
    /// memmon may terminate them, and no others.
    Exposes,
}

fn side(section: &str) -> Option<Side> {
    match section {
        "whitelist" => Some(Side::Protects),
        "scope" => Some(Side::Exposes),
        _ => None,
    }
}

/// The kinds of entries by which a section lists processes, in the singular: each is a word of its own, and never a slip of
/// the pen for another one.
const NOUNS: [&str; 17] = [
    "pid", "name", "user", "uid", "gid", "group", "cgroup", "process", "command", "comm", "cmdline", "exe",
    "path", "unit", "slice", "service", "container",
];

/// The noun that `typed` is, in the singular, or is by a single slip.
fn noun(typed: &str) -> Option<&'static str> {
    if typed.len() > LONGEST {
        return None;
    }
    let typed = typed.to_lowercase();
    let plural = |noun: &str| if noun == "process" { "processes".to_owned() } else { format!("{noun}s") };
    let slips = |noun: &str| {
        let distance = |form: &str| strsim::damerau_levenshtein(&typed, form);
        distance(noun).min(distance(&plural(noun)))
    };
    let allowed = usize::from(typed.len() >= 4);
    let nearest = NOUNS.into_iter().map(|noun| (slips(noun), noun)).min_by_key(|(slips, _)| *slips);
    nearest.filter(|(slips, _)| *slips <= allowed).map(|(_, noun)| noun)
}

/// Whether a section is about some processes, or some hours, and about no others.
fn is_partial(section: &str) -> bool {
    matches!(section, "rule" | "schedule")
}

/// Whether a key decides what happens to processes, or to all of those that a section does not name.
fn decides(section: &str, key: &str) -> bool {
    matches!(section, "thresholds" | "schedule" | "rule" | "machine" | "termination")
        || (section, key) == ("settings", "dry_run")
}

/// The advice for a word that other sections or programs use for what this section calls something else.
fn other_word(section: &str, typed: &str) -> Option<&'static str> {
    Some(match (section, typed) {
        ("rule", "ram_gb_threshold" | "limit_gb" | "max_gb") => "did you mean `gb`?",
        ("rule", "ram_percent_threshold" | "limit_percent" | "max_percent") => "did you mean `percent`?",
        ("rule", "limit" | "limits" | "threshold" | "max") => "did you mean `gb`, or `percent`?",
        ("rule", "exempt" | "protect" | "protected" | "ignore" | "whitelist" | "whitelisted") => {
            "a rule whose processes have no limit has `none = true`"
        }
        ("rule", "dry_run") => "a rule whose processes are reported, and not ended, has `action = \"warn\"`",
        ("thresholds" | "schedule", "gb" | "limit_gb" | "max_gb") => "did you mean `ram_gb_threshold`?",
        ("thresholds" | "schedule", "percent" | "limit_percent" | "max_percent") => {
            "did you mean `ram_percent_threshold`?"
        }
        ("thresholds" | "schedule", "limit" | "limits" | "threshold" | "max") => {
            "did you mean `ram_gb_threshold`, or `ram_percent_threshold`?"
        }
        _ => return None,
    })
}

/// The key in its own section, a similar key here, a similar section, a similar key elsewhere, or else all that there
/// is to choose from.
pub(super) fn advice(stray: &Stray<'_>, known: &[Section]) -> String {
    let here = known.iter().find(|known| Some(known.name) == stray.section);
    let keys_here = || here.into_iter().flat_map(|known| known.keys.iter().map(|key| key.name));
    let noun = noun(stray.key);
    let is_sided = stray.section.and_then(side).is_some();
    let choice = || {
        let choice: Vec<_> = match here {
            Some(_) => keys_here().collect(),
            None => known.iter().map(|known| known.heading).collect(),
        };
        format!("expected one of: {}", choice.join(", "))
    };

    if let Some(section) = stray.section
        && !stray.is_table
        && let Some(word) = other_word(section, &plain(stray.key))
    {
        return word.to_owned();
    }
    if stray.section.is_some_and(is_partial) {
        return within(stray.key, keys_here()).unwrap_or_else(choice);
    }
    let agrees_here = || noun.is_some() && keys_here().any(|key| agrees(noun, key));
    // A process is listed by it: whether to protect or to expose that process is not for a hint to guess.
    if !is_sided
        && !agrees_here()
        && known
            .iter()
            .filter(|known| side(known.name).is_some())
            .any(|known| known.keys.iter().any(|key| key.is_list() && key.name == stray.key))
    {
        return both_sides(known);
    }
    // A setting beside a list of processes was perhaps meant for these alone.
    let leads = |known: &Section, key: &Key| {
        known.name != "status" && side(known.name).is_none() && !(is_sided && decides(known.name, key.name))
    };
    if !(agrees_here() || stray.is_table || is_sided && noun.is_some()) {
        // A switch can only be meant for the one section that has it, unless it stands on the other side.
        let may = |known: &Section, key: &Key| {
            leads(known, key) || (!is_sided && side(known.name).is_some() && !key.is_list())
        };
        let has = |known: &&Section| known.keys.iter().any(|key| key.name == stray.key && may(known, key));
        if let Some(known) = known.iter().find(has) {
            return format!("this key belongs in {}", known.heading);
        }
    }
    if let Some(advice) = within(stray.key, keys_here()) {
        return advice;
    }
    if stray.section.is_none()
        && let Some(known) = section(stray.key, known)
    {
        return format!("did you mean {}?", known.heading);
    }
    if noun.is_none() && !stray.is_table {
        let others = known.iter().filter(|known| !is_partial(known.name)).flat_map(|known| {
            known.keys.iter().filter(move |key| leads(known, key)).map(move |key| (known, key.name))
        });
        if let Some((known, key)) = slip(stray.key, others) {
            return format!("did you mean `{key}` in {}{}?", known.heading, unit(stray.key, key));
        }
    }
    choice()
}

/// The one of `keys`, all of one section, that `typed` most likely stands for.
pub(super) fn within<'a>(typed: &str, keys: impl Iterator<Item = &'a str>) -> Option<String> {
    let noun = noun(typed);
    let key = nearest(typed, keys.filter(|key| agrees(noun, key) && !is_opposite(typed, key)))?;
    Some(format!("did you mean `{key}`{}?", unit(typed, key)))
}

/// The key of another section of which `typed` is a slip: the farther away, the fewer slips.
fn slip<'k>(
    typed: &str,
    others: impl Iterator<Item = (&'k Section, &'static str)>,
) -> Option<(&'k Section, &'static str)> {
    if typed.len() > LONGEST {
        return None;
    }
    let plain = plain(typed);
    let allowed = (plain.chars().count() / 6).max(1);
    others
        .filter(|(_, key)| !is_opposite(typed, key))
        .map(|(known, key)| (strsim::damerau_levenshtein(&plain, key), (known, key)))
        .filter(|(slips, _)| *slips <= allowed)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, found)| found)
}

/// Whether `key` can be meant by a noun.
fn agrees(typed: Option<&str>, key: &str) -> bool {
    typed.is_none() || typed == noun(key)
}

/// Whether `typed` denies what `key` asserts: with the same value it means the opposite.
fn is_opposite(typed: &str, key: &str) -> bool {
    const DENIALS: [&str; 10] =
        ["no_", "not_", "non_", "un", "dis", "ignore_", "skip_", "without_", "never_", "dont_"];
    let typed = plain(typed);
    DENIALS.into_iter().any(|denial| typed.starts_with(denial) && !key.starts_with(denial))
}

/// The unit of `key`, to be added where `typed` has another one, or none.
fn unit(typed: &str, key: &str) -> &'static str {
    let has = |text: &str, unit| text.split('_').any(|part| part == unit);
    let typed = plain(typed);
    match key {
        _ if has(key, "gb") && !has(&typed, "gb") => ", in gigabytes",
        _ if has(key, "mb") && !has(&typed, "mb") => ", in megabytes",
        _ => "",
    }
}

/// The section that `typed` was meant to be. One that protects or exposes takes a single slip: "hitlist" is no
/// "whitelist".
fn section<'k>(typed: &str, known: &'k [Section]) -> Option<&'k Section> {
    let slip = |known: &&Section| strsim::damerau_levenshtein(&plain(typed), known.name) <= 1;
    known.iter().filter(|known| side(known.name).is_some()).find(slip).or_else(|| {
        let neutral = || known.iter().filter(|known| side(known.name).is_none());
        let near = nearest(typed, neutral().map(|known| known.name))?;
        neutral().find(|known| known.name == near)
    })
}

fn both_sides(known: &[Section]) -> String {
    let lists = |wanted: Side| {
        let sections = known.iter().filter(|known| side(known.name) == Some(wanted));
        let lists = sections.flat_map(|known| &known.keys).filter(|key| key.is_list());
        lists.map(|key| key.name).collect::<Vec<_>>().join(", ")
    };
    format!(
        "decide which is meant: [whitelist] leaves alone what it lists ({}), [scope] lists all that memmon may \
         terminate ({})",
        lists(Side::Protects),
        lists(Side::Exposes)
    )
}

/// Distances take time that grows with both lengths, and no key is that long.
pub(super) const LONGEST: usize = 64;

fn plain(typed: &str) -> String {
    typed.chars().take(LONGEST).collect::<String>().to_lowercase().replace(['-', ' ', '.'], "_")
}

/// The one of `candidates` that `typed` most likely stands for, if that is clear: by at most one slip in three characters,
/// or because it is a good part of one (`interval`).
pub(super) fn nearest<'a>(typed: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if typed.len() > LONGEST {
        return None;
    }
    let typed = plain(typed);
    let allowed = (typed.chars().count() / 3).max(1);
    candidates
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&typed, candidate);
            let part = typed.len() >= 4 && candidate.contains(&typed);
            (if part { distance.min(allowed) } else { distance }, candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{
        ConfigError, FakeUsers, parse,
        tests::{error, help},
    };

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        let keys = ["ram_percent_threshold", "ram_gb_threshold", "check_interval", "dry_run", "level"];
        for (typed, meant) in [
            ("ram_gb_treshold", Some("ram_gb_threshold")),
            ("RAM-GB-threshold", Some("ram_gb_threshold")),
            ("interval", Some("check_interval")),
            ("dryrun", Some("dry_run")),
            ("lvl", None),
            ("levle", Some("level")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, keys.into_iter()), meant, "{typed}");
        }
    }

    /// Hints that users followed in good faith, and that then terminated a process that should have been protected.
    #[test]
    fn no_hint_leads_to_the_other_side() {
        let [whitelist, scope] = [
            "pids, names, users, names_file, exe, args, uids, groups, cgroups, units, protect_root, honour_oom_score_adj",
            "users, uids, cgroups",
        ]
        .map(|keys| format!("expected one of: {keys}"));
        let both = "decide which is meant: [whitelist] leaves alone what it lists (pids, names, users, names_file, exe, args, uids, \
                    groups, cgroups, units), \
                    [scope] lists all that memmon may terminate (users, uids, cgroups)";
        for (text, hint) in [
            ("[whitelist]\nslices = ['/system.slice']", &*whitelist),
            ("[whitelist]\ncommands = ['db']", &whitelist),
            ("[whitelist]\ngroup = 'db'", "did you mean `groups`?"),
            ("[whitelist]\nuid = ['1000']", "did you mean `uids`?"),
            ("[scope]\nnames = ['db']", &scope),
            ("[scope]\ngroups = ['students']", &scope),
            ("[scope]\ngroup = 'students'", &scope),
            ("[scope]\npids = [7]", &scope),
            ("[scope]\nprotect_root = true", &scope),
            ("[scope]\ncgroup = '/a'", "did you mean `cgroups`?"),
            ("[scope]\nuser = 'alice'", "did you mean `users`?"),
            ("[users.alice]\nlimit = 4", both),
            ("[names]\na = 1", both),
            ("users = ['alice']", both),
            ("cgroups = ['/a']", both),
            ("[settings]\nuids = ['1000']", both),
            ("[settings]\nprotect_root = true", "this key belongs in [whitelist]"),
            ("[whitelists]\nnames = []", "did you mean [whitelist]?"),
            ("[scope]\nlog_file = '/x'", "this key belongs in [settings]"),
        ] {
            assert_eq!(help(text), hint, "{text}");
        }
        for section in ["hitlist", "blacklist", "killlist", "list", "exclude", "targets"] {
            let help = help(&format!("[{section}]\nnames = []"));
            assert!(help.starts_with("expected one of: [thresholds], [whitelist], "), "{section}: {help}");
        }
    }

    /// The help for the first key that is not known, beside other problems.
    fn hint(text: &str) -> String {
        let Err(ConfigError::Invalid { problems, .. }) = parse(text, Path::new("c"), &FakeUsers(&[])) else {
            panic!("{text} is not refused")
        };
        let is_unknown = |what: &str| what.starts_with("unknown ") || what.contains(" stands outside ");
        let problem = problems.into_iter().find(|problem| is_unknown(&problem.what));
        problem.unwrap_or_else(|| panic!("{text}: no unknown key")).help
    }

    #[test]
    fn no_hint_makes_a_setting_for_all_of_one_for_some() {
        let listed = |text: &str, first: &str| {
            let hint = hint(text);
            assert!(hint.starts_with(&format!("expected one of: {first}, ")), "{text}: {hint}");
        };
        for (typed, meant) in [
            ("ram_gb_threshold = 0.5", "did you mean `gb`?"),
            ("ram_percent_threshold = 5", "did you mean `percent`?"),
            ("limit = 8", "did you mean `gb`, or `percent`?"),
            ("exempt = true", "a rule whose processes have no limit has `none = true`"),
            ("protect = true", "a rule whose processes have no limit has `none = true`"),
            ("dry_run = true", "a rule whose processes are reported, and not ended, has `action = \"warn\"`"),
            ("group = 'db'", "did you mean `groups`?"),
            ("actoin = 'warn'", "did you mean `action`?"),
            ("mb = 500", "did you mean `gb`, in gigabytes?"),
        ] {
            assert_eq!(hint(&format!("[[rule]]\n{typed}")), meant, "{typed}");
        }
        for typed in [
            "honour_oom_score_adj = false",
            "measure = 'rss'",
            "protect_root = false",
            "warn_at_percent = 50",
            "repeat_limit = 8",
            "log_file = '/x'",
            "pids = [7]",
            "mine = true",
        ] {
            listed(&format!("[[rule]]\n{typed}"), "name");
            listed(&format!("[[schedule]]\n{typed}"), "days");
        }
        for (text, meant) in [
            ("[[schedule]]\ngb = 4", "did you mean `ram_gb_threshold`?"),
            ("[[schedule]]\npercent = 4", "did you mean `ram_percent_threshold`?"),
            ("[[schedule]]\nlimit = 4", "did you mean `ram_gb_threshold`, or `ram_percent_threshold`?"),
            ("[thresholds]\ngb = 4", "did you mean `ram_gb_threshold`?"),
            ("[thresholds]\nram_mb_threshold = 500", "did you mean `ram_gb_threshold`, in gigabytes?"),
            ("[termination]\naction = 'warn'", "this key belongs in [[rule]]"),
        ] {
            assert_eq!(hint(text), meant, "{text}");
        }
        // These were meant for the listed processes, or for all.
        for (key, value) in
            [("dry_run", "true"), ("ram_gb_threshold", "4"), ("grace", "60"), ("none", "true")]
        {
            listed(&format!("[whitelist]\n{key} = {value}"), "pids");
            listed(&format!("[scope]\n{key} = {value}"), "users");
        }
        listed("[scope]\nnames_file = '/x'", "users");
    }

    #[test]
    fn no_hint_gives_rights_or_another_meaning() {
        for (text, first) in [
            ("exempt = true", "[thresholds]"),
            ("mine = true", "[thresholds]"),
            ("group = 'alice'", "[thresholds]"),
            ("limit = 4", "[thresholds]"),
            ("[machine]\nexempt = true", "available_percent"),
            ("[machine]\nexemt = true", "available_percent"),
            ("[scope]\nexempt = true", "users"),
            ("[metrics]\nport = 9100", "textfile"),
            ("[metrics]\nlimit = 4", "textfile"),
            ("[scope]\ngropus = ['students']", "users"),
            ("[whitelist]\nignore_oom_score_adj = true", "pids"),
            ("[settings]\nno_dry_run = true", "dry_run"),
            ("[settings]\ndisable_syslog = true", "dry_run"),
            ("[[rule]]\nnot = { gids = ['7'] }", "names"),
        ] {
            let hint = hint(text);
            assert!(hint.starts_with(&format!("expected one of: {first}, ")), "{text}: {hint}");
        }
        assert_eq!(hint("[status]\ngroups = 'alice'"), "did you mean `group`?");
        assert_eq!(hint("[staus]\ngroup = 'alice'"), "did you mean [status]?");
    }

    /// The keys by section, as the errors list them.
    fn keys() -> Vec<(String, Vec<String>)> {
        let listed = |text: &str| -> Vec<String> {
            let error = error(text);
            let (_, list) = error.rsplit_once("expected one of: ").expect("a list");
            list.split(", ").map(|name| name.trim_matches(['[', ']']).to_owned()).collect()
        };
        let sections = listed("[zzzzzzzzzzzzzz]");
        sections
            .into_iter()
            .map(|section| {
                let keys = listed(&format!("[{section}]\nzzzzzzzzzzzz = 1"));
                (section, keys)
            })
            .collect()
    }

    /// Words that could be typed, right or with a slip in them.
    fn word() -> impl Strategy<Value = String> {
        let mut words: Vec<String> =
            keys().into_iter().flat_map(|(section, keys)| [vec![section], keys].concat()).collect();
        words.extend(["limit", "exempt", "protect", "port", "max", "threshold", "ignore"].map(str::to_owned));
        words.extend(NOUNS.into_iter().flat_map(|noun| [noun.to_owned(), format!("{noun}s")]));
        (
            prop::sample::select(words),
            prop::option::of((any::<prop::sample::Index>(), "[a-z_]?")),
            any::<bool>(),
        )
            .prop_map(|(word, slip, is_missing)| match slip {
                None => word,
                Some((place, letter)) => {
                    let (place, rest) = (place.index(word.len()), usize::from(is_missing));
                    format!("{}{letter}{}", &word[..place], &word[place + rest..])
                }
            })
    }

    proptest! {
        #[test]
        fn whatever_is_typed_the_hint_stays_on_its_side(
            word in word(),
            place in any::<prop::sample::Index>(),
            value in prop_oneof![Just("['x']"), Just("'x'"), Just("true"), Just("{ a = 1 }")],
        ) {
            let known = keys();
            let place = place.index(known.len() + 1);
            let here = known.get(place).map(|(section, _)| section.as_str());
            prop_assume!(!word.is_empty());
            prop_assume!(!known.iter().any(|(section, keys)| match here {
                Some(here) => here == section && keys.contains(&word),
                None => *section == word,
            }));
            let partial = here.filter(|section| is_partial(section));
            let heading = match (here, partial) {
                (_, Some(section)) => format!("[[{section}]]\n"),
                (Some(section), None) => format!("[{section}]\n"),
                (None, _) => String::new(),
            };
            let text = format!("{heading}{word} = {value}");
            // A section of its own is complained of first where it is written wrong.
            let is_section = here.is_none() && known.iter().any(|(section, _)| *section == word);
            let help = if is_section { help(&text) } else { hint(&text) };
            let leads_to = |section: &str| help.contains(&format!("[{section}]")) && !help.starts_with("expected one of");
            match here {
                Some("whitelist") => prop_assert!(!leads_to("scope"), "{text}: {help}"),
                Some("scope") => prop_assert!(!leads_to("whitelist"), "{text}: {help}"),
                Some("rule" | "schedule") => prop_assert!(!help.contains('['), "{text}: {help}"),
                _ => {
                    let is_switch = ["protect_root", "honour_oom_score_adj"].contains(&&*word);
                    let is_section = ["whitelist", "scope"].iter().any(|known| strsim::damerau_levenshtein(&word, known) <= 1);
                    prop_assert!(leads_to("scope") == leads_to("whitelist") || is_switch || is_section, "{text}: {help}");
                }
            }
            if matches!(here, Some("whitelist" | "scope")) {
                for section in ["thresholds", "schedule", "rule", "machine", "termination"] {
                    prop_assert!(!leads_to(section), "{text}: {help}");
                }
            }
            // [status] gives rights: only its own name leads to it.
            prop_assert!(!leads_to("status") || (here.is_none() && help == "did you mean [status]?"), "{text}: {help}");
            // Nor is one noun a slip for another.
            if let Some(noun) = noun(&word) && let Some(key) = help.strip_prefix("did you mean `") {
                prop_assert!(key.contains(noun), "{text}: {help}");
            }
        }
    }
}

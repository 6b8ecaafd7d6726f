//! Suggestions for a key or a word that does not exist. A user who follows a hint must not turn a configuration into its
//! opposite, so no hint leads from `[whitelist]` to `[scope]` or back, or to one of them by a guess.

/// A key that a section knows.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) is_list: bool,
}

/// A section with its keys, and its heading as it is written.
pub(super) struct Known {
    pub(super) section: &'static str,
    pub(super) heading: String,
    pub(super) keys: Vec<Key>,
}

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
    "pid",
    "name",
    "user",
    "uid",
    "gid",
    "group",
    "cgroup",
    "process",
    "command",
    "comm",
    "cmdline",
    "exe",
    "path",
    "unit",
    "slice",
    "service",
    "container",
];

/// The noun that `typed` is, in the singular.
fn noun(typed: &str) -> Option<&'static str> {
    let typed = typed.to_lowercase();
    let singular =
        typed.strip_suffix("es").filter(|stem| *stem == "process").or_else(|| typed.strip_suffix('s'));
    NOUNS.into_iter().find(|noun| *noun == typed || Some(*noun) == singular)
}

/// The key in its own section, a similar key here, a similar section, a similar key elsewhere, or else all that there
/// is to choose from.
pub(super) fn advice(stray: &Stray<'_>, known: &[Known]) -> String {
    let here = known.iter().find(|known| Some(known.section) == stray.section);
    let elsewhere = |may: fn(&Known, &Key) -> bool| {
        known.iter().flat_map(move |known| {
            known.keys.iter().filter(move |key| may(known, key)).map(move |key| (known, key.name))
        })
    };
    let noun = noun(stray.key);
    let is_sided = stray.section.and_then(side).is_some();

    // A process is listed by it: whether to protect or to expose that process is not for a hint to guess.
    if !is_sided
        && elsewhere(|known, key| key.is_list && side(known.section).is_some())
            .any(|(_, key)| key == stray.key)
    {
        return both_sides(known);
    }
    let is_listable = is_sided && noun.is_some();
    if !is_listable && !stray.is_table {
        // A switch can only be meant for the one section that has it, unless it stands on the other side.
        let neutral = |known: &Known, _: &Key| side(known.section).is_none();
        let switch = |known: &Known, key: &Key| side(known.section).is_none() || !key.is_list;
        let found = match is_sided {
            true => elsewhere(neutral).find(|(_, key)| *key == stray.key),
            false => elsewhere(switch).find(|(_, key)| *key == stray.key),
        };
        if let Some((known, _)) = found {
            return format!("this key belongs in {}", known.heading);
        }
    }
    if let Some(known) = here
        && let Some(key) =
            nearest(stray.key, known.keys.iter().map(|key| key.name).filter(|key| agrees(noun, key)))
    {
        return format!("did you mean `{key}`?");
    }
    if stray.section.is_none()
        && let Some(known) = section(stray.key, known)
    {
        return format!("did you mean {}?", known.heading);
    }
    if noun.is_none() && !stray.is_table {
        let neutral = || elsewhere(|known, _| side(known.section).is_none());
        if let Some(near) = nearest(stray.key, neutral().map(|(_, key)| key))
            && let Some((known, key)) = neutral().find(|(_, key)| *key == near)
        {
            return format!("did you mean `{key}` in {}?", known.heading);
        }
    }
    let choice: Vec<_> = match here {
        Some(known) => known.keys.iter().map(|key| key.name).collect(),
        None => known.iter().map(|known| &*known.heading).collect(),
    };
    format!("expected one of: {}", choice.join(", "))
}

/// Whether `key` can be meant by a `noun`.
fn agrees(typed: Option<&str>, key: &str) -> bool {
    typed.is_none() || typed == noun(key)
}

/// The section that `typed` was meant to be. One that protects or exposes takes a single slip: "hitlist" is no
/// "whitelist".
fn section<'k>(typed: &str, known: &'k [Known]) -> Option<&'k Known> {
    let slip = |known: &&Known| strsim::damerau_levenshtein(&plain(typed), known.section) <= 1;
    known.iter().filter(|known| side(known.section).is_some()).find(slip).or_else(|| {
        let neutral = || known.iter().filter(|known| side(known.section).is_none());
        let near = nearest(typed, neutral().map(|known| known.section))?;
        neutral().find(|known| known.section == near)
    })
}

fn both_sides(known: &[Known]) -> String {
    let lists = |wanted: Side| {
        let sections = known.iter().filter(|known| side(known.section) == Some(wanted));
        let lists = sections.flat_map(|known| &known.keys).filter(|key| key.is_list);
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
const LONGEST: usize = 64;

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
    use proptest::prelude::*;

    use super::*;
    use crate::config::tests::{error, help};

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
            let text = here.map(|section| format!("[{section}]\n")).unwrap_or_default() + &format!("{word} = {value}");
            // A section of its own is complained of first where it is written wrong.
            let help = help(&text);
            let leads_to = |section: &str| help.contains(&format!("[{section}]")) && !help.starts_with("expected one of");
            match here {
                Some("whitelist") => prop_assert!(!leads_to("scope"), "{text}: {help}"),
                Some("scope") => prop_assert!(!leads_to("whitelist"), "{text}: {help}"),
                _ => {
                    let is_switch = ["protect_root", "honour_oom_score_adj"].contains(&&*word);
                    let is_section = ["whitelist", "scope"].iter().any(|known| strsim::damerau_levenshtein(&word, known) <= 1);
                    prop_assert!(leads_to("scope") == leads_to("whitelist") || is_switch || is_section, "{text}: {help}");
                }
            }
            // Nor is one noun a slip for another.
            if let Some(noun) = noun(&word) && let Some(key) = help.strip_prefix("did you mean `") {
                prop_assert!(key.contains(noun), "{text}: {help}");
            }
        }
    }
}

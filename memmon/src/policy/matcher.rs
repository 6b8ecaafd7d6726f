//! Matchers: which processes a rule, or an entry of the whitelist, is about. Every key that is given must match (`[[rule]]`),
//! and of a list any entry will do.
//!
//! A matcher never takes the word of a process's owner for more than it is. `exe` compares the file, not only its path; a unit is
//! one that root made; and what the owner keeps from being read counts against them ([`Matched::Withheld`]). Names and arguments
//! are the owner's choice, as everywhere.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{ArgPatterns, CgroupPatterns, ExePatterns, NamePatterns, UidRanges, UnitPatterns};
use crate::model::{Doubt, Fact, Gid, MatchKey, NameField, Process, Uid, WantedFacts};

/// Conditions on a process. A key that is not given matches every process.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Matcher {
    /// Its comm, or the basename of its executable or argv[0].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<NamePatterns>,
    /// The path of its executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<ExePatterns>,
    /// One of its arguments, or all together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<ArgPatterns>,
    /// Its real or effective uid: `users` and `uids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uids: Option<UidRanges>,
    /// Its real or effective group, or a supplementary one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<BTreeSet<Gid>>,
    /// The path of its cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups: Option<CgroupPatterns>,
    /// Its systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<UnitPatterns>,
    /// Conditions that it must not meet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Self>>,
}

/// Whether a matcher matches a process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matched {
    /// Every key does.
    Yes,
    /// This key does not match.
    No(MatchKey),
    /// It depends on something that the process's owner keeps from being read: see the harsher side of it.
    Withheld(MatchKey),
    /// It depends on something that could not be read.
    Unknown(Doubt),
}

/// Whether one key matches, and by which entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum KeyMatched {
    Yes(String),
    No,
    Withheld,
    Unknown(Doubt),
}

impl Matcher {
    /// Whether every key matches `process`.
    pub fn matches(&self, process: &Process) -> Matched {
        let mut open = None;
        for (key, matched) in self.each(process) {
            let unclear = match matched {
                KeyMatched::Yes(_) => continue,
                KeyMatched::No => return Matched::No(key),
                KeyMatched::Withheld => Matched::Withheld(key),
                KeyMatched::Unknown(doubt) => Matched::Unknown(doubt),
            };
            // A doubt outweighs what is withheld: it can end.
            if !matches!(open, Some(Matched::Unknown(_))) {
                open = Some(unclear);
            }
        }
        if let Some(not) = &self.not {
            match not.matches(process) {
                Matched::Yes => return Matched::No(MatchKey::Not),
                Matched::No(_) => {}
                Matched::Withheld(_) => _ = open.get_or_insert(Matched::Withheld(MatchKey::Not)),
                unknown @ Matched::Unknown(_) => open = Some(unknown),
            }
        }
        open.unwrap_or(Matched::Yes)
    }

    /// Each key that is given, but `not`.
    pub(super) fn each(&self, process: &Process) -> impl Iterator<Item = (MatchKey, KeyMatched)> {
        let Self { names, exe, args, uids, groups, cgroups, units, not: _ } = self;
        let cgroup = |find: &dyn Fn(&crate::model::Name) -> Option<String>| {
            of_fact(&process.cgroup, process, Doubt::CgroupUnreadable, |path| find(path))
        };
        [
            uids.as_ref().map(|ranges| (MatchKey::Uids, of_uids(ranges, process))),
            groups.as_ref().map(|groups| {
                let found = process.facts.groups.iter().find(|group| groups.contains(group));
                (MatchKey::Groups, yes_if(found.map(ToString::to_string)))
            }),
            names.as_ref().map(|names| (MatchKey::Names, of_names(names, process))),
            exe.as_ref().map(|exe| (MatchKey::Exe, of_exe(exe, process))),
            args.as_ref().map(|args| {
                let doubt = Doubt::FactUnreadable(MatchKey::Args);
                let find = |list: &Vec<_>| args.find(list).map(str::to_owned);
                (MatchKey::Args, of_fact(&process.facts.args, process, doubt, find))
            }),
            cgroups.as_ref().map(|globs| {
                (MatchKey::Cgroups, cgroup(&|path| globs.find(path.as_bytes()).map(str::to_owned)))
            }),
            units
                .as_ref()
                .map(|globs| (MatchKey::Units, cgroup(&|path| globs.find(path).map(str::to_owned)))),
        ]
        .into_iter()
        .flatten()
    }

    /// Takes a key away.
    pub(super) fn forget(&mut self, key: MatchKey) {
        match key {
            MatchKey::Names => self.names = None,
            MatchKey::Exe => self.exe = None,
            MatchKey::Args => self.args = None,
            MatchKey::Uids => self.uids = None,
            MatchKey::Groups => self.groups = None,
            MatchKey::Cgroups => self.cgroups = None,
            MatchKey::Units => self.units = None,
            MatchKey::Not => self.not = None,
        }
    }

    /// Whether it asks for the path of a process's cgroup, of which its unit is a part.
    pub fn depends_on_cgroups(&self) -> bool {
        let inner = self.not.as_ref().is_some_and(|not| not.depends_on_cgroups());
        inner || self.cgroups.is_some() || self.units.is_some()
    }

    /// The facts that it needs to be read.
    pub fn wanted(&self) -> WantedFacts {
        let inner = self.not.as_ref().map(|not| not.wanted()).unwrap_or_default();
        WantedFacts {
            args: self.args.is_some() || inner.args,
            exe_file: self.exe.is_some() || inner.exe_file,
            session: false,
        }
    }
}

fn yes_if(entry: Option<String>) -> KeyMatched {
    entry.map_or(KeyMatched::No, KeyMatched::Yes)
}

/// The result for an unread fact of `process`. If root withholds it, memmon does not know the reason.
fn unread(withheld: bool, process: &Process, doubt: Doubt) -> KeyMatched {
    if withheld && process.real_uid != Uid::ROOT { KeyMatched::Withheld } else { KeyMatched::Unknown(doubt) }
}

pub(super) fn of_fact<T>(
    fact: &Fact<T>,
    process: &Process,
    doubt: Doubt,
    find: impl FnOnce(&T) -> Option<String>,
) -> KeyMatched {
    match fact {
        Fact::Known(value) => yes_if(find(value)),
        Fact::Absent => KeyMatched::No,
        Fact::Unreadable => unread(false, process, doubt),
        Fact::Withheld => unread(true, process, doubt),
    }
}

/// Either uid will do: a set-user-ID program belongs to its starter as well as to its owner.
fn of_uids(ranges: &UidRanges, process: &Process) -> KeyMatched {
    let uids = [process.real_uid, process.effective_uid];
    let found = uids.into_iter().find_map(|uid| ranges.find(uid));
    yes_if(found)
}

/// A name that could not be read leaves a doubt, unless another one matches.
pub(super) fn of_names(patterns: &NamePatterns, process: &Process) -> KeyMatched {
    let names = &process.names;
    if let Some((pattern, ..)) = patterns.find_in(names) {
        return KeyMatched::Yes(pattern.to_owned());
    }
    let unclear = [(&names.exe, NameField::Exe), (&names.argv0, NameField::Argv0)].map(|(fact, field)| {
        let doubt = Doubt::NameUnreadable(field);
        match fact {
            Fact::Known(_) | Fact::Absent => KeyMatched::No,
            Fact::Unreadable => unread(false, process, doubt),
            Fact::Withheld => unread(true, process, doubt),
        }
    });
    let rank = |matched: &KeyMatched| match matched {
        KeyMatched::Unknown(_) => 0,
        KeyMatched::Withheld => 1,
        KeyMatched::Yes(_) | KeyMatched::No => 2,
    };
    unclear.into_iter().min_by_key(rank).unwrap_or(KeyMatched::No)
}

/// The path must match, and the file must be the one that has that path for pid 1.
fn of_exe(patterns: &ExePatterns, process: &Process) -> KeyMatched {
    let doubt = Doubt::FactUnreadable(MatchKey::Exe);
    let path = match &process.names.exe {
        Fact::Known(path) => path,
        fact => return of_fact(fact, process, doubt, |_| None),
    };
    let Some(entry) = patterns.find(path.as_bytes()) else { return KeyMatched::No };
    of_fact(&process.facts.exe_file, process, doubt, |file| (file == path).then(|| entry.to_owned()))
}

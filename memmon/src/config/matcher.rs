//! The keys of a matcher, which `[whitelist]` and `[[rule]]` have in common.

use std::collections::BTreeSet;

use super::{foreign::Of, keys, toml_document::List, values::Reader, values::uid, warning::Concern};
use crate::{
    model::{Gid, Name, Uid},
    policy::{ArgPatterns, CgroupPatterns, ExePatterns, Matcher, UidRanges, UnitPatterns},
};

/// The keys with their section, for warnings.
pub(super) struct Keys {
    pub(super) names: &'static str,
    pub(super) exe: &'static str,
    pub(super) args: &'static str,
    pub(super) users: &'static str,
    pub(super) uids: &'static str,
    pub(super) groups: &'static str,
    pub(super) cgroups: &'static str,
    pub(super) units: &'static str,
}

macro_rules! keys {
    ($section:literal) => {
        Keys {
            names: concat!($section, ".names"),
            exe: concat!($section, ".exe"),
            args: concat!($section, ".args"),
            users: concat!($section, ".users"),
            uids: concat!($section, ".uids"),
            groups: concat!($section, ".groups"),
            cgroups: concat!($section, ".cgroups"),
            units: concat!($section, ".units"),
        }
    };
}

pub(super) const WHITELIST: Keys = keys!("whitelist");
pub(super) const RULE: Keys = keys!("rule");
pub(super) const NOT: Keys = keys!("rule.not");

/// Each key of `matcher` that is given, and whether every process matches it, as far as a few that have nothing in common
/// show that. No list of groups is that long.
pub(super) fn coverage(matcher: &Matcher, keys: &Keys) -> Vec<(&'static str, bool)> {
    const NAMES: [&str; 3] = ["a", "Zz-_.9", "0+kworker/u8:2"];
    const EXES: [&str; 3] = ["/usr/bin/a", "/opt/Zz-_.9/b c", "/srv/0/x/y"];
    const UNITS: [&str; 3] = [
        "/system.slice/a.service",
        "/user.slice/user-0.slice/session-9.scope",
        "/system.slice/Zz-_.9.service",
    ];
    const CGROUPS: [&str; 4] =
        ["/system.slice/a.service", "/user.slice/user-0.slice/session-9.scope", "/a/0", "/Zz-_.9"];
    const UIDS: [u32; 6] = [0, 1, 1000, 65_534, 100_000, u32::MAX - 1];
    let Matcher { names, exe, args, uids, groups, cgroups, units, not: _ } = matcher;
    [
        names
            .as_ref()
            .map(|names| (keys.names, NAMES.iter().all(|name| names.find(name.as_bytes()).is_some()))),
        exe.as_ref().map(|exe| (keys.exe, EXES.iter().all(|path| exe.find(path.as_bytes()).is_some()))),
        args.as_ref().map(|args| {
            let find = |arg: &&str| args.find(&[Name::from(*arg)]).is_some();
            (keys.args, NAMES.iter().all(find))
        }),
        uids.as_ref().map(|uids| (keys.uids, UIDS.iter().all(|uid| uids.contains(Uid(*uid))))),
        groups.as_ref().map(|_| (keys.groups, false)),
        cgroups
            .as_ref()
            .map(|cgroups| (keys.cgroups, CGROUPS.iter().all(|path| cgroups.matches(path.as_bytes())))),
        units.as_ref().map(|units| {
            let find = |path: &&str| units.find(&Name::from(*path)).is_some();
            (keys.units, UNITS.iter().all(find))
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Reader<'_, '_> {
    /// A matcher without `not`. Of a list with an entry that cannot be meant, the others are kept.
    pub(super) fn matcher(&mut self, typed: keys::Matcher, keys: &Keys) -> Matcher {
        let keys::Matcher { names, names_file: _, users, lists } = typed;
        let keys::Lists { exe, args, uids, groups, cgroups, units } = lists;
        let ranges = uids.is_some() || users.is_some();
        let mut in_ranges = uids.map(|list| self.uid_ranges(keys.uids, &list)).unwrap_or_default();
        if let Some(list) = users {
            in_ranges.extend(self.users(keys.users, &list).into_iter().map(|(uid, _)| uid..=uid));
        }
        Matcher {
            names: names.map(|list| self.names(keys.names, &list)),
            exe: exe.map(|list| {
                let globs =
                    self.patterns(keys.exe, Of::Cgroups, &list, |glob| ExePatterns::new([glob]).err());
                let compiled = ExePatterns::new(globs.into_iter().map(|(glob, _)| glob));
                self.compiled("exe", &list.span(), compiled)
            }),
            args: args.map(|list| {
                let globs = self.patterns(keys.args, Of::Names, &list, |glob| ArgPatterns::new([glob]).err());
                let compiled = ArgPatterns::new(globs.into_iter().map(|(glob, _)| glob));
                self.compiled("args", &list.span(), compiled)
            }),
            uids: ranges.then(|| UidRanges::from_iter(in_ranges)),
            groups: groups.map(|list| self.groups(keys.groups, &list)),
            cgroups: cgroups.map(|list| self.cgroups(keys.cgroups, &list)),
            units: units.map(|list| {
                let globs =
                    self.patterns(keys.units, Of::Cgroups, &list, |glob| UnitPatterns::new([glob]).err());
                let compiled = UnitPatterns::new(globs.into_iter().map(|(glob, _)| glob));
                self.compiled("units", &list.span(), compiled)
            }),
            not: None,
        }
    }

    pub(super) fn cgroups(&mut self, key: &'static str, list: &List<String>) -> CgroupPatterns {
        let globs = self.patterns(key, Of::Cgroups, list, |glob| CgroupPatterns::new([glob]).err());
        let globs = CgroupPatterns::new(globs.into_iter().map(|(glob, _)| glob));
        self.compiled("cgroups", &list.span(), globs)
    }

    /// The groups that this machine knows, by name or by gid, which need not be anyone's yet.
    fn groups(&mut self, key: &'static str, list: &List<String>) -> BTreeSet<Gid> {
        let mut groups = BTreeSet::new();
        for (entry, span) in self.entries(key, list) {
            if let Some(Uid(gid)) = uid(entry) {
                groups.insert(Gid(gid));
                continue;
            }
            match self.users.group(entry) {
                Ok(Some(gid)) => _ = groups.insert(Gid(gid)),
                Ok(None) => self.warn(&span, Concern::NoSuchGroup { key, name: entry.to_owned() }),
                Err(error) => self.problems.no_answer(entry, error),
            }
        }
        groups
    }
}

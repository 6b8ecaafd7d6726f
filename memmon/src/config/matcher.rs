//! The keys of a matcher, which `[whitelist]` and `[[rule]]` have in common.

use std::collections::BTreeSet;

use super::{foreign::Of, raw, toml_document::List, values::Reader, values::uid, warning::Concern};
use crate::{
    model::{Gid, Uid},
    policy::{ArgPatterns, CgroupPatterns, ExePatterns, Matcher, NamePatterns, UidRanges, UnitPatterns},
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

impl Reader<'_, '_> {
    /// A matcher without `not`. Of a list with an entry that cannot be meant, the others are kept.
    pub(super) fn matcher(&mut self, typed: raw::Matcher, keys: &Keys) -> Matcher {
        let raw::Matcher { names, names_file: _, exe, args, users, uids, groups, cgroups, units } = typed;
        let ranges = uids.is_some() || users.is_some();
        let mut in_ranges = uids.map(|list| self.uid_ranges(keys.uids, &list)).unwrap_or_default();
        if let Some(list) = users {
            in_ranges.extend(self.users(keys.users, &list).into_iter().map(|(uid, _)| uid..=uid));
        }
        Matcher {
            names: names.map(|list| {
                let names =
                    self.patterns(keys.names, Of::Names, &list, |name| NamePatterns::new([name]).err());
                let compiled = NamePatterns::new(names.into_iter().map(|(name, _)| name));
                self.compiled("names", &list.span(), compiled)
            }),
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

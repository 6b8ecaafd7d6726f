//! The keys of a matcher, which `[whitelist]` and `[[rule]]` have in common.

use std::collections::BTreeSet;

use super::{foreign::Of, keys, toml_document::List, values::Reader, values::uid, warning::Concern};
use crate::{
    model::{Gid, Name, Uid},
    policy::{ArgPatterns, CgroupPatterns, ExePatterns, Matcher, UidRanges, UnitPatterns},
};

/// For each key of `matcher` that is given, in the order of its fields, whether every process matches it, as far as a few that
/// have nothing in common show that. No list of groups is that long.
pub(super) fn coverage(matcher: &Matcher) -> [Option<bool>; 7] {
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
    let arg = |args: &ArgPatterns, arg: &str| args.find(&[Name::from(arg)]).is_some();
    let unit = |units: &UnitPatterns, path: &str| units.find(&Name::from(path)).is_some();
    [
        names.as_ref().map(|names| NAMES.iter().all(|name| names.find(name.as_bytes()).is_some())),
        exe.as_ref().map(|exe| EXES.iter().all(|path| exe.find(path.as_bytes()).is_some())),
        args.as_ref().map(|args| NAMES.iter().all(|name| arg(args, name))),
        uids.as_ref().map(|uids| UIDS.iter().all(|uid| uids.contains(Uid(*uid)))),
        groups.as_ref().map(|_| false),
        cgroups.as_ref().map(|cgroups| CGROUPS.iter().all(|path| cgroups.matches(path.as_bytes()))),
        units.as_ref().map(|units| UNITS.iter().all(|path| unit(units, path))),
    ]
}

impl Reader<'_, '_> {
    /// A matcher without `not`.
    pub(super) fn matcher(&mut self, typed: keys::Matcher) -> Matcher {
        let keys::Matcher { names, names_file: _, users, lists } = typed;
        let keys::Lists { exe, args, uids, groups, cgroups, units } = lists;
        let ranges = uids.is_some() || users.is_some();
        let mut in_ranges = uids.map(|list| self.uid_ranges(&list)).unwrap_or_default();
        if let Some(list) = users {
            in_ranges.extend(self.users(&list).into_iter().map(|(uid, _)| uid..=uid));
        }
        Matcher {
            names: names.map(|list| self.names(&list)),
            exe: exe.map(|list| self.globs(Of::Cgroups, &list, |exe| ExePatterns::new(exe.iter().copied()))),
            args: args
                .map(|list| self.globs(Of::Names, &list, |args| ArgPatterns::new(args.iter().copied()))),
            uids: ranges.then(|| UidRanges::from_iter(in_ranges)),
            groups: groups.map(|list| self.groups(&list)),
            cgroups: cgroups.map(|list| self.cgroups(&list)),
            units: units
                .map(|list| self.globs(Of::Cgroups, &list, |units| UnitPatterns::new(units.iter().copied()))),
            not: None,
        }
    }

    pub(super) fn cgroups(&mut self, list: &List<String>) -> CgroupPatterns {
        self.globs(Of::Cgroups, list, |cgroups| CgroupPatterns::new(cgroups.iter().copied()))
    }

    /// The groups that this machine knows, by name or by gid, which need not be anyone's yet.
    fn groups(&mut self, list: &List<String>) -> BTreeSet<Gid> {
        let mut groups = BTreeSet::new();
        for (entry, span) in self.entries(list) {
            if let Some(Uid(gid)) = uid(entry) {
                groups.insert(Gid(gid));
                continue;
            }
            match self.users.group(entry) {
                Ok(Some(gid)) => _ = groups.insert(Gid(gid)),
                Ok(None) => {
                    self.warn(&span, Concern::NoSuchGroup { key: list.key.clone(), name: entry.to_owned() });
                }
                Err(error) => self.problems.no_answer(entry, error),
            }
        }
        groups
    }
}

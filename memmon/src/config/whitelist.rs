//! `[whitelist]`: which processes are left alone, and what a list of names no longer protects.

use std::{collections::BTreeSet, ops::Range};

use toml::Spanned;

use super::{
    keys,
    matcher::coverage,
    names::NAMES,
    toml_document::{Keys, List},
    values::Reader,
    warning::Concern,
};
use crate::{
    model::{Pid, Uid},
    policy::{NamePatterns, Scope, Whitelist},
};

impl Reader<'_, '_> {
    pub(super) fn whitelist(&mut self, typed: keys::Whitelist) -> Whitelist {
        let keys::Whitelist {
            pids,
            names,
            users,
            names_file: _,
            lists,
            protect_root,
            honour_oom_score_adj: _,
        } = typed;
        if let Some(list) = &lists.args {
            self.warn(&list.span, Concern::ArgsAreChosen);
        }
        let place =
            |list: &Option<List<String>>| list.as_ref().map(|list| (list.key.clone(), list.span.clone()));
        let keys::Lists { exe, args, uids, groups, cgroups, units } = &lists;
        let places = [&None, exe, args, uids, groups, cgroups, units].map(place);
        let also = self.matcher(keys::Matcher { lists, ..keys::Matcher::default() });
        // Each list protects by itself.
        for (key, span) in coverage(&also)
            .into_iter()
            .zip(places)
            .filter_map(|(is_every, place)| place.filter(|_| is_every == Some(true)))
        {
            self.warn(&span, Concern::EveryProcess { key });
        }
        let usual: keys::Whitelist = Keys::defaults();
        Whitelist {
            pids: self.pids(pids.or(usual.pids)),
            names: match (names, usual.names) {
                (Some(list), _) => self.names(&list),
                (None, Some(usual)) => {
                    let names = self.entries(&usual);
                    self.compiled(&usual, names, NAMES)
                }
                (None, None) => NamePatterns::default(),
            },
            users: match users {
                Some(list) => self.protected_users(&list, protect_root),
                None => BTreeSet::from([Uid::ROOT]),
            },
            protect_root,
            also,
        }
    }

    fn pids(&mut self, list: Option<List<u32>>) -> BTreeSet<Pid> {
        let mut pids = BTreeSet::new();
        if let Some(List { key, entries, span: _ }) = list {
            for typed in entries {
                let entry = typed.get_ref().to_string();
                if !pids.insert(Pid(*typed.get_ref())) {
                    self.warn(&typed.span(), Concern::Duplicate { key: key.clone(), entry });
                }
            }
        }
        pids
    }

    /// A list takes the place of the default one, as in v1. The names that the default protects and the list does not are easily
    /// forgotten; `kernel` and `init` are never touched, and nothing of importance is called `docker`.
    pub(super) fn warn_of_names_that_fell_away(
        &mut self,
        list: &Range<usize>,
        whitelist: &Whitelist,
        scope: &Scope,
    ) {
        let root_is_exposed =
            !whitelist.protect_root && scope.uids.as_ref().is_none_or(|uids| uids.contains(Uid::ROOT));
        let managers = package_managers().filter(|_| root_is_exposed);
        let names: Vec<_> = ["systemd", "sshd"]
            .map(str::to_owned)
            .into_iter()
            .chain(managers)
            .filter(|name| whitelist.names.find(name.as_bytes()).is_none())
            .collect();
        if !names.is_empty() {
            self.warn(list, Concern::NamesFellAway { names });
        }
    }

    fn protected_users(&mut self, list: &List<String>, protect_root: bool) -> BTreeSet<Uid> {
        let users = self.users(list);
        if !protect_root && let Some((_, span)) = users.iter().find(|(uid, _)| *uid == Uid::ROOT) {
            self.warn(span, Concern::RootNotProtected);
        }
        users.into_iter().map(|(uid, _)| uid).collect()
    }
}

/// The names of the default list: v1's five, then package managers.
fn default_names() -> Vec<String> {
    let keys::Whitelist { names, .. } = Keys::defaults();
    names.into_iter().flat_map(|list| list.entries).map(Spanned::into_inner).collect()
}

/// Those of them that v1's list did not have. A file that lists names, as v1's own does, means what it lists, and is warned.
fn package_managers() -> impl Iterator<Item = String> {
    default_names().into_iter().skip(5)
}

/// Whether `name` is a package manager of the default list.
pub(super) fn is_package_manager(name: &str) -> bool {
    package_managers().any(|manager| manager == name)
}

#[cfg(test)]
mod tests {
    use crate::config::tests::warnings;

    #[test]
    fn what_spares_every_process_is_warned_of() {
        const ALL: &str = " matches every process: nothing will be terminated";
        const NONE: &str = "rule a matches every process and terminates none: ";
        for (text, warned) in [
            ("whitelist.cgroups = ['/**']", ALL),
            ("whitelist.units = ['*']", ALL),
            ("whitelist.units = ['*.service', '*.scope']", ALL),
            ("whitelist.exe = ['/**']", ALL),
            ("whitelist.args = ['*']", ALL),
            ("whitelist.uids = ['0-4294967294']", ALL),
            ("whitelist.uids = ['0-999', '1000-4294967294']", ALL),
            ("whitelist.names = ['*']", "\"*\" matches every name: nothing will be terminated"),
            ("[[rule]]\nname = 'a'\nnames = ['*']\nnone = true", NONE),
            ("[[rule]]\nname = 'a'\nnames = ['*']\naction = 'warn'", NONE),
            ("[[rule]]\nname = 'a'\nexe = ['/**']\nuids = ['0-4294967294']\nnone = true", NONE),
        ] {
            assert!(warnings(text).contains(warned), "{text}: {}", warnings(text));
        }
        for text in [
            "whitelist.cgroups = ['/user.slice/**', '/system.slice/*']",
            "whitelist.units = ['*.service']",
            "whitelist.exe = ['/usr/**']",
            "whitelist.args = ['--*']",
            "whitelist.uids = ['0-999']",
            "[[rule]]\nname = 'a'\nnames = ['*']\nuids = ['1000']\nnone = true",
            "[[rule]]\nname = 'a'\nnames = ['*']\nnot = { names = ['x'] }\nnone = true",
            "[[rule]]\nname = 'a'\nnames = ['*']\ngb = 4",
        ] {
            assert!(!warnings(text).contains(" every process"), "{text}: {}", warnings(text));
        }
    }

    #[test]
    fn a_right_that_nobody_has_is_warned_of() {
        assert_eq!(
            warnings("status.exempt = true"),
            "line 1: status.exempt has no effect without status.group\n"
        );
        assert_eq!(warnings("status.exempt = false"), "");
        assert_eq!(warnings("status = { exempt = true, group = 'alice' }"), "");
    }
}

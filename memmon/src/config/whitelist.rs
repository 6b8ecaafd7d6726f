//! `[whitelist]`: which processes are left alone, and what a list of names no longer protects.

use std::{collections::BTreeSet, ops::Range};

use toml::Spanned;

use super::{
    matcher::{WHITELIST, coverage},
    raw,
    resolve::{PID_MAX, default},
    toml_document::List,
    values::Reader,
    warning::Concern,
};
use crate::{
    model::{Pid, Uid},
    policy::{NamePatterns, Scope, Whitelist},
};

impl Reader<'_, '_> {
    pub(super) fn whitelist(&mut self, typed: raw::Whitelist) -> Whitelist {
        let raw::Whitelist { pids, names, users, also, protect_root, honour_oom_score_adj: _ } = typed;
        if let Some(list) = &also.args {
            self.warn(&list.span(), Concern::ArgsAreChosen);
        }
        let lists = [&also.exe, &also.args, &also.uids, &also.cgroups, &also.units];
        let places = [WHITELIST.exe, WHITELIST.args, WHITELIST.uids, WHITELIST.cgroups, WHITELIST.units]
            .into_iter()
            .zip(lists.map(|list| list.as_ref().map(Spanned::span)));
        let places: Vec<_> = places.collect();
        let also = self.matcher(also, &WHITELIST);
        // Each list protects by itself.
        for (key, _) in coverage(&also, &WHITELIST).into_iter().filter(|(_, is_every)| *is_every) {
            let place = places.iter().find_map(|(listed, place)| place.as_ref().filter(|_| *listed == key));
            self.warn(place.unwrap_or(&(0..0)), Concern::EveryProcess { key });
        }
        let protect_root = protect_root.map_or(default::PROTECT_ROOT, Spanned::into_inner);
        Whitelist {
            pids: match pids {
                Some(list) => self.pids(&list),
                None => default::PIDS.map(Pid).into(),
            },
            names: match names {
                Some(list) => self.names(WHITELIST.names, &list),
                None => self.compiled("names", &(0..0), NamePatterns::new(default_names())),
            },
            users: match users {
                Some(list) => self.protected_users(&list, protect_root),
                None => BTreeSet::from([Uid::ROOT]),
            },
            protect_root,
            also,
        }
    }

    fn pids(&mut self, list: &List<i64>) -> BTreeSet<Pid> {
        let mut pids = BTreeSet::new();
        for typed in list.get_ref() {
            match u32::try_from(*typed.get_ref()) {
                Ok(pid @ 1..=PID_MAX) => {
                    if !pids.insert(Pid(pid)) {
                        let entry = pid.to_string();
                        self.warn(&typed.span(), Concern::Duplicate { key: "whitelist.pids", entry });
                    }
                }
                _ => self.refuse("pids", &typed.span(), format!("expected process ids, from 1 to {PID_MAX}")),
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
        let managers = default::PACKAGE_MANAGERS.into_iter().filter(|_| root_is_exposed);
        let names: Vec<_> = ["systemd", "sshd"]
            .into_iter()
            .chain(managers)
            .filter(|name| whitelist.names.find(name.as_bytes()).is_none())
            .collect();
        if !names.is_empty() {
            self.warn(list, Concern::NamesFellAway { names });
        }
    }

    fn protected_users(&mut self, list: &List<String>, protect_root: bool) -> BTreeSet<Uid> {
        let users = self.users("whitelist.users", list);
        if !protect_root && let Some((_, span)) = users.iter().find(|(uid, _)| *uid == Uid::ROOT) {
            self.warn(span, Concern::RootNotProtected);
        }
        users.into_iter().map(|(uid, _)| uid).collect()
    }
}

fn default_names() -> impl Iterator<Item = &'static str> {
    default::NAMES.into_iter().chain(default::PACKAGE_MANAGERS)
}

/// Whether `name` is a package manager of the default list.
pub(super) fn is_package_manager(name: &str) -> bool {
    default::PACKAGE_MANAGERS.contains(&name)
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

//! The audit session of a process: pam_loginuid(8) begins one at each login, and only root can leave it.

use std::io;

use nix::errno::Errno;

use super::{ended, parse};
use crate::model::Fact;

/// The number of the audit session; [`Fact::Absent`] without one.
pub(super) fn session(file: io::Result<Vec<u8>>) -> Fact<u32> {
    match file {
        Ok(text) => match parse::single_value(&text) {
            Some(u32::MAX) => Fact::Absent,
            number => number.map_or(Fact::Unreadable, Fact::Known),
        },
        Err(error) if error.raw_os_error().is_some_and(|number| ended(Errno::from_raw(number))) => {
            Fact::Absent
        }
        Err(_) => Fact::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::super::{Accuracy, ProcRoot};
    use super::*;
    use crate::model::{Bytes, Pid, WantedFacts};

    #[test]
    fn a_daemon_has_no_session_and_what_is_not_wanted_is_not_read() {
        let tree = Tree::new();
        tree.cat(42);
        let read = |root: ProcRoot| {
            root.confirm(Pid(42), None, Bytes::ZERO, &Accuracy::StatmExact).unwrap().facts.session
        };
        let wanted = WantedFacts { session: true, ..WantedFacts::default() };
        assert_eq!(read(tree.root().wanting(wanted)), Fact::Absent, "a kernel without CONFIG_AUDIT");
        for (text, expected) in [
            ("7", Fact::Known(7)),
            ("4294967295", Fact::Absent),
            ("", Fact::Unreadable),
            ("x", Fact::Unreadable),
        ] {
            tree.write("42/sessionid", text);
            assert_eq!(read(tree.root().wanting(wanted)), expected, "{text:?}");
            assert_eq!(read(tree.root()), Fact::Absent);
        }
    }

    #[test]
    fn all_parts_are_read_for_a_sum_and_pages_are_counted_if_asked() {
        let tree = Tree::new();
        tree.cat(42);
        tree.write(
            "42/status",
            "Name:\tcat\nUid:\t1000\t1000\t1000\t1000\nGid:\t1\t1\t1\t1\nGroups:\t\nRssAnon:\t 600 kB\n\
             RssFile:\t 3400 kB\nRssShmem:\t 0 kB\n",
        );
        tree.write("42/smaps_rollup", "Rss: 3900 kB\nAnonymous: 500 kB\n");
        let accuracy = Accuracy::StatmLags { bound: Bytes::from_kib(300) };
        let counts = |exact| {
            let found = tree.root().confirm_for_sum(Pid(42), None, exact, &accuracy, None).unwrap();
            (found.charged_resident(), found.error)
        };
        assert_eq!(counts(false), (Bytes::from_kib(600), Bytes::from_kib(300)));
        assert_eq!(counts(true), (Bytes::from_kib(500), Bytes::ZERO));
    }
}

//! An index of rules: those that may match a process, without asking each. A configuration may have hundreds of rules that
//! each name one program or one user.

use std::collections::HashMap;

use super::Matcher;
use crate::model::{Fact, Name, Process, Uid};

/// The most users that a rule is looked up by; one with more is asked about every process.
const MOST_UIDS: u32 = 16;

/// The rules by what they ask for.
#[derive(Debug, Default)]
pub(super) struct RuleIndex<'a> {
    /// Rules that match only a process with one of these names.
    by_name: HashMap<&'a [u8], Vec<usize>>,
    /// All of those, for a process of which a name is not known.
    named: Vec<usize>,
    /// Rules that match only a process of one of these users.
    by_uid: HashMap<Uid, Vec<usize>>,
    /// The others.
    others: Vec<usize>,
}

impl<'a> RuleIndex<'a> {
    /// An index of the rules with these matchers.
    pub(super) fn new(matchers: impl IntoIterator<Item = &'a Matcher>) -> Self {
        let mut index = Self::default();
        for (place, matcher) in matchers.into_iter().enumerate() {
            if let Some(names) = matcher.names.as_ref().and_then(|names| names.only_literals()) {
                for name in names {
                    index.by_name.entry(name).or_default().push(place);
                }
                index.named.push(place);
            } else if let Some(uids) = matcher.uids.as_ref().and_then(|uids| uids.few(MOST_UIDS)) {
                for uid in uids {
                    index.by_uid.entry(uid).or_default().push(place);
                }
            } else {
                index.others.push(place);
            }
        }
        index
    }

    /// The places of the rules that may match `process`, in their order: none of the others does.
    pub(super) fn may_match(&self, process: &Process) -> Vec<usize> {
        let mut found = self.others.clone();
        let mut of_uid = |uid| found.extend(self.by_uid.get(&uid).into_iter().flatten());
        of_uid(process.real_uid);
        of_uid(process.effective_uid);
        let names = &process.names;
        let is_open = |fact: &Fact<Name>| matches!(fact, Fact::Unreadable | Fact::Withheld);
        if is_open(&names.exe) || is_open(&names.argv0) {
            found.extend(&self.named);
        } else {
            let paths = [&names.exe, &names.argv0].into_iter().filter_map(|fact| fact.known());
            for name in paths.map(Name::basename).chain([names.comm.as_bytes()]) {
                found.extend(self.by_name.get(name).into_iter().flatten());
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

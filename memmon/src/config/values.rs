//! The code that all keys share: numbers in a range, one word of several, lists, and the refusal of each.

use std::{collections::BTreeSet, ops::Range, path::Path};

use super::{
    foreign::{Of, translated},
    problems::Problems,
    several,
    toml_document::List,
    users::Users,
    warning::{Concern, Warning},
};
use crate::{
    model::{Escaped, Uid},
    policy::PatternError,
};

/// Turns typed values into settings, one by one, and notes errors and probable mistakes.
pub(super) struct Reader<'a, 'p> {
    pub(super) users: &'a dyn Users,
    pub(super) problems: &'a mut Problems<'p>,
    pub(super) warnings: Vec<Warning>,
}

impl Reader<'_, '_> {
    pub(super) fn warn(&mut self, span: &Range<usize>, concern: Concern) {
        let file = self.problems.fragment(span).map(Path::to_owned);
        let (_, line) = self.problems.place(span);
        self.warnings.push(Warning { file, line: Some(line), concern });
    }

    /// Notes that `key` cannot be what stands at `span`.
    pub(super) fn refuse(&mut self, key: &str, span: &Range<usize>, help: String) {
        let written = self.problems.quote(span.clone());
        self.problems.add(span.clone(), format!("`{key}` cannot be {written}"), help);
    }

    /// The elements of a list, each with its place and once; a second time is worth a warning.
    pub(super) fn entries<'l>(
        &mut self,
        key: &'static str,
        list: &'l List<String>,
    ) -> Vec<(&'l str, Range<usize>)> {
        let mut seen = BTreeSet::new();
        let mut entries = Vec::new();
        for typed in list.get_ref() {
            let entry = typed.get_ref().as_str();
            if seen.insert(entry) {
                entries.push((entry, typed.span()));
            } else {
                self.warn(&typed.span(), Concern::Duplicate { key, entry: entry.to_owned() });
            }
        }
        entries
    }

    /// The entries that compile; for the others, the reason why they do not.
    pub(super) fn patterns<'l>(
        &mut self,
        key: &'static str,
        of: Of,
        list: &'l List<String>,
        flaw: impl Fn(&str) -> Option<PatternError>,
    ) -> Vec<(&'l str, Range<usize>)> {
        let mut entries = self.entries(key, list);
        entries.retain(|(entry, span)| {
            let foreign = translated(entry, of);
            let Some(error) = flaw(entry) else {
                if let Some(globs) = foreign {
                    self.warn(span, Concern::ForeignPattern { key, entry: (*entry).to_owned(), globs });
                } else if !key.ends_with(".args")
                    && let Some(parts) = several::parts(entry, |part| flaw(part).is_none())
                {
                    let parts = parts.into_iter().map(str::to_owned).collect();
                    self.warn(span, Concern::SeveralInOne { key, entry: (*entry).to_owned(), parts });
                }
                return true;
            };
            let key = key.rsplit('.').next().unwrap_or(key);
            let mut help = error.reason;
            if let Some(globs) = foreign.filter(|globs| !globs.is_empty()) {
                help = format!("{help}; as globs, not as a regular expression: \"{}\"", globs.join("\", \""));
            }
            self.refuse(key, span, Escaped(help.as_bytes()).to_string());
            false
        });
        entries
    }

    /// A whole list of patterns. Were one of them too much all of a sudden, the list must not become an empty one.
    pub(super) fn compiled<T: Default>(
        &mut self,
        key: &str,
        span: &Range<usize>,
        patterns: Result<T, PatternError>,
    ) -> T {
        patterns.unwrap_or_else(|error| {
            self.refuse(key, span, Escaped(error.reason.as_bytes()).to_string());
            T::default()
        })
    }

    /// The users that this machine knows, by name or by uid, which need not be anyone's yet.
    pub(super) fn users(&mut self, key: &'static str, list: &List<String>) -> Vec<(Uid, Range<usize>)> {
        let mut users = Vec::new();
        for (entry, span) in self.entries(key, list) {
            let digits = entry.strip_prefix('-').unwrap_or(entry);
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            let found = if is_number { Ok(uid(entry)) } else { self.users.uid(entry) };
            match found {
                Ok(Some(uid)) => users.push((uid, span)),
                Ok(None) if is_number => {
                    self.refuse(
                        "users",
                        &span,
                        format!("expected a user's name or uid, from 0 to {}", u32::MAX - 1),
                    );
                }
                Ok(None) => self.warn(&span, Concern::UnknownUser { key, name: entry.to_owned() }),
                Err(error) => self.problems.no_answer(entry, error),
            }
        }
        users
    }
}

/// A uid in decimal. The highest number is not a uid: to the kernel it means "unchanged" (setreuid(2)).
pub(super) fn uid(digits: &str) -> Option<Uid> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|uid| plain && *uid != u32::MAX).map(Uid)
}

//! The code that keys share: lists of users and patterns, and the refusal of values.

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

/// Compiles the entries of a list.
pub(super) type Compile<P> = fn(&[&str]) -> Result<P, PatternError>;

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

    /// Refuses those of the `lists` that are empty, which could mean everything or nothing. Returns how many are.
    pub(super) fn refuse_empty(&mut self, lists: &[&Option<List<String>>], help: &str) -> usize {
        let empty = lists.iter().filter_map(|list| list.as_ref()).filter(|list| list.entries.is_empty());
        empty
            .inspect(|list| {
                self.problems.add(list.span.clone(), format!("`{}` is an empty list", list.name()), help);
            })
            .count()
    }

    /// The elements of a list, each with its place and once; a second time is worth a warning.
    pub(super) fn entries<'l>(&mut self, list: &'l List<String>) -> Vec<(&'l str, Range<usize>)> {
        let mut seen = BTreeSet::new();
        let mut entries = Vec::new();
        for typed in &list.entries {
            let entry = typed.get_ref().as_str();
            if seen.insert(entry) {
                entries.push((entry, typed.span()));
            } else {
                self.warn(
                    &typed.span(),
                    Concern::Duplicate { key: list.key.clone(), entry: entry.to_owned() },
                );
            }
        }
        entries
    }

    /// The entries that `compile` takes; for the others, the reason why it does not.
    pub(super) fn patterns<'l, P>(
        &mut self,
        of: Of,
        list: &'l List<String>,
        compile: Compile<P>,
    ) -> Vec<(&'l str, Range<usize>)> {
        let mut entries = self.entries(list);
        entries.retain(|(entry, span)| {
            let foreign = translated(entry, of);
            let key = || list.key.clone();
            let Err(error) = compile(&[entry]) else {
                if let Some(globs) = foreign {
                    self.warn(
                        span,
                        Concern::ForeignPattern { key: key(), entry: (*entry).to_owned(), globs },
                    );
                } else if list.name() != "args"
                    && let Some(parts) = several::parts(entry, |part| compile(&[part]).is_ok())
                {
                    let parts = parts.into_iter().map(str::to_owned).collect();
                    self.warn(span, Concern::SeveralInOne { key: key(), entry: (*entry).to_owned(), parts });
                }
                return true;
            };
            let mut help = error.reason;
            if let Some(globs) = foreign.filter(|globs| !globs.is_empty()) {
                help = format!("{help}; as globs, not as a regular expression: \"{}\"", globs.join("\", \""));
            }
            self.refuse(list.name(), span, Escaped(help.as_bytes()).to_string());
            false
        });
        entries
    }

    /// The `entries` of a list as one. Were they too much together, the list must not become an empty one.
    pub(super) fn compiled<P: Default>(
        &mut self,
        list: &List<String>,
        entries: Vec<(&str, Range<usize>)>,
        compile: Compile<P>,
    ) -> P {
        let entries: Vec<_> = entries.into_iter().map(|(entry, _)| entry).collect();
        compile(&entries).unwrap_or_else(|error| {
            self.refuse(list.name(), &list.span, Escaped(error.reason.as_bytes()).to_string());
            P::default()
        })
    }

    /// A list of patterns. Of a list with an entry that cannot be meant, the others are kept.
    pub(super) fn globs<P: Default>(&mut self, of: Of, list: &List<String>, compile: Compile<P>) -> P {
        let entries = self.patterns(of, list, compile);
        self.compiled(list, entries, compile)
    }

    /// The users that this machine knows, by name or by uid, which need not be anyone's yet.
    pub(super) fn users(&mut self, list: &List<String>) -> Vec<(Uid, Range<usize>)> {
        let mut users = Vec::new();
        for (entry, span) in self.entries(list) {
            let digits = entry.strip_prefix('-').unwrap_or(entry);
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            let found = if is_number { Ok(uid(entry)) } else { self.users.uid(entry) };
            match found {
                Ok(Some(uid)) => users.push((uid, span)),
                Ok(None) if is_number => {
                    let help = format!("expected a user's name or uid, from 0 to {}", u32::MAX - 1);
                    self.refuse(list.name(), &span, help);
                }
                Ok(None) => {
                    self.warn(&span, Concern::UnknownUser { key: list.key.clone(), name: entry.to_owned() });
                }
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

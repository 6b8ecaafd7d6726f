//! A TOML document that is emptied key by key: to ask for a key is to declare it, and a key that was not asked for is
//! unknown.
//! Several files make one document: their lists of sections follow each other, and any other key stands in one of them.

use std::{mem, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::quotable,
    hints::{self, Key, Known},
    problems::Problems,
};
use crate::model::Escaped;

/// The section whose keys may not be spread over files: one that adds a user to those of another file would widen it.
const ONCE: &str = "scope";

/// The document, less the sections that were taken.
#[derive(Default)]
pub(super) struct Document<'t> {
    /// The rest of each file, in order.
    rest: Vec<DeTable<'t>>,
    known: Vec<(&'static str, Vec<Key>)>,
    /// The known sections that are written `[[name]]`.
    repeated: Vec<&'static str>,
    strays: Vec<Stray>,
}

/// A key in a section that has no key of this name.
struct Stray {
    section: Option<&'static str>,
    key: String,
    span: Range<usize>,
    is_table: bool,
}

impl<'t> Document<'t> {
    /// Adds the `text` of a file, which starts at the place `start`. If its syntax is broken, reports that and goes on without
    /// it, because what is left of a broken one would give rise to misleading complaints.
    pub(super) fn add(&mut self, text: &'t str, start: usize, problems: &mut Problems<'_>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let span = error.span().unwrap_or(text.len()..text.len());
            let (what, help) = syntax(error.message(), span.is_empty());
            problems.add(span.start + start..span.end + start, what, help);
        }
        if errors.is_empty() {
            self.rest.push(moved_table(table.into_inner(), start));
        }
    }

    /// Takes the section `name`: what `read` makes of it, and where its heading stands if there is nothing below it.
    pub(super) fn section<T>(
        &mut self,
        name: &'static str,
        problems: &mut Problems<'_>,
        read: impl FnOnce(&mut Section<'t, '_, '_>) -> T,
    ) -> (T, Option<Range<usize>>) {
        let (mut empty, mut first) = (None, None);
        let mut rest = DeTable::new();
        for (key, value) in self.rest.iter_mut().filter_map(|file| file.remove_entry(name)) {
            match first.replace(key.span()).filter(|_| name == ONCE) {
                None => {}
                Some(first) => {
                    let help = format!(
                        "{}, and one file decides which processes memmon may touch",
                        problems.stands_at(&first)
                    );
                    problems.add(key.span(), format!("[{name}] stands in two files"), help);
                }
            }
            match value.into_inner() {
                DeValue::Table(table) if table.is_empty() => empty = Some(key.span()),
                DeValue::Table(table) => merge(name, &mut rest, table, problems),
                _ => problems.add(
                    key.span(),
                    format!("`{name}` is a section"),
                    format!("write [{name}] on a line of its own, once, and its keys below"),
                ),
            }
        }
        empty = empty.filter(|_| rest.is_empty());
        let mut section = Section { rest, known: Vec::new(), problems };
        let value = read(&mut section);
        let Section { rest, known, problems: _ } = section;
        self.known.push((name, known));
        self.strays.extend(strays(Some(name), rest));
        (value, empty)
    }

    /// Takes all sections `[[name]]`: what `read` makes of each, and where its heading stands.
    pub(super) fn sections<T>(
        &mut self,
        name: &'static str,
        problems: &mut Problems<'_>,
        mut read: impl FnMut(&mut Section<'t, '_, '_>) -> T,
    ) -> Vec<(T, Range<usize>)> {
        let mut tables = Vec::new();
        for (key, value) in self.rest.iter_mut().filter_map(|file| file.remove_entry(name)) {
            let help =
                format!("write [[{name}]] on a line of its own, as often as needed, and its keys below");
            let span = value.span();
            match value.into_inner() {
                DeValue::Array(elements) => {
                    for element in elements {
                        let place = element.span();
                        match element.into_inner() {
                            DeValue::Table(table) => tables.push((table, place)),
                            _ => problems.add(place, format!("`{name}` is a list of sections"), &*help),
                        }
                    }
                }
                DeValue::Table(table) => {
                    problems.add(key.span(), format!("there may be several of `{name}`"), help);
                    tables.push((table, span));
                }
                _ => problems.add(key.span(), format!("`{name}` is a section"), help),
            }
        }
        let mut keys = Vec::new();
        let mut values = Vec::new();
        for (rest, place) in tables {
            let mut section = Section { rest, known: Vec::new(), problems };
            values.push((read(&mut section), place));
            let Section { rest, known, problems: _ } = section;
            keys = known;
            self.strays.extend(strays(Some(name), rest));
        }
        if keys.is_empty() {
            // The keys that exist are known once one has been read.
            let mut section = Section { rest: DeTable::new(), known: Vec::new(), problems };
            read(&mut section);
            keys = section.known;
        }
        self.known.push((name, keys));
        self.repeated.push(name);
        values
    }

    /// Says of everything that is left that it is unknown, and what it might have been meant to be.
    pub(super) fn finish(self, problems: &mut Problems<'_>) {
        let Self { rest, known, repeated, strays: inside } = self;
        let heading =
            |name: &str| if repeated.contains(&name) { format!("[[{name}]]") } else { format!("[{name}]") };
        let known: Vec<_> = known
            .into_iter()
            .map(|(section, keys)| Known { section, heading: heading(section), keys })
            .collect();
        for stray in inside.into_iter().chain(rest.into_iter().flat_map(|file| strays(None, file))) {
            let key = quotable(&stray.key);
            let what = match stray.section {
                Some(section) => format!("unknown key `{key}` in {}", heading(section)),
                None if stray.is_table => format!("unknown section [{key}]"),
                None => format!("`{key}` stands outside of any section"),
            };
            let Stray { section, key, is_table, span } = stray;
            let advice = hints::advice(&hints::Stray { section, key: &key, is_table }, &known);
            problems.add(span, what, advice);
        }
    }
}

/// Adds the keys that another file has in the section `name`. None of them may be there already: which of the two would
/// count depended on the names of the files.
fn merge<'t>(name: &str, section: &mut DeTable<'t>, other: DeTable<'t>, problems: &mut Problems<'_>) {
    for (key, value) in other {
        let Some((first, _)) = section.get_key_value(&key) else {
            section.insert(key, value);
            continue;
        };
        let help = format!("{}: remove one of the two", problems.stands_at(&first.span()));
        problems.add(
            key.span(),
            format!("`{}` in [{name}] is set in two files", quotable(key.get_ref())),
            help,
        );
    }
}

/// `table`, as it stands `by` bytes further on.
fn moved_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    if by == 0 {
        return table;
    }
    table.into_iter().map(|(key, value)| (moved(key, by), moved_value(value, by))).collect()
}

fn moved_value(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let mut value = moved(value, by);
    let inner = value.get_mut();
    *inner = match mem::replace(inner, DeValue::Boolean(false)) {
        DeValue::Table(table) => DeValue::Table(moved_table(table, by)),
        DeValue::Array(elements) => {
            DeValue::Array(elements.into_iter().map(|element| moved_value(element, by)).collect())
        }
        other => other,
    };
    value
}

fn moved<T>(value: Spanned<T>, by: usize) -> Spanned<T> {
    let span = value.span();
    Spanned::new(span.start + by..span.end + by, value.into_inner())
}

/// The parser's message in two parts: what is wrong, and what is expected. Where it guesses, for an administrator.
fn syntax(message: &str, nothing_there: bool) -> (String, String) {
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let (what, help) = match what {
        "string values must be quoted" if nothing_there => ("a value is missing", "write it after the `=`"),
        "string values must be quoted" => {
            (what, "expected a number, true, false, a list, or a string in quotes")
        }
        "duplicate key" => (what, "it stands above already: remove one of the two"),
        _ if expected.is_empty() => (what, ""),
        _ => (what, &*format!("expected {expected}")),
    };
    let escaped = |text: &str| Escaped(text.as_bytes()).to_string();
    (format!("not valid TOML: {}", escaped(what)), escaped(help))
}

/// The keys that are left in `rest`.
fn strays(section: Option<&'static str>, rest: DeTable<'_>) -> impl Iterator<Item = Stray> {
    rest.into_iter().map(move |(key, value)| Stray {
        section,
        span: key.span(),
        key: key.into_inner().into_owned(),
        is_table: match value.get_ref() {
            DeValue::Table(_) => true,
            DeValue::Array(elements) => elements.iter().any(|element| element.get_ref().is_table()),
            _ => false,
        },
    })
}

/// A section, less the keys that were taken.
pub(super) struct Section<'t, 'p, 's> {
    rest: DeTable<'t>,
    known: Vec<Key>,
    problems: &'p mut Problems<'s>,
}

/// A list as it was written: where, and each element with its own place.
pub(super) type List<T> = Spanned<Vec<Spanned<T>>>;

impl Section<'_, '_, '_> {
    /// Takes `key`, if it is there and of the right kind.
    pub(super) fn take<T>(&mut self, key: &'static str, kind: &Kind<T>) -> Option<Spanned<T>> {
        self.known.push(Key { name: key, is_list: false });
        let value = self.rest.remove(key)?;
        self.read(key, &value, kind)
    }

    /// Takes `key`, which names processes as a list does: to hints it is one.
    pub(super) fn take_listing<T>(&mut self, key: &'static str, kind: &Kind<T>) -> Option<Spanned<T>> {
        self.known.push(Key { name: key, is_list: true });
        let value = self.rest.remove(key)?;
        self.read(key, &value, kind)
    }

    /// Takes `key`, a list; elements of the wrong kind are complained of, each for itself.
    pub(super) fn take_list<T>(&mut self, key: &'static str, kind: &Kind<T>) -> Option<List<T>> {
        self.known.push(Key { name: key, is_list: true });
        let value = self.rest.remove(key)?;
        let DeValue::Array(elements) = value.get_ref() else {
            let found = with_article(value.get_ref());
            let help = if (kind.read)(value.get_ref()).is_ok() {
                format!("write it in brackets: [{}]", self.problems.quote(value.span()))
            } else {
                format!("expected a list, each element {}", kind.expected)
            };
            self.problems.add(value.span(), format!("`{key}` is {found}, not a list"), help);
            return None;
        };
        let read: Vec<_> = elements.iter().filter_map(|element| self.read(key, element, kind)).collect();
        // A list of which nothing could be read is not an empty one.
        (elements.is_empty() || !read.is_empty()).then(|| Spanned::new(value.span(), read))
    }

    /// Takes `key`, a table inside of this section: what `read` makes of it. `example`: what may be in it.
    pub(super) fn take_table<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&mut Section<'_, '_, '_>) -> T,
    ) -> Option<T> {
        self.known.push(Key { name: key, is_list: false });
        let value = self.rest.remove(key)?;
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            let help = format!("write {key} = {{ {example} }}, with the keys that this section has, too");
            self.problems.add(span, format!("`{key}` is no table"), help);
            return None;
        };
        let mut inner = Section { rest: table, known: Vec::new(), problems: &mut *self.problems };
        let taken = read(&mut inner);
        let Section { rest, known, problems } = inner;
        for (stray, _) in rest {
            let keys: Vec<_> = known.iter().map(|key| key.name).collect();
            let what = format!("unknown key `{}` in `{key}`", quotable(stray.get_ref()));
            let help = hints::within(stray.get_ref(), keys.iter().copied())
                .unwrap_or_else(|| format!("expected one of: {}", keys.join(", ")));
            problems.add(stray.span(), what, help);
        }
        Some(taken)
    }

    fn read<T>(&mut self, key: &str, value: &Spanned<DeValue<'_>>, kind: &Kind<T>) -> Option<Spanned<T>> {
        let written = self.problems.quote(value.span());
        let (what, help) = match (kind.read)(value.get_ref()) {
            Ok(read) => return Some(Spanned::new(value.span(), read)),
            Err(Mismatch::TooLarge) => {
                (format!("`{key}` cannot be {written}"), format!("expected {}", kind.expected))
            }
            Err(Mismatch::Type) => {
                let found = with_article(value.get_ref());
                let unquoted = value.get_ref().as_str().and_then(|text| DeValue::parse(text).ok());
                let help = if unquoted.is_some_and(|value| (kind.read)(value.get_ref()).is_ok()) {
                    format!("expected {}: write it without quotes", kind.expected)
                } else if (kind.read)(&DeValue::String("".into())).is_ok() && value.get_ref().is_integer() {
                    format!("expected {}: write \"{written}\"", kind.expected)
                } else {
                    format!("expected {}", kind.expected)
                };
                (format!("`{key}` cannot be {found}"), help)
            }
        };
        self.problems.add(value.span(), what, help);
        None
    }
}

/// A kind of value: its description, and the check for it.
pub(super) struct Kind<T> {
    expected: &'static str,
    read: fn(&DeValue<'_>) -> Result<T, Mismatch>,
}

/// The reason why a value is not of a kind.
enum Mismatch {
    Type,
    TooLarge,
}

/// An integer or a float, not necessarily finite.
pub(super) const NUMBER: Kind<f64> = Kind {
    expected: "a number",
    read: |value| match value {
        // Rust's parser takes TOML's `inf`, `nan` and signs; underscores are gone already.
        DeValue::Float(float) => float.as_str().parse().map_err(|_| Mismatch::TooLarge),
        DeValue::Integer(_) => (INTEGER.read)(value).map(|integer| integer as f64),
        _ => Err(Mismatch::Type),
    },
};

/// An integer of 64 bits.
pub(super) const INTEGER: Kind<i64> = Kind {
    expected: "an integer",
    read: |value| {
        let integer = value.as_integer().ok_or(Mismatch::Type)?;
        i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| Mismatch::TooLarge)
    },
};

/// `true` or `false`.
pub(super) const BOOLEAN: Kind<bool> =
    Kind { expected: "true or false", read: |value| value.as_bool().ok_or(Mismatch::Type) };

/// A string, in quotes.
pub(super) const STRING: Kind<String> =
    Kind { expected: "a string", read: |value| value.as_str().map(str::to_owned).ok_or(Mismatch::Type) };

/// A time of day: a string, or TOML's own local time.
pub(super) const TIME: Kind<String> = Kind {
    expected: "a time of day in quotes, \"09:00\"",
    read: |value| match value {
        DeValue::Datetime(datetime) if datetime.date.is_none() => Ok(datetime.to_string()),
        _ => (STRING.read)(value),
    },
};

/// A span of time, in seconds: a number of them, or one with its unit, "500ms", "10s", "2m", "1h".
pub(super) const SPAN: Kind<f64> = Kind {
    expected: "a number of seconds, or a time with its unit, \"10s\", \"2m\"",
    read: |value| {
        let Some(text) = value.as_str() else { return (NUMBER.read)(value) };
        let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("min", 60.0), ("h", 3600.0)];
        let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = units.iter().find(|(unit, _)| Some(*unit) == text.strip_prefix(number));
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let seconds = number.parse::<f64>().ok().filter(|_| is_plain);
        seconds.zip(unit).map(|(seconds, (_, unit))| seconds * unit).ok_or(Mismatch::Type)
    },
};

fn with_article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

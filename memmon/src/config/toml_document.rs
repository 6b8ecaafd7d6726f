//! A TOML document that is emptied section by section, by the rows of the table of keys. A key without a row is unknown.
//! Several files make one document: their lists of sections follow each other, and any other key stands in one of them.

use std::{mem, ops::Range, path::PathBuf, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::quotable,
    hints,
    key::{Key, Kind, Section, Shown},
    kinds::{LogLevel, Mismatch, Value},
    problems::Problems,
};
use crate::model::{Escaped, GearChoice, Listen, LogFormat, Measure, SourceChoice};

/// The section whose keys may not be spread over files: one that adds a user to those of another file would widen it.
const ONCE: &str = "scope";

/// The document, less the sections that were taken.
#[derive(Default)]
pub(super) struct Document<'t> {
    /// The rest of each file, in order.
    rest: Vec<DeTable<'t>>,
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

    /// Takes the section `S`. Returns also where its heading stands if there is nothing below it.
    pub(super) fn section<S: Keys>(&mut self, problems: &mut Problems<'_>) -> (S, Option<Range<usize>>) {
        let name = section::<S>().name;
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
        (self.read(name, rest, problems), empty)
    }

    fn read<S: Keys>(&mut self, name: &'static str, rest: DeTable<'t>, problems: &mut Problems<'_>) -> S {
        let mut taken = Taken { path: name.to_owned(), rest, problems };
        let section = S::take(&mut taken);
        self.strays.extend(strays(Some(name), taken.rest));
        section
    }

    /// Takes all sections `S`. Returns each with the place of its heading.
    pub(super) fn sections<S: Keys>(&mut self, problems: &mut Problems<'_>) -> Vec<(S, Range<usize>)> {
        let name = section::<S>().name;
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
        let read = |(table, place): (DeTable<'t>, Range<usize>)| {
            let values: Vec<_> =
                table.iter().map(|(key, value)| (key.get_ref().to_string(), value.span())).collect();
            let (known, strays) = (problems.count(), self.strays.len());
            let section = self.read(name, table, problems);
            let refused = values.into_iter().filter(|(_, span)| problems.is_any_since(known, span));
            let unknown = self.strays.iter().skip(strays).map(|stray| stray.key.clone());
            let failed = refused.map(|(key, _)| key).chain(unknown).collect();
            problems.note_failed(&place, failed);
            (section, place)
        };
        tables.into_iter().map(read).collect()
    }

    /// Reports everything that is left as unknown, with what it might have been meant to be of the `known` sections.
    pub(super) fn finish(self, known: &[Section], problems: &mut Problems<'_>) {
        let Self { rest, strays: inside } = self;
        for stray in inside.into_iter().chain(rest.into_iter().flat_map(|file| strays(None, file))) {
            let key = quotable(&stray.key);
            let here = known.iter().find(|known| Some(known.name) == stray.section);
            let what = match here {
                Some(section) => format!("unknown key `{key}` in {}", section.heading),
                None if stray.is_table => format!("unknown section [{key}]"),
                None => format!("`{key}` stands outside of any section"),
            };
            let Stray { section, key, is_table, span } = stray;
            let advice = hints::advice(&hints::Stray { section, key: &key, is_table }, known);
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

/// The keys of a section, or of a table within one: a struct that the table of keys defines.
pub(super) trait Keys: Sized {
    /// The heading; empty for keys that no section has by itself.
    const HEADING: &'static str;
    /// The purpose of the section.
    const ABOUT: &'static str;

    fn keys() -> Vec<&'static Key>;

    fn take(section: &mut Taken<'_, '_, '_>) -> Self;

    /// The value of each key in the language of the file; `None` if it has no value.
    fn shown(&self) -> Vec<Option<String>>;

    /// The keys as they are in a file in which each has its default.
    fn defaults() -> Self {
        let value = |key: &'static Key| match key.value {
            Shown::Default(text) => Some((Spanned::new(0..0, key.name.into()), DeValue::parse(text).ok()?)),
            Shown::Example(_) => None,
        };
        let rest = Self::keys().into_iter().filter_map(value).collect();
        Self::take(&mut Taken { path: String::new(), rest, problems: &mut Problems::default() })
    }
}

/// The row of a section in the table.
pub(super) fn section<S: Keys>() -> Section {
    let name = S::HEADING.trim_matches(['[', ']']);
    Section { name, heading: S::HEADING, about: S::ABOUT, keys: S::keys() }
}

/// A section, less the keys that were taken.
pub(super) struct Taken<'t, 'p, 's> {
    /// Its name.
    path: String,
    rest: DeTable<'t>,
    problems: &'p mut Problems<'s>,
}

/// A value that was written, with its place; `None` if it was not, or if it could not be read.
pub(super) type Given<T> = Option<Spanned<T>>;

/// A list as it was written.
#[derive(Debug)]
pub(super) struct List<T> {
    /// The key, with its section.
    pub(super) key: String,
    pub(super) span: Range<usize>,
    /// Each with its own place.
    pub(super) entries: Vec<Spanned<T>>,
}

impl<T> List<T> {
    /// The key without its section.
    pub(super) fn name(&self) -> &str {
        self.key.rsplit('.').next().unwrap_or_default()
    }
}

/// The type of a field that a key fills.
pub(super) trait Field: Sized {
    const KIND: Kind;

    fn take(key: &'static Key, section: &mut Taken<'_, '_, '_>) -> Self;

    fn shown(&self, key: &Key) -> Option<String>;
}

const fn kind<T: Value>(is_list: bool) -> Kind {
    Kind { what: T::WHAT, is_list, words: T::words, keys: Vec::new }
}

impl<T: Value> Field for Given<T> {
    const KIND: Kind = kind::<T>(false);

    fn take(key: &'static Key, section: &mut Taken<'_, '_, '_>) -> Self {
        let value = section.rest.remove(key.name)?;
        section.read(key, &value)
    }

    fn shown(&self, _: &Key) -> Option<String> {
        self.as_ref().map(|typed| typed.get_ref().shown())
    }
}

/// Elements of the wrong kind are reported, each by itself.
impl<T: Value> Field for Option<List<T>> {
    const KIND: Kind = kind::<T>(true);

    fn take(key: &'static Key, section: &mut Taken<'_, '_, '_>) -> Self {
        let value = section.rest.remove(key.name)?;
        let DeValue::Array(elements) = value.get_ref() else {
            let found = with_article(value.get_ref());
            let help = if T::read(value.get_ref(), key).is_ok() {
                format!("write it in brackets: [{}]", section.problems.quote(value.span()))
            } else {
                format!("expected a list, each element {}", T::WHAT)
            };
            section.problems.add(value.span(), format!("`{}` is {found}, not a list", key.name), help);
            return None;
        };
        let read: Vec<_> = elements.iter().filter_map(|element| section.read(key, element)).collect();
        // A list of which nothing could be read is not an empty one.
        let is_read = elements.is_empty() || !read.is_empty();
        let key = format!("{}.{}", section.path, key.name);
        is_read.then(|| List { key, span: value.span(), entries: read })
    }

    fn shown(&self, _: &Key) -> Option<String> {
        let elements = self.as_ref()?.entries.iter().map(|element| element.get_ref().shown());
        Some(format!("[{}]", elements.collect::<Vec<_>>().join(", ")))
    }
}

/// A table within a section.
impl<K: Keys> Field for Option<K> {
    const KIND: Kind = Kind { what: "a table", is_list: false, words: Vec::new, keys: K::keys };

    fn take(key: &'static Key, section: &mut Taken<'_, '_, '_>) -> Self {
        let value = section.rest.remove(key.name)?;
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            let (Shown::Default(example) | Shown::Example(example)) = key.value;
            let help = format!("write {} = {example}, with the keys that this section has, too", key.name);
            section.problems.add(span, format!("`{}` is no table", key.name), help);
            return None;
        };
        let path = format!("{}.{}", section.path, key.name);
        let mut inner = Taken { path, rest: table, problems: &mut *section.problems };
        let taken = K::take(&mut inner);
        let Taken { path: _, rest, problems } = inner;
        for (stray, _) in rest {
            let keys: Vec<_> = K::keys().iter().map(|key| key.name).collect();
            let what = format!("unknown key `{}` in `{}`", quotable(stray.get_ref()), key.name);
            let help = hints::within(stray.get_ref(), keys.iter().copied())
                .unwrap_or_else(|| format!("expected one of: {}", keys.join(", ")));
            problems.add(stray.span(), what, help);
        }
        Some(taken)
    }

    fn shown(&self, _: &Key) -> Option<String> {
        let keys = K::keys().into_iter().zip(self.as_ref()?.shown());
        let keys = keys.filter_map(|(key, value)| Some(format!("{} = {}", key.name, value?)));
        Some(format!("{{ {} }}", keys.collect::<Vec<_>>().join(", ")))
    }
}

/// Kinds whose fields have the default if the key is left out.
macro_rules! with_default {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            const KIND: Kind = kind::<Self>(false);

            fn take(key: &'static Key, section: &mut Taken<'_, '_, '_>) -> Self {
                let typed: Given<Self> = Field::take(key, section);
                let default = || match key.value {
                    // A test reads every default.
                    Shown::Default(text) => DeValue::parse(text).ok().and_then(|value| Self::read(value.get_ref(), key).ok()),
                    Shown::Example(_) => None,
                };
                typed.map(Spanned::into_inner).or_else(default).unwrap_or_default()
            }

            /// A value that the key cannot have, such as 0 processes, stands for none.
            fn shown(&self, key: &Key) -> Option<String> {
                let text = Value::shown(self);
                let value = DeValue::parse(&text).ok()?;
                Self::read(value.get_ref(), key).is_ok().then(|| text.clone())
            }
        }
    )*};
}

with_default!(
    bool,
    u32,
    f64,
    Duration,
    Option<f64>,
    Option<u32>,
    Option<PathBuf>,
    Option<Listen>,
    GearChoice,
    LogFormat,
    LogLevel,
    Measure,
    SourceChoice
);

impl Taken<'_, '_, '_> {
    fn read<T: Value>(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) -> Given<T> {
        let name = key.name;
        let written = self.problems.quote(value.span());
        let (what, help, instead) = match T::read(value.get_ref(), key) {
            Ok(read) => return Some(Spanned::new(value.span(), read)),
            Err(Mismatch::Refused(help, instead)) => (format!("`{name}` cannot be {written}"), help, instead),
            Err(Mismatch::TooLarge) => {
                (format!("`{name}` cannot be {written}"), format!("expected {}", T::WHAT), None)
            }
            Err(Mismatch::Type) => {
                let found = with_article(value.get_ref());
                let is_number = T::WHAT == f64::WHAT || T::WHAT == u32::WHAT;
                let unquoted = value.get_ref().as_str().and_then(|text| DeValue::parse(text).ok());
                let help = if unquoted.is_some_and(|value| T::read(value.get_ref(), key).is_ok()) {
                    format!("expected {}: write it without quotes", T::WHAT)
                } else if T::WHAT == String::WHAT && value.get_ref().is_integer() {
                    format!("expected {}: write \"{written}\"", T::WHAT)
                } else if let Some(range) = key.range().filter(|_| is_number) {
                    // So that nobody takes the unit away and leaves the number: "512 MB".
                    format!("expected {}: {range}", T::WHAT)
                } else {
                    format!("expected {}", T::WHAT)
                };
                (format!("`{name}` cannot be {found}"), help, None)
            }
        };
        self.problems.add(value.span(), what, help);
        instead.map(|instead| Spanned::new(value.span(), instead))
    }
}

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

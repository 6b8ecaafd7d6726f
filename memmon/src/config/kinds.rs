//! The kinds of values: how each is read, checked against the row of its key, and written.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use toml::de::DeValue;

use super::{
    hints::{LONGEST, nearest},
    key::{Allowed, Key},
    schedule::Minute,
};
use crate::{
    model::{
        Action, Escaped, GearChoice, Listen, LogFormat, Measure, NotifyUser, Per, RuleName, Signal,
        SourceChoice, words,
    },
    policy::Strike,
};

/// A kind of value that a key or an element of a list can have.
pub(super) trait Value: Sized {
    /// The kind with an article.
    const WHAT: &'static str;

    /// Reads `value`, which must also be one that `key` allows.
    fn read(value: &DeValue<'_>, key: &Key) -> Result<Self, Mismatch<Self>>;

    /// The value in the language of the file.
    fn shown(&self) -> String;

    /// The words of which it is one.
    fn words() -> Vec<&'static str> {
        Vec::new()
    }
}

/// The reason why a value cannot be taken.
pub(super) enum Mismatch<T> {
    /// Another kind.
    Type,
    TooLarge,
    /// The text for the user, and a value to go on with, so that no further problem follows from this one.
    Refused(String, Option<T>),
}

fn refused<T>(help: &str) -> Mismatch<T> {
    Mismatch::Refused(Escaped(help.as_bytes()).to_string(), None)
}

/// `number` if `key` allows it.
fn allowed(number: f64, key: &Key) -> Result<f64, Mismatch<f64>> {
    match key.allowed {
        Allowed::Range { zero: Some(_), .. } if number == 0.0 => Ok(number),
        Allowed::Range { from, to, .. } if !(from..=to).contains(&number) => {
            let help = format!("expected {}", key.range().unwrap_or_default());
            Err(Mismatch::Refused(help, Some(number.max(from).min(to))))
        }
        _ => Ok(number),
    }
}

impl<T> Mismatch<T> {
    fn map<U>(self, with: impl Fn(T) -> U) -> Mismatch<U> {
        match self {
            Self::Type => Mismatch::Type,
            Self::TooLarge => Mismatch::TooLarge,
            Self::Refused(help, instead) => Mismatch::Refused(help, instead.map(with)),
        }
    }
}

/// An integer or a float.
impl Value for f64 {
    const WHAT: &'static str = "a number";

    fn read(value: &DeValue<'_>, key: &Key) -> Result<Self, Mismatch<Self>> {
        let number = match value {
            // Rust's parser takes TOML's `inf`, `nan` and signs; underscores are gone already.
            DeValue::Float(float) => float.as_str().parse().map_err(|_| Mismatch::TooLarge)?,
            DeValue::Integer(_) => integer(value)? as Self,
            _ => return Err(Mismatch::Type),
        };
        allowed(number, key)
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

fn integer<T>(value: &DeValue<'_>) -> Result<i64, Mismatch<T>> {
    let integer = value.as_integer().ok_or(Mismatch::Type)?;
    i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| Mismatch::TooLarge)
}

/// An integer; every range is within 32 bits.
impl Value for u32 {
    const WHAT: &'static str = "an integer";

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the number is in the range of the key"
    )]
    fn read(value: &DeValue<'_>, key: &Key) -> Result<Self, Mismatch<Self>> {
        let number = integer(value)? as f64;
        allowed(number, key).map(|number| number as Self).map_err(|error| error.map(|number| number as Self))
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Value for u16 {
    const WHAT: &'static str = u32::WHAT;

    fn read(value: &DeValue<'_>, key: &Key) -> Result<Self, Mismatch<Self>> {
        let small = |number| Self::try_from(number).unwrap_or(Self::MAX);
        u32::read(value, key).map(small).map_err(|error| error.map(small))
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

/// Seconds.
impl Value for Duration {
    const WHAT: &'static str = f64::WHAT;

    fn read(value: &DeValue<'_>, key: &Key) -> Result<Self, Mismatch<Self>> {
        let time = |seconds| Self::try_from_secs_f64(seconds).unwrap_or_default();
        f64::read(value, key).map(time).map_err(|error| error.map(time))
    }

    fn shown(&self) -> String {
        self.as_secs_f64().to_string()
    }
}

/// A number, or 0 for none.
impl<T: Value + Copy + PartialEq + Default> Value for Option<T> {
    const WHAT: &'static str = T::WHAT;

    fn read(value: &DeValue<'_>, key: &Key) -> Result<Self, Mismatch<Self>> {
        let number = T::read(value, key).map_err(|error| error.map(Some))?;
        Ok(Some(number).filter(|number| *number != T::default()))
    }

    fn shown(&self) -> String {
        self.unwrap_or_default().shown()
    }
}

/// A span of time in seconds: a number of them, or one with its unit, "500ms", "10s", "2m", "1h".
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span(pub(super) Duration);

impl Value for Span {
    const WHAT: &'static str = "a number of seconds, or a time with its unit, \"10s\", \"2m\"";

    fn read(value: &DeValue<'_>, key: &Key) -> Result<Self, Mismatch<Self>> {
        let Some(text) = value.as_str() else {
            return Duration::read(value, key).map(Self).map_err(|error| error.map(Self));
        };
        let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("min", 60.0), ("h", 3600.0)];
        let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = units.iter().find(|(unit, _)| Some(*unit) == text.strip_prefix(number));
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let seconds = number.parse::<f64>().ok().filter(|_| is_plain);
        let (seconds, (_, unit)) = seconds.zip(unit).ok_or(Mismatch::Type)?;
        let time = |seconds| Self(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        allowed(seconds * unit, key).map(time).map_err(|error| error.map(time))
    }

    fn shown(&self) -> String {
        self.0.shown()
    }
}

impl Value for bool {
    const WHAT: &'static str = "true or false";

    fn read(value: &DeValue<'_>, _: &Key) -> Result<Self, Mismatch<Self>> {
        value.as_bool().ok_or(Mismatch::Type)
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    const WHAT: &'static str = "a string";

    fn read(value: &DeValue<'_>, _: &Key) -> Result<Self, Mismatch<Self>> {
        value.as_str().map(str::to_owned).ok_or(Mismatch::Type)
    }

    /// A basic string of TOML; what [`Escaped`] would escape is escaped, in TOML's way.
    fn shown(&self) -> String {
        let mut string = Self::from("\"");
        for character in self.chars() {
            match character {
                '"' | '\\' => string.extend(['\\', character]),
                _ if Escaped(character.encode_utf8(&mut [0; 4]).as_bytes()).to_string().starts_with('\\') => {
                    string.push_str(&format!("\\U{:08x}", u32::from(character)));
                }
                _ => string.push(character),
            }
        }
        string + "\""
    }
}

/// The text `value`, as `parse` understands it, or the help for the user.
fn text<T>(
    value: &DeValue<'_>,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Result<T, Mismatch<T>> {
    parse(value.as_str().ok_or(Mismatch::Type)?).map_err(refused)
}

/// A time of day: a string, or TOML's own local time. `None` goes on for a text that is none.
impl Value for Option<Minute> {
    const WHAT: &'static str = "a time of day in quotes, \"09:00\"";

    fn read(value: &DeValue<'_>, _: &Key) -> Result<Self, Mismatch<Self>> {
        let time = match value {
            DeValue::Datetime(time) if time.date.is_none() => time.to_string(),
            _ => value.as_str().ok_or(Mismatch::Type)?.to_owned(),
        };
        let help = || "expected a time of day, \"09:00\" to \"24:00\"".to_owned();
        Minute::parse(&time).map(Some).ok_or_else(|| Mismatch::Refused(help(), Some(None)))
    }

    fn shown(&self) -> String {
        self.unwrap_or(Minute::START).to_string().shown()
    }
}

/// A file; the empty string is none.
impl Value for Option<PathBuf> {
    const WHAT: &'static str = String::WHAT;

    fn read(value: &DeValue<'_>, key: &Key) -> Result<Self, Mismatch<Self>> {
        text(value, |path| match &key.allowed {
            _ if path.is_empty() => Ok(None),
            _ if path.contains('\0') => Err("no path can hold a NUL"),
            Allowed::Ending(ending) if !path.starts_with('/') || !path.ends_with(ending) => {
                Err("expected a path from the root that ends in .prom, which is all that node_exporter reads")
            }
            _ if !path.starts_with('/') => {
                Err("expected a path from the root, \"/var/log/…\", or \"\" for no file")
            }
            _ if path.ends_with('/') => Err("expected a file, not a directory"),
            _ => Ok(Some(path.into())),
        })
    }

    /// The configuration takes no path that is not UTF-8.
    fn shown(&self) -> String {
        self.as_deref().and_then(|path| path.to_str()).unwrap_or_default().to_owned().shown()
    }
}

/// An address to listen on; the empty string is none.
impl Value for Option<Listen> {
    const WHAT: &'static str = String::WHAT;

    fn read(value: &DeValue<'_>, _: &Key) -> Result<Self, Mismatch<Self>> {
        let help =
            "expected an address of this machine only, \"127.0.0.1:9819\", or a socket's path from the root";
        text(value, |text| match text {
            "" => Ok(None),
            _ => Listen::parse(text).map(Some).ok_or(help),
        })
    }

    fn shown(&self) -> String {
        self.as_ref().map(ToString::to_string).unwrap_or_default().shown()
    }
}

impl Value for RuleName {
    const WHAT: &'static str = String::WHAT;

    fn read(value: &DeValue<'_>, _: &Key) -> Result<Self, Mismatch<Self>> {
        let typed = value.as_str().ok_or(Mismatch::Type)?;
        let help = "expected 1 to 32 letters, digits, dots, hyphens and underscores, \"web-servers\"";
        let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || ".-_".contains(*letter);
        let instead = || Self::new(&typed.chars().filter(is_plain).take(32).collect::<String>());
        Self::new(typed).ok_or_else(|| Mismatch::Refused(help.to_owned(), instead()))
    }

    fn shown(&self) -> String {
        self.as_str().to_owned().shown()
    }
}

words! {
    /// The minimum severity of events that are logged.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    pub enum LogLevel {
        /// All of them.
        Debug = "debug",
        /// Everyday life and what is above it.
        #[default]
        Info = "info",
        /// Terminations and what is degraded.
        Warning = "warning",
        /// Only what could not be done.
        Error = "error",
    }
}

/// A kind with a few words for its values.
pub(super) trait Word: Copy + 'static {
    /// All of them, as messages list them.
    const ALL: &'static [Self];

    fn word(self) -> &'static str;

    /// The reason why the word `typed` is none of them, if there is a special one.
    fn why_not(_typed: &str) -> Option<&'static str> {
        None
    }
}

impl<W: Word> Value for W {
    const WHAT: &'static str = String::WHAT;

    fn read(value: &DeValue<'_>, _: &Key) -> Result<Self, Mismatch<Self>> {
        let typed = value.as_str().ok_or(Mismatch::Type)?;
        if let Some(chosen) = W::ALL.iter().find(|choice| choice.word() == typed) {
            return Ok(*chosen);
        }
        let expected = || format!("expected one of: \"{}\"", Self::words().join("\", \""));
        let help = match (W::why_not(typed), nearest(typed, Self::words().into_iter())) {
            (Some(why), _) => format!("{why}; {}", expected()),
            (None, Some(word)) => format!("did you mean \"{word}\"?"),
            (None, None) => expected(),
        };
        let distance = |choice: &&W| strsim::damerau_levenshtein(typed, choice.word());
        let instead = W::ALL.iter().min_by_key(distance).filter(|_| typed.len() <= LONGEST);
        Err(Mismatch::Refused(help, instead.copied()))
    }

    fn shown(&self) -> String {
        self.word().to_owned().shown()
    }

    fn words() -> Vec<&'static str> {
        W::ALL.iter().map(|choice| choice.word()).collect()
    }
}

macro_rules! kinds {
    ($($kind:ty),*) => {$(
        impl Word for $kind {
            const ALL: &'static [Self] = &Self::ALL;

            fn word(self) -> &'static str {
                self.as_str()
            }
        }
    )*};
}

kinds!(Action, GearChoice, LogFormat, LogLevel, Measure, NotifyUser, SourceChoice, Strike);

/// `per` of a rule: each process by itself, or a sum.
impl Word for Option<Per> {
    const ALL: &'static [Self] = &[
        None,
        Some(Per::User),
        Some(Per::Unit),
        Some(Per::Cgroup),
        Some(Per::Session),
        Some(Per::Tree),
        Some(Per::Program),
    ];

    fn word(self) -> &'static str {
        self.map_or("process", Per::as_str)
    }
}

impl Word for Signal {
    const ALL: &'static [Self] = &Self::FIRST;

    fn word(self) -> &'static str {
        self.as_str()
    }

    fn why_not(typed: &str) -> Option<&'static str> {
        Some(match typed {
            "SIGKILL" => {
                "SIGKILL is the last signal and never the first; with grace = 0.1 it follows at once"
            }
            "SIGSTOP" | "SIGTSTP" | "SIGTTIN" | "SIGTTOU" => {
                "a stopped process keeps its memory; action = \"stop\" stops it"
            }
            "SIGCONT" | "SIGCHLD" | "SIGURG" | "SIGWINCH" => "without a handler it does nothing",
            "SIGSEGV" | "SIGBUS" | "SIGILL" | "SIGFPE" | "SIGTRAP" | "SIGABRT" | "SIGSYS" => {
                "it means that the program is broken, and has the kernel write all its memory to the disk"
            }
            _ => return None,
        })
    }
}

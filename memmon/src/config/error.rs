//! Errors of a configuration file, shown as a compiler would: the place, the line, a caret, the remedy.

use std::{
    fmt::{self, Write},
    io,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

use crate::model::Escaped;

/// The reason why there is no configuration. memmon does not start with one of these errors; a reload keeps the
/// configuration in force.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("error: cannot read {}: {error}", Escaped(.file.as_os_str().as_bytes()))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The files were read, and not everything in them can be meant.
    #[error("{}", Rendered { problems, more: *more })]
    Invalid {
        /// The file that names the configuration.
        file: PathBuf,
        /// The problems that were found, file by file and from the top of each towards its end; never empty.
        problems: Vec<Problem>,
        /// Number of further problems.
        more: usize,
    },
    /// The uid of a named user cannot be found now. The set of processes that memmon may not touch must not depend on whether
    /// a directory server answers; unlike the others, this error may be over at the next try.
    #[error(
        "error: {}: it cannot be found out who \"{user}\" is: {error}; see to the name service (getent passwd), or write the uid",
        Escaped(.file.as_os_str().as_bytes())
    )]
    NoAnswer {
        /// The file.
        file: PathBuf,
        /// The name, as it can stand in a message.
        user: String,
        /// The system's error.
        error: io::Error,
    },
}

/// One thing that is wrong. Every text is escaped and can go to a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file in which it stands.
    #[serde(serialize_with = "escaped")]
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The problem.
    pub what: String,
    /// The expected value, or the text to write instead.
    pub help: String,
    /// The line (or the part of it that fits) in which it stands.
    pub text: String,
    /// Range of the offending characters in `text`, in characters.
    #[serde(skip)]
    pub(super) marked: Range<usize>,
}

struct Rendered<'a> {
    problems: &'a [Problem],
    more: usize,
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problems, more } = self;
        for (index, Problem { file, line, column, what, help, text, marked }) in problems.iter().enumerate() {
            let file = Escaped(file.as_os_str().as_bytes());
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let indent = " ".repeat(marked.start);
            let carets = "^".repeat(marked.len());
            if index > 0 {
                f.write_str("\n\n")?;
            }
            writeln!(f, "error: {what}")?;
            writeln!(f, "{margin}--> {file}:{line}:{column}")?;
            writeln!(f, "{margin} |")?;
            writeln!(f, "{number} | {}", text.trim_end())?;
            f.write_str(format!("{margin} | {indent}{carets} {help}").trim_end())?;
        }
        match more {
            0 => Ok(()),
            more => write!(f, "\n\nerror: {more} more problems"),
        }
    }
}

/// `text` as it can stand in a message: escaped, and shortened if it is long.
pub(super) fn quotable(text: &str) -> String {
    shorten_right(&shown(text))
}

/// `text` as a line of a terminal: tabs become spaces, what could play tricks is escaped, the rest stays as written
/// (also backslashes, which [`Escaped`] would double).
pub(super) fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => line.push_str("    "),
            '\\' => line.push('\\'),
            // Writing to a String cannot fail.
            _ => drop(write!(line, "{}", Escaped(character.encode_utf8(&mut [0; 4]).as_bytes()))),
        }
    }
    line
}

/// The longest part of a line that is shown, in characters.
const WIDTH: usize = 60;

pub(super) fn shorten_left(text: &str) -> String {
    match text.chars().count() {
        0..=WIDTH => text.to_owned(),
        count => format!("…{}", text.chars().skip(count - WIDTH + 1).collect::<String>()),
    }
}

pub(super) fn shorten_right(text: &str) -> String {
    match text.chars().count() {
        0..=WIDTH => text.to_owned(),
        _ => format!("{}…", text.chars().take(WIDTH - 1).collect::<String>()),
    }
}

/// A path need not be UTF-8, which JSON is.
pub(super) fn escaped<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Escaped(path.as_os_str().as_bytes()))
}

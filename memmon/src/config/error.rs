//! What is wrong in a configuration file, shown as a compiler would: the place, the line, a caret, the way out.

use std::{
    fmt::{self, Write},
    io, iter, mem,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::model::Escaped;

/// Why there is no configuration. Nothing is started on one of these; a reload keeps what was in force.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("error: cannot read {}: {error}", Escaped(.file.as_os_str().as_bytes()))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why, from the system.
        error: io::Error,
    },
    /// The file was read, and not everything in it can be meant.
    #[error("{}", Rendered { file, problems, more: *more })]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What was found, from the top of the file towards its end; never empty.
        problems: Vec<Problem>,
        /// How many more there are.
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
        /// Why, from the system.
        error: io::Error,
    },
}

/// One thing that is wrong. Every text is escaped and can go to a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What is expected, or what to write instead.
    pub help: String,
    /// The line (or the part of it that fits) in which it stands.
    pub text: String,
    /// Where in `text` the offending characters are, in characters.
    #[serde(skip)]
    marked: Range<usize>,
}

/// Collects what is wrong in one text.
pub(super) struct Problems<'t> {
    source: &'t str,
    line_starts: Vec<usize>,
    found: Vec<(Range<usize>, String, String)>,
    no_answer: Option<(String, io::Error)>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(source: &'t str) -> Self {
        let line_starts =
            iter::once(0).chain(source.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Self { source, line_starts, found: Vec::new(), no_answer: None }
    }

    /// Notes that `what` is wrong with the bytes of `span`, and what would `help`.
    pub(super) fn add(&mut self, span: Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        self.found.push((span, what.into(), help.into()));
    }

    /// Notes that the machine does not know, for now, whether there is a `user`.
    pub(super) fn no_answer(&mut self, user: &str, error: io::Error) {
        self.no_answer.get_or_insert((quotable(user), error));
    }

    /// What stands at `span`, escaped, and shortened if it is long.
    pub(super) fn quote(&self, span: Range<usize>) -> String {
        let written = self.source.get(span).unwrap_or_default();
        quotable(written.lines().next().unwrap_or_default())
    }

    /// The line in which `span` begins, counted from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.line_starts.partition_point(|start| *start <= span.start)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.found.is_empty() && self.no_answer.is_none()
    }

    /// The error that says them all.
    pub(super) fn into_error(mut self, file: &Path) -> ConfigError {
        let mut found = mem::take(&mut self.found);
        if let Some((user, error)) = self.no_answer.take_if(|_| found.is_empty()) {
            return ConfigError::NoAnswer { file: file.to_owned(), user, error };
        }
        found.sort_by_key(|(span, ..)| span.start);
        let more = found.len().saturating_sub(SHOWN);
        let problems =
            found.into_iter().take(SHOWN).map(|(span, what, help)| self.locate(&span, what, help)).collect();
        ConfigError::Invalid { file: file.to_owned(), problems, more }
    }

    /// Finds line, column and excerpt of `span`, in bytes.
    fn locate(&self, span: &Range<usize>, what: String, help: String) -> Problem {
        let Self { source, line_starts, .. } = self;
        let line = self.line(span);
        let start = source.floor_char_boundary(span.start);
        let line_start = line_starts.get(line - 1).copied().unwrap_or_default();
        let line_end = line_starts.get(line).map_or(source.len(), |next| next - 1);
        let end = source.floor_char_boundary(span.end).clamp(start, line_end);
        let column = source[line_start..start].chars().count() + 1;

        let before = shorten_left(&shown(&source[line_start..start]));
        let marked = shorten_right(&shown(&source[start..end]));
        let after = shorten_right(&shown(source[end..line_end].trim_end()));
        let from = before.chars().count();
        let marked_range = from..from + marked.chars().count().max(1);
        Problem { line, column, what, help, text: format!("{before}{marked}{after}"), marked: marked_range }
    }
}

/// Maximum number of problems that are shown; the others are counted.
const SHOWN: usize = 20;

struct Rendered<'a> {
    file: &'a Path,
    problems: &'a [Problem],
    more: usize,
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, problems, more } = self;
        let file = Escaped(file.as_os_str().as_bytes());
        for (index, Problem { line, column, what, help, text, marked }) in problems.iter().enumerate() {
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
            more => write!(f, "\n\nerror: {more} more problems in {file}"),
        }
    }
}

/// `text` as it can stand in a message: escaped, and shortened if it is long.
pub(super) fn quotable(text: &str) -> String {
    shorten_right(&shown(text))
}

/// `text` as a line of a terminal: tabs become spaces, what could play tricks is escaped, the rest stays as written
/// (also backslashes, which [`Escaped`] would double).
fn shown(text: &str) -> String {
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

/// As much of a part of a line as is of use, in characters.
const WIDTH: usize = 60;

fn shorten_left(text: &str) -> String {
    match text.chars().count() {
        0..=WIDTH => text.to_owned(),
        count => format!("…{}", text.chars().skip(count - WIDTH + 1).collect::<String>()),
    }
}

fn shorten_right(text: &str) -> String {
    match text.chars().count() {
        0..=WIDTH => text.to_owned(),
        _ => format!("{}…", text.chars().take(WIDTH - 1).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, span: Range<usize>) -> String {
        let mut problems = Problems::new(source);
        problems.add(span, "it is wrong", "fix it");
        problems.into_error(Path::new("/etc/c.toml")).to_string()
    }

    #[test]
    fn carets_stand_below_what_is_meant() {
        insta::assert_snapshot!(render("a = 1\n\tkey = \"\u{e9}\u{1b}[31m\" # why\r\n", 7..18), @r#"
        error: it is wrong
         --> /etc/c.toml:2:2
          |
        2 |     key = "é\u{1b}[31m" # why
          |     ^^^^^^^^^^^^^^^ fix it
        "#);
    }

    #[test]
    fn a_place_past_the_end_or_inside_a_character_is_still_shown() {
        insta::assert_snapshot!(render("key =", 900..1000), @"
        error: it is wrong
         --> /etc/c.toml:1:6
          |
        1 | key =
          |      ^ fix it
        ");
        assert!(render("\u{e9}", 1..2).contains(":1:1"));
        assert!(render("", 0..0).contains(":1:1"));
    }

    #[test]
    fn a_line_of_a_megabyte_does_not_fill_the_screen() {
        let source = format!("{} = {}", "k".repeat(1 << 20), "v".repeat(1 << 20));
        assert!(render(&source, 1 << 20..(1 << 20) + 1).len() < 600);
    }

    #[test]
    fn many_problems_are_counted_after_the_first_twenty() {
        let source = "x\n".repeat(30);
        let mut problems = Problems::new(&source);
        for line in 0..30 {
            problems.add(line * 2..line * 2 + 1, "no", "yes");
        }
        let text = problems.into_error(Path::new("f")).to_string();
        assert_eq!(text.matches("-->").count(), SHOWN);
        assert!(text.ends_with("10 more problems in f"));
    }
}

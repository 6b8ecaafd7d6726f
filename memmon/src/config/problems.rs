//! Problems in the texts of a configuration, collected with the file, the line and the column of each.
//!
//! The texts lie one after the other, as if they were one: a place in any of them is a range of bytes in that whole, so
//! that whatever reads values need not know that there are several files.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io, iter, mem,
    ops::Range,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::error::{ConfigError, Problem, quotable, shorten_left, shorten_right, shown};
use crate::model::Escaped;

/// Maximum number of problems that are shown; the others are counted.
pub(super) const SHOWN: usize = 20;

/// Collects what is wrong in the texts of one configuration.
#[derive(Debug, Default)]
pub(super) struct Problems<'t> {
    texts: Vec<Text<'t>>,
    found: Vec<(Range<usize>, String, String)>,
    no_answer: Option<(String, io::Error)>,
    /// By the place of a section: the keys below it that are unknown, or whose values were refused.
    failed: BTreeMap<usize, Vec<String>>,
}

/// The text of one file.
#[derive(Debug)]
struct Text<'t> {
    file: PathBuf,
    text: Cow<'t, str>,
    /// Its first byte, counted from that of the first text.
    start: usize,
    /// The first byte of each line, counted from that of this text.
    lines: Vec<usize>,
}

impl<'t> Problems<'t> {
    /// Adds the `text` of `file`, and returns where it starts. The file of the first text is the one that names the
    /// configuration.
    pub(super) fn read(&mut self, file: &Path, text: impl Into<Cow<'t, str>>) -> usize {
        let text = text.into();
        // One byte more than it has, so that the end of one text is not the start of the next.
        let start = self.texts.last().map_or(0, |last| last.start + last.text.len() + 1);
        let lines = iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        self.texts.push(Text { file: file.to_owned(), text, start, lines });
        start
    }

    /// Notes that `what` is wrong with the bytes of `span`, and what would `help`.
    pub(super) fn add(&mut self, span: Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        self.found.push((span, what.into(), help.into()));
    }

    /// Number of problems so far.
    pub(super) const fn count(&self) -> usize {
        self.found.len()
    }

    /// Whether one of the problems after the first `count` is in `span`.
    pub(super) fn is_any_since(&self, count: usize, span: &Range<usize>) -> bool {
        self.found.iter().skip(count).any(|(at, ..)| span.contains(&at.start))
    }

    /// Notes the keys of the section at `place` that are unknown, or whose values were refused.
    pub(super) fn note_failed(&mut self, place: &Range<usize>, keys: Vec<String>) {
        self.failed.insert(place.start, keys);
    }

    /// These keys. One of them may be what seems to be missing in that section.
    pub(super) fn failed(&self, place: &Range<usize>) -> &[String] {
        self.failed.get(&place.start).map_or(&[], Vec::as_slice)
    }

    /// Notes that the machine does not know, for now, whether there is a `user`.
    pub(super) fn no_answer(&mut self, user: &str, error: io::Error) {
        self.no_answer.get_or_insert((quotable(user), error));
    }

    /// The text at `span`, escaped, and shortened if it is long.
    pub(super) fn quote(&self, span: Range<usize>) -> String {
        let written = self.text_at(&span).and_then(|(text, span)| text.text.get(span)).unwrap_or_default();
        quotable(written.lines().next().unwrap_or_default())
    }

    /// The file in which `span` begins, and the line, counted from 1.
    pub(super) fn place(&self, span: &Range<usize>) -> (&Path, usize) {
        self.text_at(span).map_or((Path::new(""), 1), |(text, span)| (&*text.file, text.line(span.start)))
    }

    /// The place of `span` in words.
    pub(super) fn stands_at(&self, span: &Range<usize>) -> String {
        let (file, line) = self.place(span);
        format!("{} has it in line {line}", Escaped(file.as_os_str().as_bytes()))
    }

    /// The file in which `span` begins, unless it is the one that names the configuration.
    pub(super) fn fragment(&self, span: &Range<usize>) -> Option<&Path> {
        let (text, _) = self.text_at(span)?;
        (text.start > 0).then_some(&*text.file)
    }

    /// The text in which `span` begins, and the span in it.
    fn text_at(&self, span: &Range<usize>) -> Option<(&Text<'t>, Range<usize>)> {
        let after = self.texts.partition_point(|text| text.start <= span.start);
        let text = self.texts.get(after.checked_sub(1)?)?;
        Some((text, span.start - text.start..span.end.max(span.start) - text.start))
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.found.is_empty() && self.no_answer.is_none()
    }

    /// The error that shows them all.
    pub(super) fn into_error(mut self) -> ConfigError {
        let mut found = mem::take(&mut self.found);
        let file = self.texts.first().map(|text| text.file.clone()).unwrap_or_default();
        if let Some((user, error)) = self.no_answer.take_if(|_| found.is_empty()) {
            return ConfigError::NoAnswer { file, user, error };
        }
        found.sort_by_key(|(span, ..)| span.start);
        let more = found.len().saturating_sub(SHOWN);
        let problems = found
            .into_iter()
            .take(SHOWN)
            .filter_map(|(span, what, help)| {
                let (text, span) = self.text_at(&span)?;
                Some(text.locate(&span, what, help))
            })
            .collect();
        ConfigError::Invalid { file, problems, more }
    }
}

impl Text<'_> {
    /// The line of a byte, counted from 1.
    fn line(&self, byte: usize) -> usize {
        self.lines.partition_point(|start| *start <= byte)
    }

    /// Finds line, column and excerpt of `span`, in bytes of this text.
    fn locate(&self, span: &Range<usize>, what: String, help: String) -> Problem {
        let Self { file, text, lines, .. } = self;
        let line = self.line(span.start);
        let start = text.floor_char_boundary(span.start);
        let line_start = lines.get(line - 1).copied().unwrap_or_default();
        let line_end = lines.get(line).map_or(text.len(), |next| next - 1);
        let end = text.floor_char_boundary(span.end).clamp(start, line_end);
        let column = text[line_start..start].chars().count() + 1;

        let before = shorten_left(&shown(&text[line_start..start]));
        let marked = shorten_right(&shown(&text[start..end]));
        let after = shorten_right(&shown(text[end..line_end].trim_end()));
        let from = before.chars().count();
        let marked_range = from..from + marked.chars().count().max(1);
        let text = format!("{before}{marked}{after}");
        Problem { file: file.clone(), line, column, what, help, text, marked: marked_range }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, span: Range<usize>) -> String {
        let mut problems = Problems::default();
        problems.read(Path::new("/etc/c.toml"), source);
        problems.add(span, "it is wrong", "fix it");
        problems.into_error().to_string()
    }

    #[test]
    fn carets_stand_below_the_offending_characters() {
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

    /// The end of a text, where something is missing, is not the start of the next one.
    #[test]
    fn each_place_is_in_its_own_file() {
        let mut problems = Problems::default();
        let texts = [("a", "x = 1\ny ="), ("b", ""), ("c", "\nz = 2\n")];
        let starts: Vec<_> = texts.iter().map(|(file, text)| problems.read(Path::new(file), *text)).collect();
        let place = |at: usize| problems.place(&(at..at));
        assert_eq!(place(0), (Path::new("a"), 1));
        assert_eq!(place("x = 1\ny =".len()), (Path::new("a"), 2));
        assert_eq!(place(starts[1]), (Path::new("b"), 1));
        assert_eq!(place(starts[2] + 1), (Path::new("c"), 2));
        assert_eq!(problems.quote(starts[2] + 1..starts[2] + 6), "z = 2");
        assert_eq!(
            (problems.fragment(&(3..4)), problems.fragment(&(starts[1]..starts[1]))),
            (None, Some(Path::new("b")))
        );
    }

    #[test]
    fn a_line_of_a_megabyte_does_not_fill_the_screen() {
        let source = format!("{} = {}", "k".repeat(1 << 20), "v".repeat(1 << 20));
        assert!(render(&source, 1 << 20..(1 << 20) + 1).len() < 600);
    }

    #[test]
    fn many_problems_are_counted_after_the_first_twenty() {
        let source = "x\n".repeat(30);
        let mut problems = Problems::default();
        problems.read(Path::new("f"), &*source);
        for line in 0..30 {
            problems.add(line * 2..line * 2 + 1, "no", "yes");
        }
        let text = problems.into_error().to_string();
        assert_eq!(text.matches("-->").count(), SHOWN);
        assert!(text.ends_with("10 more problems"), "{text}");
    }
}

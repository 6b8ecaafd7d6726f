//! `names_file`: a list of names in a file of its own, one name or glob per line.
//!
//! Its text becomes one of the texts of the configuration, and its names become entries of the list `names`, each with its place:
//! whatever reads that list shows errors and warnings with the file and the line, and need not know where a name comes from.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::Spanned;

use super::{
    error::quotable,
    problems::Problems,
    raw::Typed,
    read::not_utf8,
    toml_document::List,
    warning::{Concern, Warning},
};

/// The longest that all files of names may be together, in bytes.
const LONGEST_TOGETHER: usize = 1 << 20;

/// Reads a file of names, and says what is of concern about it.
pub(super) type ReadNames<'a> = &'a dyn Fn(&Path) -> io::Result<(Vec<u8>, Option<Concern>)>;

/// Adds the names of each `names_file` to the list beside it. Returns what is of concern about the files.
pub(super) fn expand(typed: &mut Typed, read: ReadNames<'_>, problems: &mut Problems<'_>) -> Vec<Warning> {
    let (mut concerns, mut left) = (Vec::new(), LONGEST_TOGETHER);
    let mut add = |key: &str, names: &mut Option<List<String>>, file: &mut Option<Spanned<String>>| {
        if let Some(file) = file.take() {
            let list = List { key: key.to_owned(), span: file.span(), entries: Vec::new() };
            concerns.extend(add_names(names, list, &file, &mut left, read, problems));
        }
    };
    let whitelist = &mut typed.whitelist;
    add("whitelist.names", &mut whitelist.names, &mut whitelist.names_file);
    for (rule, _) in &mut typed.rules {
        add("rule.names", &mut rule.matcher.names, &mut rule.matcher.names_file);
        if let Some(not) = &mut rule.not {
            add("rule.not.names", &mut not.names, &mut not.names_file);
        }
    }
    concerns.into_iter().map(Warning::general).collect()
}

/// Adds the names in `file` to `names`, or to the `empty` list if there is none.
fn add_names(
    names: &mut Option<List<String>>,
    empty: List<String>,
    file: &Spanned<String>,
    left: &mut usize,
    read: ReadNames<'_>,
    problems: &mut Problems<'_>,
) -> Option<Concern> {
    let span = file.span();
    let path = beside(file.get_ref(), &span, problems);
    let bounded = read(&path).and_then(|(bytes, concern)| {
        *left = left.checked_sub(bytes.len()).ok_or_else(|| {
            let why = format!("all lists of names have more than {}KB together", LONGEST_TOGETHER >> 10);
            io::Error::new(io::ErrorKind::FileTooLarge, why)
        })?;
        Ok((bytes, concern))
    });
    let (bytes, concern) = match bounded {
        Ok(read) => read,
        Err(error) => {
            let help = format!("{}: {error}", quotable(&path.to_string_lossy()));
            problems.add(span.clone(), "`names_file` cannot be read", help);
            unknown(names, empty);
            return None;
        }
    };
    let found = match String::from_utf8(bytes) {
        Ok(text) => {
            let start = problems.read(&path, text.clone());
            listed(&text, start)
        }
        Err(error) => {
            not_utf8(&path, &error, problems);
            unknown(names, empty);
            return concern;
        }
    };
    if found.is_empty() {
        // A file that was cut off, or not written yet, must not end a protection.
        let help = "write one name or glob per line, or remove this key";
        problems.add(span.clone(), "`names_file` has no name in it", help);
        unknown(names, empty);
        return concern;
    }
    names.get_or_insert(empty).entries.extend(found);
    concern
}

/// After an error: the list must not give rise to another one by being empty.
fn unknown(names: &mut Option<List<String>>, mut empty: List<String>) {
    empty.entries.push(Spanned::new(empty.span.clone(), "unknown".to_owned()));
    names.get_or_insert(empty);
}

/// The path of a file that is named at `span`: from the folder of the file that names it.
fn beside(file: &str, span: &Range<usize>, problems: &Problems<'_>) -> PathBuf {
    let (config, _) = problems.place(span);
    config.with_file_name(file)
}

/// The names in `text`, which starts at the place `start`.
fn listed(text: &str, start: usize) -> Vec<Spanned<String>> {
    let mut names = Vec::new();
    // An editor may put a byte order mark before the first name, which would then be no process's.
    let marked = text.len();
    let text = text.trim_start_matches('\u{feff}');
    let mut line_start = start + (marked - text.len());
    for line in text.split('\n') {
        // A comment begins a word: "a#b" is a name.
        let comment =
            line.match_indices('#').find(|(place, _)| line[..*place].ends_with(char::is_whitespace));
        let line_length = line.len();
        let line = comment.map_or(line, |(place, _)| &line[..place]);
        let name = line.trim();
        if !name.is_empty() && !name.starts_with('#') {
            let from = line_start + (line.len() - line.trim_start().len());
            names.push(Spanned::new(from..from + name.len(), name.to_owned()));
        }
        line_start += line_length + 1;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_name() {
        let names = |text| listed(text, 100).into_iter().map(|name| (name.span(), name.into_inner()));
        let marked = "\u{feff}postgres\nnginx # the proxy\n";
        assert!(names(marked).eq([(103..111, "postgres".to_owned()), (112..117, "nginx".to_owned())]));
    }
}

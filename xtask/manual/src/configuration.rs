//! memmon.toml(5): the prose of pages/memmon.toml.5, and every key from the comments of the shipped configuration.

use anyhow::{Result, ensure};
use clap_mangen::roff::{bold, roman};

use crate::page::{Page, line};

/// The shipped configuration.
const SHIPPED: &str = include_str!("../../../config.toml");
/// The example on the page.
const EXAMPLE: &str = include_str!("../pages/example.toml");

/// The page.
pub(crate) fn page() -> Result<String> {
    let sections = read(SHIPPED);
    ensure!(!sections.is_empty(), "the shipped configuration has no section");
    let keys: String = sections.iter().map(Section::roff).collect();
    Ok(Page::new(include_str!("../pages/memmon.toml.5"))
        .fill("KEYS", &keys)?
        .fill("EXAMPLE", &EXAMPLE.lines().map(|text| line([roman(text)])).collect::<String>())?
        .finish())
}

/// A section of the file, with its comment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Section {
    /// The heading with its brackets, one pair or two.
    heading: String,
    about: String,
    keys: Vec<Key>,
}

/// A key of a section.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    name: String,
    value: String,
    /// Whether the value is the default; otherwise it is in a comment, as an example.
    is_default: bool,
    about: String,
}

impl Section {
    fn roff(&self) -> String {
        let about = if self.about.is_empty() { String::new() } else { line([roman(sentence(&self.about))]) };
        let heading = line([roman(&*self.heading)]);
        let keys: String = self.keys.iter().map(Key::roff).collect();
        format!(".SS {heading}{about}{keys}")
    }
}

impl Key {
    fn roff(&self) -> String {
        let which = if self.is_default { "" } else { " (an example)" };
        let head = line([bold(&*self.name), roman(format!(" = {}{which}", self.value))]);
        format!(".TP\n{head}{}", line([roman(sentence(&self.about))]))
    }
}

/// A comment as a sentence.
fn sentence(comment: &str) -> String {
    let mut letters = comment.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if comment.ends_with(['.', '"', ':']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

/// The sections of a configuration with comments in the style of the shipped one: each key is followed by its comment (which
/// continues in the indented lines below), or is in a comment itself; a section's comment follows its heading or precedes it.
fn read(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut above = String::new();
    let mut lines = text.lines().peekable();
    while let Some(text) = lines.next() {
        let (code, comment) = parts(text);
        if code.is_empty() && comment.is_empty() {
            above.clear();
            continue;
        }
        // A key or a heading in a comment has no default.
        let (code, comment, is_default) = match parts(comment) {
            (inner, rest) if code.is_empty() && is_heading_or_key(inner) => (inner, rest, false),
            _ => (code, comment, true),
        };
        if let Some(heading) = heading(code) {
            let about = joined(&std::mem::take(&mut above), comment);
            sections.push(Section { heading: heading.to_owned(), about, keys: Vec::new() });
        } else if let (Some((name, value)), Some(section)) = (code.split_once('='), sections.last_mut()) {
            let mut value = value.trim().to_owned();
            while value.matches('[').count() > value.matches(']').count() {
                let Some(more) = lines.next() else { break };
                value = joined(&value, parts(more).0);
            }
            let mut about = joined(&std::mem::take(&mut above), comment);
            while let Some(more) = lines.next_if(|line| line.starts_with(' ') && line.trim().starts_with('#'))
            {
                about = joined(&about, parts(more).1);
            }
            let value = value.replace("[ ", "[").replace(", ]", "]").replace(",]", "]");
            section.keys.push(Key { name: name.trim().to_owned(), value, is_default, about });
        } else {
            above = joined(&above, comment);
        }
    }
    sections
}

/// A line's code and its comment without the `#`; both may be empty.
fn parts(line: &str) -> (&str, &str) {
    let mut quoted = None;
    let start = line.char_indices().find(|(_, character)| {
        match (quoted, character) {
            (None, '"' | '\'') => quoted = Some(*character),
            (Some(open), close) if open == *close => quoted = None,
            _ => {}
        }
        quoted.is_none() && *character == '#'
    });
    let (code, comment) = start.map_or((line, ""), |(start, _)| (&line[..start], &line[start + 1..]));
    (code.trim(), comment.trim())
}

fn is_heading_or_key(code: &str) -> bool {
    let is_key = |name: &str| {
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
    };
    heading(code).is_some() || code.split_once(" = ").is_some_and(|(name, _)| is_key(name))
}

fn heading(code: &str) -> Option<&str> {
    let name = code.strip_prefix('[')?.strip_suffix(']')?;
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.chars().all(|letter| letter.is_ascii_lowercase() || "._".contains(letter)).then_some(code)
}

fn joined(one: &str, other: &str) -> String {
    [one, other].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use memmon::config::{self, NameService};

    use super::*;

    #[test]
    fn sections_and_keys_are_read_with_their_descriptions() {
        let sections = read(
            "# The file.\n\n[a]  # of a\nsome = \"#1\" # one\nmore = [ # two,\n    \"x\", # x\n    \"y\",\n]\n\
             # Of b, which is\n# optional.\n# [[b]]\n# rest = 3 # three, and\n       # four\n",
        );
        let key = |name: &str, value: &str, is_default, about: &str| Key {
            name: name.to_owned(),
            value: value.to_owned(),
            is_default,
            about: about.to_owned(),
        };
        assert_eq!(
            sections,
            [
                Section {
                    heading: "[a]".to_owned(),
                    about: "of a".to_owned(),
                    keys: vec![
                        key("some", "\"#1\"", true, "one"),
                        key("more", "[\"x\", \"y\"]", true, "two,")
                    ]
                },
                Section {
                    heading: "[[b]]".to_owned(),
                    about: "Of b, which is optional.".to_owned(),
                    keys: vec![key("rest", "3", false, "three, and four")]
                },
            ]
        );
    }

    /// Every key on the page exists and takes the value shown, and no key that the file sets is missing from the page.
    #[test]
    fn the_page_has_every_key_and_none_that_memmon_does_not_know() {
        let sections = read(SHIPPED);
        for Section { heading, keys, .. } in &sections {
            for Key { name, value, about, .. } in keys {
                let text = format!("{heading}\n{name} = {value}\n");
                // Users of an example need not exist here.
                let unknown = config::parse(&text, Path::new("page"), &NameService)
                    .err()
                    .map(|error| error.to_string())
                    .filter(|error| error.contains("unknown key") || error.contains("unknown section"));
                assert_eq!(unknown, None);
                assert!(!about.is_empty(), "{heading} {name} has no description");
            }
        }
        let document: toml::Table = SHIPPED.parse().unwrap();
        for (section, keys) in &document {
            let shown = sections.iter().find(|shown| shown.heading == format!("[{section}]")).unwrap();
            for key in keys.as_table().unwrap().keys() {
                let shown = shown.keys.iter().find(|shown| shown.name == *key && shown.is_default);
                assert!(shown.is_some(), "{section}.{key}");
            }
        }
    }

    #[test]
    fn the_example_loads_without_a_warning() {
        let loaded = config::parse(EXAMPLE, Path::new("example"), &NameService).unwrap();
        assert_eq!(loaded.warnings, []);
    }
}

//! /config.toml and README.md, compared with the table of keys.

use std::path::Path;

use super::{
    super::{Key, Shown, problems::Problems, raw, sections, toml_document::Document},
    SHIPPED,
};

const README: &str = include_str!("../../../../README.md");

/// A section of the file, with its comment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Part {
    /// The heading with its brackets, one pair or two.
    heading: String,
    about: String,
    keys: Vec<Line>,
}

/// A key of a section.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    name: String,
    value: String,
    /// Whether the key is set; otherwise it is in a comment.
    is_default: bool,
    about: String,
}

/// `text` as TOML has it, so that 5 is 5.0.
fn value(text: &str) -> toml::Value {
    let table: toml::Table =
        format!("value = {text}").parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    match &table["value"] {
        toml::Value::Integer(integer) => toml::Value::Float(*integer as f64),
        other => other.clone(),
    }
}

#[test]
fn every_default_and_every_example_can_be_read() {
    for section in sections() {
        for Key { name, value, .. } in section.keys {
            let (Shown::Default(value) | Shown::Example(value)) = value;
            let text = format!("{}\n{name} = {value}\n", section.heading);
            let mut problems = Problems::default();
            let mut document = Document::default();
            let start = problems.read(Path::new("table"), &*text);
            document.add(&text, start, &mut problems);
            raw::read(document, &mut problems);
            assert!(problems.is_empty(), "{text}: {}", problems.into_error());
        }
    }
}

#[test]
fn the_shipped_file_has_every_row_of_the_table_and_no_other() {
    let parts = read(SHIPPED);
    let table = sections();
    let headings = |parts: &[Part]| parts.iter().map(|part| part.heading.clone()).collect::<Vec<_>>();
    assert_eq!(headings(&parts), table.iter().map(|section| section.heading).collect::<Vec<_>>());
    let whitelist = &table[1].keys;
    for (part, section) in parts.iter().zip(&table) {
        let heading = section.heading;
        let about = part.about.trim_start_matches(heading).trim().trim_end_matches('.');
        assert_eq!(about, section.about, "{heading}");
        for line in &part.keys {
            let named = |key: &&&Key| key.name == line.name;
            assert!(section.keys.iter().find(named).is_some(), "{heading} has no key {}", line.name);
        }
        for key in &section.keys {
            let Some(line) = part.keys.iter().find(|line| line.name == key.name) else {
                // "as under [whitelist]"
                let is_there = whitelist.iter().any(|listed| listed.name == key.name);
                assert!(heading == "[[rule]]" && is_there, "the file has no {heading} {}", key.name);
                continue;
            };
            let (Shown::Default(shown) | Shown::Example(shown)) = key.value;
            assert_eq!(value(&line.value), value(shown), "{heading} {}", key.name);
            assert_eq!(line.about, key.help, "{heading} {}", key.name);
            if line.is_default {
                assert!(matches!(key.value, Shown::Default(_)), "{heading} {}", key.name);
            }
        }
    }
}

#[test]
fn the_readme_has_the_keys_and_their_defaults() {
    let quoted = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(|word| word.trim_matches('"').to_owned()).collect()
    };
    let mut seen = Vec::new();
    for row in README.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let names: Vec<_> =
            quoted(cells[0]).into_iter().filter(|name| !name.starts_with(['[', '.'])).collect();
        let Some((section, _)) = names[..].first().and_then(|name| name.split_once('.')) else { continue };
        let Some(section) = sections().into_iter().find(|known| known.name == section) else { continue };
        let defaults = quoted(cells[1]);
        for (index, name) in names.iter().enumerate() {
            let key = section
                .keys
                .iter()
                .find(|key| name.strip_prefix(section.name) == Some(&format!(".{}", key.name)));
            let key = key.unwrap_or_else(|| panic!("README.md has {name}, which is no key"));
            match (key.value, defaults.get(index)) {
                (Shown::Default(text), Some(shown)) => assert_eq!(shown, text.trim_matches('"'), "{name}"),
                // A phrase.
                (Shown::Default(text), None) => assert!(text == "\"\"" || key.name == "names", "{name}"),
                (Shown::Example(_), shown) => assert_eq!(shown, None, "{name} has no default"),
            }
            seen.push(name.clone());
        }
    }
    for section in
        sections().iter().filter(|section| !["machine", "metrics", "notify"].contains(&section.name))
    {
        let is_once = !section.heading.starts_with("[[");
        for key in section.keys.iter().filter(|key| is_once && matches!(key.value, Shown::Default(_))) {
            let name = format!("{}.{}", section.name, key.name);
            assert!(seen.contains(&name), "README.md has no row for {name}");
        }
    }
}

#[test]
fn sections_and_keys_are_read_with_their_descriptions() {
    let sections = read(
        "# The file.\n\n[a]  # of a\nsome = \"#1\" # one\nmore = [ # two,\n    \"x\", # x\n    \"y\",\n]\n\
         # Of b, which is\n# optional.\n# [[b]]\n# rest = 3 # three, and\n       # four\n",
    );
    let key = |name: &str, value: &str, is_default, about: &str| Line {
        name: name.to_owned(),
        value: value.to_owned(),
        is_default,
        about: about.to_owned(),
    };
    assert_eq!(
        sections,
        [
            Part {
                heading: "[a]".to_owned(),
                about: "of a".to_owned(),
                keys: vec![key("some", "\"#1\"", true, "one"), key("more", "[\"x\", \"y\"]", true, "two,")]
            },
            Part {
                heading: "[[b]]".to_owned(),
                about: "Of b, which is optional.".to_owned(),
                keys: vec![key("rest", "3", false, "three, and four")]
            },
        ]
    );
}

/// The sections of a configuration with comments in the style of the shipped one: each key is followed by its comment (which
/// continues in the indented lines below), or is in a comment itself; a section's comment follows its heading or precedes it.
fn read(text: &str) -> Vec<Part> {
    let mut sections: Vec<Part> = Vec::new();
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
            sections.push(Part { heading: heading.to_owned(), about, keys: Vec::new() });
        } else if let (Some((name, value)), Some(section)) = (code.split_once('='), sections.last_mut()) {
            let (mut value, mut end) = (value.trim().to_owned(), "");
            while value.matches('[').count() > value.matches(']').count() {
                let Some(more) = lines.next() else { break };
                value = joined(&value, parts(more).0);
                end = parts(more).1;
            }
            let mut about = joined(&std::mem::take(&mut above), comment);
            if !end.is_empty() {
                about = format!("{about}; {end}");
            }
            while let Some(more) = lines.next_if(|line| line.starts_with(' ') && line.trim().starts_with('#'))
            {
                about = joined(&about, parts(more).1);
            }
            let value = value.replace("[ ", "[").replace(", ]", "]").replace(",]", "]");
            section.keys.push(Line { name: name.trim().to_owned(), value, is_default, about });
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

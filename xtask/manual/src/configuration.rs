//! memmon.toml(5): the prose of pages/memmon.toml.5, and every key from memmon's table of keys.

use anyhow::Result;
use clap_mangen::roff::{bold, roman};
use memmon::config::{Key, Section, Shown, sections};

use crate::page::{Page, line};

/// The example on the page.
const EXAMPLE: &str = include_str!("../pages/example.toml");

/// The page.
pub(crate) fn page() -> Result<String> {
    let keys: String = sections().iter().map(section).collect();
    Ok(Page::new(include_str!("../pages/memmon.toml.5"))
        .fill("KEYS", &keys)?
        .fill("EXAMPLE", &EXAMPLE.lines().map(|text| line([roman(text)])).collect::<String>())?
        .finish())
}

fn section(section: &Section) -> String {
    let Section { name: _, heading, about, keys } = section;
    let about = if about.is_empty() { String::new() } else { line([roman(sentence(about))]) };
    let keys: String = keys.iter().map(|row| key(row)).collect();
    format!(".SS {}{about}{keys}", line([roman(*heading)]))
}

fn key(key: &Key) -> String {
    let Key { name, kind, value, allowed: _, help } = key;
    let value = match value {
        Shown::Default(text) => format!(" = {text}"),
        Shown::Example(text) => format!(" = {text} (an example)"),
    };
    let list = if kind.is_list { "a list, each element " } else { "" };
    let range = key.range().map(|range| format!(": {range}")).unwrap_or_default();
    let text = format!("{} {}", sentence(help), sentence(&format!("{list}{}{range}", kind.what)));
    format!(".TP\n{}{}", line([bold(*name), roman(value)]), line([roman(text)]))
}

/// A phrase as a sentence.
fn sentence(phrase: &str) -> String {
    let mut letters = phrase.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if phrase.ends_with(['.', ':']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use memmon::config::{self, NameService};

    use super::*;

    #[test]
    fn a_key_is_shown_with_its_default_its_kind_and_its_range() {
        let page = page().unwrap();
        for text in [
            ".SS [termination]\n.TP\n\\fBgrace\\fR = 5\nSeconds from SIGTERM to SIGKILL: time for the process to save its work \
             and exit. A number: seconds from SIGTERM to SIGKILL, from 0.1 to 3600.\n",
            "\\fBlevel\\fR = \"info\"\n",
            "A string: one of: \"debug\", \"info\", \"warning\", \"error\".\n",
            "\\fBmail_to\\fR = [\"admin@example.com\"] (an example)\n",
            "A list, each element a string.\n",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
        for key in sections().iter().flat_map(|section| &section.keys) {
            assert!(page.contains(&format!("\\fB{}\\fR = ", key.name.replace('-', "\\-"))), "{}", key.name);
        }
    }

    #[test]
    fn the_example_loads_without_a_warning() {
        let loaded = config::parse(EXAMPLE, Path::new("example"), &NameService).unwrap();
        assert_eq!(loaded.warnings, []);
    }
}

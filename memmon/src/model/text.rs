//! Text from other processes: kept as raw bytes, and escaped when shown.

use std::fmt::{self, Write};

use serde::{Serialize, Serializer};

/// A name that another process chose for itself (comm, exe, argv[0]), as raw bytes.
///
/// Patterns match the raw bytes; [`fmt::Display`] and [`Serialize`] escape them, so that no control character from
/// another process reaches a terminal or a log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Keeps `bytes` as they are.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes as the process chose them: for matching, not for display.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The part after the last slash.
    pub fn basename(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&Escaped(&self.0).to_string())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Escaped(&self.0))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Escaped(&self.0))
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

/// The names of the configuration's files in one phrase: `main`, and the fragments in `conf.d` without their folder. All of
/// them are safe to show already.
pub fn configuration_files(main: &str, fragments: impl IntoIterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let mut fragments: Vec<_> = fragments
        .into_iter()
        .map(|path| format!("conf.d/{}", path.rsplit('/').next().unwrap_or_default()))
        .collect();
    let more = fragments.len().saturating_sub(SHOWN);
    fragments.truncate(SHOWN);
    match (&*fragments, more) {
        ([], _) => main.to_owned(),
        (shown, 0) => format!("{main} with {}", shown.join(", ")),
        (shown, more) => format!("{main} with {} and {more} more", shown.join(", ")),
    }
}

/// Bytes of unknown origin, safe to write to a terminal or a log line.
///
/// Printable characters are shown as they are; everything else (C0 and C1 controls, DEL, characters that reorder or hide
/// text, invalid UTF-8, and the backslash itself) becomes a Rust-style escape.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' | '\'' => f.write_char(character)?,
                    _ if reorders_or_hides_text(character) => write!(f, "{}", character.escape_unicode())?,
                    _ => write!(f, "{}", character.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Whether this is one of Unicode's bidirectional or invisible format characters, which the standard library counts as
/// printable, and which can make a name look like another one (CVE-2021-42574).
const fn reorders_or_hides_text(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_survives() {
        for (raw, shown) in [
            (&b"firefox"[..], "firefox"),
            (b"a\nb\rc\td", r"a\nb\rc\td"),
            (b"\x1b[31mred\x07", r"\u{1b}[31mred\u{7}"),
            (b"back\\slash", r"back\\slash"),
            (b"\xff\xfeok", r"\xff\xfeok"),
            ("caf\u{e9} \u{202e}gnp".as_bytes(), "caf\u{e9} \\u{202e}gnp"),
            ("\u{9b}31m".as_bytes(), r"\u{9b}31m"),
            (b"it's \"quoted\"", "it's \"quoted\""),
        ] {
            assert_eq!(Escaped(raw).to_string(), shown);
        }
    }

    #[test]
    fn basename_is_the_part_after_the_last_slash() {
        assert_eq!(Name::from("/usr/bin/python3").basename(), b"python3");
        assert_eq!(Name::from("plain").basename(), b"plain");
        assert_eq!(Name::from("/").basename(), b"");
    }
}

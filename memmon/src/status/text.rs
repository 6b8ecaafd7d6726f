//! Text in messages: safe to show, whichever program has sent it.

use std::{fmt, os::unix::ffi::OsStrExt as _, path::Path};

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::{Escaped, Name};

/// Text that is safe to show: escaped by the writer, and again freed of control characters by the reader, because any
/// program may answer on a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// An absolute path, because client and daemon may have different working directories.
    pub fn path(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self::harmless(&Escaped(path.as_os_str().as_bytes()).to_string())
    }

    /// `text` with only its control characters escaped: text that is escaped already stays as it is.
    pub fn harmless(text: &str) -> Self {
        let mut shown = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                '\\' => shown.push('\\'),
                _ => shown.push_str(&Escaped(character.encode_utf8(&mut [0; 4]).as_bytes()).to_string()),
            }
        }
        Self(shown)
    }

    /// The text, safe to show.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Name> for Text {
    fn from(name: &Name) -> Self {
        Self(name.to_string())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::harmless(text)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::harmless(&text))
    }
}

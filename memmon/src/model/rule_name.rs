//! The name of a rule.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most bytes of a name.
const MOST: usize = 32;

/// The name of a `[[rule]]`: 1 to 32 ASCII letters, digits, dots, hyphens and underscores, so that it can stand in a log line
/// and in a metric as it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleName {
    bytes: [u8; MOST],
    length: u8,
}

impl RuleName {
    /// The name `text`; `None` if no rule can have this name.
    pub fn new(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > MOST || !text.bytes().all(is_plain) {
            return None;
        }
        let mut bytes = [0; MOST];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, length: u8::try_from(text.len()).ok()? })
    }

    /// The name as it is written in the configuration.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length)).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<'de> Deserialize<'de> for RuleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| de::Error::custom("no name of a rule"))
    }
}

impl Serialize for RuleName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_stand_anywhere_as_it_is() {
        for name in ["a", "web-servers", "node_batch.2", "abcdefghijklmnopqrstuvwxyz012345"] {
            assert_eq!(RuleName::new(name).unwrap().to_string(), name);
        }
        for name in ["", "a b", "a\"", "é", "a\n", "abcdefghijklmnopqrstuvwxyz0123456"] {
            assert_eq!(RuleName::new(name), None, "{name}");
        }
    }
}

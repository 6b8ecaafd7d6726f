//! Exemptions: processes that an administrator has memmon spare for a time, for a reason, without a change to the configuration.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{Escaped, ProcessId, Uid};

/// A line of text that someone typed: not empty, not too long, and without anything that must be escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Phrase(String);

impl Phrase {
    /// The maximum length, in bytes.
    pub const LONGEST: usize = 200;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Phrase {
    type Error = PhraseError;

    fn try_from(text: String) -> Result<Self, PhraseError> {
        let shown = Escaped(text.as_bytes()).to_string().replace(r"\\", r"\");
        match text.trim() {
            "" => Err(PhraseError::Empty),
            _ if text.len() > Self::LONGEST => Err(PhraseError::TooLong),
            trimmed if trimmed != text || shown != text => Err(PhraseError::NotPlain),
            _ => Ok(Self(text)),
        }
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason why a text is no [`Phrase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// It is empty.
    #[error("a text is empty")]
    Empty,
    /// It is too long.
    #[error("a text has more than {} bytes", Phrase::LONGEST)]
    TooLong,
    /// It has control characters, or blanks at its ends.
    #[error("a text has control characters, or blanks at its beginning or end")]
    NotPlain,
}

/// The processes that an exemption is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exempt {
    /// One process, for its life: never another one that gets its pid.
    Process(ProcessId),
    /// Processes with this real or effective user.
    #[serde(rename = "uid")]
    User(Uid),
    /// The processes of a systemd unit; for a unit of a user's manager `user@1000.service/app-x.scope`.
    Unit(Phrase),
    /// The processes of a Slurm job.
    Job(u64),
}

impl fmt::Display for Exempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(id) => write!(f, "PID={id}"),
            Self::User(uid) => write!(f, "UID={uid}"),
            Self::Unit(unit) => write!(f, "Unit={unit}"),
            Self::Job(job) => write!(f, "Job={job}"),
        }
    }
}

/// An exemption: memmon leaves these processes alone until a time, for any memory usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemption {
    /// Its number, which no other exemption gets.
    pub id: u32,
    /// The processes.
    #[serde(flatten)]
    pub of: Exempt,
    /// The time at which it ends.
    #[serde(rename = "until_unix_seconds")]
    pub until: UnixTime,
    /// The user who asked for it.
    pub by: Uid,
    /// The reason.
    pub why: Phrase,
}

/// A time of day, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl From<Timestamp> for UnixTime {
    fn from(time: Timestamp) -> Self {
        Self(u64::try_from(time.as_second()).unwrap_or_default())
    }
}

impl fmt::Display for UnixTime {
    /// In local time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let time = time.unwrap_or(Timestamp::MAX).to_zoned(TimeZone::system());
        write!(f, "{}", time.strftime("%Y-%m-%d %H:%M:%S"))
    }
}

/// The way in which an exemption ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExemptionEnd {
    /// Its time was over.
    Expired,
    /// This user ended it.
    EndedBy(Uid),
    /// Its process is gone.
    ProcessGone,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pid, StartTime};

    #[test]
    fn a_phrase_can_be_shown_as_it_is() {
        for text in ["nightly batch, ticket 42", r"user@7.service/app-x\x2d1.scope", "größer \"x\""] {
            assert_eq!(Phrase::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        let long = "x".repeat(Phrase::LONGEST + 1);
        for (text, error) in [
            ("", PhraseError::Empty),
            (" \t", PhraseError::Empty),
            (&*long, PhraseError::TooLong),
            ("a\nb", PhraseError::NotPlain),
            ("\u{1b}[31m", PhraseError::NotPlain),
            ("a\u{202e}b", PhraseError::NotPlain),
            (" a", PhraseError::NotPlain),
        ] {
            assert_eq!(Phrase::try_from(text.to_owned()), Err(error), "{text:?}");
        }
    }

    #[test]
    fn an_exemption_comes_back_from_json_as_it_was() {
        let id = ProcessId { pid: Pid(7), start: StartTime(9) };
        let phrase = |text: &str| Phrase::try_from(text.to_owned()).unwrap();
        for (of, json) in [
            (Exempt::Process(id), r#""process":{"pid":7,"start":9}"#),
            (Exempt::User(Uid(7)), r#""uid":7"#),
            (Exempt::Unit(phrase("x.service")), r#""unit":"x.service""#),
            (Exempt::Job(7), r#""job":7"#),
        ] {
            let exemption = Exemption { id: 3, of, until: UnixTime(5), by: Uid::ROOT, why: phrase("y") };
            let text = serde_json::to_string(&exemption).unwrap();
            assert_eq!(text, format!(r#"{{"id":3,{json},"until_unix_seconds":5,"by":0,"why":"y"}}"#));
            assert_eq!(serde_json::from_str::<Exemption>(&text).unwrap(), exemption);
        }
        assert!(serde_json::from_str::<Phrase>(r#""a\u001bb""#).is_err());
    }
}

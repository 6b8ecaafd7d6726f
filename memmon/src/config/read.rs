//! A file of a configuration, as it was read.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    string::FromUtf8Error,
};

use nix::unistd::geteuid;

use super::{problems::Problems, warning::Concern};
use crate::files;

/// The longest that a file of a configuration may be, in bytes.
pub(super) const LONGEST: usize = 1 << 18;

/// A file that was read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) file: PathBuf,
    pub(super) text: Result<String, FromUtf8Error>,
}

impl Read {
    pub(super) fn new(file: PathBuf, bytes: Vec<u8>) -> Self {
        Self { file, text: String::from_utf8(bytes) }
    }

    /// Adds the text to `problems`, where it has its place from then on. Returns the text with its start, or `None` if the
    /// bytes are no text.
    pub(super) fn text<'t>(&'t self, problems: &mut Problems<'t>) -> Option<(&'t str, usize)> {
        match &self.text {
            Ok(text) => Some((text, problems.read(&self.file, &**text))),
            Err(error) => {
                not_utf8(&self.file, error, problems);
                None
            }
        }
    }
}

pub(super) fn not_utf8(file: &Path, error: &FromUtf8Error, problems: &mut Problems<'_>) {
    // Up to the first wrong byte, this is the text.
    let start = problems.read(file, String::from_utf8_lossy(error.as_bytes()).into_owned());
    let wrong = error.utf8_error().valid_up_to();
    let byte = error.as_bytes().get(wrong).copied().unwrap_or_default();
    problems.add(
        start + wrong..start + wrong + char::REPLACEMENT_CHARACTER.len_utf8(),
        format!("byte 0x{byte:02x} is not UTF-8"),
        "save the file as UTF-8",
    );
}

/// A concern about a file that any user may write to.
pub(super) fn world_writable(file: &Path, facts: &Metadata) -> Option<Concern> {
    (facts.mode() & 0o002 != 0).then(|| Concern::WorldWritable { file: file.to_owned() })
}

/// A concern about a file that others than root decide about, where memmon acts as root.
pub(super) fn of_others(file: &Path, facts: &Metadata) -> Option<Concern> {
    let decide = || {
        let why = files::others_decide(file).filter(|_| geteuid().is_root())?;
        Some(Concern::OthersDecide { file: file.to_owned(), why })
    };
    world_writable(file, facts).or_else(decide)
}

//! From an administrator's text to settings, in three steps. All errors are reported at once:
//!
//! ```text
//! text ──raw──▶ Typed: the keys by section ──resolve──▶ Settings: checked as a whole, in units, with defaults
//!          └─ toml_document, kinds: syntax, ranges         └─ values: globs, users, probable mistakes
//! ```
//!
//! The keys, their kinds, ranges, defaults and descriptions stand in one table, `keys`.

mod effective;
mod enabled;
mod error;
mod file;
mod foreign;
mod fragments;
mod hints;
mod key;
mod keys;
mod kinds;
mod limits;
mod machine;
mod matcher;
mod names;
mod names_files;
mod notify;
mod problems;
mod raw;
mod read;
mod resolve;
mod rule;
mod schedule;
mod settings;
mod several;
mod toml_document;
mod users;
mod values;
mod warning;
mod whitelist;

use std::{
    cell::RefCell,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

pub(crate) use effective::write_settings;
pub use enabled::{Consent, consent, consent_file, give_consent, withdraw_consent};
pub use error::{ConfigError, Problem};
pub use file::{DEFAULT_PATH, load};
pub(crate) use foreign::globs;
pub use key::{Allowed, Key, Kind, Section, Shown};
pub use keys::{Kernel, Metrics, Termination, sections};
pub use kinds::LogLevel;
pub use schedule::{Days, Minute, Pace, Schedule, Window};
pub use settings::{History, Log, Settings, Status};
#[cfg(test)]
pub(crate) use users::{FakeUsers, HostileUsers};
pub use users::{NameService, Users};
pub use warning::{Concern, Warning};

use self::{names_files::ReadNames, problems::Problems, read::Read, toml_document::Document};
use crate::model::Pid;

/// Settings, and the warnings about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Probable mistakes, in the order of the files.
    pub warnings: Vec<Warning>,
    /// The file; `None` for the built-in defaults.
    pub origin: Option<PathBuf>,
    /// The files in `conf.d` that were read after it, in that order.
    pub fragments: Vec<PathBuf>,
    /// A digest of all files that were read, which shows whether one of them was edited since.
    pub digest: u64,
}

/// Reads a configuration's `text`; `origin` is the file that messages name. Asks `users`, but never the file system.
///
/// An empty text is a configuration: that of the built-in defaults.
///
/// # Errors
/// [`ConfigError::Invalid`] with everything that is wrong in it, or [`ConfigError::NoAnswer`].
pub fn parse(text: &str, origin: &Path, users: &dyn Users) -> Result<Loaded, ConfigError> {
    let none = |_: &Path| Err(io::Error::other("only a file's configuration may name other files"));
    parse_files(&[Read::new(origin.to_owned(), text.into())], users, &none)
}

/// Reads the texts of a configuration's `files`, of which the first one names it; `names` reads the files of names.
fn parse_files(files: &[Read], users: &dyn Users, names: ReadNames<'_>) -> Result<Loaded, ConfigError> {
    let mut problems = Problems::default();
    let mut document = Document::default();
    let digest = RefCell::new(DefaultHasher::new());
    let names = |path: &Path| {
        let read = names(path)?;
        (path, &read.0).hash(&mut *digest.borrow_mut());
        Ok(read)
    };
    for file in files {
        (&file.file, file.text.as_ref().ok()).hash(&mut *digest.borrow_mut());
        if let Some((text, start)) = file.text(&mut problems) {
            document.add(text, start, &mut problems);
        }
    }
    let mut typed = raw::read(document, &mut problems);
    let concerns = names_files::expand(&mut typed, &names, &mut problems);
    match resolve::settings(typed, users, Pid(std::process::id()), &mut problems) {
        Some((settings, mut warnings)) if problems.is_empty() => {
            warnings.extend(concerns);
            let origin = files.first().map(|file| file.file.clone());
            let fragments = files.iter().skip(1).map(|file| file.file.clone()).collect();
            let digest = digest.borrow().finish();
            Ok(Loaded { settings, warnings, origin, fragments, digest })
        }
        _ => Err(problems.into_error()),
    }
}

#[cfg(test)]
mod action_tests;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod sum_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod translations;

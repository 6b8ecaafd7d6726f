//! Settings for notifications by mail or by a command.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::{Uid, seconds::as_seconds};

/// Mail through a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mail {
    /// The recipients; never empty.
    pub to: Vec<String>,
    /// The sender; if none, memmon at this host.
    pub from: Option<String>,
    /// The relay's name or address.
    pub host: String,
    /// The relay's port.
    pub port: u16,
    /// Whether to require encryption (RFC 3207).
    pub starttls: bool,
    /// A file with the user's name on its first line and the password on its second; only its owner may read it.
    pub auth_file: Option<PathBuf>,
}

/// A command that memmon runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// Absolute path of the command, which runs without arguments and without a shell.
    pub command: PathBuf,
    /// The user that it runs as; if none, memmon's own.
    pub user: Option<Uid>,
    /// Maximum time that it may take.
    #[serde(serialize_with = "as_seconds")]
    pub timeout: Duration,
}

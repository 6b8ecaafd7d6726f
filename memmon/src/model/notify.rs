//! Who is notified: by mail, or by a command.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::{Uid, seconds::as_seconds};

/// Mail through a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mail {
    /// To whom; never empty.
    pub to: Vec<String>,
    /// From whom; none: memmon at this host.
    pub from: Option<String>,
    /// The relay's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether to demand encryption (RFC 3207).
    pub starttls: bool,
    /// A file with the user's name on its first line and the password on its second; nobody but its owner may read it.
    pub auth_file: Option<PathBuf>,
}

/// A command that is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// From the root; run without arguments and without a shell.
    pub command: PathBuf,
    /// As whom; none: as memmon itself runs.
    pub user: Option<Uid>,
    /// How long it may take.
    #[serde(serialize_with = "as_seconds")]
    pub timeout: Duration,
}

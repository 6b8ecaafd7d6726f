//! Settings for notifications by mail or by a command.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::{Uid, seconds::as_seconds, words::words};

/// `[notify]`: no recipients by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notify {
    /// Between two messages of one kind; what comes in between is put together.
    #[serde(serialize_with = "as_seconds")]
    pub interval: Duration,
    /// Mail, if anybody is named.
    pub mail: Option<Mail>,
    /// A command, if there is one.
    pub hook: Option<Hook>,
    /// Whether the user of a process gets a line on its terminal.
    pub terminal: bool,
}

/// Mail through a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mail {
    /// The recipients; never empty. In the address of a process's owner, `%u` stands for the name of that user.
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

/// Stands for the name of a process's owner in an address.
pub const OWNER: &str = "%u";

impl Mail {
    /// The same mail in two parts: for the recipients of everything, and for the owners of processes. A part without
    /// recipients is `None`.
    pub fn split(self) -> (Option<Self>, Option<Self>) {
        let (owners, everybody): (Vec<_>, Vec<_>) =
            self.to.iter().cloned().partition(|to| to.contains(OWNER));
        let with = |to: Vec<String>| (!to.is_empty()).then(|| Self { to, ..self.clone() });
        (with(everybody), with(owners))
    }
}

words! {
    /// The times at which the user of a process is notified about it, by mail and on the terminal: `notify_user` of a rule.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
    pub enum NotifyUser {
        /// While the process is near its limit.
        Before = "before",
        /// After memmon has acted on it.
        After = "after",
        /// At both times.
        Both = "both",
        /// Never.
        Never = "never",
    }
}

impl NotifyUser {
    /// Whether that is near the limit.
    pub const fn is_before(self) -> bool {
        matches!(self, Self::Before | Self::Both)
    }

    /// Whether that is after an action.
    pub const fn is_after(self) -> bool {
        matches!(self, Self::After | Self::Both)
    }
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

//! The exit codes of memmon, by which a script can distinguish one trouble from another.

use std::process::ExitCode;

use crate::{
    config::ConfigError,
    daemon::{CannotEnforce, InstanceError},
    observe::support::Refusal,
};

/// A command line that clap accepts and that is still wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct WrongCommandLine(pub(super) String);

/// The result of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Exit {
    /// As it was asked to.
    Ok = 0,
    /// Something that was to be done could not be.
    Failure = 1,
    /// The configuration or the command line is wrong. Nothing was started.
    BadConfig = 2,
    /// Another memmon is running on this machine.
    AlreadyRunning = 3,
    /// This kernel, or the rights that memmon was given, do not allow to terminate safely.
    CannotEnforce = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The exit code of a command that failed with `error`.
    pub(super) fn after(error: &anyhow::Error) -> Self {
        if let Some(error) = error.downcast_ref() {
            match error {
                // The next start of memmon may get an answer.
                ConfigError::NoAnswer { .. } => Self::Failure,
                ConfigError::Unreadable { .. } | ConfigError::Invalid { .. } => Self::BadConfig,
            }
        } else if let Some(InstanceError::Taken { .. } | InstanceError::Enforces { .. }) =
            error.downcast_ref()
        {
            Self::AlreadyRunning
        } else if error.is::<WrongCommandLine>() {
            Self::BadConfig
        } else if error.is::<CannotEnforce>() || error.is::<Refusal>() {
            Self::CannotEnforce
        } else {
            Self::Failure
        }
    }
}

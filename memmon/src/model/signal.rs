//! The signals.

use std::fmt;

use serde::Serialize;

/// The signals that memmon sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Signal {
    /// A request to exit, which the process can handle.
    #[default]
    #[serde(rename = "SIGTERM")]
    Term,
    /// The signal of Ctrl+C: many programs stop their work and save it.
    #[serde(rename = "SIGINT")]
    Int,
    /// The terminal is gone: shells and editors save and exit.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// The signal of Ctrl+\: some servers finish their requests and exit, others dump core.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// The program defines its meaning.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// The program defines its meaning.
    #[serde(rename = "SIGUSR2")]
    Usr2,
    /// A resource is used up: some batch systems have jobs write a checkpoint.
    #[serde(rename = "SIGXCPU")]
    Xcpu,
    /// The process stops where it is, until it gets SIGCONT.
    #[serde(rename = "SIGSTOP")]
    Stop,
    /// The immediate end, which the process cannot handle.
    #[serde(rename = "SIGKILL")]
    Kill,
}

impl Signal {
    /// Signals that can be the first one to a process: without a handler each of them ends it, and a program may handle it.
    pub const FIRST: [Self; 7] =
        [Self::Term, Self::Int, Self::Hup, Self::Quit, Self::Usr1, Self::Usr2, Self::Xcpu];

    /// Its number on all platforms that memmon runs on.
    pub const fn number(self) -> u32 {
        match self {
            Self::Hup => 1,
            Self::Int => 2,
            Self::Quit => 3,
            Self::Kill => 9,
            Self::Usr1 => 10,
            Self::Usr2 => 12,
            Self::Term => 15,
            Self::Stop => 19,
            Self::Xcpu => 24,
        }
    }

    /// Its name, as signal(7) has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Hup => "SIGHUP",
            Self::Quit => "SIGQUIT",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Xcpu => "SIGXCPU",
            Self::Stop => "SIGSTOP",
            Self::Kill => "SIGKILL",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

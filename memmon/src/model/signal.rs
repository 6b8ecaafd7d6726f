//! The signals.

use serde::Serialize;

use super::words::words;

words! {
    /// The signals that memmon sends.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
    pub enum Signal {
        /// A request to exit, which the process can handle.
        #[default]
        Term = "SIGTERM",
        /// The signal of Ctrl+C: many programs stop their work and save it.
        Int = "SIGINT",
        /// The terminal is gone: shells and editors save and exit.
        Hup = "SIGHUP",
        /// The signal of Ctrl+\: some servers finish their requests and exit, others dump core.
        Quit = "SIGQUIT",
        /// The program defines its meaning.
        Usr1 = "SIGUSR1",
        /// The program defines its meaning.
        Usr2 = "SIGUSR2",
        /// A resource is used up: some batch systems have jobs write a checkpoint.
        Xcpu = "SIGXCPU",
        /// The process stops where it is, until it gets SIGCONT.
        Stop = "SIGSTOP",
        /// The immediate end, which the process cannot handle.
        Kill = "SIGKILL",
    }
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
}

//! The process of an event, with how it was started. Not called between a verdict and its signal: it reads the parent's
//! name.

use jiff::{SignedDuration, Zoned};

use crate::daemon::engine::backoff::since_boot;
use crate::daemon::event_loop::Daemon;
use crate::model::{Name, Process};
use crate::report::{Launched, Subject};

impl Daemon<'_> {
    /// `process` as its events show it.
    pub(in crate::daemon) fn subject(&self, process: &Process) -> Subject {
        self.subject_of(process, self.sources.parent_comm(process))
    }

    /// The same, if its parent's name is known.
    pub(in crate::daemon) fn subject_of(&self, process: &Process, parent_comm: Option<Name>) -> Subject {
        let age = since_boot().saturating_sub(process.id.start.since_boot());
        let now = Zoned::now();
        let started =
            SignedDuration::try_from(age).ok().and_then(|age| now.checked_sub(age).ok()).unwrap_or(now);
        let mut launched = Launched::new(process, parent_comm, started);
        if !self.settings.log.command_lines {
            launched.command_line = None;
        }
        Subject { launched: Some(launched), ..Subject::from(process) }
    }
}

//! The process of an event, with how it was started. Not called between a verdict and its signal: it reads the parent's
//! name.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::model::{Name, NotifyUser, Process};
use crate::report::{Launched, Subject};

impl Engine<'_> {
    /// `process` as its events show it.
    pub(super) fn subject(&self, process: &Process, now: Now) -> Subject {
        self.subject_of(process, self.sources.proc().parent_comm(process), now)
    }

    /// The same, if its parent's name is known.
    pub(super) fn subject_of(&self, process: &Process, parent_comm: Option<Name>, now: Now) -> Subject {
        let started = now.wall_clock(process.id.start.since_boot());
        let mut launched = Launched::new(process, parent_comm, started);
        if !self.settings.current().log.command_lines {
            launched.command_line = None;
        }
        let notify_user = self.notify_user(process);
        Subject { launched: Some(launched), notify_user, ..Subject::from(process) }
    }

    /// The times at which the user of `process` is notified. Nothing happens to it in a dry run, of which only administrators learn.
    fn notify_user(&self, process: &Process) -> Option<NotifyUser> {
        if self.settings.current().dry_run {
            return Some(NotifyUser::Never);
        }
        self.settings.rules().decisive(process).and_then(|rule| rule.notify_user)
    }
}

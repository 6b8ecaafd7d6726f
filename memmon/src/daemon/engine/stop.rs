//! Rules with `action = "stop"`: a process over its limit gets SIGSTOP. Another one may continue it; memmon never continues what it
//! stopped.

use std::{io, time::Instant};

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::growth::NextWake;
use crate::daemon::engine::state::report_once::Condition;
use crate::daemon::engine::state::stopped::{Found, KeptStop, StoppedProcesses, step};
use crate::daemon::stopped_file::StoppedFile;
use crate::enforce::{Check, Errno, OpenedProcess};
use crate::model::{Breach, Bytes, Limit, Process, ProcessId, Signal, Unconfirmed, Verdict};
use crate::report::Event;

impl Engine<'_> {
    /// Stops a process that is over the limit of a rule that asks for that, at once if it is `opened` already. Returns when to
    /// look at it next by the kernel's counters, which have `rss` for it.
    pub(super) fn stop(
        &mut self,
        process: &Process,
        breach: Breach,
        rss: Bytes,
        opened: Option<OpenedProcess>,
        now: Now,
    ) -> NextWake {
        let id = process.id;
        if self.terminations.contains(id) {
            return self.at_ceiling(id);
        }
        let ceiling = self.settings.ceiling(process, None).unwrap_or(Bytes::MAX);
        let next = (rss + step(breach.limit)).min(ceiling.max(rss + Bytes(Bytes::MIB)));
        if self.settings.current().dry_run {
            if self.reports.first_time(id, Condition::WouldStop) {
                let subject = self.subject(process, now);
                self.reports.emit(Event::Stopped {
                    subject,
                    breach,
                    times: 1,
                    already: false,
                    dry_run: true,
                });
            }
            return NextWake::Level(
                ceiling.saturating_sub(self.sources.error()).max(rss + Bytes(Bytes::MIB)),
            );
        }
        self.stopped.looked_at(process, |since| now.at(since));
        let is_stopped = self.sources.proc().is_stopped(id.pid);
        let found = match self.stopped.find(id, breach.rss, is_stopped, now.instant()) {
            // It was seen to write on, and the memory of its files is not its own.
            Found::Continued { news } if breach.rule == Limit::Machine => Found::GrewOn { news },
            found => found,
        };
        match found {
            Found::Stopped | Found::Continued { news: false } => {}
            Found::Continued { news: true } => self.report_continued(process, now),
            Found::StoppedByAnother => {
                self.stopped.stopped(process.clone(), breach, false, now.instant());
                let subject = self.subject(process, now);
                self.reports.emit(Event::Stopped {
                    subject,
                    breach,
                    times: 0,
                    already: true,
                    dry_run: false,
                });
            }
            found @ (Found::Running | Found::GrewOn { .. }) => {
                if found == (Found::GrewOn { news: true }) {
                    self.report_continued(process, now);
                }
                self.send_stop(process, breach, opened, now);
            }
        }
        NextWake::Level(next)
    }

    /// Sends SIGSTOP to a process, after a fresh look at it if it was not opened before the last one.
    fn send_stop(&mut self, process: &Process, breach: Breach, opened: Option<OpenedProcess>, now: Now) {
        let id = process.id;
        let found = match opened {
            Some(opened) => {
                let check = Check::judged(id, process, Verdict::Stop(breach), breach.limit);
                Ok((opened, check))
            }
            None => OpenedProcess::open(id.pid).map(|opened| (opened, self.look_again_alone(process, now))),
        };
        let sent = match found {
            Ok((opened, Check::StillOver(evidence))) => opened.stop(evidence),
            // It shrank, or something protects it, or that is in doubt: the next look reports which.
            Ok(_) | Err(Errno::ESRCH | Errno::EINVAL) => return,
            Err(error) => {
                if self.reports.first_time(id, Condition::NotStopped) {
                    let subject = self.subject(process, now);
                    self.reports
                        .emit(Event::OutOfReach { subject, error: io::Error::from(error).to_string() });
                }
                return;
            }
        };
        match sent {
            Ok(()) => {
                let times = self.stopped.stopped(process.clone(), breach, true, now.instant());
                let subject = self.subject(process, now);
                self.reports.emit(Event::Stopped { subject, breach, times, already: false, dry_run: false });
            }
            Err(Errno::ESRCH) => {}
            Err(error) => {
                if self.reports.first_time(id, Condition::NotStopped) {
                    let (subject, signal) = (self.subject(process, now), Signal::Stop);
                    self.reports.emit(Event::SignalFailed {
                        subject,
                        signal,
                        error: io::Error::from(error).to_string(),
                    });
                }
            }
        }
    }

    /// Continues with the processes that an earlier memmon has `left` stopped, and has all of them kept in the file.
    pub(crate) fn continue_stops(&mut self, file: StoppedFile, left: Vec<KeptStop>, now: Now) {
        self.stopped_file = Some(file);
        self.stopped.continue_with(left);
        self.look_at_left(now);
    }

    /// Looks at those of an earlier memmon: a process that cannot be read now is looked at again.
    fn look_at_left(&mut self, now: Now) {
        for id in self.stopped.left() {
            match self.sources.confirm(id.pid, Some(id.start), Bytes::MAX) {
                Ok(process) => self.stopped.looked_at(&process, |since| now.at(since)),
                Err(Unconfirmed::Gone | Unconfirmed::AnotherProcess { .. }) => self.stopped.forget(id),
                Err(_) => {}
            }
        }
    }

    /// Has the processes that memmon has stopped kept, if they are others than those that were kept last. Returns the reason why
    /// the last time failed, if it did.
    pub(crate) fn keep_stopped(&mut self, now: Now) -> Option<String> {
        let file = self.stopped_file.as_ref()?;
        let uptime =
            |at: Instant| now.monotonic().saturating_sub(now.instant().saturating_duration_since(at));
        if let Some(stopped) = self.stopped.take_changed(uptime) {
            file.keep(stopped);
        }
        file.failure()
    }

    /// Waits until they are kept, at the end of memmon.
    pub(crate) fn finish_stops(&mut self, now: Now) {
        self.keep_stopped(now);
        if let Some(file) = &self.stopped_file {
            file.finish();
        }
    }

    /// Looks at the processes that were stopped: forgets those that have ended, or go on within their limit, and reports those
    /// that someone has continued.
    pub(crate) fn check_stopped(&mut self, now: Now) {
        self.look_at_left(now);
        if self.stopped_file.as_ref().is_some_and(StoppedFile::has_failed) {
            self.stopped.keep_again();
        }
        for id in self.stopped.ids() {
            let process = match self.sources.confirm(id.pid, Some(id.start), Bytes::MAX) {
                Ok(process) => process,
                Err(Unconfirmed::Gone | Unconfirmed::AnotherProcess { .. }) => {
                    self.stopped.forget(id);
                    continue;
                }
                Err(_) => continue,
            };
            let is_stopped = self.sources.proc().is_stopped(id.pid);
            match self.stopped.find(id, process.rss, is_stopped, now.instant()) {
                Found::Continued { news: true } | Found::GrewOn { news: true } => {
                    self.report_continued(&process, now);
                }
                _ => {}
            }
            let runs = self.stopped.get(id).is_some_and(|stopped| stopped.continued);
            if runs && process.rss <= self.settings.limit_of(&process) {
                self.stopped.forget(id);
            }
        }
    }

    fn report_continued(&mut self, process: &Process, now: Now) {
        let Some(stopped) = self.stopped.get(process.id) else { return };
        let (limit, may_have) = (stopped.breach.limit, stopped.may_have());
        let subject = self.subject(process, now);
        self.reports.emit(Event::Continued { subject, rss: process.rss, limit, may_have });
    }

    /// The processes that memmon has stopped, or found stopped.
    pub(crate) const fn stopped(&self) -> &StoppedProcesses {
        &self.stopped
    }

    /// The processes of them that are stopped now.
    pub(crate) fn stopped_now(&self) -> Vec<ProcessId> {
        self.stopped.iter().filter(|stopped| !stopped.continued).map(|stopped| stopped.process.id).collect()
    }
}

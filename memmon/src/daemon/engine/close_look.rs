//! The close look at one process: what /proc shows of it, without what it freed, and without doubts that lasted too long.

use std::time::Duration;

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::growth::NextWake;
use crate::daemon::engine::state::report_once::Condition;
use crate::daemon::engine::state::settings::SettingsInForce;
use crate::{
    enforce::OpenedProcess,
    model::{Bytes, Crossed, Parts, Pid, Process, ProcessId, Reading, StartTime, Unconfirmed, Verdict},
    observe::merge::disagreement,
    report::Event,
};

/// Number of looks at a process that changes its name, or gets other rights, during each: it is not spared for that.
pub(super) const LOOKS: usize = 3;

/// The result of a look that took no longer is acted on as it is: to read the facts again would take a tenth of this.
const QUICK: Duration = Duration::from_millis(1);

impl Engine<'_> {
    /// Looks closely at a process that may be over its limit, and acts on the verdict. Returns its identity, and the time
    /// to look at it next by the kernel's counters, which have `rss` for it; `None` if it cannot be confirmed.
    pub(super) fn look(
        &mut self,
        (pid, start): (Pid, Option<StartTime>),
        crossed: Option<Crossed>,
        rss: Option<Bytes>,
        now: Now,
    ) -> Option<(ProcessId, NextWake)> {
        // Opened first, so that all facts that are read after that are those of the process behind the pidfd.
        let opened = if self.settings.current().dry_run { None } else { OpenedProcess::open(pid).ok() };
        for again in (0..LOOKS).rev() {
            let begun = now.instant();
            let mut process = match self.confirm_exactly(pid, start) {
                Ok(process) => process,
                Err(why) => {
                    self.unconfirmed((pid, start), crossed, why, now);
                    return None;
                }
            };
            let (id, rss) = (process.id, rss.unwrap_or(process.rss));
            let limit = self.settings.limit_of(&process);
            self.take_off_freed(&mut process, limit, now);
            self.warn_about(&process, rss, now);
            let verdict = self.settings.judge(&process);
            let verdict = self.settle(&mut process, verdict, now, SettingsInForce::judge);
            // A signal may follow at once.
            let is_decisive = matches!(verdict, Verdict::Terminate(_) | Verdict::Stop(_));
            let is_quick = now.instant().saturating_duration_since(begun) <= QUICK;
            if again == 0 || !is_decisive || is_quick || self.sources.is_as_found(&process) {
                return Some((id, self.act_on(process, verdict, rss, opened, crossed, now)));
            }
        }
        None
    }

    /// A process as /proc shows it, with its memory as exact as a decision about its limit requires. Its wake levels are those
    /// for that limit from now on.
    fn confirm_exactly(&mut self, pid: Pid, start: Option<StartTime>) -> Result<Process, Unconfirmed> {
        let Self { settings, sources, .. } = self;
        let look = |limit| sources.confirm(pid, start, limit);
        let process = settings.rules().confirm(&settings.memory(), look)?;
        self.note_levels(&process);
        Ok(process)
    }

    /// A suspect of a scan, as /proc shows it; `None` if it cannot be confirmed, which is reported.
    pub(super) fn confirm(&mut self, reading: &Reading, now: Now) -> Option<Process> {
        match self.confirm_exactly(reading.pid, reading.start) {
            Ok(mut process) => {
                self.compare(reading, &process);
                let limit = self.settings.limit_of(&process);
                self.take_off_freed(&mut process, limit, now);
                Some(process)
            }
            Err(why) => {
                self.unconfirmed((reading.pid, reading.start), None, why, now);
                None
            }
        }
    }

    /// Reports why a process could not be confirmed, unless that is normal. It is looked at again if that may help.
    fn unconfirmed(
        &mut self,
        (pid, start): (Pid, Option<StartTime>),
        crossed: Option<Crossed>,
        why: Unconfirmed,
        now: Now,
    ) {
        if why.is_transient() {
            self.rechecks.queue.note(pid, start, crossed, now.instant());
        }
        // It ended, or it shows the memory of another process, which is looked at itself.
        if !matches!(why, Unconfirmed::Gone | Unconfirmed::Borrowed { .. } | Unconfirmed::Thread { .. }) {
            self.reports.emit(Event::Unconfirmed { pid, why });
        }
    }

    /// Reports that the kernel map is wrong about a process that stands still: one that was read before and after the
    /// close look, and was off in the same direction both times.
    fn compare(&mut self, before: &Reading, exact: &Process) {
        let Some(differ) = disagreement(before, exact) else { return };
        let Some(after) = self.sources.again(exact.id) else { return };
        let below = differ.map < exact.rss;
        let repeats = disagreement(&after, exact).is_some_and(|again| (again.map < exact.rss) == below);
        if repeats && self.reports.first_time(exact.id, Condition::Disagreement) {
            self.reports.emit(Event::Disagreement {
                id: differ.id,
                map: differ.map,
                exact: differ.exact,
                error: differ.allowed,
            });
        }
    }

    /// Takes off what a process that was sent SIGTERM has freed since, if it is within `limit` without that.
    pub(super) fn take_off_freed(&mut self, process: &mut Process, limit: Bytes, now: Now) {
        let Self { sources, terminations, .. } = self;
        terminations.freed.take_off(
            process,
            limit,
            || now.instant(),
            |process| {
                let (rss, free) = sources.lazy_free(process)?;
                Some((rss.saturating_sub(free), free))
            },
        );
    }

    /// The verdict that counts, if `judge` returned `verdict` on `process`: the same, or the one without a doubt that has
    /// lasted too long.
    pub(super) fn settle(
        &mut self,
        process: &mut Process,
        verdict: Verdict,
        now: Now,
        judge: impl FnOnce(&SettingsInForce, &Process) -> Verdict,
    ) -> Verdict {
        let doubts = &mut self.rechecks.doubts;
        let doubt = match verdict {
            Verdict::Unsure(doubt) if doubt.is_transient() => doubt,
            Verdict::Within
            | Verdict::Inherits(_)
            | Verdict::Uncharged(_)
            | Verdict::Protected(_)
            | Verdict::Warn(_) => {
                doubts.end(process.id);
                return verdict;
            }
            // It may be in doubt again at the next look, and would begin from nothing then.
            Verdict::Unsure(_) | Verdict::Stop(_) | Verdict::Terminate(_) => return verdict,
        };
        let Some(lasted) = doubts.outlasts(process.id, now.instant()) else {
            return Verdict::Unsure(doubt);
        };
        process.settle();
        let settled = judge(&self.settings, process);
        if matches!(settled, Verdict::Terminate(_) | Verdict::Stop(_)) && doubts.report(process.id) {
            let subject = self.subject(process, now);
            self.reports.emit(Event::DoubtEnded { subject, doubt, lasted });
        }
        settled
    }

    /// Resident memory of a process; `None` if it is gone, or has no address space any more because it is exiting.
    pub(super) fn resident(&self, process: ProcessId) -> Option<Bytes> {
        let Parts { anon, file, shmem, swap: _ } = self.sources.proc().parts(process.pid).ok()?;
        // The number may be another process's by now.
        self.sources.confirm(process.pid, Some(process.start), Bytes::MAX).ok()?;
        Some(anon + file + shmem)
    }
}

//! The way of the data, once: survey → suspects → a close look → verdicts → condemned.

use std::time::{Duration, Instant};

use super::{
    told::Said,
    wheel::{Daemon, Seen},
};
use crate::{
    model::{Bytes, Process, Reading, Snapshot, SystemMemory, Unconfirmed, Verdict},
    observe::merge::disagreement,
    policy,
    report::{Event, Subject},
};

impl Daemon<'_> {
    /// One scan, from its first log line to its last.
    pub(super) fn scan(&mut self) {
        let begun = Instant::now();
        let look = match self.watch.survey() {
            Ok(look) => look,
            Err(error) => {
                return self.degraded(Seen::SurveyFailed, || format!("nothing was scanned: {error}"));
            }
        };
        self.works(Seen::SurveyFailed);
        let memory = look.survey.memory;
        self.tell(Event::SystemMemory { memory });
        if look.map_full {
            self.degraded(Seen::MapFull, || {
                "the kernel map has no room for every process, so that scans read /proc as well: raise \
                 kernel.max_processes"
                    .to_owned()
            });
        } else {
            self.works(Seen::MapFull);
        }
        if look.defects.missed + look.defects.stale > 0 {
            self.tell(Event::MapDefect { missed: look.defects.missed, stale: look.defects.stale });
        }
        let suspects = policy::suspects(&self.settings.rules, &look.survey);
        let killed = self.judge(memory, &suspects);
        self.told.scan_complete();
        self.count(begun.elapsed());
        self.tell(Event::ScanComplete { scanned: look.survey.readings.len(), killed });
    }

    /// Notes what a scan took, and how the kernel map is.
    fn count(&mut self, took: Duration) {
        let metrics = self.reporter.metrics();
        metrics.scanned(took);
        if let Some(map) = self.watch.kernel().and_then(|kernel| kernel.figures()) {
            metrics.map(map);
        }
    }

    /// Looks closely at `suspects` and condemns those that policy condemns. Gives how many were sent SIGTERM.
    pub(super) fn judge(&mut self, memory: SystemMemory, suspects: &[Reading]) -> usize {
        let noticed = Instant::now();
        let (_, limit) = self.settings.rules.limit(&memory);
        let processes = suspects.iter().filter_map(|reading| self.confirm(reading, limit)).collect();
        let snapshot = Snapshot { memory, processes };
        let verdicts = policy::decide(&self.settings.rules, &snapshot);
        let mut orders = Vec::new();
        for (process, verdict) in verdicts {
            match verdict {
                Verdict::Within | Verdict::Protected(_) => {}
                Verdict::Unsure(doubt) => {
                    if self.told.is_news(process.id, Said::Unsure) {
                        self.tell(Event::Unsure { subject: Subject::from(process), doubt });
                    }
                }
                Verdict::Terminate(breach) if self.settings.dry_run => {
                    if self.told.is_news(process.id, Said::WouldTerminate) {
                        self.tell(Event::Killing { subject: Subject::from(process), breach, dry_run: true });
                    }
                }
                Verdict::Terminate(breach) if self.is_held_back(process, &breach, &memory) => {}
                Verdict::Terminate(breach) => {
                    orders.extend(self.victims.condemn(process.clone(), breach, Instant::now()));
                }
            }
        }
        let killed = self.carry_out(orders);
        if killed > 0 {
            self.reporter.metrics().reacted(noticed.elapsed());
        }
        killed
    }

    /// A suspect as /proc has it; none if it cannot be confirmed, which is said where it is not everyday life.
    fn confirm(&mut self, reading: &Reading, limit: Bytes) -> Option<Process> {
        match self.watch.confirm(reading.pid, reading.start, limit) {
            Ok(process) => {
                self.compare(reading, &process);
                Some(process)
            }
            // It ended, or it shows the memory of another process, which is looked at itself.
            Err(Unconfirmed::Gone | Unconfirmed::Borrowed { .. }) => None,
            Err(why) => {
                self.tell(Event::Unconfirmed { pid: reading.pid, why });
                None
            }
        }
    }

    /// Says where the kernel map is wrong about a process that stands still: one that was read before and after the
    /// close look, and was off in the same direction both times.
    fn compare(&mut self, before: &Reading, exact: &Process) {
        let Some(differ) = disagreement(before, exact) else { return };
        let Some(after) = self.watch.again(exact.id) else { return };
        let repeats = disagreement(&after, exact)
            .is_some_and(|again| (again.map < exact.rss) == (differ.map < exact.rss));
        if repeats && self.told.is_news(exact.id, Said::Disagreement) {
            self.tell(Event::Disagreement {
                id: differ.id,
                map: differ.map,
                exact: differ.exact,
                error: differ.allowed,
            });
        }
    }
}

//! The looks that all commands share: survey, confirm, and the rules to judge by.

use std::io;

use crate::{
    model::{Bytes, Measure, Pid, Process, StartTime, SystemMemory, Unconfirmed},
    observe::procfs::{Accuracy, ProcRoot},
    policy::{self, NamePatterns, Rules},
    status::Sharing,
};

/// /proc, and the rules to judge its processes by.
#[derive(Debug)]
pub struct Onlooker {
    pub(super) proc: ProcRoot,
    pub(super) accuracy: Accuracy,
    pub(super) rules: Rules,
}

impl Onlooker {
    /// Looks at this system's /proc, which is as accurate as `accuracy`.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn new(rules: Rules, accuracy: Accuracy) -> io::Result<Self> {
        let proc = ProcRoot::real()?.onlooking().measuring(rules.measure).wanting(rules.wanted());
        Ok(Self { proc, accuracy, rules })
    }

    /// The same, but reads charged memory even if the rules do not measure it.
    #[must_use]
    pub fn in_detail(self) -> Self {
        Self { proc: self.proc.measuring(Measure::Charged), ..self }
    }

    /// The rules.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The machine's memory.
    ///
    /// # Errors
    /// /proc/meminfo cannot be read.
    pub fn memory(&self) -> io::Result<SystemMemory> {
        self.proc.memory()
    }

    /// One process, which must have started at `start` if that is known.
    ///
    /// # Errors
    /// It is gone, is another process, has no memory of its own, or cannot be read.
    pub fn process(
        &self,
        pid: Pid,
        start: Option<StartTime>,
        memory: &SystemMemory,
    ) -> Result<Process, Unconfirmed> {
        self.rules.confirm(memory, |limit| self.proc.confirm(pid, start, limit, &self.accuracy))
    }

    /// All processes with memory, without the exact figures.
    ///
    /// # Errors
    /// /proc cannot be listed.
    pub fn all(&self) -> io::Result<Vec<Process>> {
        let process = |pid| self.proc.confirm(pid, None, Bytes::MAX, &self.accuracy).ok();
        let has_memory = |process: &Process| process.rss > Bytes::ZERO;
        Ok(self.proc.pids()?.into_iter().filter_map(process).filter(has_memory).collect())
    }

    /// All processes that have one of these names.
    ///
    /// # Errors
    /// /proc cannot be listed.
    pub fn named(&self, names: &NamePatterns, memory: &SystemMemory) -> io::Result<Vec<Process>> {
        let process = |pid| self.process(pid, None, memory).ok();
        let named = |process: &Process| names.find_in(&process.names).is_some();
        Ok(self.proc.pids()?.into_iter().filter_map(process).filter(named).collect())
    }

    /// The machine's memory, and all processes that may be over the limit.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn suspects(&self) -> io::Result<(SystemMemory, Vec<Process>)> {
        let survey = self.proc.survey(&self.accuracy)?;
        let suspects = policy::suspects(&self.rules, &survey);
        // A process that ended meanwhile, or that shows the memory of another one, is not over any limit.
        let process = |pid, start| self.process(pid, start, &survey.memory).ok();
        let found = suspects.iter().filter_map(|suspect| process(suspect.pid, suspect.start)).collect();
        Ok((survey.memory, found))
    }

    /// The memory that `process` shares, as far as it was read, with the names of the other processes.
    pub(super) fn sharing(&self, process: &Process) -> Sharing {
        let shared = process.holdings.as_ref().and_then(|holdings| holdings.shared.known());
        Sharing::new(process.inherited.known(), shared, |pid| self.proc.comm(pid))
    }
}

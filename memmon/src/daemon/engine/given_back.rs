//! The memory that the end of a victim gives back: measured right after its signals, and at its end. Nothing is read before
//! a signal.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::case::Case;
use crate::model::{GivenBack, Process, ProcessId};
use crate::observe::procfs::OwnCgroup;

impl Engine<'_> {
    /// Notes what the record of a process needs that has just been sent SIGTERM.
    pub(super) fn open_case(&mut self, process: &Process, now: Now) {
        let id = process.id;
        // Its memory may be freed from now on, some GB in a second, so what changes comes first.
        let before = self.sources.free_and_shared_at_signal(now.instant());
        let (cgroup, cgroup_before) = self.sources.proc().own_cgroup(id.pid).unzip();
        let (parts, expected) = (process.parts, process.gives_back());
        let given_back = Some(GivenBack { parts, expected, cgroup_before, before, ..GivenBack::default() });
        let (parent_comm, stays) = (self.sources.proc().parent_comm(process), self.sources.proc().stays(id));
        self.terminations.sent_term(id, Case { parent_comm, given_back, cgroup, stays, shared: None });
    }

    /// Measures again what may have grown since SIGTERM, as SIGKILL has just been sent. The earlier figures count if it
    /// begins to exit meanwhile.
    pub(super) fn measure_before_end(&mut self, victim: ProcessId) {
        let Self { sources, terminations, .. } = self;
        let Some(Case { given_back: Some(back), cgroup, .. }) = terminations.case_mut(victim) else { return };
        let (memory, before) = (cgroup.as_ref().and_then(OwnCgroup::memory), sources.free_and_shared());
        if sources.proc().has_memory(victim.pid) {
            back.cgroup_before = memory.or(back.cgroup_before);
            back.before = before.or(back.before);
        }
    }

    /// The memory that the end of a process has given back that was sent SIGTERM.
    pub(super) fn given_back(&self, process: &Process) -> Option<Box<GivenBack>> {
        let Case { given_back, cgroup, stays, .. } = self.terminations.case(process.id)?;
        let mut back = given_back.clone()?;
        back.cgroup_after = cgroup.as_ref().and_then(OwnCgroup::memory);
        back.after = self.sources.free_and_shared();
        back.left_behind = self.sources.proc().left_behind(process, &back, stays.as_ref());
        Some(Box::new(back))
    }
}

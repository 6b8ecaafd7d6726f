//! The command line of a process, and whether the process runs in its parent's memory.
//!
//! Both are read on another thread, because their locks may be held for long (see `blocking_pool`).

use std::io;
use std::time::Instant;

use super::blocking_pool::{JobOwner, Lock, run_short};
use super::directory::ProcessDirectory;
use super::last_command_line::{CommandLine, Program};
use super::parse::Stat;
use super::{ProcRoot, kcmp, parse};

impl ProcRoot {
    /// The command line, and whether the process runs in its parent's memory, as after vfork(2).
    pub(super) fn command_line(
        &self,
        directory: &ProcessDirectory,
        owner: JobOwner,
        stat: &Stat<'_>,
        (place, has_memory): (&mut String, bool),
    ) -> (io::Result<CommandLine>, bool) {
        // kcmp only where the first thread lives: it calls two tasks equal that have no memory at all.
        let first_lives = has_memory && place.is_empty();
        let read = Instant::now();
        let program = Program::of(owner.pid, stat).filter(|_| first_lives);
        if let Some(line) = program.as_ref().and_then(|program| self.last_command_line.of(program, read)) {
            return (Ok(line), false);
        }
        let (pid, parent, own, asks) = (owner.pid, stat.parent, self.own, self.own && first_lives);
        let borrows = move || asks && kcmp::same_memory(pid, parent);
        let hanging = directory.through(place, |at| {
            let cmdline = directory.reading(at, "cmdline")?;
            let environment = self.has_slurm.then(|| directory.environment(at, pid, own)).transpose()?;
            run_short(owner, move || {
                // An environment that cannot be read names no job: it is only displayed.
                let environment = environment.and_then(|read| read().ok());
                let slurm_job_id = environment.and_then(|text| parse::slurm_job_id(&text));
                (cmdline().map(|text| CommandLine { text, slurm_job_id }), borrows())
            })
        });
        let (line, borrows) = hanging.unwrap_or_else(|error| {
            // The command line of one that runs in its parent's memory hangs with its parent, and this does not. A process
            // that cannot be compared counts as having memory of its own.
            (Err(error), run_short(JobOwner { lock: Lock::Exec, ..owner }, borrows).unwrap_or(false))
        });
        if let (Some(program), Ok(line), false) = (program, &line, borrows) {
            self.last_command_line.keep(program, read, line.clone());
        }
        (line, borrows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::super::{Accuracy, ProcRoot};
    use crate::model::{Bytes, Fact, Name, Pid};

    #[test]
    fn the_environment_names_a_job_where_slurm_is_and_the_cgroup_names_none() {
        let tree = Tree::new();
        tree.cat(42);
        tree.write("42/environ", "SLURM_JOB_ID=4711\0");
        let job = |has_slurm| {
            let root = ProcRoot { has_slurm, ..tree.root() };
            let process = root.confirm(Pid(42), None, Bytes::ZERO, &Accuracy::StatmExact).unwrap();
            assert_eq!(process.names.argv0, Fact::Known(Name::from("/bin/cat")));
            process.launch.slurm_job_id
        };
        assert_eq!((job(true), job(false)), (Some(4711), None));
        tree.write("42/cgroup", "0::/system.slice/slurmstepd.scope/job_12/step_0/user/task_0\n");
        assert_eq!(job(true), None, "the cgroup is Slurm's own, the environment is the user's");
        tree.write("42/cgroup", "0::/\n");
        tree.spoil("42/environ");
        assert_eq!(job(true), None);
    }
}

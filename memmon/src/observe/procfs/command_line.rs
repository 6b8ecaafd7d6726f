//! The command line of a process, and whether the process runs in its parent's memory.
//!
//! Both are read on another thread, because their locks may be held for long (see `blocking_pool`).

use std::io;
use std::time::Instant;

use super::blocking_pool::{JobOwner, Lock, run_blocking};
use super::directory::ProcessDirectory;
use super::last_command_line::Program;
use super::parse::Stat;
use super::{ProcRoot, kcmp};

impl ProcRoot {
    /// The text of /proc/PID/cmdline, and whether the process runs in its parent's memory, as after vfork(2).
    pub(super) fn command_line(
        &self,
        directory: &ProcessDirectory,
        owner: JobOwner,
        stat: &Stat<'_>,
        (place, has_memory): (&mut String, bool),
    ) -> (io::Result<Vec<u8>>, bool) {
        // kcmp only where the first thread lives: it calls two tasks equal that have no memory at all.
        let first_lives = has_memory && place.is_empty();
        let read = Instant::now();
        let program = Program::of(owner.pid, stat).filter(|_| first_lives);
        if let Some(text) = program.as_ref().and_then(|program| self.last_command_line.of(program, read)) {
            return (Ok(text), false);
        }
        let (pid, parent, asks) = (owner.pid, stat.parent, self.own && first_lives);
        let borrows = move || asks && kcmp::same_memory(pid, parent);
        let hanging = directory.through(place, |at| {
            let cmdline = directory.reading(at, "cmdline")?;
            run_blocking(owner, move || (cmdline(), borrows()))
        });
        let (text, borrows) = hanging.unwrap_or_else(|error| {
            // The command line of one that runs in its parent's memory hangs with its parent, and this does not. A process
            // that cannot be compared counts as having memory of its own.
            (Err(error), run_blocking(JobOwner { lock: Lock::Exec, ..owner }, borrows).unwrap_or(false))
        });
        if let (Some(program), Ok(text), false) = (program, &text, borrows) {
            self.last_command_line.keep(program, read, text.clone());
        }
        (text, borrows)
    }
}

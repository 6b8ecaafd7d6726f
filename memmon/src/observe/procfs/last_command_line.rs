//! The command line that was read last, with what was read beside it, which holds for a moment. No system calls; the time is an argument.
//!
//! A process that crosses its limit is looked at twice within a millisecond: at the level below the limit, and above the limit.
//! The command line takes as long as the rest of such a look, and only the process itself and exec change it. Exec draws the
//! layout of the address space at random, and each look reads that again, as it does the executable.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::parse::{Layout, Stat};
use crate::model::{Pid, StartTime};

/// Time for which a command line holds: the time in which a process that grows by 100 MB per second gets from the level below
/// its limit to the limit.
const HOLDS_FOR: Duration = Duration::from_millis(10);

/// The command line of one process.
#[derive(Debug, Default)]
pub(super) struct LastCommandLine(RefCell<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    program: Program,
    read: Instant,
    line: CommandLine,
}

/// The text of /proc/PID/cmdline, and `SLURM_JOB_ID` of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) text: Vec<u8>,
    pub(super) slurm_job_id: Option<u32>,
}

/// One program in one process: another one has another key, except for an exec without randomized addresses (personality(2)),
/// after which name, program and stack are where they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pid: Pid,
    start: StartTime,
    is_forked: bool,
    layout: Layout,
    comm: Vec<u8>,
}

impl Program {
    /// `None` if the kernel does not show enough to distinguish it from another one.
    pub(super) fn of(pid: Pid, stat: &Stat<'_>) -> Option<Self> {
        let (start, is_forked, comm) = (stat.start, stat.is_forked(), stat.comm.to_vec());
        Some(Self { pid, start, is_forked, layout: stat.layout?, comm })
    }
}

impl LastCommandLine {
    pub(super) fn of(&self, program: &Program, now: Instant) -> Option<CommandLine> {
        let kept = self.0.borrow();
        let kept = kept.as_ref().filter(|kept| kept.program == *program)?;
        (now.saturating_duration_since(kept.read) < HOLDS_FOR).then(|| kept.line.clone())
    }

    pub(super) fn keep(&self, program: Program, read: Instant, line: CommandLine) {
        *self.0.borrow_mut() = Some(Kept { program, read, line });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::procfs::parse;

    fn program(stat: &str) -> Program {
        Program::of(Pid(42), &parse::stat(stat.as_bytes()).unwrap()).unwrap()
    }

    fn stat(comm: &str, flags: u32, start: u64, stack: u64) -> String {
        let zeros = |count| vec!["0"; count].join(" ");
        let before = format!("42 ({comm}) R 1 1 1 0 -1 {flags} {} 1 0 {start} 4096", zeros(10));
        format!(
            "{before} 100 18446744073709551615 4198400 4198500 {stack} {} 94000000000000 0 0 0 0 0\n",
            zeros(18)
        )
    }

    #[test]
    fn a_command_line_holds_for_a_moment_and_for_one_program() {
        let last = LastCommandLine::default();
        let read = Instant::now();
        let seen = program(&stat("cat", 0, 777, 140_000_000_000_000));
        assert_eq!(last.of(&seen, read), None);
        let line = CommandLine { text: b"cat\0-\0".to_vec(), slurm_job_id: Some(4711) };
        last.keep(seen.clone(), read, line.clone());
        assert_eq!(last.of(&seen, read + HOLDS_FOR / 2), Some(line));
        assert_eq!(last.of(&seen, read + HOLDS_FOR), None, "it is too old");
        for other in [
            stat("dog", 0, 777, 140_000_000_000_000),
            stat("cat", 0x40, 777, 140_000_000_000_000),
            stat("cat", 0, 778, 140_000_000_000_000),
            stat("cat", 0, 777, 140_000_000_004_096),
        ] {
            assert_eq!(last.of(&program(&other), read), None, "{other}");
        }
        assert_eq!(last.of(&Program { pid: Pid(43), ..seen }, read), None);
    }

    #[test]
    fn a_process_whose_layout_is_hidden_is_no_known_program() {
        let hidden = stat("cat", 0, 777, 0);
        assert_eq!(Program::of(Pid(42), &parse::stat(hidden.as_bytes()).unwrap()), None);
    }
}

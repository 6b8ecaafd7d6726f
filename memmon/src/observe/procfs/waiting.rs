//! The wait of a process that does not end.

use super::failure::{read, unconfirmed, understood};
use super::{ProcRoot, parse};
use crate::model::{Name, Pid, Unconfirmed};

/// The state of a process that does not end, for those that outlive a SIGKILL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its state as /proc/PID/stat has it (`D`: uninterruptible, `t`: held by a debugger); that of a thread in one of these
    /// states, if there is one.
    pub state: char,
    /// The kernel function where that thread sleeps, from wchan, where memmon may know it (PTRACE_MODE_READ).
    pub wchan: Option<Name>,
}

impl ProcRoot {
    /// The state of `pid`, or of the thread of it that cannot be interrupted, or that a debugger holds.
    pub fn waiting(&self, pid: Pid) -> Result<Waiting, Unconfirmed> {
        let directory = self.process(pid).map_err(|errno| unconfirmed(".", errno))?;
        let look = |at: &str| -> Result<Waiting, Unconfirmed> {
            let state = understood("stat", parse::stat(&read(&directory, at, "stat")?))?.state;
            let wchan = directory.read(at, "wchan").ok();
            Ok(Waiting { state, wchan: wchan.filter(|name| !matches!(&name[..], b"" | b"0")).map(Name::new) })
        };
        let threads = directory.threads().map_err(|errno| unconfirmed("task", errno))?;
        let mut held = None;
        for thread in threads.flatten().filter_map(|thread| look(&format!("task/{thread}/")).ok()) {
            match thread.state {
                'D' => return Ok(thread),
                't' => held = Some(thread),
                _ => {}
            }
        }
        held.map_or_else(|| look(""), Ok)
    }
}

impl ProcRoot {
    /// Whether a stop signal has stopped `pid`: then every thread of it is in that state, or about to be, as one that waits
    /// inside the kernel or in a frozen cgroup is. A process that a debugger holds is not stopped.
    pub fn is_stopped(&self, pid: Pid) -> bool {
        let Ok(directory) = self.process(pid) else { return false };
        let state = |at: &str| Some(parse::stat(&read(&directory, at, "stat").ok()?)?.state);
        let is_of_another = || {
            directory.threads().is_ok_and(|threads| {
                threads.flatten().any(|thread| state(&format!("task/{thread}/")) == Some('T'))
            })
        };
        let is_about_to_be = || parse::has_pending_stop(&directory.read("", "status").unwrap_or_default());
        match state("") {
            Some('T') => true,
            Some('t') | None => false,
            // The main thread has ended, and others go on; or it is the last one to stop.
            Some('Z' | 'D') => is_about_to_be() || is_of_another(),
            Some(_) => is_about_to_be(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn the_thread_that_hangs_is_the_one_reported() {
        let (tree, pid) = (Tree::new(), Pid(42));
        tree.cat(42);
        assert_eq!(tree.root().waiting(pid).unwrap(), Waiting { state: 'S', wchan: None });
        tree.write("42/wchan", "0");
        assert_eq!(tree.root().waiting(pid).unwrap(), Waiting { state: 'S', wchan: None });
        tree.write("42/wchan", "do_wait");
        assert_eq!(tree.root().waiting(pid).unwrap().wchan, Some(Name::from("do_wait")));
        tree.write("42/task/45/stat", "45 (cat) t 1 1 1 0 -1 0 9 0 1 0 2 3 0 0 20 0 3 0 777 0 0 0\n");
        assert_eq!(tree.root().waiting(pid), Ok(Waiting { state: 't', wchan: None }));
        tree.write("42/task/43/stat", "43 (cat) S 1 1 1 0 -1 0 9 0 1 0 2 3 0 0 20 0 3 0 777 0 0 0\n");
        tree.write("42/task/44/stat", "44 (cat) D 1 1 1 0 -1 0 9 0 1 0 2 3 0 0 20 0 3 0 777 0 0 0\n");
        tree.write("42/task/44/wchan", "nfs_wait_bit_killable");
        let stuck = Waiting { state: 'D', wchan: Some(Name::from("nfs_wait_bit_killable")) };
        assert_eq!(tree.root().waiting(pid), Ok(stuck));
        assert_eq!(tree.root().waiting(Pid(41)), Err(Unconfirmed::Gone));
    }

    #[test]
    fn a_stopped_process_is_known_by_a_thread_that_has_not_ended() {
        let (tree, pid) = (Tree::new(), Pid(42));
        tree.cat(42);
        assert!(!tree.root().is_stopped(pid) && !tree.root().is_stopped(Pid(43)));
        let stat = |of: &str, id: u32, state: char| {
            let line = format!("{id} (cat) {state} 1 1 1 0 -1 0 9 0 1 0 2 3 0 0 20 0 3 0 777 0 0 0\n");
            tree.write(&format!("{of}/stat"), &line);
        };
        stat("42", 42, 'T');
        assert!(tree.root().is_stopped(pid));
        stat("42", 42, 'Z');
        stat("42/task/44", 44, 'S');
        assert!(!tree.root().is_stopped(pid));
        stat("42/task/44", 44, 'T');
        assert!(tree.root().is_stopped(pid));
        stat("42", 42, 'D');
        assert!(tree.root().is_stopped(pid));
        stat("42/task/44", 44, 'S');
        for (pending, is_stopped) in [("0000000000040000", true), ("0000000000004000", false), ("", false)] {
            tree.write("42/status", format!("Name:\tcat\nShdPnd:\t{pending}\n"));
            for state in ['D', 'S', 'Z'] {
                stat("42", 42, state);
                assert_eq!(tree.root().is_stopped(pid), is_stopped, "{state} {pending}");
            }
            stat("42", 42, 't');
            assert!(!tree.root().is_stopped(pid), "a debugger holds it");
        }
    }
}

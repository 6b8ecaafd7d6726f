//! A close look at one process: its identity, its names, and its exact memory.
//!
//! Everything is read through one descriptor of its directory (see `directory`), between two looks at its start time:
//! the first shows that this is the right process, the second that it lived through it all, so that a file
//! which was missing was missing and not gone with its process.

use super::failure::{read, unconfirmed};
use super::look::{Goal, Look, Purpose};
use super::{Accuracy, ProcRoot};
use crate::model::{Bytes, Pid, Process, StartTime, Unconfirmed};

/// Number of looks at a process if its threads end meanwhile, or if it changes its name or program.
const TRIES: usize = 3;

impl ProcRoot {
    /// Looks closely at `pid`, which must have started at `expected` if that is known.
    ///
    /// A process whose first thread ended is read through one that lives. One that has ended but was not waited for (a
    /// zombie) is confirmed without memory.
    ///
    /// The exact figure of smaps_rollup costs a walk over all of a process's pages, so it is read only where statm is
    /// too close to `limit` to decide.
    pub fn confirm(
        &self,
        pid: Pid,
        expected: Option<StartTime>,
        limit: Bytes,
        accuracy: &Accuracy,
    ) -> Result<Process, Unconfirmed> {
        self.confirm_forked(pid, expected, limit, accuracy, None)
    }

    /// The same for a process that, if it was forked and has not called exec, had `at_fork` at most when it was forked.
    pub fn confirm_forked(
        &self,
        pid: Pid,
        expected: Option<StartTime>,
        limit: Bytes,
        accuracy: &Accuracy,
        at_fork: Option<Bytes>,
    ) -> Result<Process, Unconfirmed> {
        self.look_for(Goal { purpose: Purpose::Limit(limit), accuracy, at_fork }, pid, expected)
    }

    /// The same for a process that counts in a sum: reads all parts of its memory, whatever it has. `exact`: counts its
    /// pages if the kernel's figures have an error.
    pub fn confirm_for_sum(
        &self,
        pid: Pid,
        expected: Option<StartTime>,
        exact: bool,
        accuracy: &Accuracy,
        at_fork: Option<Bytes>,
    ) -> Result<Process, Unconfirmed> {
        self.look_for(Goal { purpose: Purpose::Sum { exact }, accuracy, at_fork }, pid, expected)
    }

    fn look_for(
        &self,
        goal: Goal<'_>,
        pid: Pid,
        expected: Option<StartTime>,
    ) -> Result<Process, Unconfirmed> {
        let directory = self.process(pid).map_err(|errno| unconfirmed(".", errno))?;
        let mut changing = None;
        for _ in 0..TRIES {
            let stat = read(&directory, "", "stat")?;
            let looked =
                Look::begin(self, &directory, (pid, expected), &stat).and_then(|look| look.finish(goal));
            match looked {
                Ok((process, true)) => return Ok(process),
                // The name that was read first is another one by now, which may protect it.
                Ok((process, false)) => changing = Some(process),
                // Only a thread of it is gone, the one through which this was read: another one will do.
                Err(Unconfirmed::Gone) if directory.read("", "stat").is_ok() => {}
                Err(why) => return Err(why),
            }
        }
        // One that changes again and again is not spared for that.
        changing.ok_or_else(|| Unconfirmed::Unreadable {
            file: "task",
            error: "its threads end faster than they are read".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;
    use crate::model::{Fact, Inside, Launch, MatchFacts, Name, Names, ProcessId, Uid};

    const PID: Pid = Pid(42);

    fn tree() -> Tree {
        let tree = Tree::new();
        tree.cat(42);
        tree
    }

    fn look(tree: &Tree) -> Result<Process, Unconfirmed> {
        tree.root().confirm(PID, None, Bytes::ZERO, &Accuracy::StatmExact)
    }

    fn known(name: &str) -> Fact<Name> {
        Fact::Known(Name::from(name))
    }

    #[test]
    fn a_process_is_reported_whole() {
        let tree = tree();
        let process = look(&tree).unwrap();
        let expected = Process {
            id: ProcessId { pid: PID, start: StartTime(777) },
            parent: Pid(1),
            rss: Bytes(1000 * tree.root().page_size),
            error: Bytes::ZERO,
            real_uid: Uid(1000),
            effective_uid: Uid(1000),
            facts: MatchFacts::default(),
            names: Names {
                comm: Name::from("cat"),
                exe: known("/usr/bin/cat"),
                argv0: known("/bin/cat"),
                script: None,
            },
            cgroup: known("/user.slice/user-1000.slice"),
            container: None,
            oom_score_adj: Fact::Known(0),
            parts: None,
            launch: Launch {
                init: None,
                inside: Inside::default(),
                slurm_job_id: None,
                command_line: Some(Name::from("/bin/cat -")),
                session: Some(Pid(42)),
                terminal: None,
            },
            kernel_thread: false,
            inherited: Fact::Absent,
            holdings: None,
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn a_start_time_that_was_expected_must_be_found() {
        let confirm = |start| tree().root().confirm(PID, Some(start), Bytes::ZERO, &Accuracy::StatmExact);
        assert!(confirm(StartTime(777)).is_ok());
        let another =
            Unconfirmed::AnotherProcess { pid: PID, expected: StartTime(776), found: StartTime(777) };
        assert_eq!(confirm(StartTime(776)), Err(another));
    }

    #[test]
    fn a_hostile_comm_changes_no_other_field() {
        let tree = tree();
        for comm in [&b"a) R 1 (b\n"[..], b")", b"(((", b"\n(x) R 9 9", b"", b"\xff\x1b[2J"] {
            tree.stat(42, comm, 0, 1);
            let process = look(&tree).unwrap();
            assert_eq!(process.names.comm.as_bytes(), comm);
            assert_eq!((process.parent, process.id.start), (Pid(1), StartTime(777)));
        }
    }

    #[test]
    fn both_uids_are_reported_apart() {
        let tree = tree();
        tree.write("42/status", "Name:\tUid:\\t5\nUid:\t1000\t0\t0\t0\n");
        let process = look(&tree).unwrap();
        assert_eq!((process.real_uid, process.effective_uid), (Uid(1000), Uid::ROOT));
    }

    #[test]
    fn a_kernel_thread_has_neither_memory_nor_program() {
        let tree = tree();
        tree.stat_without_memory(42, b"kworker/0:1", 0x0020_8040, 1);
        for file in ["42/statm", "42/task/42/statm"] {
            tree.write(file, "0 0 0 0 0 0 0\n");
        }
        tree.remove("42/exe");
        tree.write("42/cmdline", "");
        let process = look(&tree).unwrap();
        assert!(process.kernel_thread);
        assert_eq!(
            (process.rss, process.names.exe, process.names.argv0),
            (Bytes::ZERO, Fact::Absent, Fact::Absent)
        );
    }

    #[test]
    fn a_deleted_program_keeps_its_name() {
        let tree = tree();
        tree.link("42/exe", "/opt/app (x)/server (deleted)");
        assert_eq!(look(&tree).unwrap().names.exe, known("/opt/app (x)/server"));
    }

    #[test]
    fn a_fact_that_cannot_be_read_is_never_taken_for_absent() {
        let tree = tree();
        for file in ["exe", "cmdline", "cgroup", "oom_score_adj"] {
            tree.spoil(&format!("42/{file}"));
        }
        let process = look(&tree).unwrap();
        assert_eq!((process.names.exe, process.names.argv0), (Fact::Unreadable, Fact::Unreadable));
        assert_eq!((process.cgroup, process.oom_score_adj), (Fact::Unreadable, Fact::Unreadable));
    }

    /// As /proc/PID/cmdline is for one whose mmap_lock is held.
    #[test]
    fn a_command_line_that_hangs_leaves_doubt() {
        let (tree, pid) = (Tree::new(), Pid(4_000_042));
        tree.cat(pid.0);
        let cmdline = tree.path().join(format!("{pid}/cmdline"));
        tree.remove(&format!("{pid}/cmdline"));
        nix::unistd::mkfifo(&cmdline, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let look = || tree.root().confirm(pid, None, Bytes::ZERO, &Accuracy::StatmExact).unwrap();
        let process = look();
        assert_eq!((&process.names.argv0, &process.names.exe), (&Fact::Unreadable, &known("/usr/bin/cat")));
        std::fs::write(&cmdline, "later\0").unwrap();
        std::fs::remove_file(&cmdline).unwrap();
        tree.write(&format!("{pid}/cmdline"), "cat\0");
        while look().names.argv0 != known("cat") {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_missing_fact_is_absent() {
        let tree = tree();
        for file in ["exe", "cmdline", "cgroup", "oom_score_adj"] {
            tree.remove(&format!("42/{file}"));
        }
        let process = look(&tree).unwrap();
        assert_eq!((process.names.exe, process.names.argv0), (Fact::Absent, Fact::Absent));
        assert_eq!((process.cgroup, process.oom_score_adj), (Fact::Absent, Fact::Absent));
    }

    #[test]
    fn a_process_that_ended_is_gone_and_a_garbled_file_is_named() {
        let tree = tree();
        assert_eq!(
            tree.root().confirm(Pid(43), None, Bytes::ZERO, &Accuracy::StatmExact),
            Err(Unconfirmed::Gone)
        );
        for file in ["stat", "status"] {
            let tree = self::tree();
            tree.write(&format!("42/{file}"), "nonsense\n");
            let error = look(&tree).unwrap_err().to_string();
            assert_eq!(error, format!("{file}: not in the form that proc(5) gives"));
        }
        tree.spoil("42/stat");
        assert!(look(&tree).unwrap_err().to_string().starts_with("stat: "));
        std::fs::remove_dir(tree.path().join("42/stat")).unwrap();
        assert_eq!(look(&tree), Err(Unconfirmed::Gone));
    }

    #[test]
    fn a_bad_oom_score_adj_leaves_doubt() {
        let tree = tree();
        tree.write("42/oom_score_adj", "-1000\n");
        assert_eq!(look(&tree).unwrap().oom_score_adj, Fact::Known(-1000));
        tree.write("42/oom_score_adj", "unset\n");
        assert_eq!(look(&tree).unwrap().oom_score_adj, Fact::Unreadable);
    }

    /// The first thread ended: its own files are empty, what they held is known from the thread that lives.
    #[test]
    fn a_process_outlives_its_first_thread() {
        let tree = tree();
        tree.stat_without_memory(42, b"cat", 0, 3);
        for file in ["42/statm", "42/task/42/statm", "42/task/43/statm"] {
            tree.write(file, "0 0 0 0 0 0 0\n");
        }
        tree.remove("42/exe");
        tree.write("42/cmdline", "");
        tree.write("42/task/44/statm", "900 800 0 0 0 0 0\n");
        tree.write("42/task/44/status", "Uid:\t7\t8\t8\t8\n");
        tree.write("42/task/44/cmdline", "sshd\0");
        tree.write("42/task/44/cgroup", "0::/system.slice/ssh.service\n");
        tree.write("42/task/44/smaps_rollup", "7f00-7fff ---p 00000000 00:00 0 [rollup]\nRss: 4000 kB\n");
        tree.link("42/task/44/exe", "/usr/sbin/sshd");
        let root = tree.root();
        let process = root.confirm(PID, None, Bytes::ZERO, &Accuracy::StatmExact).unwrap();
        assert_eq!(process.rss, Bytes(800 * root.page_size));
        assert_eq!((process.real_uid, process.effective_uid), (Uid(7), Uid(8)));
        assert_eq!((process.names.exe, process.names.argv0), (known("/usr/sbin/sshd"), known("sshd")));
        assert_eq!(process.cgroup, known("/system.slice/ssh.service"));
        let exact = root
            .confirm(PID, None, process.rss, &Accuracy::PerThread { bound: Bytes::from_kib(256) })
            .unwrap();
        assert_eq!((exact.rss, exact.error), (Bytes::from_kib(4000), Bytes::ZERO));
        tree.remove("42/task/44/status");
        let error = root.confirm(PID, None, Bytes::ZERO, &Accuracy::StatmExact).unwrap_err();
        assert_eq!(error.to_string(), "task: its threads end faster than they are read");
    }

    #[test]
    fn the_exact_figure_is_read_only_near_the_limit() {
        let tree = tree();
        tree.write("42/smaps_rollup", "Rss:     5000 kB\nPss:   1 kB\n");
        let root = tree.root();
        let statm = Bytes(1000 * root.page_size);
        let exact = (Bytes::from_kib(5000), Bytes::ZERO);
        let confirm = |limit: Bytes, accuracy: &Accuracy| {
            let process = root.confirm(PID, None, limit, accuracy).unwrap();
            (process.rss, process.error)
        };
        let bound = Bytes(10 * root.page_size);
        let lags = Accuracy::StatmLags { bound };
        assert_eq!(confirm(statm, &Accuracy::StatmExact), (statm, Bytes::ZERO));
        assert_eq!(confirm(statm + bound, &lags), exact);
        assert_eq!(confirm(statm.saturating_sub(bound), &lags), exact);
        assert_eq!(confirm(statm + bound + Bytes(1), &lags), (statm, bound));
        assert_eq!(confirm(statm.saturating_sub(bound + Bytes(1)), &lags), (statm, bound));
        tree.stat(42, b"cat", 0, 4);
        let held_back = Bytes(4 * bound.0);
        let per_thread = Accuracy::PerThread { bound };
        assert_eq!(confirm(statm + held_back, &per_thread), exact);
        assert_eq!(confirm(statm + held_back + Bytes(1), &per_thread), (statm, held_back));
        tree.spoil("42/smaps_rollup");
        assert_eq!(confirm(statm, &lags), (statm, bound));
    }
}

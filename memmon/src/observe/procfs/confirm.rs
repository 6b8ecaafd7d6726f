//! A close look at one process: its identity, its names, and its exact memory.
//!
//! Everything is read through one descriptor of its directory (see `directory`), between two looks at its start time:
//! the first shows that this is the right process, the second that it lived through it all, so that a file
//! which was missing was missing and not gone with its process.

use std::io;

use nix::errno::Errno;

use super::blocking_pool::{JobOwner, Lock, run_blocking};
use super::called::is_same;
use super::directory::ProcessDirectory;
use super::inherited::Forked;
use super::launch::launch;
use super::lookups::{Holder, Question};
use super::parts::parts;
use super::script::script;
use super::session::session;
use super::{Accuracy, ProcRoot, ended, pages, parse, pod_container};
use crate::model::{
    Bytes, Fact, Holdings, MatchFacts, Measure, Name, Names, Parts, Pid, Process, ProcessId, StartTime, Uid,
    Unconfirmed, Workload,
};

/// Number of looks at a process if its threads end meanwhile, or if it changes its name or program.
const TRIES: usize = 3;

/// The purpose of a close look.
#[derive(Clone, Copy)]
enum Purpose {
    /// To know whether a process exceeds this limit.
    Limit(Bytes),
    /// To know what it holds in a sum; `exact` if its pages are to be counted.
    Sum { exact: bool },
}

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

    /// The same for a process that, if it was forked and has not called exec, had at `most` so much when it was forked.
    pub fn confirm_forked(
        &self,
        pid: Pid,
        expected: Option<StartTime>,
        limit: Bytes,
        accuracy: &Accuracy,
        most: Option<Bytes>,
    ) -> Result<Process, Unconfirmed> {
        self.look_for(Purpose::Limit(limit), pid, expected, accuracy, most)
    }

    /// The same for a process that counts in a sum: reads all parts of its memory, whatever it has. `exact`: counts its
    /// pages if the kernel's figures have an error.
    pub fn confirm_for_sum(
        &self,
        pid: Pid,
        expected: Option<StartTime>,
        exact: bool,
        accuracy: &Accuracy,
        most: Option<Bytes>,
    ) -> Result<Process, Unconfirmed> {
        self.look_for(Purpose::Sum { exact }, pid, expected, accuracy, most)
    }

    fn look_for(
        &self,
        purpose: Purpose,
        pid: Pid,
        expected: Option<StartTime>,
        accuracy: &Accuracy,
        most: Option<Bytes>,
    ) -> Result<Process, Unconfirmed> {
        let directory = self.process(pid).map_err(|errno| unconfirmed(".", errno))?;
        let mut changing = None;
        for _ in 0..TRIES {
            match self.look(&directory, pid, expected, (purpose, most), accuracy) {
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

    /// A process, and whether it has the same name and program still at the end of the look.
    fn look(
        &self,
        directory: &ProcessDirectory,
        pid: Pid,
        expected: Option<StartTime>,
        (purpose, most): (Purpose, Option<Bytes>),
        accuracy: &Accuracy,
    ) -> Result<(Process, bool), Unconfirmed> {
        let text = read(directory, "", "stat")?;
        let stat = understood("stat", parse::stat(&text))?;
        same_start(pid, expected.unwrap_or(stat.start), stat.start)?;

        let place = if stat.has_memory {
            Some(String::new())
        } else {
            let place = directory.place().map_err(|errno| unconfirmed("statm", errno))?;
            place.map(|(place, _)| place)
        };
        let has_memory = place.is_some();
        let mut place = place.unwrap_or_default();
        let status = directory.through(&mut place, |at| directory.read(at, "status"));
        let status = status.map_err(|error| unconfirmed("status", error))?;
        let (real_uid, effective_uid) = understood("status", parse::uids(&status))?;
        let about = JobOwner { pid, uid: real_uid, onlooks: self.onlooks, lock: Lock::Mmap };
        let parent = stat.parent;
        let (line, borrows) = self.command_line(directory, about, &stat, (&mut place, has_memory));
        let slurm_job_id = line.as_ref().ok().and_then(|line| line.slurm_job_id);
        let cmdline = line.map(|line| line.text);
        let exe = withheld_or(directory.through(&mut place, |at| directory.link(at, "exe")), |target| {
            Some(Name::new(parse::strip_deleted_suffix(target)))
        });
        let mut launch = launch(&stat, &status, cmdline.as_deref().ok());
        let facts = MatchFacts {
            groups: parse::groups(&status),
            args: match &cmdline {
                _ if !self.wanted.args => Fact::Absent,
                Ok(text) => Fact::Known(parse::args(text)),
                Err(error) => missing(error),
            },
            exe_file: if self.wanted.exe_file {
                self.exe_file(directory, about, &mut place)
            } else {
                Fact::Absent
            },
            session: if self.wanted.session {
                session(directory.read("", "sessionid"))
            } else {
                Fact::Absent
            },
        };
        let script = cmdline.as_deref().ok().and_then(|text| script(exe.known().map(Name::as_bytes), text));
        let names = Names {
            comm: Name::new(stat.comm),
            script: script.map(Name::new),
            exe,
            argv0: withheld_or(cmdline, |text| parse::argv0(text).map(Name::new)),
        };
        let cgroup = directory.through(&mut place, |at| directory.read(at, "cgroup"));
        let cgroup = self.cgroup(cgroup, about, stat.start);
        if slurm_job_id.is_some() {
            let job = cgroup.known().and_then(Workload::of).and_then(|workload| workload.slurm);
            launch.slurm_job_id = slurm_job_id.filter(|_| job.is_none());
        }
        let oom_score_adj = match directory.read("", "oom_score_adj") {
            Ok(text) => parse::single_value(&text).map_or(Fact::Unreadable, Fact::Known),
            Err(error) if gone(&error) => Fact::Absent,
            Err(_) => Fact::Unreadable,
        };

        if borrows {
            return Err(Unconfirmed::Borrowed { owner: parent });
        }
        // Memory comes after the names: a program that is replaced (exec) in between takes its memory with it, so that
        // a large figure is never that of another program than the one named.
        let error = accuracy.error(stat.threads);
        let (rss, error, counted) = if has_memory {
            self.resident(directory, (about, &mut place), purpose, error)?
        } else {
            (Bytes::ZERO, Bytes::ZERO, None)
        };
        // In a sum each page counts that is its own.
        let limit = match purpose {
            Purpose::Limit(limit) => limit,
            Purpose::Sum { .. } => rss.saturating_sub(Bytes(1)),
        };
        let is_over = match purpose {
            Purpose::Limit(limit) => rss.saturating_sub(error) > limit,
            Purpose::Sum { .. } => rss > Bytes::ZERO,
        };
        let known_parts = parts(&status).filter(|_| is_over);
        let known_parts = known_parts.map(|parts| Parts { anon: counted.unwrap_or(parts.anon), ..parts });
        let inherited = if is_over && stat.is_forked() {
            let text = directory.through(&mut place, |at| directory.read(at, "stat"));
            let layout = text.ok().and_then(|text| parse::stat(&text)?.layout);
            let (start, at, parts) = (stat.start, &place, known_parts);
            let decisive = self.decisive(rss, parts.as_ref(), limit);
            let forked = Forked { about, parent, start, layout, directory, at, rss, parts, decisive };
            self.inherited(&forked, limit, most)
        } else {
            Fact::Absent
        };
        // A container has namespaces of both kinds, and the signal waits for this read.
        if is_over
            && launch.inside.pid.is_some()
            && let Ok(map) = directory.through(&mut place, |at| directory.read(at, "uid_map"))
        {
            launch.inside.uid = parse::uid_inside(&map, real_uid.0).map(Uid);
        }
        let container = cgroup.known().filter(|_| is_over).and_then(|cgroup| {
            let pod = pod_container::pod(cgroup)?;
            // A name that cannot be read is no doubt: no verdict depends on it.
            directory.through(&mut place, |at| pod_container::name(directory, at, &pod)).ok()?
        });
        let is_measured = self.measure == Measure::Charged || matches!(purpose, Purpose::Sum { .. });
        let holdings = known_parts.filter(|_| is_measured).map(|parts| {
            let holder = Holder { pid, parent: stat.parent, start: stat.start };
            let owner = JobOwner { lock: Lock::Pages, ..about };
            let elders = inherited.known().map_or(Bytes::ZERO, |inherited| inherited.bytes);
            let own = Parts { anon: parts.anon.saturating_sub(elders), ..parts };
            let least = match purpose {
                Purpose::Limit(limit) => Measure::least_charged(limit),
                // Any of its shared memory, if it has some.
                Purpose::Sum { .. } => own.anon + own.swap + Bytes(own.shmem.0.min(1)),
            };
            let (shared, trouble) = self.shared_memory(Question { owner, holder, parts: &own, least });
            Holdings { parts, shared, trouble }
        });
        let now = read(directory, "", "stat")?;
        let now = understood("stat", parse::stat(&now))?;
        same_start(pid, stat.start, now.start)?;
        if stat.is_forked() && !now.is_forked() {
            // It has called exec meanwhile, and some of what was read is of a program that is gone. It can do that once.
            return Err(Unconfirmed::Gone);
        }
        let is_same = is_same(&stat, &now);

        let process = Process {
            id: ProcessId { pid, start: stat.start },
            parent,
            rss,
            error,
            real_uid,
            effective_uid,
            facts,
            names,
            cgroup,
            container,
            oom_score_adj,
            launch,
            parts: known_parts,
            kernel_thread: stat.kernel_thread(),
            inherited,
            holdings,
        };
        Ok((process, is_same))
    }

    /// Resident memory and how far that may be off, where statm may be off by `error`; and its anonymous memory, if its pages
    /// were counted.
    fn resident(
        &self,
        directory: &ProcessDirectory,
        (about, place): (JobOwner, &mut String),
        purpose: Purpose,
        error: Bytes,
    ) -> Result<(Bytes, Bytes, Option<Bytes>), Unconfirmed> {
        let statm = directory.through(place, |at| Ok(directory.statm(at)?));
        let statm = statm.map_err(|error| unconfirmed("statm", error))?;
        if statm.size == 0 {
            return Err(Unconfirmed::Gone);
        }
        let rss = pages(statm.resident, self.page_size);
        let suffices = match purpose {
            Purpose::Limit(limit) => rss.0.abs_diff(limit.0) > error.0,
            Purpose::Sum { exact } => !exact,
        };
        if error == Bytes::ZERO || suffices {
            return Ok((rss, error, None));
        }
        // Not available without PTRACE_MODE_READ or CONFIG_PROC_PAGE_MONITOR: then the doubt stays.
        let rollup = directory.through(place, |at| {
            directory.reading(at, "smaps_rollup").and_then(|read| run_blocking(about, read)?)
        });
        let exact =
            rollup.ok().and_then(|text| Some((parse::kib(&text, "Rss:")?, parse::kib(&text, "Anonymous:"))));
        Ok(exact.map_or((rss, error, None), |(exact, anon)| (exact, Bytes::ZERO, anon)))
    }
}

fn same_start(pid: Pid, expected: StartTime, found: StartTime) -> Result<(), Unconfirmed> {
    if expected == found { Ok(()) } else { Err(Unconfirmed::AnotherProcess { pid, expected, found }) }
}

pub(super) fn read(
    directory: &ProcessDirectory,
    at: &str,
    file: &'static str,
) -> Result<Vec<u8>, Unconfirmed> {
    directory.read(at, file).map_err(|error| unconfirmed(file, error))
}

pub(super) fn understood<T>(file: &'static str, parsed: Option<T>) -> Result<T, Unconfirmed> {
    parsed.ok_or_else(|| Unconfirmed::Unreadable {
        file,
        error: "not in the form that proc(5) gives".to_owned(),
    })
}

pub(super) fn unconfirmed(file: &'static str, error: impl Into<io::Error>) -> Unconfirmed {
    let error = error.into();
    if gone(&error) { Unconfirmed::Gone } else { Unconfirmed::Unreadable { file, error: error.to_string() } }
}

/// A fact from a file that not every process has. Only a missing file or value is an absent fact: any error that might
/// hide one leaves it open.
pub(super) fn fact(file: io::Result<Vec<u8>>, value: impl FnOnce(&[u8]) -> Option<Name>) -> Fact<Name> {
    match file {
        Ok(text) => value(&text).map_or(Fact::Absent, Fact::Known),
        Err(error) if gone(&error) => Fact::Absent,
        Err(_) => Fact::Unreadable,
    }
}

/// The same for a name, which the owner can withhold: by a path longer than the kernel shows, or by not being dumpable if
/// memmon has no CAP_SYS_PTRACE.
fn withheld_or(file: io::Result<Vec<u8>>, value: impl FnOnce(&[u8]) -> Option<Name>) -> Fact<Name> {
    match file {
        Ok(text) => value(&text).map_or(Fact::Absent, Fact::Known),
        Err(error) => missing(&error),
    }
}

/// The fact after a failed read of something that the owner can withhold.
pub(super) fn missing<T>(error: &io::Error) -> Fact<T> {
    const BY_OWNER: [Errno; 3] = [Errno::ENAMETOOLONG, Errno::EACCES, Errno::EPERM];
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) if BY_OWNER.contains(&errno) => Fact::Withheld,
        _ if gone(error) => Fact::Absent,
        _ => Fact::Unreadable,
    }
}

pub(super) fn gone(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| ended(Errno::from_raw(number)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;
    use crate::model::{Inside, Launch};

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

//! Writes `memory.high` on a thread of its own: the kernel may take seconds to free what is above the new value.
//!
//! The former values are in a file before anything is changed, so that they come back after a restart of memmon as well.

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use crate::daemon::state_file::StateFile;
use crate::enforce::MemoryCgroup;
use crate::model::{Bytes, Lowered};

/// The file in the state directory.
const FILE: &str = "throttled.json";

/// The content of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    lowered: Vec<Lowered>,
}

/// A job of the thread.
#[derive(Debug)]
enum Job {
    /// Sets a `memory.high` in place of this one, after it was stored which ones are lowered.
    Lower(Lowered, Bytes, Vec<Lowered>),
    /// Sets the former one again, unless another one has changed it since; then it is stored which ones are lowered.
    Restore(Lowered, Vec<Lowered>),
}

/// The outcome of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Done {
    /// The cgroup.
    pub(super) lowered: Lowered,
    /// Whether the former value was to come back.
    pub(super) is_restore: bool,
    /// The error.
    pub(super) outcome: Result<(), String>,
}

/// Handle to the thread, which is there from the first write on.
pub(super) struct Throttler {
    mount: PathBuf,
    file: StateFile,
    page_size: u64,
    jobs: Option<Sender<Job>>,
    answer: Sender<Done>,
    answers: Receiver<Done>,
    under_way: usize,
}

impl Throttler {
    /// Writes to cgroups of the unified hierarchy at `mount`, and keeps the former values in `folder`.
    pub(super) fn new(mount: &Path, folder: &Path, boot: &str) -> Self {
        let (answer, answers) = mpsc::channel();
        let (mount, file) = (mount.to_owned(), StateFile::new(folder, FILE, boot));
        let page_size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let page_size = page_size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096);
        Self { mount, file, page_size, jobs: None, answer, answers, under_way: 0 }
    }

    /// The size of a page, of which `memory.high` is a multiple.
    pub(super) const fn page_size(&self) -> u64 {
        self.page_size
    }

    /// The directory of all cgroups.
    pub(super) fn mount(&self) -> &Path {
        &self.mount
    }

    /// The cgroups that were lowered when memmon ended last, and still are; an error if the file cannot be used.
    pub(super) fn left(&self) -> Result<Vec<Lowered>, String> {
        let stored: Option<(Stored, bool)> = self.file.read()?;
        // The cgroups of another boot are gone.
        let current = stored.filter(|(_, is_current)| *is_current);
        Ok(current.map_or_else(Vec::new, |(stored, _)| still_lowered(&self.mount, stored.lowered)))
    }

    /// Has a `memory.high` that is `present` lowered; `all` are those that are lowered then. [`Throttler::done`] returns the
    /// outcome.
    pub(super) fn lower(&mut self, lowered: Lowered, present: Bytes, all: Vec<Lowered>) {
        self.send(Job::Lower(lowered, present, all));
    }

    /// Has the former `memory.high` set again; `all` are those that stay lowered.
    pub(super) fn restore(&mut self, lowered: Lowered, all: Vec<Lowered>) {
        self.send(Job::Restore(lowered, all));
    }

    fn send(&mut self, job: Job) {
        let jobs = self.jobs.take().map_or_else(|| self.start(), Ok);
        let (lowered, is_restore) = match &job {
            Job::Lower(lowered, ..) => (lowered.clone(), false),
            Job::Restore(lowered, _) => (lowered.clone(), true),
        };
        self.under_way += 1;
        let error = match jobs {
            Ok(jobs) => {
                let sent = jobs.send(job);
                self.jobs = Some(jobs);
                sent.err().map(|_| "the thread that writes it has ended".to_owned())
            }
            Err(error) => Some(format!("no thread to write it: {error}")),
        };
        if let Some(error) = error {
            // The receiver is this value's own.
            let _ = self.answer.send(Done { lowered, is_restore, outcome: Err(error) });
        }
    }

    /// The outcomes of the jobs so far, each once.
    pub(super) fn done(&mut self) -> Vec<Done> {
        let done: Vec<_> = self.answers.try_iter().collect();
        self.under_way = self.under_way.saturating_sub(done.len());
        done
    }

    /// Waits for all jobs, but no longer than `most`. Returns their outcomes.
    pub(super) fn finish(&mut self, most: Duration) -> Vec<Done> {
        let deadline = Instant::now() + most;
        let mut done = Vec::new();
        while self.under_way > 0
            && let Ok(one) = self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.under_way -= 1;
            done.push(one);
        }
        done
    }

    fn start(&self) -> io::Result<Sender<Job>> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (mount, file) = (self.mount.clone(), self.file.clone());
        let answer = self.answer.clone();
        let work = move || {
            for job in queue {
                let is_restore = matches!(job, Job::Restore(..));
                let keep = |lowered| file.write(Stored { lowered });
                let (lowered, outcome) = carry_out(job, &mount, keep);
                if answer.send(Done { lowered, is_restore, outcome }).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("throttler".to_owned()).stack_size(128 << 10).spawn(work)?;
        Ok(jobs)
    }
}

fn carry_out(
    job: Job,
    mount: &Path,
    keep: impl Fn(Vec<Lowered>) -> Result<(), String>,
) -> (Lowered, Result<(), String>) {
    match job {
        Job::Lower(lowered, present, all) => {
            let kept =
                keep(all).map_err(|error| format!("its memory.high of before cannot be kept: {error}"));
            let outcome =
                kept.and_then(|()| lower(mount, &lowered, present).map_err(|error| explained(&error)));
            (lowered, outcome)
        }
        Job::Restore(lowered, all) => {
            let outcome = match restore(mount, &lowered) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(explained(&error)),
                _ => {
                    // On a full disk it stays in the file, and the next start finds that it is lowered no longer.
                    let _ = keep(all);
                    Ok(())
                }
            };
            (lowered, outcome)
        }
    }
}

/// `error`, with what the unit needs if another user has the cgroup.
fn explained(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{error}: its memory.high belongs to another user, as in units of a user's own manager; that needs CAP_DAC_OVERRIDE, by \
             a drop-in with CapabilityBoundingSet=CAP_DAC_OVERRIDE"
        ),
        _ => error.to_string(),
    }
}

/// Those of `stored` that have the value still that memmon set, or of which that is not known.
fn still_lowered(mount: &Path, mut stored: Vec<Lowered>) -> Vec<Lowered> {
    stored.retain(|lowered| match open(mount, lowered).and_then(|cgroup| cgroup.high()) {
        Ok(high) => high == lowered.high,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    });
    stored
}

fn open(mount: &Path, lowered: &Lowered) -> io::Result<MemoryCgroup> {
    let cgroup = MemoryCgroup::open(mount, &lowered.name())?;
    if cgroup.number() == lowered.number { Ok(cgroup) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn lower(mount: &Path, lowered: &Lowered, present: Bytes) -> io::Result<()> {
    let cgroup = open(mount, lowered)?;
    // A value that another one has written since would be lost.
    if cgroup.high()? != present {
        return Err(io::Error::other("another one has just changed its memory.high"));
    }
    cgroup.set_high(lowered.high)
}

fn restore(mount: &Path, lowered: &Lowered) -> io::Result<()> {
    let cgroup = open(mount, lowered)?;
    if cgroup.high()? == lowered.high { cgroup.set_high(lowered.before) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::model::{Per, RuleName};

    const HIGH: Bytes = Bytes(1 << 20);

    /// A hierarchy with one cgroup that has this `memory.high`.
    fn hierarchy(high: &str) -> (tempfile::TempDir, Lowered) {
        let mount = tempfile::tempdir().unwrap();
        fs::create_dir(mount.path().join("x.service")).unwrap();
        fs::write(mount.path().join("x.service/memory.high"), high).unwrap();
        let number = MemoryCgroup::open(mount.path(), &"/x.service".into()).unwrap().number();
        let (rule, per, cgroup) = (RuleName::new("slow").unwrap(), Per::Unit, b"/x.service".to_vec());
        (mount, Lowered { rule, per, cgroup, number, before: Bytes::MAX, high: HIGH, total: Bytes::ZERO })
    }

    fn high_of(mount: &tempfile::TempDir) -> String {
        fs::read_to_string(mount.path().join("x.service/memory.high")).unwrap()
    }

    #[test]
    fn nothing_is_lowered_before_its_former_value_is_kept() {
        let (mount, lowered) = hierarchy("max\n");
        let full = |_| Err("no space".to_owned());
        let (_, outcome) =
            carry_out(Job::Lower(lowered.clone(), Bytes::MAX, vec![lowered.clone()]), mount.path(), full);
        assert!(outcome.unwrap_err().ends_with("cannot be kept: no space"));
        assert_eq!(high_of(&mount), "max\n");
        let kept = RefCell::new(vec![]);
        let keep = |all: Vec<Lowered>| {
            kept.replace(all);
            Ok(())
        };
        let (_, outcome) =
            carry_out(Job::Lower(lowered.clone(), Bytes::MAX, vec![lowered.clone()]), mount.path(), keep);
        assert_eq!((outcome, high_of(&mount)), (Ok(()), HIGH.0.to_string()));
        assert_eq!(kept.take(), std::slice::from_ref(&lowered));
        let stored = Stored { lowered: vec![lowered.clone()] };
        let back: Stored = serde_json::from_slice(&serde_json::to_vec(&stored).unwrap()).unwrap();
        assert_eq!(back.lowered, stored.lowered);
        let (_, outcome) = carry_out(Job::Restore(lowered, vec![]), mount.path(), keep);
        assert_eq!((outcome, high_of(&mount).as_str()), (Ok(()), "max"));
    }

    #[test]
    fn what_another_one_wrote_is_not_overwritten_and_a_cgroup_that_is_gone_is_no_error() {
        let (mount, lowered) = hierarchy("4096\n");
        let keep = |_| Ok(());
        let (_, outcome) = carry_out(Job::Lower(lowered.clone(), Bytes::MAX, vec![]), mount.path(), keep);
        assert!(outcome.unwrap_err().contains("another one has just changed"));
        let (_, outcome) = carry_out(Job::Restore(lowered.clone(), vec![]), mount.path(), keep);
        assert_eq!((outcome, high_of(&mount).as_str()), (Ok(()), "4096\n"));
        let other = Lowered { number: lowered.number + 1, before: Bytes(4096), ..lowered.clone() };
        let (_, outcome) = carry_out(Job::Lower(other.clone(), Bytes(4096), vec![]), mount.path(), keep);
        assert!(outcome.is_err() && high_of(&mount) == "4096\n", "another cgroup of the same path");
        fs::remove_dir_all(mount.path().join("x.service")).unwrap();
        let (_, outcome) = carry_out(Job::Restore(other, vec![]), mount.path(), keep);
        assert_eq!(outcome, Ok(()));
    }

    /// It is not reported that it stays, and not tried again and again.
    #[test]
    fn on_a_full_disk_the_former_value_comes_back_and_the_next_start_does_not_lower_it() {
        let (mount, lowered) = hierarchy("max\n");
        let all = || vec![lowered.clone()];
        let (_, outcome) =
            carry_out(Job::Lower(lowered.clone(), Bytes::MAX, all()), mount.path(), |_| Ok(()));
        assert_eq!(outcome, Ok(()));
        assert_eq!(still_lowered(mount.path(), all()), all());
        let full = |_| Err("no space".to_owned());
        let (_, outcome) = carry_out(Job::Restore(lowered.clone(), vec![]), mount.path(), full);
        assert_eq!((outcome, high_of(&mount).as_str()), (Ok(()), "max"));
        assert_eq!(still_lowered(mount.path(), all()), []);
        // If that cannot be read, it may be lowered.
        fs::write(mount.path().join("x.service/memory.high"), "?").unwrap();
        assert_eq!(still_lowered(mount.path(), all()), all());
    }

    /// Another user may no more write to it than root without CAP_DAC_OVERRIDE.
    #[test]
    fn a_memory_high_of_another_user_is_an_error_with_its_remedy() {
        let (mount, lowered) = hierarchy("max\n");
        for folder in [mount.path().to_owned(), mount.path().join("x.service")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let file = mount.path().join("x.service/memory.high");
        fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
        let place = mount.path().to_owned();
        // Only this thread loses what lets root write everywhere.
        let refused = thread::spawn(move || {
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(47_001));
            carry_out(Job::Lower(lowered, Bytes::MAX, vec![]), &place, |_| Ok(())).1.unwrap_err()
        });
        let refused = refused.join().unwrap();
        assert!(refused.ends_with("CapabilityBoundingSet=CAP_DAC_OVERRIDE"), "{refused}");
    }

    #[test]
    fn jobs_are_done_by_the_thread_in_their_order_and_waited_for_at_the_end() {
        let (mount, lowered) = hierarchy("max\n");
        // Others than root may write to a temporary folder, so that nothing is kept there.
        let mut throttler = Throttler::new(mount.path(), mount.path(), "b");
        throttler.lower(lowered.clone(), Bytes::MAX, vec![lowered.clone()]);
        throttler.restore(lowered, vec![]);
        let done = throttler.finish(Duration::from_secs(60));
        assert_eq!(done.iter().map(|done| done.is_restore).collect::<Vec<_>>(), [false, true]);
        assert!(done[0].outcome.as_ref().unwrap_err().contains("cannot be kept"), "{done:?}");
        assert_eq!(throttler.finish(Duration::from_secs(60)), []);
    }
}

//! The cgroup of a process: from /proc/PID/cgroup or, if its path is too long to be shown there, from the tree of cgroups.

use std::{io, path::Path, time::Instant};

use nix::errno::Errno;

use super::{
    ProcRoot,
    blocking_pool::{JobOwner, Lock, run_blocking},
    failure::fact,
    long_cgroup::{CGROUPS, find},
    parse,
};
use crate::model::{Fact, Name, ProcessId, StartTime};

impl ProcRoot {
    /// The cgroup of the process `owner` that started at `start`, where `read` is the result of reading its file.
    pub(super) fn cgroup(&self, read: io::Result<Vec<u8>>, owner: JobOwner, start: StartTime) -> Fact<Name> {
        match read {
            Err(error) if error.raw_os_error() == Some(Errno::ENAMETOOLONG as i32) => {
                self.long_cgroup(owner, start).map_or(Fact::Unreadable, Fact::Known)
            }
            read => fact(read, |text| Some(Name::new(parse::strip_deleted_suffix(parse::cgroup(text)?)))),
        }
    }

    /// Searches the cgroup. `None` if the process was moved meanwhile, or if the search is not done yet.
    fn long_cgroup(&self, owner: JobOwner, start: StartTime) -> Option<Name> {
        // Only the cgroups of this system's own /proc are here.
        if !self.own {
            return None;
        }
        let process = ProcessId { pid: owner.pid, start };
        let search = || {
            let (began, answers) = (Instant::now(), self.long_cgroups.clone());
            let search = move || {
                if let Some(path) = find(Path::new(CGROUPS), process.pid, owner.uid) {
                    answers.put(process, began, Name::new(path));
                }
            };
            // If it takes longer, a later look finds the answer.
            let _ = run_blocking(JobOwner { lock: Lock::Pages, ..owner }, search);
            self.long_cgroups.take(process, Instant::now())
        };
        self.long_cgroups.take(process, Instant::now()).or_else(search)
    }
}

//! The processes of system users, with their arguments.

use std::os::fd::AsFd as _;

use super::{ProcRoot, numbered, parse};
use crate::model::{Pid, Uid};

impl ProcRoot {
    /// The processes of root, of system users and of `DynamicUser=` (systemd.exec(5)), with their arguments. Processes that
    /// cannot be read are left out.
    pub fn services(&self) -> Vec<(Pid, Vec<Vec<u8>>)> {
        let pids = numbered(self.directory.as_fd(), ".").into_iter().flatten().flatten().map(Pid);
        pids.filter_map(|pid| {
            let directory = self.process(pid).ok()?;
            let (Uid(real), Uid(effective)) = parse::uids(&directory.read("", "status").ok()?)?;
            if ![real, effective].iter().all(|uid| matches!(uid, 0..1000 | 61_184..=65_519)) {
                return None;
            }
            let line = directory.read("", "cmdline").ok()?;
            let line = line.strip_suffix(b"\0").unwrap_or(&line);
            Some((pid, line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()))
        })
        .collect()
    }
}

//! The name of a process, and whether it has that name, the program, and all by which it may be protected, still.

use super::directory::ProcessDirectory;
use super::{ProcRoot, parse};
use crate::model::{Name, Pid, Process, StartTime};

impl ProcRoot {
    /// Whether `process` has not ended, and has the name, the users, the groups, the cgroup and the `oom_score_adj` still with
    /// which it was confirmed. A fact that cannot be read now counts as the same.
    pub fn is_as_found(&self, process: &Process) -> bool {
        let Ok(directory) = self.process(process.id.pid) else { return false };
        let text = directory.read("", "stat").ok();
        let is_called_the_same = text
            .as_deref()
            .and_then(parse::stat)
            .is_some_and(|stat| stat.start == process.id.start && stat.comm == process.names.comm.as_bytes());
        is_called_the_same && directory.has_same_rights(process)
    }

    /// The start of `pid`.
    pub fn start(&self, pid: Pid) -> Option<StartTime> {
        let text = self.process(pid).ok()?.read("", "stat").ok()?;
        parse::stat(&text).map(|stat| stat.start)
    }

    /// The comm of `pid`.
    pub fn comm(&self, pid: Pid) -> Option<Name> {
        let text = self.process(pid).ok()?.read("", "stat").ok()?;
        parse::stat(&text).map(|stat| Name::new(stat.comm))
    }

    /// The comm of the parent of a process; `None` if the parent is gone: another process that has its number by now is
    /// younger.
    pub fn parent_comm(&self, process: &Process) -> Option<Name> {
        let text = self.process(process.parent).ok()?.read("", "stat").ok()?;
        let parent = parse::stat(&text).filter(|parent| parent.start <= process.id.start)?;
        Some(Name::new(parent.comm))
    }

    /// The process of the thread `id`, with its comm; `None` if `id` is a process, or nothing.
    pub fn process_of_thread(&self, id: Pid) -> Option<(Pid, Name)> {
        let status = self.process(id).ok()?.read("", "status").ok()?;
        let process = parse::process_of(&status).filter(|process| *process != id)?;
        let stat = self.process(process).ok()?.read("", "stat").ok()?;
        Some((process, Name::new(parse::stat(&stat)?.comm)))
    }
}

impl ProcessDirectory {
    fn has_same_rights(&self, found: &Process) -> bool {
        let mut place = self.place().ok().flatten().map(|(place, _)| place).unwrap_or_default();
        let mut is = |file, is_same: &dyn Fn(&[u8]) -> bool| {
            let text = self.through(&mut place, |at| self.read(at, file));
            text.map_or(true, |text| is_same(&text))
        };
        let uids = Some((found.real_uid, found.effective_uid));
        is("status", &|text| parse::uids(text) == uids && parse::groups(text) == found.facts.groups)
            && is("oom_score_adj", &|text| {
                found.oom_score_adj.known().is_none_or(|known| parse::single_value(text) == Some(*known))
            })
            && is("cgroup", &|text| {
                let path = parse::cgroup(text).map(parse::strip_deleted_suffix);
                found.cgroup.known().is_none_or(|known| path == Some(known.as_bytes()))
            })
    }
}

/// Whether a process has the name and the program that it had `before`: exec draws another layout of its memory.
pub(super) fn is_same(before: &parse::Stat<'_>, now: &parse::Stat<'_>) -> bool {
    let layouts = before.layout.zip(now.layout);
    before.comm == now.comm && layouts.is_none_or(|(before, now)| before == now)
}

#[cfg(test)]
mod tests {
    use super::super::Accuracy;
    use super::super::testing::Tree;
    use super::*;
    use crate::model::{Bytes, Fact};

    const PID: Pid = Pid(42);

    /// It may have called exec, or renamed itself, since its name was read.
    #[test]
    fn a_process_that_changes_its_name_during_a_look_is_looked_at_again() {
        let tree = Tree::new();
        tree.cat(42);
        let fifo = tree.path().join("42/oom_score_adj");
        for comm in ["sshd", "postgres"] {
            tree.remove("42/oom_score_adj");
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let looking = std::thread::spawn({
                let proc = tree.path().to_owned();
                move || {
                    let root = ProcRoot::at(&proc).unwrap();
                    root.confirm(PID, None, Bytes::ZERO, &Accuracy::StatmExact)
                }
            });
            // Its reader has read the name.
            let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
            tree.stat(42, comm.as_bytes(), 0x0040_0000, 1);
            tree.remove("42/oom_score_adj");
            tree.write("42/oom_score_adj", "-1000\n");
            std::io::Write::write_all(&mut writer, b"0\n").unwrap();
            drop(writer);
            let process = looking.join().unwrap().unwrap();
            assert_eq!(process.names.comm, Name::from(comm));
            assert_eq!(process.oom_score_adj, Fact::Known(-1000), "all of it is read again");
        }
    }

    /// A server may get its user, its cgroup and its `oom_score_adj` after it has begun.
    #[test]
    fn a_process_that_got_other_rights_is_not_as_it_was_found() {
        let other = [
            ("42/status", "Name:\tcat\nUid:\t1000\t33\t33\t33\n"),
            ("42/status", "Name:\tcat\nUid:\t1000\t1000\t1000\t1000\nGid:\t5\t5\t5\t5\n"),
            ("42/status", "Name:\tcat\nUid:\t1000\t1000\t1000\t1000\nGroups:\t7 \n"),
            ("42/cgroup", "0::/system.slice/postgres.service\n"),
            ("42/oom_score_adj", "-1000\n"),
        ];
        for (file, text) in other {
            let tree = Tree::new();
            tree.cat(42);
            let root = tree.root();
            let found = root.confirm(PID, None, Bytes::ZERO, &Accuracy::StatmExact).unwrap();
            assert!(root.is_as_found(&found));
            tree.write(file, text);
            assert!(!root.is_as_found(&found), "{text}");
            tree.spoil(file);
            assert!(root.is_as_found(&found), "{file} cannot be read");
        }
    }

    #[test]
    fn exec_shows_by_the_layout_of_the_memory() {
        let stat = |text: &'static str| parse::stat(text.as_bytes()).unwrap();
        let before = stat(
            "42 (sh) S 1 42 42 0 -1 64 9 0 1 0 2 3 0 0 20 0 1 0 777 9 1 1 4096 8192 9000 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 5000 5001 6000",
        );
        let mut after = stat(
            "42 (sh) S 1 42 42 0 -1 64 9 0 1 0 2 3 0 0 20 0 1 0 777 9 1 1 4096 8192 9900 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 5000 5001 6000",
        );
        let renamed = stat(
            "42 (s) S 1 42 42 0 -1 64 9 0 1 0 2 3 0 0 20 0 1 0 777 9 1 1 4096 8192 9000 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 5000 5001 6000",
        );
        assert!(before.layout.is_some() && before.layout != after.layout);
        assert!(is_same(&before, &before) && !is_same(&before, &after) && !is_same(&before, &renamed));
        after.layout = None;
        assert!(is_same(&before, &after), "without access to it, nothing shows");
    }
}

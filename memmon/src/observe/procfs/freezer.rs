//! Whether a cgroup freezer holds a process: such a process does not exit before its cgroup is thawed, whatever signal it
//! was sent, and /proc shows it in state `D` like one that waits for a disk.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use super::{ProcRoot, long_cgroup::CGROUPS, parse};
use crate::model::{Name, Pid};

impl ProcRoot {
    /// The frozen cgroup that `pid` is in, as /proc/PID/cgroup has it; `None` if it is not in one, or if that cannot be
    /// read.
    pub fn frozen(&self, pid: Pid) -> Option<Name> {
        self.frozen_below(pid, Path::new(CGROUPS))
    }

    fn frozen_below(&self, pid: Pid, mounts: &Path) -> Option<Name> {
        let text = self.process(pid).ok()?.read("", "cgroup").ok()?;
        let unified = parse::hierarchy(&text, b"").filter(|path| {
            // On a hybrid system the v2 hierarchy is mounted beside those of v1.
            ["", "unified"].into_iter().any(|mount| {
                read(&mounts.join(mount), path, "cgroup.events")
                    .is_some_and(|text| has_line(&text, "frozen 1"))
            })
        });
        let legacy = || {
            parse::hierarchy(&text, b"freezer").filter(|path| {
                let state = read(&mounts.join("freezer"), path, "freezer.state");
                state.is_some_and(|text| has_line(&text, "FROZEN") || has_line(&text, "FREEZING"))
            })
        };
        unified.or_else(legacy).map(Name::new)
    }
}

/// A file of the cgroup at `path` of the hierarchy that is mounted at `mount`. A path out of memmon's own cgroup namespace
/// (`/../x`) is none that could be found there.
fn read(mount: &Path, path: &[u8], file: &str) -> Option<String> {
    fs::read_to_string(folder(mount, path)?.join(file)).ok()
}

/// The folder of that cgroup.
pub(super) fn folder(mount: &Path, path: &[u8]) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(path));
    let inside: PathBuf = path.components().filter(|part| *part != Component::RootDir).collect();
    let is_inside = inside.components().all(|part| matches!(part, Component::Normal(_)));
    is_inside.then(|| mount.join(inside))
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    const PID: Pid = Pid(42);

    /// The frozen cgroup that is found with this /proc/PID/cgroup and these files below the mounts.
    fn frozen(cgroup: &str, files: &[(&str, &str)]) -> Option<String> {
        let (tree, mounts) = (Tree::new(), tempfile::tempdir().unwrap());
        tree.cat(PID.0);
        tree.write("42/cgroup", cgroup);
        for (path, text) in files {
            let path = mounts.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree.root().frozen_below(PID, mounts.path()).map(|name| name.to_string())
    }

    #[test]
    fn a_freezer_of_either_version_is_found() {
        let v2 = "0::/user.slice/a.scope\n";
        let hybrid = "6:freezer:/batch/job 7\n4:memory:/x\n0::/\n";
        let thawed = "populated 1\nfrozen 0\n";
        for (cgroup, files, expected) in [
            (
                v2,
                &[("user.slice/a.scope/cgroup.events", "populated 1\nfrozen 1\n")][..],
                Some("/user.slice/a.scope"),
            ),
            (v2, &[("user.slice/a.scope/cgroup.events", thawed)], None),
            (v2, &[], None),
            ("0::/x\n", &[("unified/x/cgroup.events", "frozen 1\n")], Some("/x")),
            (hybrid, &[("freezer/batch/job 7/freezer.state", "FROZEN\n")], Some("/batch/job 7")),
            (hybrid, &[("freezer/batch/job 7/freezer.state", "FREEZING\n")], Some("/batch/job 7")),
            (hybrid, &[("freezer/batch/job 7/freezer.state", "THAWED\n")], None),
            // Freezers may be mounted together with others.
            ("5:cpu,freezer:/y\n", &[("freezer/y/freezer.state", "FROZEN\n")], Some("/y")),
            ("0::/../y\n", &[("y/cgroup.events", "frozen 1\n")], None),
        ] {
            assert_eq!(frozen(cgroup, files).as_deref(), expected, "{cgroup:?} {files:?}");
        }
    }

    /// A cgroup of this test in the unified hierarchy.
    struct Cgroup(PathBuf);

    impl Cgroup {
        fn write(&self, file: &str, text: &str) {
            fs::write(self.0.join(file), text).unwrap();
        }
    }

    impl Drop for Cgroup {
        fn drop(&mut self) {
            let _ = fs::write(self.0.join("cgroup.freeze"), "0");
            let _ = fs::remove_dir(&self.0);
        }
    }

    #[test]
    #[ignore = "needs root and cgroup v2"]
    fn a_frozen_cgroup_is_found_until_it_is_thawed() {
        let name = format!("memmon-test-freezer-{}", std::process::id());
        let mounts = ["", "unified"].map(|mount| Path::new(CGROUPS).join(mount));
        let mount = mounts.into_iter().find(|mount| mount.join("cgroup.procs").exists()).unwrap();
        let cgroup = Cgroup(mount.join(&name));
        fs::create_dir(&cgroup.0).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        cgroup.write("cgroup.procs", &child.id().to_string());
        let frozen = || ProcRoot::real().unwrap().frozen(Pid(child.id()));
        let before = frozen();
        cgroup.write("cgroup.freeze", "1");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while frozen().is_none() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let during = frozen();
        cgroup.write("cgroup.freeze", "0");
        while frozen().is_some() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let after = frozen();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((before, during, after), (None, Some(Name::from(&*format!("/{name}"))), None));
    }
}

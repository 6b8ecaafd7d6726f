//! A captured /proc in a temporary directory, for tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::ProcRoot;

pub(crate) struct Tree(TempDir);

impl Tree {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn root(&self) -> ProcRoot {
        ProcRoot::at(self.path()).unwrap()
    }

    pub(crate) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn link(&self, file: &str, target: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        fs::remove_file(self.path().join(file)).unwrap();
    }

    /// Puts a directory where a file is expected: reading it fails, even for root, with another error than "not found".
    pub(crate) fn spoil(&self, file: &str) {
        let _ = fs::remove_file(self.path().join(file));
        fs::create_dir_all(self.path().join(file)).unwrap();
    }

    /// `cat` of user 1000 with 1,000 resident pages, one thread, started at tick 777 by pid 1.
    pub(crate) fn cat(&self, pid: u32) {
        self.stat(pid, b"cat", 0x0040_0000, 1);
        self.write(&format!("{pid}/statm"), "2000 1000 300 1 0 99 0\n");
        self.write(&format!("{pid}/task/{pid}/statm"), "2000 1000 300 1 0 99 0\n");
        self.write(&format!("{pid}/status"), "Name:\tcat\nUid:\t1000\t1000\t1000\t1000\n");
        self.write(&format!("{pid}/cmdline"), "/bin/cat\0-\0");
        self.write(&format!("{pid}/cgroup"), "0::/user.slice/user-1000.slice\n");
        self.write(&format!("{pid}/oom_score_adj"), "0\n");
        self.link(&format!("{pid}/exe"), "/usr/bin/cat");
    }

    /// Another executable, and arguments of it.
    pub(super) fn exe_of(&self, pid: u32, exe: &str) {
        self.link(&format!("{pid}/exe"), exe);
        self.write(&format!("{pid}/cmdline"), "/bin/cat\0x\0");
    }

    /// The root folder of pid 1.
    pub(super) fn root_of_init(&self, folder: &str) {
        fs::create_dir_all(self.path().join("1")).unwrap();
        self.link("1/root", folder);
    }

    pub(crate) fn stat(&self, pid: u32, comm: &[u8], flags: u32, threads: u32) {
        self.stat_of_size(8_192_000, pid, comm, flags, threads);
    }

    /// Of a first thread that has no memory.
    pub(super) fn stat_without_memory(&self, pid: u32, comm: &[u8], flags: u32, threads: u32) {
        self.stat_of_size(0, pid, comm, flags, threads);
    }

    fn stat_of_size(&self, size: u64, pid: u32, comm: &[u8], flags: u32, threads: u32) {
        let before = format!("{pid} (");
        let after =
            format!(") S 1 {pid} {pid} 0 -1 {flags} 9 0 1 0 2 3 0 0 20 0 {threads} 0 777 {size} 1 1 1\n");
        self.write(&format!("{pid}/stat"), [before.as_bytes(), comm, after.as_bytes()].concat());
    }
}

//! Cgroups of a test in the unified hierarchy (v2), which is mounted even where v1 is in use. They are removed with the test.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::{Mode, mkdirat},
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{eventually, hog::Hog};

/// A cgroup, with those that are nested in it. It must outlive the processes in it.
pub struct Cgroup {
    /// The mount first, and the innermost last. Paths would be too long for the kernel.
    parts: Vec<OwnedFd>,
    names: Vec<String>,
    /// Number of the outermost ones that another one removes.
    of_another: usize,
}

impl Cgroup {
    /// Creates `/memmon-test-NAME-PID`, with these cgroups in it, each in the one before.
    pub fn new(name: &str, nested: &[&str]) -> Self {
        Self::below(&format!("memmon-test-{name}-{}", process::id()), nested)
    }

    /// Creates what Slurm with cgroup v1 has for a job, on a node that no machine is: `/slurm_memmon-test-PID-JOB/uid_0/job_JOB`.
    pub fn slurm(job: u32) -> Self {
        let node = format!("slurm_memmon-test-{}-{job}", process::id());
        Self::below(&node, &["uid_0", &format!("job_{job}"), "step_0"])
    }

    fn below(own: &str, nested: &[&str]) -> Self {
        let mount = mount();
        let top = open(&mount, DIRECTORY, Mode::empty())
            .unwrap_or_else(|errno| panic!("{}: {errno}", mount.display()));
        let mut cgroup = Self { parts: vec![top], names: vec![], of_another: 0 };
        for name in std::iter::once(own).chain(nested.iter().copied()) {
            cgroup.create(name);
        }
        cgroup
    }

    /// Creates another one in this one, which must outlive it.
    pub fn with(&self, name: &str) -> Self {
        let parts = self.parts.iter().map(OwnedFd::try_clone);
        let parts = parts.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("a descriptor: {error}"));
        let mut cgroup = Self { parts, names: self.names.clone(), of_another: self.names.len() };
        cgroup.create(name);
        cgroup
    }

    fn create(&mut self, name: &str) {
        let parent = self.innermost();
        mkdirat(parent, name, Mode::from_bits_truncate(0o755))
            .unwrap_or_else(|errno| panic!("cannot create the cgroup {name}: {errno}"));
        let inner = openat(parent, name, DIRECTORY, Mode::empty())
            .unwrap_or_else(|errno| panic!("cgroup {name}: {errno}"));
        self.parts.push(inner);
        self.names.push(name.to_owned());
    }

    /// The path of the outermost one, as /proc/PID/cgroup has it.
    pub fn name(&self) -> String {
        format!("/{}", self.names.first().map(String::as_str).unwrap_or_default())
    }

    /// Moves a hog to the innermost one.
    pub fn take(&self, hog: &Hog) {
        self.take_above(hog, 0);
    }

    /// Moves a hog to the one that has so many others between it and the innermost.
    pub fn take_above(&self, hog: &Hog, levels: usize) {
        let part = &self.parts[self.parts.len() - 1 - levels];
        let file = openat(part, "cgroup.procs", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
        let file = file.map(File::from).unwrap_or_else(|errno| panic!("cgroup.procs: {errno}"));
        let written = (&file).write_all(hog.pid().to_string().as_bytes());
        written.unwrap_or_else(|error| panic!("cgroup.procs: {error}"));
    }

    /// Freezes the processes in there, and waits until they are.
    pub fn freeze(&self) {
        self.write("cgroup.freeze", "1");
        eventually("the freezing", || self.read("cgroup.events").contains("frozen 1"));
    }

    /// Lets them run.
    pub fn thaw(&self) {
        self.write("cgroup.freeze", "0");
    }

    fn innermost(&self) -> &OwnedFd {
        self.parts.last().unwrap_or_else(|| unreachable!("the mount is there"))
    }

    fn file(&self, name: &str, flags: OFlag) -> File {
        let file = openat(self.innermost(), name, flags | OFlag::O_CLOEXEC, Mode::empty());
        File::from(file.unwrap_or_else(|errno| panic!("{name}: {errno}")))
    }

    fn write(&self, name: &str, text: &str) {
        let written = self.file(name, OFlag::O_WRONLY).write_all(text.as_bytes());
        written.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    fn read(&self, name: &str) -> String {
        let mut text = String::new();
        let read = self.file(name, OFlag::O_RDONLY).read_to_string(&mut text);
        read.unwrap_or_else(|error| panic!("{name}: {error}"));
        text
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        while self.names.len() > self.of_another
            && let (Some(name), Some(_)) = (self.names.pop(), self.parts.pop())
        {
            let removed = || unlinkat(self.innermost(), name.as_str(), UnlinkatFlags::RemoveDir);
            // The kernel may take a moment to let the last process go.
            let deadline = std::time::Instant::now() + super::PATIENCE;
            while removed() == Err(Errno::EBUSY) && std::time::Instant::now() < deadline {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The mount point of the unified hierarchy: on a hybrid system, beside those of v1.
fn mount() -> PathBuf {
    let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let unified = mounts.into_iter().find(|mount| mount.join("cgroup.procs").exists());
    unified.unwrap_or_else(|| panic!("this test needs the unified hierarchy of cgroups (v2)")).to_owned()
}

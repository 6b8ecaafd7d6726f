//! A cgroup with a limit of its memory, in the hierarchy (v1 or v2) that limits memory on this machine.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Mounts of cgroup v1 and of v2, alone or beside v1.
const V1: &str = "/sys/fs/cgroup/memory";
const V2: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Time for the kernel to let the last process go.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cgroup. It is removed with this value, and must then be without processes.
pub(crate) struct MemoryCgroup {
    folder: PathBuf,
    files: &'static Files,
}

/// The names of its files.
struct Files {
    limit: &'static str,
    /// The limit of memory and swap together, or of swap alone, and whether it is both.
    swap: (&'static str, bool),
    /// The most memory that was used, if the kernel has that.
    most: &'static str,
    /// Has a line `oom_kill NUMBER`.
    events: &'static str,
}

const FILES_OF_V1: Files = Files {
    limit: "memory.limit_in_bytes",
    swap: ("memory.memsw.limit_in_bytes", true),
    most: "memory.max_usage_in_bytes",
    events: "memory.oom_control",
};
const FILES_OF_V2: Files = Files {
    limit: "memory.max",
    swap: ("memory.swap.max", false),
    most: "memory.peak",
    events: "memory.events",
};

impl MemoryCgroup {
    /// Creates it with a limit of so many bytes, and without swap. An older one of that name is removed.
    pub(crate) fn create(name: &str, limit: u64) -> Result<Self> {
        let v2 = || V2.into_iter().map(Path::new).find(|mount| passes_memory_on(mount));
        let (mount, files) = if Path::new(V1).join(FILES_OF_V1.limit).exists() {
            (Path::new(V1), &FILES_OF_V1)
        } else {
            (v2().context("no hierarchy of cgroups limits memory here")?, &FILES_OF_V2)
        };
        let folder = mount.join(name);
        let _ = fs::remove_dir(&folder);
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let cgroup = Self { folder, files };
        cgroup.write(files.limit, &limit.to_string())?;
        let (swap, is_both) = files.swap;
        match fs::write(cgroup.folder.join(swap), if is_both { limit } else { 0 }.to_string()) {
            // The kernel does not account for swap.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            written => written.context(swap)?,
        }
        Ok(cgroup)
    }

    /// Moves this process to it.
    pub(crate) fn enter(&self) -> Result<()> {
        self.write("cgroup.procs", "0")
    }

    /// Number of its processes that the kernel's OOM killer has ended.
    pub(crate) fn killed_by_kernel(&self) -> Result<u64> {
        let text = self.read(self.files.events).context("the OOM killer's count")?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.with_context(|| format!("{} has no oom_kill", self.files.events))
    }

    /// The most memory that its processes have used so far, page cache included; none on an older kernel.
    pub(crate) fn most_used(&self) -> Option<u64> {
        self.read(self.files.most).ok()?.trim().parse().ok()
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.folder.join(file))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.folder).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether the cgroups below this mount of v2 can have limits of memory, without a change to how the machine is set up.
fn passes_memory_on(mount: &Path) -> bool {
    let controllers = fs::read_to_string(mount.join("cgroup.subtree_control")).unwrap_or_default();
    controllers.split_whitespace().any(|controller| controller == "memory")
}

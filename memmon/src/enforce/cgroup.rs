//! A cgroup of the unified hierarchy that is slowed down: its processes, and its `memory.high`.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Component, Path, PathBuf},
};

use crate::model::{Bytes, Name, Pid};

/// The mount point of the unified hierarchy (file-hierarchy(7)).
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// The most cgroups in it that are looked at.
const MOST: usize = 4096;
/// The longest list of processes, in bytes.
const LONGEST: u64 = 1 << 20;

/// A cgroup. Its folder may be replaced by another cgroup's: each write asks for its number first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryCgroup {
    folder: PathBuf,
    number: u64,
}

impl MemoryCgroup {
    /// The cgroup at `path` in the hierarchy at `mount`.
    ///
    /// # Errors
    /// It is the root, or outside of memmon's own root; or a system error.
    pub fn open(mount: &Path, path: &Name) -> io::Result<Self> {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        let inside: PathBuf = path.components().filter(|part| *part != Component::RootDir).collect();
        if inside.as_os_str().is_empty() {
            return Err(io::Error::other("it is the root of all cgroups, which has no memory.high"));
        }
        if !inside.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(io::Error::other("it is outside of the cgroups that memmon sees"));
        }
        let folder = mount.join(inside);
        let number = fs::metadata(&folder)?.ino();
        Ok(Self { folder, number })
    }

    /// Its number, which no other cgroup of this boot has.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Its `memory.high`; [`Bytes::MAX`] if that is `max`.
    ///
    /// # Errors
    /// A system error. A cgroup without the memory controller has no such file.
    pub fn high(&self) -> io::Result<Bytes> {
        let text = self.read("memory.high").map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if self.folder.exists() => io::Error::other(
                "it has no memory.high: the memory controller is not enabled for it (cgroup.subtree_control)",
            ),
            _ => error,
        })?;
        match text.trim() {
            "max" => Ok(Bytes::MAX),
            number => number.parse().map(Bytes).map_err(|_| io::Error::other("memory.high has no number")),
        }
    }

    /// Sets its `memory.high`. The kernel may take seconds to free what is above it; recent ones do not wait for that.
    ///
    /// # Errors
    /// Another cgroup has its place; or a system error.
    pub fn set_high(&self, high: Bytes) -> io::Result<()> {
        if fs::metadata(&self.folder)?.ino() != self.number {
            return Err(io::ErrorKind::NotFound.into());
        }
        let text = if high == Bytes::MAX { "max".to_owned() } else { high.0.to_string() };
        // A mode in which the kernel does not free memory on behalf of the writer (6.16), and ignored before.
        let mut file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.folder.join("memory.high"))?;
        file.write_all(text.as_bytes())
    }

    /// Its swapped memory; none if the kernel does not count that.
    pub fn swapped(&self) -> Option<Bytes> {
        self.read("memory.swap.current").ok()?.trim().parse().ok().map(Bytes)
    }

    /// Number of times that its processes were slowed down.
    pub fn slowed(&self) -> Option<u64> {
        let events = self.read("memory.events").ok()?;
        events.lines().find_map(|line| line.strip_prefix("high ")?.trim().parse().ok())
    }

    /// The processes in it and in all cgroups below it.
    ///
    /// # Errors
    /// A system error; or there are too many.
    pub fn processes(&self) -> io::Result<Vec<Pid>> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.clone()];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            seen += 1;
            if seen > MOST {
                return Err(io::Error::other(format!("more than {MOST} cgroups are below it")));
            }
            let text = match read(&folder.join("cgroup.procs")) {
                // A cgroup below may be removed at any time.
                Err(error) if error.kind() == io::ErrorKind::NotFound && seen > 1 => continue,
                other => other?,
            };
            found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid));
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            folders.extend(below.map(|entry| entry.path()));
        }
        Ok(found)
    }

    fn read(&self, file: &str) -> io::Result<String> {
        read(&self.folder.join(file))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    if text.len() as u64 == LONGEST {
        return Err(io::Error::other("it has too many processes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(mount: &Path, path: &str, text: &str) {
        let path = mount.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_cgroup_is_read_and_set() {
        let mount = tempfile::tempdir().unwrap();
        put(mount.path(), "a/x.service/memory.high", "max\n");
        put(mount.path(), "a/x.service/cgroup.procs", "42\n43\n");
        put(mount.path(), "a/x.service/below/further/cgroup.procs", "44\n");
        put(mount.path(), "a/x.service/below/cgroup.procs", "");
        put(mount.path(), "a/x.service/memory.events", "low 0\nhigh 17\nmax 0\n");
        put(mount.path(), "a/x.service/memory.swap.current", "4096\n");
        let cgroup = MemoryCgroup::open(mount.path(), &"/a/x.service".into()).unwrap();
        assert_eq!(cgroup.high().unwrap(), Bytes::MAX);
        assert_eq!((cgroup.slowed(), cgroup.swapped()), (Some(17), Some(Bytes(4096))));
        let mut processes = cgroup.processes().unwrap();
        processes.sort();
        assert_eq!(processes, [42, 43, 44].map(Pid));
        cgroup.set_high(Bytes(8192)).unwrap();
        assert_eq!(cgroup.high().unwrap(), Bytes(8192));
        cgroup.set_high(Bytes::MAX).unwrap();
        assert_eq!(fs::read_to_string(mount.path().join("a/x.service/memory.high")).unwrap(), "max");
    }

    #[test]
    fn the_root_what_is_outside_and_what_is_gone_are_no_cgroups_to_write_to() {
        let mount = tempfile::tempdir().unwrap();
        put(mount.path(), "x/cgroup.procs", "42\n");
        let refused = |path: &str| MemoryCgroup::open(mount.path(), &path.into()).unwrap_err().to_string();
        assert!(refused("/").contains("root of all"));
        assert!(refused("/../x").contains("outside"));
        assert!(refused("/y").contains("No such"));
        let cgroup = MemoryCgroup::open(mount.path(), &"/x".into()).unwrap();
        assert!(cgroup.high().unwrap_err().to_string().contains("controller is not enabled"));
        // Another cgroup at the same place. (The old one stays elsewhere, so that its number is not used again.)
        fs::rename(mount.path().join("x"), mount.path().join("old")).unwrap();
        put(mount.path(), "x/memory.high", "max\n");
        assert!(cgroup.set_high(Bytes(4096)).is_err());
        assert_eq!(fs::read_to_string(mount.path().join("x/memory.high")).unwrap(), "max\n");
    }
}

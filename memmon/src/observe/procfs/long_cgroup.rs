//! The cgroup of a process whose path is too long for /proc/PID/cgroup.
//!
//! The kernel shows no path of 4096 bytes or more, and a user with a delegated cgroup can nest cgroups as deeply as that. So
//! the process is searched in the tree of cgroups, from its root down through those that have processes. Late answers are
//! kept for the next look, so that a large tree protects no process either.
//!
//! The owner of a cgroup can close it to root without CAP_DAC_READ_SEARCH, as memmon's unit is. If the process is nowhere else, it
//! is in what its user closed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat},
    sys::stat::{Mode, fstatat},
};

use crate::model::{Name, Pid, ProcessId, Uid};

/// Mount point of the cgroup hierarchies (cgroups(7), file-hierarchy(7)).
pub(super) const CGROUPS: &str = "/sys/fs/cgroup";

/// The part of a path that is kept: as much as the kernel shows of others. The cgroups below that are the user's own, and
/// so is each name in them.
const LONGEST: usize = 4095;

/// Maximum of answers that are kept. Older ones that no look has taken are of processes that have ended.
const CAPACITY: usize = 64;

/// Time for which an answer holds that came too late for the look that asked: longer than the pause until the next look.
const HOLDS_FOR: Duration = Duration::from_secs(10);

/// Answers of searches, with the time at which they began.
#[derive(Clone, Debug, Default)]
pub(super) struct LongCgroups(Arc<Mutex<BTreeMap<ProcessId, (Instant, Name)>>>);

impl LongCgroups {
    pub(super) fn put(&self, process: ProcessId, began: Instant, path: Name) {
        let mut answers = self.lock();
        if answers.len() >= CAPACITY {
            answers.clear();
        }
        answers.insert(process, (began, path));
    }

    pub(super) fn take(&self, process: ProcessId, now: Instant) -> Option<Name> {
        let (began, path) = self.lock().remove(&process)?;
        (now.saturating_duration_since(began) < HOLDS_FOR).then_some(path)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ProcessId, (Instant, Name)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cgroup of `pid`, whose real user is `user`, cut to whole names within [`LONGEST`] bytes, in the hierarchy that `parse::cgroup` would take: the
/// unified one or, if that is not in use, systemd's own of v1.
pub(super) fn find(mounts: &Path, pid: Pid, user: Uid) -> Option<Vec<u8>> {
    let below = |mount: &str| find_below(&mounts.join(mount), pid, user).ok().flatten();
    if mounts.join("cgroup.procs").exists() {
        return below("");
    }
    let unified = below("unified");
    unified.clone().filter(|path| path != b"/").or_else(|| below("systemd")).or(unified)
}

/// A cgroup on the way to the one where the search is.
struct Level {
    /// The names in it where the search was not yet.
    left: Vec<Vec<u8>>,
    /// The length of its path.
    length: usize,
}

/// The same in one hierarchy. There is one descriptor at a time, however deep the tree is, and a name for each cgroup with
/// processes at most.
fn find_below(mount: &Path, pid: Pid, user: Uid) -> io::Result<Option<Vec<u8>>> {
    // The path that all cgroups have in common that this user closed.
    let mut closed: Option<Vec<u8>> = None;
    // Whether the process may be in a cgroup that could not be read for another reason.
    let mut may_be_missed = false;
    let mut at = open(mount, DIRECTORY, Mode::empty())?;
    let mut path = Vec::new();
    if has(&at, pid)? {
        return Ok(Some(b"/".to_vec()));
    }
    let mut levels = vec![Level { left: children(&at)?, length: 0 }];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.length);
        let Some(name) = level.left.pop() else {
            levels.pop();
            if !levels.is_empty() {
                at = openat(&at, "..", DIRECTORY, Mode::empty())?;
            }
            continue;
        };
        path.push(b'/');
        path.extend_from_slice(&name);
        let opened = openat(&at, &name[..], DIRECTORY, Mode::empty());
        let found = opened.as_ref().map_err(|errno| (*errno).into()).and_then(|child| has(child, pid));
        match found.as_ref().map_err(io::Error::kind) {
            Err(io::ErrorKind::PermissionDenied) => {
                if fstatat(&at, &name[..], AtFlags::empty()).is_ok_and(|facts| facts.st_uid == user.0) {
                    closed = Some(closed.map_or_else(|| path.clone(), |closed| common(closed, &path)));
                }
            }
            Ok(_) | Err(io::ErrorKind::NotFound) => {}
            Err(_) => may_be_missed = true,
        }
        if found.unwrap_or(false) {
            return Ok(Some(cut(path)));
        }
        // A cgroup may be removed at any time.
        let Ok(child) = opened else { continue };
        let left = children(&child).unwrap_or_default();
        levels.push(Level { left, length: path.len() });
        at = child;
    }
    Ok(closed.filter(|path| !path.is_empty() && !may_be_missed).map(cut))
}

/// The whole names that both paths begin with.
fn common(mut one: Vec<u8>, other: &[u8]) -> Vec<u8> {
    let names = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let both = names(&one).into_iter().zip(names(other)).take_while(|(one, other)| one == other);
    let length = both.map(|(name, _)| name.len() + 1).sum::<usize>().saturating_sub(1);
    one.truncate(length);
    one
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Whether `pid` is in this very cgroup; in a threaded one, only its threads can be read.
fn has(cgroup: &OwnedFd, pid: Pid) -> io::Result<bool> {
    match lists(cgroup, "cgroup.procs", pid) {
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {
            lists(cgroup, "cgroup.threads", pid)
        }
        listed => listed,
    }
}

fn lists(cgroup: &OwnedFd, file: &str, pid: Pid) -> io::Result<bool> {
    let pid = pid.to_string();
    for line in lines(cgroup, file)? {
        if line? == pid.as_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lines(cgroup: &OwnedFd, file: &str) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>> {
    let file = openat(cgroup, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(BufReader::new(File::from(file)).split(b'\n'))
}

/// The cgroups directly in this one that have processes, or of which that is not known (v1).
fn children(cgroup: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let listing = Dir::openat(cgroup.as_fd(), ".", DIRECTORY, Mode::empty())?;
    let mut children = Vec::new();
    for entry in listing {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == Some(Type::Directory)
            && !matches!(name, b"." | b"..")
            && is_populated(cgroup, name)
        {
            children.push(name.to_vec());
        }
    }
    Ok(children)
}

fn is_populated(parent: &OwnedFd, name: &[u8]) -> bool {
    let cgroup = match openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(cgroup) => cgroup,
        Err(errno) => return errno == Errno::EACCES,
    };
    lines(&cgroup, "cgroup.events")
        .map_or(true, |mut lines| !lines.any(|line| line.is_ok_and(|line| line == b"populated 0")))
}

/// The longest prefix of whole names that the kernel would show.
fn cut(mut path: Vec<u8>) -> Vec<u8> {
    if path.len() > LONGEST {
        path.truncate(LONGEST + 1);
        path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or_default());
    }
    path
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, chown},
        path::PathBuf,
    };

    use super::*;
    use crate::model::StartTime;

    /// Makes the cgroup at `path`, by parts, with these processes in it.
    fn cgroup(mount: &Path, path: &[&str], procs: &str, populated: bool) {
        let mut at = open(mount, DIRECTORY, Mode::empty()).unwrap();
        for name in path {
            let _ = nix::sys::stat::mkdirat(&at, *name, Mode::S_IRWXU);
            at = openat(&at, *name, DIRECTORY, Mode::empty()).unwrap();
            write(&at, "cgroup.procs", "");
            write(&at, "cgroup.events", "populated 1\nfrozen 0\n");
        }
        write(&at, "cgroup.procs", procs);
        write(&at, "cgroup.events", if populated { "populated 1\n" } else { "populated 0\n" });
    }

    fn write(at: &OwnedFd, file: &str, text: &str) {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let file = openat(at, file, flags, Mode::S_IRWXU).unwrap();
        nix::unistd::write(&file, text.as_bytes()).unwrap();
    }

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let mounts = tempfile::tempdir().unwrap();
        fs::write(mounts.path().join("cgroup.procs"), "1\n").unwrap();
        let path = mounts.path().to_owned();
        (mounts, path)
    }

    #[test]
    fn a_process_is_found_however_deep_it_is() {
        let (_held, mounts) = tree();
        let long = "d".repeat(250);
        let mut deep = vec!["user.slice", "a"];
        deep.extend(std::iter::repeat_n(&*long, 40));
        cgroup(&mounts, &["system.slice", "b"], "8\n9\n", true);
        cgroup(&mounts, &deep, "77\n42\n", true);
        cgroup(&mounts, &["user.slice", "z"], "", false);
        let found = |pid| find(&mounts, Pid(pid), Uid(0)).map(|path| String::from_utf8(path).unwrap());
        assert_eq!(found(9).as_deref(), Some("/system.slice/b"));
        let path = found(42).unwrap();
        assert!(path.starts_with("/user.slice/a/ddd") && path.ends_with("ddd"), "{path}");
        assert!(path.len() <= LONGEST && path.len() > LONGEST - 251, "{}", path.len());
        assert!(path.split('/').skip(3).all(|name| name == long), "whole names");
        assert_eq!(found(1).as_deref(), Some("/"));
        assert_eq!(found(4), None, "no process of another number");
    }

    /// Both hierarchies of a hybrid system, as `parse::cgroup` reads them.
    #[test]
    fn without_the_unified_hierarchy_systemds_own_counts() {
        let mounts = tempfile::tempdir().unwrap();
        for mount in ["unified", "systemd"] {
            fs::create_dir(mounts.path().join(mount)).unwrap();
            fs::write(mounts.path().join(mount).join("cgroup.procs"), "").unwrap();
        }
        fs::write(mounts.path().join("unified/cgroup.procs"), "42\n43\n").unwrap();
        cgroup(&mounts.path().join("systemd"), &["user.slice"], "42\n", true);
        cgroup(&mounts.path().join("unified"), &["x"], "44\n", true);
        let found = |pid| find(mounts.path(), Pid(pid), Uid(0)).map(|path| String::from_utf8(path).unwrap());
        assert_eq!(found(42).as_deref(), Some("/user.slice"));
        assert_eq!(found(43).as_deref(), Some("/"));
        assert_eq!(found(44).as_deref(), Some("/x"));
        assert_eq!(found(45), None);
    }

    #[test]
    fn a_late_answer_holds_for_a_short_time_and_for_one_process() {
        let answers = LongCgroups::default();
        let began = Instant::now();
        let process = |pid| ProcessId { pid: Pid(pid), start: StartTime(1) };
        answers.put(process(1), began, Name::from("/a"));
        assert_eq!(answers.take(process(2), began), None);
        assert_eq!(answers.take(process(1), began + HOLDS_FOR / 2), Some(Name::from("/a")));
        assert_eq!(answers.take(process(1), began), None, "it is taken");
        answers.put(process(1), began, Name::from("/a"));
        assert_eq!(answers.take(process(1), began + HOLDS_FOR), None, "it is old");
        for pid in 0..1000 {
            answers.put(process(pid), began, Name::from("/a"));
        }
        assert!(answers.lock().len() <= CAPACITY);
    }

    fn show_to_all(path: &Path) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        if path.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| show_to_all(&entry.unwrap().path()));
        }
    }

    /// Another user may no more open it than root without CAP_DAC_READ_SEARCH.
    #[test]
    fn a_process_is_in_what_its_user_closed_if_it_is_nowhere_else() {
        let (_held, mounts) = tree();
        let is_root = nix::unistd::geteuid().is_root();
        let user = if is_root { 47_000 } else { nix::unistd::geteuid().as_raw() };
        cgroup(&mounts, &["user", "a", "b"], "42\n", true);
        cgroup(&mounts, &["user", "a", "c"], "43\n", true);
        cgroup(&mounts, &["other"], "44\n", true);
        let close = |path: &str, owner: u32| {
            let path = mounts.join(path);
            if is_root {
                chown(&path, Some(owner), None).unwrap();
            }
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
        };
        show_to_all(&mounts);
        let found = |pid: u32, user: u32| {
            let mounts = mounts.clone();
            // Only this thread loses what lets root read everything.
            let found = std::thread::spawn(move || {
                if is_root {
                    nix::unistd::setfsuid(nix::unistd::Uid::from_raw(47_001));
                }
                find(&mounts, Pid(pid), Uid(user))
            });
            found.join().unwrap().map(|path| String::from_utf8(path).unwrap())
        };
        assert_eq!(found(42, user).as_deref(), Some("/user/a/b"));
        close("user/a/b", user);
        assert_eq!(found(42, user).as_deref(), Some("/user/a/b"));
        assert_eq!(found(43, user).as_deref(), Some("/user/a/c"), "it is seen elsewhere");
        assert_eq!(found(42, user + 5), None, "of another user");
        fs::create_dir_all(mounts.join("broken/cgroup.procs")).unwrap();
        show_to_all(&mounts.join("broken"));
        assert_eq!(found(42, user), None, "it may be in one that cannot be read");
        fs::remove_dir_all(mounts.join("broken")).unwrap();
        close("user/a/c", user);
        assert_eq!(found(42, user).as_deref(), Some("/user/a"), "in either of them");
        close("other", user);
        assert_eq!(found(42, user), None, "they have no more in common than the root");
        for path in ["user/a/b", "user/a/c", "other"] {
            fs::set_permissions(mounts.join(path), fs::Permissions::from_mode(0o700)).unwrap();
        }
    }

    #[test]
    fn paths_have_whole_names_in_common() {
        let of = |one: &str, other: &str| {
            String::from_utf8(common(one.as_bytes().to_vec(), other.as_bytes())).unwrap()
        };
        let found = [of("/a/b", "/a/b"), of("/a/b", "/a/bc"), of("/a/b/c", "/a"), of("/a", "/b")];
        assert_eq!(found, ["/a/b", "/a", "/a", ""]);
    }

    /// A cgroup without processes is not searched, whatever it lists.
    #[test]
    fn empty_cgroups_cost_one_look() {
        let (_held, mounts) = tree();
        cgroup(&mounts, &["a"], "42\n", false);
        assert_eq!(find(&mounts, Pid(42), Uid(0)), None);
    }
}

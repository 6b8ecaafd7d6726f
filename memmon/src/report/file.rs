//! The log file: opened so that only root decides where memmon writes, and never in the way of enforcement.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{self, Path, PathBuf},
    time::Instant,
};

use super::{
    advice::advised,
    event::Sink,
    rotation::{Identity, Rotation, is_moved},
    sink::{Line, Output},
};
use crate::files;

type Open = Box<dyn Fn(&Path) -> io::Result<File> + Send>;

/// Appends lines to one file. It is opened with the first line, so that a slow file system does not delay the start. If the
/// file is renamed or removed, as log rotation does, the next line starts a new one: no signal is needed.
pub(super) struct LogFile {
    path: PathBuf,
    open: Open,
    file: Option<(File, Identity)>,
    rotation: Rotation,
    /// The last line got in half only (the disk was full): end it before the next.
    torn: bool,
}

impl LogFile {
    pub(super) fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self { rotation, ..Self::with_open(path, open_safely) }
    }

    fn with_open(path: PathBuf, open: impl Fn(&Path) -> io::Result<File> + Send + 'static) -> Self {
        Self { path, open: Box::new(open), file: None, rotation: Rotation::default(), torn: false }
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, identity)| is_moved(&self.path, *identity)) {
            self.rotation.noticed(&self.path, Instant::now());
            self.reopen();
        }
        let (file, _) = match &mut self.file {
            Some(open) => open,
            None => {
                let file = (self.open)(&self.path)?;
                let identity = Identity::from(&file.metadata()?);
                self.rotation.opened(&self.path, identity);
                self.file.insert((file, identity))
            }
        };
        let line = if self.torn { format!("\n{text}") } else { text.to_owned() };
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Output for LogFile {
    fn sink(&self) -> Sink {
        Sink::File
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        self.append(&line.whole).map_err(|error| {
            // The next attempt starts from the name again: another disk may be mounted there by then.
            self.file = None;
            io::Error::new(error.kind(), format!("{}: {}", self.path.display(), advised(&error)))
        })
    }

    fn reopen(&mut self) {
        self.file = None;
        self.torn = false;
    }
}

/// Opens `path` for appending (created 0640), unless somebody other than root and memmon's own user could have
/// chosen what it names: no symbolic link, no device or FIFO, no file of somebody else's, no second hard link, and
/// no folder above it that strangers can write to. A group may: Debian's /var/log belongs to group `adm` or `syslog`.
///
/// # Errors
/// One of these, or what open(2) says.
fn open_safely(path: &Path) -> io::Result<File> {
    let own_uid = nix::unistd::geteuid().as_raw();
    let path = in_safe_folder(path, own_uid)?;
    let mut options = OpenOptions::new();
    // O_NONBLOCK: the open of a FIFO would wait for a reader; on a regular file it changes nothing.
    options
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => symbolic_link(),
        _ => error,
    })?;
    check_file(&Facts::from(&file.metadata()?), own_uid).map_err(|why| refused(&why))?;
    Ok(file)
}

/// The place at which a log file `path` would be opened, in a folder without links; it need not be there yet.
///
/// # Errors
/// The errors of opening it, as far as a look can show them.
pub(super) fn place(path: &Path) -> io::Result<PathBuf> {
    let own_uid = nix::unistd::geteuid().as_raw();
    let path = in_safe_folder(path, own_uid)?;
    match fs::symlink_metadata(&path) {
        Ok(facts) if facts.is_symlink() => return Err(symbolic_link()),
        Ok(facts) => check_file(&Facts::from(&facts), own_uid).map_err(|why| refused(&why))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(path)
}

/// `path`, in the folder that it leads to, which strangers have no say in.
fn in_safe_folder(path: &Path, own_uid: u32) -> io::Result<PathBuf> {
    let path = path::absolute(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("it is not the name of a file"));
    };
    let real = fs::canonicalize(folder)?;
    // Both as it is written and where it leads: a link on the way is as good as its owner.
    for step in folder.ancestors().chain(real.ancestors()) {
        if let Err(why) = check_folder(&Facts::from(&fs::symlink_metadata(step)?), own_uid) {
            return Err(io::Error::other(format!("refused, its folder {} {why}", step.display())));
        }
    }
    files::takes_files(&real).map_err(|why| io::Error::other(format!("refused, {why}")))?;
    Ok(real.join(name))
}

fn refused(why: &str) -> io::Error {
    io::Error::other(format!("refused, it {why}"))
}

/// Another user may have made the link and chosen its target, so that the advice is not to use that instead.
fn symbolic_link() -> io::Error {
    io::Error::other("refused, it is a symbolic link; give log_file the name of a file that is none")
}

/// The facts that are checked, from stat(2).
#[derive(Clone, Copy)]
struct Facts {
    uid: u32,
    mode: u32,
    links: u64,
}

impl From<&Metadata> for Facts {
    fn from(metadata: &Metadata) -> Self {
        Self { uid: metadata.uid(), mode: metadata.mode(), links: metadata.nlink() }
    }
}

fn check_file(facts: &Facts, own_uid: u32) -> Result<(), String> {
    if facts.mode & libc::S_IFMT != libc::S_IFREG {
        return Err("is not a regular file".to_owned());
    }
    check_owner(facts, own_uid)?;
    if facts.links > 1 {
        return Err("has other names (hard links)".to_owned());
    }
    Ok(())
}

fn check_folder(facts: &Facts, own_uid: u32) -> Result<(), String> {
    check_owner(facts, own_uid)?;
    let is_link = facts.mode & libc::S_IFMT == libc::S_IFLNK;
    if !is_link && facts.mode & libc::S_IWOTH != 0 && facts.mode & libc::S_ISVTX == 0 {
        return Err("is writable by everyone".to_owned());
    }
    Ok(())
}

fn check_owner(facts: &Facts, own_uid: u32) -> Result<(), String> {
    if facts.uid == own_uid || facts.uid == 0 {
        return Ok(());
    }
    Err(format!("belongs to uid {}, not to root or uid {own_uid}", facts.uid))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::fs::symlink,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::{Duration, Instant},
    };

    use super::*;
    use crate::report::{
        event::Event,
        sink::{HealthySink, WriteOutcome, samples},
    };

    fn refusal(path: &Path) -> String {
        open_safely(path).expect_err("must be refused").to_string()
    }

    fn offer(outlet: &mut HealthySink, whole: &str, now: Instant) -> WriteOutcome {
        outlet.offer(&samples::line(whole), now)
    }

    fn broke(offer: &WriteOutcome) -> &str {
        let WriteOutcome::Failed(Event::SinkTrouble { error: Some(error), .. }) = offer else {
            panic!("no trouble was reported: {offer:?}");
        };
        error
    }

    #[test]
    fn a_new_file_is_0640_and_an_old_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        LogFile::new(path.clone(), Rotation::default()).append("one\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777 & !0o640, 0, "no wider than 0640");
        assert_ne!(fs::metadata(&path).unwrap().mode() & 0o600, 0);
        LogFile::new(path.clone(), Rotation::default()).append("two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn files_that_other_users_may_have_planted_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::write(place("precious"), "untouched").unwrap();

        symlink(place("precious"), place("link")).unwrap();
        assert!(refusal(&place("link")).contains("symbolic link"));
        symlink(place("nowhere"), place("dangling")).unwrap();
        assert!(refusal(&place("dangling")).contains("symbolic link"));
        assert!(!place("nowhere").exists());

        fs::hard_link(place("precious"), place("other name")).unwrap();
        assert!(refusal(&place("other name")).contains("hard links"));

        nix::unistd::mkfifo(&place("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        refusal(&place("fifo"));
        let reader =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(place("fifo")).unwrap();
        assert!(refusal(&place("fifo")).contains("not a regular file"), "with a reader it can be opened");
        drop(reader);
        refusal(folder.path());
        refusal(Path::new("/dev/null"));
        refusal(Path::new("/"));

        let open_folder = place("everyone's");
        fs::create_dir(&open_folder).unwrap();
        fs::set_permissions(&open_folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(refusal(&open_folder.join("log")).contains("writable by everyone"));
        symlink(&open_folder, place("detour")).unwrap();
        assert!(refusal(&place("detour").join("log")).contains("writable by everyone"));
        assert!(!open_folder.join("log").exists());
        assert_eq!(fs::read_to_string(place("precious")).unwrap(), "untouched");
    }

    #[test]
    fn owners_and_modes() {
        let (file, folder, link) = (libc::S_IFREG, libc::S_IFDIR, libc::S_IFLNK);
        let facts = |uid, mode, links| Facts { uid, mode, links };
        for (facts, own_uid, accepted) in [
            (facts(0, file | 0o640, 1), 0, true),
            (facts(0, file | 0o640, 1), 1000, true),
            (facts(1000, file | 0o640, 1), 1000, true),
            (facts(1000, file | 0o640, 1), 0, false),
            (facts(0, file | 0o640, 2), 0, false),
            (facts(0, libc::S_IFCHR | 0o640, 1), 0, false),
            (facts(0, folder | 0o755, 1), 0, false),
        ] {
            assert_eq!(check_file(&facts, own_uid).is_ok(), accepted, "{:?}", check_file(&facts, own_uid));
        }
        for (facts, own_uid, accepted) in [
            (facts(0, folder | 0o755, 3), 0, true),
            (facts(0, folder | 0o775, 3), 0, true),
            (facts(0, folder | 0o1777, 3), 0, true),
            (facts(0, folder | 0o777, 3), 0, false),
            (facts(1000, folder | 0o755, 3), 0, false),
            (facts(1000, folder | 0o755, 3), 1000, true),
            (facts(0, link | 0o777, 1), 0, true),
            (facts(1000, link | 0o777, 1), 0, false),
        ] {
            assert_eq!(
                check_folder(&facts, own_uid).is_ok(),
                accepted,
                "{:?}",
                check_folder(&facts, own_uid)
            );
        }
    }

    #[test]
    fn rotation_and_removal_start_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
        let mut log = LogFile::new(path.clone(), Rotation::default());
        log.append("one\n").unwrap();
        fs::rename(&path, &old).unwrap();
        log.append("two\n").unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "one\n", "no signal was needed");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        // logrotate's `create`: another file is there already.
        fs::rename(&path, &old).unwrap();
        fs::write(&path, "").unwrap();
        log.append("three\n").unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "two\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        fs::remove_file(&path).unwrap();
        log.append("four\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
    }

    #[test]
    fn a_vanished_folder_is_reported_and_outlived() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let mut outlet = HealthySink::new(LogFile::new(logs.join("log"), Rotation::default()));
        let now = Instant::now();
        assert_eq!(offer(&mut outlet, "one\n", now), WriteOutcome::Taken);
        fs::remove_dir_all(&logs).unwrap();
        let offered = offer(&mut outlet, "two\n", now);
        assert!(broke(&offered).contains("logs/log: No such file"), "{offered:?}");
        assert_eq!(offer(&mut outlet, "three\n", now), WriteOutcome::Lost);
        fs::create_dir(&logs).unwrap();
        let recovered = Event::SinkTrouble { sink: Sink::File, error: None, lost: 2 };
        assert_eq!(
            offer(&mut outlet, "four\n", now + Duration::from_secs(1)),
            WriteOutcome::Recovered(recovered)
        );
        assert_eq!(fs::read_to_string(logs.join("log")).unwrap(), "four\n");
    }

    #[test]
    fn a_full_disk_is_reported_and_outlived() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let full = Arc::new(AtomicBool::new(true));
        let is_full = Arc::clone(&full);
        let log = LogFile::with_open(path.clone(), move |path| {
            // Every write to /dev/full fails with ENOSPC.
            if is_full.load(Ordering::Relaxed) {
                OpenOptions::new().write(true).open("/dev/full")
            } else {
                open_safely(path)
            }
        });
        let mut outlet = HealthySink::new(log);
        let now = Instant::now();
        let offered = offer(&mut outlet, "one\n", now);
        assert!(broke(&offered).contains("No space left on device"), "{offered:?}");
        assert_eq!(offer(&mut outlet, "two\n", now + Duration::from_secs(1)), WriteOutcome::Lost);
        full.store(false, Ordering::Relaxed);
        let recovered = Event::SinkTrouble { sink: Sink::File, error: None, lost: 2 };
        assert_eq!(
            offer(&mut outlet, "three\n", now + Duration::from_secs(3)),
            WriteOutcome::Recovered(recovered)
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn half_a_line_is_ended_before_the_next() {
        // A pipe takes a part of what is larger than its room, as a disk does that is nearly full.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let open = |options: &mut OpenOptions, path: &Path| options.custom_flags(libc::O_NONBLOCK).open(path);
        let mut reader = open(OpenOptions::new().read(true), &path).unwrap();
        let mut log = LogFile::with_open(path, move |path| open(OpenOptions::new().write(true), path));
        let long = "x".repeat(1 << 20);
        let error = log.append(&long).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut taken = vec![0; 1 << 20];
        let half = reader.read(&mut taken).unwrap();
        assert!(half > 0 && half < long.len());
        log.append("next\n").unwrap();
        drop(log);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.trim_start_matches('x'), "\nnext\n");
    }
}

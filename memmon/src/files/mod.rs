//! Files that an administrator names and memmon, which is root, opens: read without waiting, regular files only, and no
//! more than they may be long. A FIFO, a device or a file without an end holds up no start and no reload.

mod state;
mod trust;

use std::{
    fs::{self, File, FileType, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::sys::statfs::{
    BPF_FS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, DEVPTS_SUPER_MAGIC, FsType,
    PROC_SUPER_MAGIC, SECURITYFS_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, statfs,
};

pub use state::{keep, own_folder, remove, replace, usable_folder};
pub use trust::{others_decide, roots_alone, roots_alone_folder, roots_alone_for_socket, roots_alone_state};

/// The content of the file `path`, and its metadata, both of the same open file.
///
/// # Errors
/// It is not a regular file, it has more than `most` bytes, or those of the system.
pub fn read(path: &Path, most: usize) -> io::Result<(Vec<u8>, Metadata)> {
    // Before it is opened: some devices act on that alone.
    regular(fs::metadata(path)?.file_type())?;
    let file = open(path)?;
    let metadata = file.metadata()?;
    regular(metadata.file_type())?;
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        let why = format!("it has more than {}KB, the most that memmon reads of it", most >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok((bytes, metadata))
}

/// The state in the file `name` in `folder`; `None` if it does not exist.
///
/// # Errors
/// Others than root may write to it, it has more than `most` bytes, it has something else in it, or a system error.
pub fn kept<T: serde::de::DeserializeOwned>(
    folder: &Path,
    name: &str,
    most: usize,
) -> Result<Option<T>, String> {
    let path = folder.join(name);
    match fs::symlink_metadata(&path) {
        // Nothing was ever kept in what is no folder: it is reported once, by `usable_folder`.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        _ => {}
    }
    roots_alone_state(folder)?;
    let trusted = roots_alone(&path)?;
    let state = read(&trusted, most).and_then(|(bytes, _)| Ok(serde_json::from_slice(&bytes)?));
    state.map(Some).map_err(|error| format!("{}: {error}", path.display()))
}

/// Never waits for the other end of a FIFO, which may have taken the place of the file meanwhile.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

fn regular(kind: FileType) -> io::Result<()> {
    let what = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a FIFO",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::other(format!("it is {what}, not a regular file")))
}

/// Whether `folder` is on a file system that has files of users. Those of the kernel's have none, and what is written to one
/// of theirs may change the machine.
///
/// # Errors
/// The folder, and which file system that is.
pub fn takes_files(folder: &Path) -> Result<(), String> {
    const KERNELS: [(FsType, &str); 9] = [
        (PROC_SUPER_MAGIC, "proc"),
        (SYSFS_MAGIC, "sysfs"),
        (CGROUP_SUPER_MAGIC, "cgroup"),
        (CGROUP2_SUPER_MAGIC, "cgroup2"),
        (BPF_FS_MAGIC, "bpf"),
        (DEBUGFS_MAGIC, "debugfs"),
        (TRACEFS_MAGIC, "tracefs"),
        (SECURITYFS_MAGIC, "securityfs"),
        (DEVPTS_SUPER_MAGIC, "devpts"),
    ];
    // A folder that cannot be looked at is for those that open it.
    let Ok(kind) = statfs(folder).map(|facts| facts.filesystem_type()) else { return Ok(()) };
    match KERNELS.iter().find(|(magic, _)| *magic == kind) {
        Some((_, name)) => {
            Err(format!("the file system of {} is the kernel's own ({name})", folder.display()))
        }
        None => Ok(()),
    }
}

/// Whether only its owner may read or write the file with this `metadata`.
pub fn is_secret(metadata: &Metadata) -> bool {
    metadata.mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    fn refusal(path: &Path) -> String {
        read(path, 1024).expect_err("must be refused").to_string()
    }

    #[test]
    fn only_regular_files_are_read_and_no_other_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        mkfifo(&place("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(place("socket")).unwrap();
        symlink("/dev/zero", place("zero")).unwrap();
        symlink("loop", place("loop")).unwrap();
        for (path, refused) in [
            (place("fifo"), "it is a FIFO, not a regular file"),
            (place("socket"), "it is a socket, not a regular file"),
            (place("zero"), "it is a device, not a regular file"),
            (folder.path().to_owned(), "it is a directory, not a regular file"),
            (place("loop"), "Too many levels of symbolic links (os error 40)"),
            (place("missing"), "No such file or directory (os error 2)"),
        ] {
            assert_eq!(refusal(&path), refused, "{}", path.display());
        }
        // One that takes the place of the file between the two looks.
        assert!(open(&place("fifo")).is_ok());
        fs::write(place("file"), "text").unwrap();
        symlink("file", place("link")).unwrap();
        assert_eq!(read(&place("link"), 4).unwrap().0, b"text");
    }

    #[test]
    fn in_a_file_in_place_of_the_folder_nothing_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memmon");
        fs::write(&file, "").unwrap();
        assert_eq!(kept::<u32>(&file, "state.json", 1024), Ok(None));
        assert!(usable_folder(&file).is_err() && keep(&file, "state.json", &7).is_err());
    }

    #[test]
    fn a_file_may_be_so_long_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, vec![b'#'; 1024]).unwrap();
        assert_eq!(read(&path, 1024).unwrap().0.len(), 1024);
        fs::write(&path, vec![b'#'; 1025]).unwrap();
        assert_eq!(refusal(&path), "it has more than 1KB, the most that memmon reads of it");
        // Sparse: a terabyte is not read to its end.
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(refusal(&path).contains("more than 1KB"));
    }
}

//! Files in which memmon keeps its own state as JSON: each is replaced as a whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::trust::roots_alone_state;

/// Replaces the file `name` in `folder`, which is created if it does not exist.
///
/// # Errors
/// Others than root may write to the folder, or a system error.
pub fn keep(folder: &Path, name: &str, state: &impl Serialize) -> Result<(), String> {
    let folder = own_folder(folder)?;
    let path = folder.join(name);
    let bytes = serde_json::to_vec(state).map_err(io::Error::from);
    let written = bytes.and_then(|bytes| replace(&path, &bytes, 0o600, true));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

/// The folder `path`, without any link on the way to it. It is created if it does not exist.
///
/// # Errors
/// Others than root may write to it, or a system error.
pub fn own_folder(path: &Path) -> Result<PathBuf, String> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(format!("{}: {error}", path.display()))
        }
        _ => roots_alone_state(path),
    }
}

/// Whether [`own_folder`] would work, and files could be written there. Changes nothing.
///
/// # Errors
/// The reason why not.
pub fn usable_folder(path: &Path) -> Result<(), String> {
    let is_missing = fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let folder = match path.parent().filter(|_| is_missing) {
        Some(parent) => parent.to_owned(),
        None => roots_alone_state(path)?,
    };
    access(&folder, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|error| format!("{}: {}", folder.display(), io::Error::from(error)))
}

/// Replaces the file `path` as a whole: a new one with this `mode`, whatever the umask, is written beside its place and
/// renamed. A link in its place is replaced, and not followed. `sync`: it is on the disk when this returns.
///
/// # Errors
/// Those of the system.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, sync: bool) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let draft = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    remove(&draft)?;
    let written = (|| {
        // A new file, and no link that another user of the folder has put there.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&draft, path)?;
        match path.parent() {
            Some(folder) if sync => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    })();
    if written.is_err() {
        // It may not have come to be.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Removes the file `path`. Whether it existed.
///
/// # Errors
/// Those of the system.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_link_in_its_place_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::write(place("precious"), "precious").unwrap();
        for (name, is_there) in [("new", false), ("file", true), ("link", true)] {
            match name {
                "file" => fs::write(place(name), "old").unwrap(),
                "link" => symlink("precious", place(name)).unwrap(),
                _ => {}
            }
            // Left behind by a memmon that ended, or put there by another user.
            symlink("precious", place(&format!(".{name}.new"))).unwrap();
            assert_eq!(place(name).exists(), is_there);
            replace(&place(name), b"text", 0o646, is_there).unwrap();
            let facts = fs::symlink_metadata(place(name)).unwrap();
            assert!(facts.is_file() && facts.mode() & 0o777 == 0o646, "{name}");
            assert_eq!(fs::read(place(name)).unwrap(), b"text");
        }
        assert_eq!(fs::read(place("precious")).unwrap(), b"precious");
        // A folder cannot be replaced by a file: nothing stays behind.
        fs::create_dir(place("folder")).unwrap();
        replace(&place("folder"), b"text", 0o600, false).unwrap_err();
        assert_eq!(folder.path().read_dir().unwrap().count(), 5);
        assert!(remove(&place("file")).unwrap() && !remove(&place("file")).unwrap());
    }
}

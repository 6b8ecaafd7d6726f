//! Files in which memmon keeps its own state: each is replaced as a whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::trust::roots_alone_folder;

/// Replaces the file `name` in `folder`, which is created if it does not exist.
///
/// # Errors
/// Others than root may write to the folder, or a system error.
pub fn keep(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    let created = DirBuilder::new().mode(0o700).create(folder);
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(format!("{}: {error}", folder.display()));
        }
        _ => {}
    }
    let folder = roots_alone_folder(folder)?;
    let (path, draft) = (folder.join(name), folder.join(format!(".{name}.new")));
    let written = || {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(&folder)?.sync_all()
    };
    written().map_err(|error: io::Error| {
        // It may not have come to be.
        let _ = fs::remove_file(&draft);
        format!("{}: {error}", path.display())
    })
}

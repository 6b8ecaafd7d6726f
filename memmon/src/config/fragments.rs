//! `conf.d`: the folder beside the configuration file, with files that packages and configuration management add.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::{
    Concern, ConfigError,
    read::{self, Read, world_writable},
};
use crate::files;

/// The most files, of any kind, that the folder may have.
const MOST_FILES: usize = 1024;

/// The longest that all fragments together may be, in bytes.
const LONGEST_TOGETHER: usize = 1 << 20;

/// The folder that belongs to the configuration file `config`.
pub(super) fn folder(config: &Path) -> PathBuf {
    config.with_file_name("conf.d")
}

/// The fragments of the configuration file `config`, in the order of their names, and concerns about them.
///
/// The folder and each fragment belong to root, to the user who runs memmon, or to one of `owners`: beside a configuration
/// in /tmp, another user could create the folder.
///
/// # Errors
/// One of them cannot be read, or belongs to another user.
pub(super) fn read(config: &Path, owners: &[u32]) -> Result<(Vec<Read>, Vec<Concern>), ConfigError> {
    let folder = folder(config);
    let unreadable = |file: &Path| {
        let file = file.to_owned();
        move |error| ConfigError::Unreadable { file, error }
    };
    match fs::symlink_metadata(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        // The name is that of other software's configuration there.
        Ok(facts) if !facts.is_dir() && folder == Path::new("/etc/conf.d") => {
            return Ok((Vec::new(), Vec::new()));
        }
        // Fragments may have been there, and what they protect must not be forgotten.
        Ok(_) | Err(_) => {}
    }
    let listed = fs::read_dir(&folder).map_err(unreadable(&folder))?;
    let facts = trusted(&folder, owners).map_err(unreadable(&folder))?;
    let mut concerns: Vec<_> = world_writable(&folder, &facts).into_iter().collect();
    let mut paths = Vec::new();
    for entry in listed {
        let path = entry.map_err(unreadable(&folder))?.path();
        if paths.len() == MOST_FILES {
            let error = io::Error::other(format!("it has more than {MOST_FILES} files"));
            return Err(unreadable(&folder)(error));
        }
        paths.push(path);
    }
    paths.sort();
    let (mut fragments, mut left) = (Vec::new(), LONGEST_TOGETHER);
    for path in paths {
        match kind(&path) {
            Kind::Fragment if !path.is_dir() => {}
            Kind::Other if path.is_file() && folder != Path::new("/etc/conf.d") => {
                concerns.push(Concern::NotRead { file: path });
                continue;
            }
            Kind::Fragment | Kind::Other | Kind::Ignored => continue,
        }
        trusted(&path, owners).map_err(unreadable(&path))?;
        let (bytes, facts) = files::read(&path, read::LONGEST).map_err(unreadable(&path))?;
        left = left.checked_sub(bytes.len()).ok_or_else(|| {
            let why =
                format!("the files in this folder have more than {}KB together", LONGEST_TOGETHER >> 10);
            unreadable(&folder)(io::Error::new(io::ErrorKind::FileTooLarge, why))
        })?;
        concerns.extend(world_writable(&path, &facts));
        fragments.push(Read::new(path, bytes));
    }
    Ok((fragments, concerns))
}

/// The kind of a file in the folder, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fragment,
    /// Hidden, a backup, what a package manager puts beside a file that was edited, or a text for people.
    Ignored,
    /// It may have been meant to be a fragment.
    Other,
}

fn kind(path: &Path) -> Kind {
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    if name.starts_with(b".") || name.ends_with(b"~") {
        Kind::Ignored
    } else if name.ends_with(b".toml") {
        Kind::Fragment
    } else if has(b".toml.") || name.starts_with(b"README") {
        Kind::Ignored
    } else {
        Kind::Other
    }
}

/// The facts of `path`, if it and, where it is a link, the file that it leads to are those of a trusted owner.
fn trusted(path: &Path, owners: &[u32]) -> io::Result<Metadata> {
    let own = nix::unistd::geteuid().as_raw();
    let judge = |facts: Metadata| {
        let owner = facts.uid();
        if owner == 0 || owner == own || owners.contains(&owner) {
            return Ok(facts);
        }
        let why = format!(
            "it belongs to uid {owner}, and not to root or to the owner of the configuration file: read what it says, and \
             remove it or give it to root (chown root)"
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
    };
    judge(fs::symlink_metadata(path)?)?;
    judge(fs::metadata(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_end_in_toml_are_fragments() {
        for (name, expected) in [
            ("10-web.toml", Kind::Fragment),
            ("a.b.toml", Kind::Fragment),
            (".web.toml", Kind::Ignored),
            (".web.toml.swp", Kind::Ignored),
            ("web.toml~", Kind::Ignored),
            ("web.toml.dpkg-dist", Kind::Ignored),
            ("web.toml.rpmnew", Kind::Ignored),
            ("web.toml.off", Kind::Ignored),
            ("README", Kind::Ignored),
            ("web.conf", Kind::Other),
            ("web.TOML", Kind::Other),
            ("toml", Kind::Other),
        ] {
            assert_eq!(kind(&Path::new("/etc/memmon/conf.d").join(name)), expected, "{name}");
        }
    }

    #[test]
    fn the_folder_lies_beside_the_file() {
        assert_eq!(folder(Path::new("/etc/memmon/config.toml")), Path::new("/etc/memmon/conf.d"));
        assert_eq!(folder(Path::new("memmon.toml")), Path::new("conf.d"));
    }

    /// Fragments that were there may have protected processes.
    #[test]
    fn a_folder_that_is_none_is_an_error_and_a_missing_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (config, folder) = (directory.path().join("config.toml"), directory.path().join("conf.d"));
        let refused = || read(&config, &[]).unwrap_err().to_string();
        assert_eq!(read(&config, &[]).unwrap().0.len(), 0);
        std::os::unix::fs::symlink("/nonexistent/conf.d", &folder).unwrap();
        assert!(refused().contains("No such file or directory"), "{}", refused());
        fs::remove_file(&folder).unwrap();
        nix::unistd::mkfifo(&folder, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refused().contains("Not a directory"), "{}", refused());
        fs::remove_file(&folder).unwrap();
        fs::write(&folder, "").unwrap();
        assert!(refused().contains("Not a directory"), "{}", refused());
    }

    /// /tmp is everybody's: a folder that another user created there is not taken for the administrator's.
    #[test]
    fn a_fragment_of_another_user_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (config, folder) = (directory.path().join("config.toml"), directory.path().join("conf.d"));
        let fragment = folder.join("a.toml");
        fs::create_dir(&folder).unwrap();
        fs::write(&fragment, "settings.dry_run = true").unwrap();
        assert_eq!(read(&config, &[]).unwrap().0.len(), 1);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED a_fragment_of_another_user_is_refused: needs root to give a file away");
            return;
        }
        for path in [&fragment, &folder] {
            std::os::unix::fs::chown(path, Some(47_001), None).unwrap();
            let error = read(&config, &[]).unwrap_err().to_string();
            assert!(
                error.contains(&format!("cannot read {}: it belongs to uid 47001", path.display())),
                "{error}"
            );
            assert_eq!(read(&config, &[47_001]).unwrap().0.len(), 1, "the owner of the configuration file");
            std::os::unix::fs::chown(path, Some(0), None).unwrap();
        }
        std::os::unix::fs::symlink("/dev/null", folder.join("b.toml")).unwrap();
        let error = read(&config, &[]).unwrap_err().to_string();
        assert!(error.contains("it is a device, not a regular file"), "{error}");
    }
}

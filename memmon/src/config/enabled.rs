//! Consent to enforce: the file `enabled` beside the configuration. `memmon enable` creates it and `memmon disable`
//! removes it. No package contains it, so an installation starts in dry run and an upgrade keeps what was chosen.

use std::{
    fs, io,
    path::{Path, PathBuf, absolute},
};

use crate::files;

/// Whether an administrator has agreed that memmon enforces a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// `memmon enable` was run.
    Given,
    /// It was not, or it was taken back.
    Missing,
    /// There is a file, but others than root decide about it; with the reason.
    Untrusted(String),
}

/// The file whose presence is the consent to enforce the configuration file `config`.
pub fn consent_file(config: &Path) -> PathBuf {
    config.with_file_name("enabled")
}

/// Whether there is consent to enforce the configuration file `config`.
pub fn consent(config: &Path) -> Consent {
    let file = consent_file(config);
    let trusted =
        absolute(&file).map_err(|error| error.to_string()).and_then(|file| files::roots_alone(&file));
    match trusted {
        Ok(_) => Consent::Given,
        Err(_) if fs::symlink_metadata(&file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => {
            Consent::Missing
        }
        Err(reason) => Consent::Untrusted(reason),
    }
}

/// Gives consent; `when` and `user` are for people who read the file.
///
/// # Errors
/// Users other than root may write to its folder, or the file cannot be written.
pub fn give_consent(config: &Path, when: &str, user: &str) -> io::Result<()> {
    let file = absolute(consent_file(config))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    files::roots_alone_folder(folder).map_err(io::Error::other)?;
    let text = format!(
        "# `memmon enable`, {when}, {user}: memmon may terminate processes. `memmon disable` removes this file.\n"
    );
    // `memmon check` of another user reads it, too.
    files::replace(&file, text.as_bytes(), 0o644, true)
}

/// Takes consent back. Whether there was any.
///
/// # Errors
/// The file cannot be removed.
pub fn withdraw_consent(config: &Path) -> io::Result<bool> {
    files::remove(&consent_file(config))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_file_lies_beside_the_configuration() {
        assert_eq!(consent_file(Path::new("/etc/memmon/config.toml")), Path::new("/etc/memmon/enabled"));
        assert_eq!(consent_file(Path::new("/srv/a/memmon.toml")), Path::new("/srv/a/enabled"));
        assert_eq!(consent_file(Path::new("memmon.toml")), Path::new("enabled"));
    }

    /// A temporary folder is below one that everybody may write to: nothing in it is root's alone, for root either.
    #[test]
    fn where_others_may_write_consent_is_neither_given_nor_taken_for_given() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        assert_eq!(consent(&config), Consent::Missing);
        let refused = give_consent(&config, "now", "root").unwrap_err().to_string();
        assert!(refused.contains("folder"), "{refused}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);

        fs::write(folder.path().join("enabled"), "").unwrap();
        let Consent::Untrusted(reason) = consent(&config) else { panic!("it is trusted") };
        assert!(reason.contains("folder"), "{reason}");
        assert!(withdraw_consent(&config).unwrap() && !withdraw_consent(&config).unwrap());
        // A link that leads nowhere, or to something that is root's, in a folder that is not.
        for target in ["nowhere", "/etc/passwd"] {
            symlink(target, folder.path().join("enabled")).unwrap();
            assert!(matches!(consent(&config), Consent::Untrusted(_)), "{target}");
            assert!(withdraw_consent(&config).unwrap());
        }
        assert_eq!(consent(&config), Consent::Missing);
    }
}

//! The configuration file itself: the edge to the file system.

use std::{io, os::unix::fs::MetadataExt, path::Path};

use super::{
    Concern, ConfigError, Loaded, Users, Warning, error::Problems, parse, whitelist::is_package_manager,
};
use crate::files;

/// Where the configuration is looked for if no other path is given.
pub const DEFAULT_PATH: &str = "/etc/memmon/config.toml";

/// The longest that a configuration may be, in bytes.
const LONGEST: usize = 1 << 18;

/// Reads the configuration file `path`, which must be there; without a path [`DEFAULT_PATH`], or the built-in defaults
/// if that does not exist ([`Loaded::origin`] says which).
///
/// # Errors
/// [`ConfigError`], if the file cannot be read, or anything in it cannot be meant.
pub fn load(path: Option<&Path>, users: &dyn Users) -> Result<Loaded, ConfigError> {
    load_or(path, Path::new(DEFAULT_PATH), users)
}

fn load_or(path: Option<&Path>, default: &Path, users: &dyn Users) -> Result<Loaded, ConfigError> {
    match load_file(path.unwrap_or(default), users) {
        // Only its absence means that there is none: a file that is not to be read may say anything.
        Err(ConfigError::Unreadable { error, .. })
            if path.is_none() && error.kind() == io::ErrorKind::NotFound =>
        {
            Ok(Loaded { origin: None, ..parse("", default, users)? })
        }
        result => result,
    }
}

fn load_file(path: &Path, users: &dyn Users) -> Result<Loaded, ConfigError> {
    let (bytes, metadata) = files::read(path, LONGEST)
        .map_err(|error| ConfigError::Unreadable { file: path.to_owned(), error })?;
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
    let mut loaded = parse(&text, path, users)?;
    let concerns = [
        (metadata.mode() & 0o002 != 0).then(|| Concern::WorldWritable { file: path.to_owned() }),
        missing_log_directory(&loaded),
    ];
    loaded.warnings.retain_mut(|warning| match &mut warning.concern {
        Concern::NamesFellAway { names } => {
            names.retain(|name| !is_package_manager(name) || is_installed(name));
            !names.is_empty()
        }
        _ => true,
    });
    loaded.warnings.extend(concerns.into_iter().flatten().map(|concern| Warning { line: None, concern }));
    Ok(loaded)
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> ConfigError {
    // Up to the first wrong byte, this is the text.
    let text = String::from_utf8_lossy(error.as_bytes());
    let start = error.utf8_error().valid_up_to();
    let mut problems = Problems::new(&text);
    let byte = error.as_bytes().get(start).copied().unwrap_or_default();
    problems.add(
        start..start + char::REPLACEMENT_CHARACTER.len_utf8(),
        format!("byte 0x{byte:02x} is not UTF-8"),
        "save the file as UTF-8",
    );
    problems.into_error(path)
}

/// Whether this machine has the program `name` where package managers are.
fn is_installed(name: &str) -> bool {
    // A comm of 15 bytes stands for the longer name that it was cut from.
    let names =
        if name == "unattended-upgr" { ["unattended-upgrade", "unattended-upgrades"] } else { [name, name] };
    let folders =
        ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/lib/snapd", "/usr/libexec", "/usr/lib/packagekit"];
    folders.iter().any(|folder| names.iter().any(|name| Path::new(folder).join(name).exists()))
}

fn missing_log_directory(loaded: &Loaded) -> Option<Concern> {
    let directory = loaded.settings.log.file.as_deref()?.parent()?;
    (!directory.is_dir()).then(|| Concern::NoLogDirectory { directory: directory.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::config::FakeUsers;

    const NOBODY: FakeUsers = FakeUsers(&[]);

    #[test]
    fn without_a_file_the_defaults_hold_and_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        let loaded = load_or(None, &file, &NOBODY).unwrap();
        assert_eq!((loaded.origin, loaded.warnings), (None, vec![]));

        fs::write(&file, "settings.dry_run = true").unwrap();
        let loaded = load_or(None, &file, &NOBODY).unwrap();
        assert_eq!(loaded.origin.as_deref(), Some(&*file));
        assert!(loaded.settings.dry_run);
    }

    #[test]
    fn a_file_that_is_asked_for_must_be_there_and_one_that_is_there_must_be_readable() {
        let directory = tempfile::tempdir().unwrap();
        let (missing, default) = (directory.path().join("a\nb"), directory.path().join("c"));
        let error = load_or(Some(&missing), &default, &NOBODY).unwrap_err().to_string();
        assert!(error.contains(r"a\nb: No such file or directory"), "{error}");
        let error = load_or(None, directory.path(), &NOBODY).unwrap_err().to_string();
        assert!(error.contains("is a directory"), "{error}");
        fs::write(&default, vec![b'#'; (1 << 18) + 1]).unwrap();
        let error = load_or(None, &default, &NOBODY).unwrap_err().to_string();
        assert!(error.contains("more than 256KB"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_text_are_told_with_their_place() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        fs::write(&file, b"[log]\nlevel = \"inf\xff\"").unwrap();
        let error = load(Some(&file), &NOBODY).unwrap_err().to_string();
        insta::assert_snapshot!(error.replace(&*directory.path().to_string_lossy(), "/etc/memmon"), @r#"
        error: byte 0xff is not UTF-8
         --> /etc/memmon/config.toml:2:13
          |
        2 | level = "inf�"
          |             ^ save the file as UTF-8
        "#);
    }

    #[test]
    fn a_file_that_anyone_may_write_and_a_log_that_nobody_can_are_warned_of() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        fs::write(&file, "settings.log_file = '/nonexistent/memmon.log'").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let warnings = load(Some(&file), &NOBODY).unwrap().warnings;
        let warnings: String = warnings.iter().map(|warning| format!("{warning}\n")).collect();
        insta::assert_snapshot!(warnings.replace(&*directory.path().to_string_lossy(), "/etc/memmon"), @"
        anyone may write to /etc/memmon/config.toml, and so decide what is terminated: chmod o-w it
        there is no directory /nonexistent: no log file can be created in it
        ");

        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&file, format!("settings.log_file = '{}/memmon.log'", directory.path().display())).unwrap();
        assert_eq!(load(Some(&file), &NOBODY).unwrap().warnings, []);
    }
}

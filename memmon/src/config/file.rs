//! The configuration file itself: the edge to the file system.

use std::{io, os::unix::fs::MetadataExt as _, path::Path};

use super::{
    Concern, ConfigError, Loaded, Users, Warning, fragments, parse_files,
    read::{LONGEST, Read, of_others},
    whitelist::is_package_manager,
};
use crate::files;

/// Path of the configuration if no other path is given.
pub const DEFAULT_PATH: &str = "/etc/memmon/config.toml";

/// Reads the configuration file `path`, which must be there, and the fragments in `conf.d` beside it; without a path
/// [`DEFAULT_PATH`], or the built-in defaults if that does not exist ([`Loaded::origin`] says which).
///
/// # Errors
/// [`ConfigError`], if a file cannot be read, or anything in it cannot be meant.
pub fn load(path: Option<&Path>, users: &dyn Users) -> Result<Loaded, ConfigError> {
    load_or(path, Path::new(DEFAULT_PATH), users)
}

fn load_or(path: Option<&Path>, default: &Path, users: &dyn Users) -> Result<Loaded, ConfigError> {
    let file = path.unwrap_or(default);
    let (main, owners, concern) = match files::read(file, LONGEST) {
        Ok((bytes, facts)) => {
            (Some(Read::new(file.to_owned(), bytes)), vec![facts.uid()], of_others(file, &facts))
        }
        // Only its absence means that there is no configuration: a file that cannot be read may contain anything.
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => (None, vec![], None),
        Err(error) => return Err(ConfigError::Unreadable { file: file.to_owned(), error }),
    };
    let origin = main.as_ref().map(|main| main.file.clone());
    let (fragments, concerns) = fragments::read(file, &owners)?;
    let files: Vec<_> = [main.unwrap_or_else(|| Read::new(file.to_owned(), Vec::new()))]
        .into_iter()
        .chain(fragments)
        .collect();
    let names = |file: &Path| {
        let (bytes, facts) = files::read(file, LONGEST)?;
        Ok((bytes, of_others(file, &facts)))
    };
    let mut loaded = Loaded { origin, ..parse_files(&files, users, &names)? };
    let concerns = concern.into_iter().chain(concerns).chain(missing_log_directory(&loaded));
    loaded.warnings.retain_mut(|warning| match &mut warning.concern {
        Concern::NamesFellAway { names } => {
            names.retain(|name| !is_package_manager(name) || is_installed(name));
            !names.is_empty()
        }
        _ => true,
    });
    loaded.warnings.extend(concerns.map(Warning::general));
    Ok(loaded)
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
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use super::*;
    use crate::config::FakeUsers;

    const NOBODY: FakeUsers = FakeUsers(&[]);

    #[test]
    fn without_a_file_the_defaults_hold_and_it_is_reported() {
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
    fn bytes_that_are_no_text_are_reported_with_their_place() {
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

    /// A folder with a configuration: its main file, and the files in `conf.d`.
    fn folder(main: &str, fragments: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        fs::write(&file, main).unwrap();
        fs::create_dir(directory.path().join("conf.d")).unwrap();
        for (name, text) in fragments {
            fs::write(directory.path().join("conf.d").join(name), text).unwrap();
        }
        (directory, file)
    }

    fn refused(main: &str, fragments: &[(&str, &str)]) -> String {
        let (directory, file) = folder(main, fragments);
        let error = load(Some(&file), &NOBODY).unwrap_err().to_string();
        error.replace(&*directory.path().to_string_lossy(), "/etc/memmon")
    }

    #[test]
    fn lists_of_sections_follow_each_other_in_the_order_of_the_files_names() {
        let rule = |name: &str| format!("[[rule]]\nname = '{name}'\nnames = ['{name}']\nnone = true\n");
        let window = |from: &str| {
            format!("[[schedule]]\nfrom = '{from}:00'\nto = '{from}:30'\nram_gb_threshold = 1\n")
        };
        let (_directory, file) = folder(
            &(rule("main") + &window("01")),
            &[
                ("20-b.toml", &(rule("third") + "[termination]\ngrace = 7")),
                ("10-a.toml", &(rule("first") + &rule("second") + &window("02") + "[log]\nlevel = 'error'")),
                ("10-a.toml~", "this is not read"),
                (".hidden.toml", "this is not read"),
                ("10-a.toml.dpkg-dist", "this is not read"),
            ],
        );
        fs::create_dir(file.with_file_name("conf.d").join("15-folder.toml")).unwrap();
        let loaded = load(Some(&file), &NOBODY).unwrap();
        let names: Vec<_> = loaded.settings.rules.rules.iter().map(|rule| rule.name.to_string()).collect();
        assert_eq!(names, ["main", "first", "second", "third"]);
        assert_eq!(loaded.settings.termination.grace.as_secs(), 7);
        assert_eq!(loaded.settings.log.level, crate::config::LogLevel::Error);
        let shown: Vec<_> =
            loaded.fragments.iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(shown, ["10-a.toml", "20-b.toml"]);
        assert_eq!(loaded.origin.as_deref(), Some(&*file));
        assert_eq!(loaded.warnings, []);
        let schedule = serde_json::to_string(&loaded.settings.schedule).unwrap();
        assert!(
            schedule.find("01:00").is_some_and(|first| Some(first) < schedule.find("02:00")),
            "{schedule}"
        );
    }

    #[test]
    fn a_section_may_be_spread_over_files_but_a_key_stands_in_one() {
        let (_directory, file) = folder(
            "[termination]\ngrace = 7",
            &[("a.toml", "[termination]\nrepeat_limit = 3"), ("b.toml", "[scope]\nuids = ['47001']")],
        );
        let settings = load(Some(&file), &NOBODY).unwrap().settings;
        assert_eq!((settings.termination.grace.as_secs(), settings.termination.repeat_limit), (7, 3));
        assert!(settings.rules.scope.uids.is_some());

        insta::assert_snapshot!(refused("[termination]\ngrace = 7\n", &[
            ("a.toml", "# a\n\ntermination.grace = 8"),
            ("b.toml", "[whitelist]\nnames = ['sshd']"),
            ("c.toml", "[whitelist]\nnames = ['systemd']\n[scope]\nusers = ['0']"),
            ("d.toml", "[scope]\nuids = ['0-1000']"),
        ]), @"
        error: `grace` in [termination] is set in two files
         --> /etc/memmon/conf.d/a.toml:3:13
          |
        3 | termination.grace = 8
          |             ^^^^^ /etc/memmon/config.toml has it in line 2: remove one of the two

        error: `names` in [whitelist] is set in two files
         --> /etc/memmon/conf.d/c.toml:2:1
          |
        2 | names = ['systemd']
          | ^^^^^ /etc/memmon/conf.d/b.toml has it in line 2: remove one of the two

        error: [scope] stands in two files
         --> /etc/memmon/conf.d/d.toml:1:2
          |
        1 | [scope]
          |  ^^^^^ /etc/memmon/conf.d/c.toml has it in line 3, and one file decides which processes memmon may touch
        ");
    }

    #[test]
    fn every_error_of_every_file_is_shown_at_once_with_its_place() {
        insta::assert_snapshot!(refused("[log]\nlevle = 'info'", &[
            ("a.toml", "[[rule]]\nname = 'a'\nnames = ["),
            ("b.toml", "\n\n[[rule]]\nname = 'b'\nnames = ['b']\ngb = -1\nnot = { nmaes = ['c'] }"),
            ("c.toml", "rule = 3\n[nonsense]\nx = 1"),
            ("d.toml", "[[rule]]\nname = 'b'\nnames = ['b']\nnone = true\n[[rule]]\nname = 'b'\nnames = ['d']\nnone = true"),
        ]), @"
        error: unknown key `levle` in [log]
         --> /etc/memmon/config.toml:2:1
          |
        2 | levle = 'info'
          | ^^^^^ did you mean `level`?

        error: not valid TOML: unclosed array
         --> /etc/memmon/conf.d/a.toml:3:10
          |
        3 | names = [
          |          ^ expected `]`

        error: `gb` cannot be -1
         --> /etc/memmon/conf.d/b.toml:6:6
          |
        6 | gb = -1
          |      ^^ expected gigabytes of 2^30 bytes, from 0.001 to 1000000000

        error: unknown key `nmaes` in `not`
         --> /etc/memmon/conf.d/b.toml:7:9
          |
        7 | not = { nmaes = ['c'] }
          |         ^^^^^ did you mean `names`?

        error: `rule` is a section
         --> /etc/memmon/conf.d/c.toml:1:1
          |
        1 | rule = 3
          | ^^^^ write [[rule]] on a line of its own, as often as needed, and its keys below

        error: unknown section [nonsense]
         --> /etc/memmon/conf.d/c.toml:2:2
          |
        2 | [nonsense]
          |  ^^^^^^^^ expected one of: [thresholds], [whitelist], [settings], [scope], [machine], [kernel], [termination], [log], [status], [history], [metrics], [notify], [[schedule]], [[rule]]

        error: there is a rule `b` already
         --> /etc/memmon/conf.d/d.toml:2:8
          |
        2 | name = 'b'
          |        ^^^ /etc/memmon/conf.d/b.toml has it in line 4; each rule has a name of its own, by which logs and metrics show it

        error: there is a rule `b` already
         --> /etc/memmon/conf.d/d.toml:6:8
          |
        6 | name = 'b'
          |        ^^^ /etc/memmon/conf.d/d.toml has it in line 2; each rule has a name of its own, by which logs and metrics show it
        ");
    }

    #[test]
    fn a_fragment_that_is_no_text_or_no_file_is_an_error() {
        let (_directory, file) = folder("[log]\nlevle = 'info'", &[]);
        let fragment = file.with_file_name("conf.d").join("a.toml");
        fs::write(&fragment, b"[log]\nformat = '\xff'").unwrap();
        let error = load(Some(&file), &NOBODY).unwrap_err().to_string();
        assert!(error.contains("unknown key `levle`") && error.contains("conf.d/a.toml:2:11"), "{error}");
        fs::write(&fragment, vec![b'#'; LONGEST + 1]).unwrap();
        let error = load(Some(&file), &NOBODY).unwrap_err().to_string();
        assert!(error.contains("conf.d/a.toml: it has more than 256KB"), "{error}");
        for number in 0..5 {
            fs::write(fragment.with_file_name(format!("{number}.toml")), vec![b'#'; LONGEST]).unwrap();
        }
        fs::remove_file(&fragment).unwrap();
        let error = load(Some(&file), &NOBODY).unwrap_err().to_string();
        assert!(error.contains("conf.d: the files in this folder have more than 1024KB together"), "{error}");
    }

    #[test]
    fn warnings_name_the_fragment_and_what_is_not_read() {
        let (directory, file) = folder(
            "[whitelist]\nnames = ['systemd', 'sshd', 'docker']",
            &[
                ("a.toml", "\n[[rule]]\nname = 'a'\nnames = ['a-name-of-17-byte']\nnone = true"),
                ("web.conf", ""),
            ],
        );
        fs::set_permissions(file.with_file_name("conf.d").join("a.toml"), fs::Permissions::from_mode(0o666))
            .unwrap();
        let warnings = load(Some(&file), &NOBODY).unwrap().warnings;
        let warnings: String = warnings.iter().map(|warning| format!("{warning}\n")).collect();
        let warnings = warnings.replace(&*directory.path().to_string_lossy(), "/etc/memmon");
        assert!(warnings.starts_with("line 2: \"docker\""), "{warnings}");
        for expected in [
            "/etc/memmon/conf.d/a.toml, line 4: \"a-name-of-17-byte\" is longer than the 15 bytes",
            "\n/etc/memmon/conf.d/web.conf is not read: the names of files in conf.d end in .toml",
            "\nanyone may write to /etc/memmon/conf.d/a.toml, and so decide",
        ] {
            assert!(warnings.contains(expected), "{warnings}");
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_file_that_is_not_roots_is_warned_of() {
        let (_directory, file) = folder("settings.dry_run = true", &[]);
        let warned = || {
            let warnings = load(Some(&file), &NOBODY).unwrap().warnings;
            warnings.iter().map(|warning| format!("{warning}\n")).collect::<String>()
        };
        assert!(!warned().contains("others than root decide"), "{}", warned());
        std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
        assert!(
            warned().contains("what is terminated: ") && warned().contains("belongs to uid 12345;"),
            "{}",
            warned()
        );
    }

    /// A package may add a rule where the administrator has written nothing.
    #[test]
    fn fragments_are_read_without_a_main_file() {
        let (_directory, file) = folder("", &[("a.toml", "settings.dry_run = true")]);
        fs::remove_file(&file).unwrap();
        let loaded = load_or(None, &file, &NOBODY).unwrap();
        assert_eq!((loaded.origin, loaded.fragments.len()), (None, 1));
        assert!(loaded.settings.dry_run);
    }

    #[test]
    fn names_may_stand_in_a_file_of_their_own() {
        let rule = "[[rule]]\nname = 'r'\nnames = ['first']\nnames_file = '../lists/r'\nnot = { names_file = 'not' }\ngb = 1";
        let (directory, file) = folder("whitelist.names_file = 'lists/spared'", &[("a.toml", rule)]);
        fs::create_dir(directory.path().join("lists")).unwrap();
        let list = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        list(
            "lists/spared",
            "# databases\n\nsshd\r\n  postgres*  \nsystemd\na-name-of-17-byte\ntmux\t# of all users\na#b\n",
        );
        list("lists/r", "web-*");
        list("conf.d/not", "web-0\n");
        let loaded = load(Some(&file), &NOBODY).unwrap();
        let rules = &loaded.settings.rules;
        for (name, expected) in [
            ("postgres-1", true),
            ("sshd", true),
            ("tmux", true),
            ("a#b", true),
            ("# databases", false),
            ("dpkg", false),
        ] {
            assert_eq!(rules.whitelist.names.find(name.as_bytes()).is_some(), expected, "{name}");
        }
        let matcher = &rules.rules[0].matcher;
        for name in ["first", "web-1"] {
            assert!(matcher.names.as_ref().unwrap().find(name.as_bytes()).is_some(), "{name}");
        }
        let not = matcher.not.as_ref().unwrap().names.as_ref().unwrap();
        assert!(not.find(b"web-0").is_some());
        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        let place = format!("{}/lists/spared, line 6: ", directory.path().display());
        assert!(warnings.iter().any(|warning| warning.starts_with(&place)), "{warnings:?}");
    }

    #[test]
    fn an_error_in_a_list_of_names_is_shown_with_its_file_and_line() {
        let (directory, file) = folder(
            "[whitelist]\nnames_file = 'names'\n[[rule]]\nname = 'r'\nnames_file = 'empty'\ngb = 1\n[[rule]]\nname = 's'\n\
             names_file = 'missing'\ngb = 1\n[[rule]]\nname = 't'\nnames_file = 'bytes'\ngb = 1",
            &[],
        );
        let list = |name: &str, text: &[u8]| fs::write(directory.path().join(name), text).unwrap();
        list("names", b"# one\n\n  [a\n^b$\n");
        list("empty", b"# nothing\n");
        list("bytes", b"a\n\xff");
        let error = load(Some(&file), &NOBODY).unwrap_err().to_string();
        insta::assert_snapshot!(error.replace(&*directory.path().to_string_lossy(), "/etc/memmon"), @"
        error: `names_file` has no name in it
         --> /etc/memmon/config.toml:5:14
          |
        5 | names_file = 'empty'
          |              ^^^^^^^ write one name or glob per line, or remove this key

        error: `names_file` cannot be read
         --> /etc/memmon/config.toml:9:14
          |
        9 | names_file = 'missing'
          |              ^^^^^^^^^ /etc/memmon/missing: No such file or directory (os error 2)

        error: `names` cannot be [a
         --> /etc/memmon/names:3:3
          |
        3 |   [a
          |   ^^ unclosed character class; missing ']'

        error: byte 0xff is not UTF-8
         --> /etc/memmon/bytes:2:1
          |
        2 | �
          | ^ save the file as UTF-8
        ");
    }
}

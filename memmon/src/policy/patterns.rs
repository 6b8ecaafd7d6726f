//! Names, paths, arguments, cgroups and units as an administrator lists them: literally, or as globs.

use std::collections::BTreeMap;

use globset::{Candidate, GlobBuilder, GlobSet};
use serde::{Serialize, Serializer};

use crate::model::{Fact, Name, NameField, Names, unit_path};

/// Exact names and globs (`*`, `?`, `[a-z]`, `{a,b}`, `\` escapes), case-sensitive and of the whole name: never a
/// substring. They match raw bytes, because names need not be UTF-8: `?` and `[a-z]` match one byte.
#[derive(Clone, Debug, Default)]
pub struct NamePatterns {
    entries: Vec<String>,
    /// Entries without a metacharacter, with their index in the list.
    literals: BTreeMap<Vec<u8>, usize>,
    globs: Vec<(usize, GlobSet)>,
}

impl NamePatterns {
    /// Compiles `entries`, as they were typed.
    ///
    /// # Errors
    /// The first entry that is empty, or contains a metacharacter but is not a glob.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut patterns = Self::default();
        for (index, entry) in entries.into_iter().enumerate() {
            if entry.is_empty() {
                return Err(PatternError::new(index, entry, "an empty name matches no process"));
            }
            if is_glob(entry) {
                // Only comm may contain a slash, where it is an ordinary character.
                patterns.globs.push((index, compile(index, entry, Slash::Any)?));
            } else {
                patterns.literals.entry(entry.as_bytes().to_vec()).or_insert(index);
            }
            patterns.entries.push(entry.to_owned());
        }
        Ok(patterns)
    }

    /// The entry that matches `name`, as it was typed.
    pub fn find(&self, name: &[u8]) -> Option<&str> {
        let glob = || {
            let candidate = Candidate::from_bytes(name);
            self.globs.iter().find(|(_, glob)| glob.is_match_candidate(&candidate)).map(|(index, _)| index)
        };
        let index = self.literals.get(name).or_else(glob)?;
        self.entries.get(*index).map(String::as_str)
    }

    /// The first of a process's names that an entry matches: comm, then the basenames of exe and argv[0]. Returns the
    /// entry, the field, and the name that matched.
    pub fn find_in(&self, names: &Names) -> Option<(&str, NameField, Name)> {
        let basename = |fact| Fact::known(fact).map(Name::basename);
        [
            (NameField::Comm, Some(names.comm.as_bytes())),
            (NameField::Exe, basename(&names.exe)),
            (NameField::Argv0, basename(&names.argv0)),
        ]
        .into_iter()
        .find_map(|(field, name)| Some((self.find(name?)?, field, Name::new(name?))))
    }

    /// The names that it is about, if none of them is a glob.
    pub(super) fn only_literals(&self) -> Option<impl Iterator<Item = &[u8]>> {
        self.globs.is_empty().then(|| self.literals.keys().map(Vec::as_slice))
    }

    /// The same list with `entry` at its end; `None` if `entry` is not a pattern.
    pub(super) fn with(&self, entry: &str) -> Option<Self> {
        Self::new(self.entries.iter().map(String::as_str).chain([entry])).ok()
    }

    /// The same list without `entry`.
    pub(super) fn without(&self, entry: &str) -> Option<Self> {
        Self::new(self.entries.iter().map(String::as_str).filter(|other| *other != entry)).ok()
    }

    /// Whether no name is listed.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Globs with levels: `*` stays within one level, `**` is any number of them.
#[derive(Clone, Debug, Default)]
struct LevelGlobs {
    entries: Vec<String>,
    globs: Vec<(usize, GlobSet)>,
}

impl LevelGlobs {
    fn add(&mut self, index: usize, glob: &str) -> Result<(), PatternError> {
        self.globs.push((index, compile(index, glob, Slash::Separator)?));
        Ok(())
    }

    /// Compiles `entries`, unless there is a `flaw` in one.
    fn new<'a>(
        entries: impl IntoIterator<Item = &'a str>,
        flaw: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<Self, PatternError> {
        let mut patterns = Self::default();
        for (index, entry) in entries.into_iter().enumerate() {
            if let Some(reason) = flaw(entry) {
                return Err(PatternError::new(index, entry, reason));
            }
            patterns.add(index, entry)?;
            patterns.entries.push(entry.to_owned());
        }
        Ok(patterns)
    }

    fn find(&self, path: &[u8]) -> Option<&str> {
        let candidate = Candidate::from_bytes(path);
        let (index, _) = self.globs.iter().find(|(_, glob)| glob.is_match_candidate(&candidate))?;
        self.entries.get(*index).map(String::as_str)
    }
}

/// Globs for cgroup paths, `/user.slice/**`: `*` stays within one level, `/**` is a cgroup and all cgroups below it.
#[derive(Clone, Debug, Default)]
pub struct CgroupPatterns(LevelGlobs);

impl CgroupPatterns {
    /// Compiles `entries`, as they were typed.
    ///
    /// # Errors
    /// The first entry that is not a glob, or that no cgroup path can match.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut patterns = LevelGlobs::new(entries, |entry| match entry {
            _ if !entry.starts_with('/') && !entry.starts_with("**/") => {
                Some("a cgroup's path begins with a slash")
            }
            _ if entry.len() > 1 && entry.ends_with('/') => Some("a cgroup's path does not end with a slash"),
            _ => None,
        })?;
        // In a glob `/**` covers only the levels below, but an entry for a slice includes the slice's own processes.
        for index in 0..patterns.entries.len() {
            if let Some(parent) = patterns.entries[index].strip_suffix("/**").map(str::to_owned) {
                patterns.add(index, if parent.is_empty() { "/" } else { &parent })?;
            }
        }
        patterns.globs.sort_by_key(|(index, _)| *index);
        Ok(Self(patterns))
    }

    /// Whether an entry matches `path`. An empty list matches nothing.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.find(path).is_some()
    }

    /// The entry that matches `path`, as it was typed.
    pub fn find(&self, path: &[u8]) -> Option<&str> {
        self.0.find(path)
    }
}

/// Globs for the paths of executables, `/usr/lib/postgresql/*/bin/postgres`: `*` stays within one level, `/**` is everything
/// below a folder.
#[derive(Clone, Debug, Default)]
pub struct ExePatterns(LevelGlobs);

impl ExePatterns {
    /// Compiles `entries`, as they were typed.
    ///
    /// # Errors
    /// The first entry that is not a glob, or that no absolute path of a file can match.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        LevelGlobs::new(entries, |entry| match entry {
            _ if !entry.starts_with('/') => {
                Some("the path of an executable begins with a slash; `names` takes names without a folder")
            }
            _ if entry.ends_with('/') => Some("this is a folder; for everything below it add `**`"),
            _ => None,
        })
        .map(Self)
    }

    /// The entry that matches `path`, as it was typed.
    pub fn find(&self, path: &[u8]) -> Option<&str> {
        self.0.find(path)
    }
}

/// Globs for systemd units: `nginx.service` of the system's manager, and everything inside it; `user@1000.service/app-*.scope`
/// of a user's manager.
#[derive(Clone, Debug, Default)]
pub struct UnitPatterns(LevelGlobs);

impl UnitPatterns {
    /// Compiles `entries`, as they were typed.
    ///
    /// # Errors
    /// The first entry that is not a glob, or that is no name of a unit.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        LevelGlobs::new(entries, |entry| {
            let is_unit = |name: &str| [".service", ".scope", "*", "}"].iter().any(|end| name.ends_with(end));
            match entry.split_once('/') {
                None if is_unit(entry) => None,
                Some((manager, unit))
                    if manager.starts_with("user@") && is_unit(unit) && !unit.contains('/') =>
                {
                    None
                }
                _ if entry.ends_with(".slice") || entry.starts_with('/') => {
                    Some("this is no service or scope; `cgroups` takes slices and paths, \"/user.slice/**\"")
                }
                Some(_) => Some("a unit of a user's manager is \"user@1000.service/app-*.scope\""),
                None => Some("the name of a unit ends in .service or .scope"),
            }
        })
        .map(Self)
    }

    /// The entry that matches the unit of `cgroup`, or the manager that runs it, as it was typed.
    pub fn find(&self, cgroup: &Name) -> Option<&str> {
        let unit = unit_path(cgroup)?;
        let manager = unit.split(|byte| *byte == b'/').next().unwrap_or_default();
        self.0.find(&unit).or_else(|| self.0.find(manager))
    }
}

/// Exact arguments and globs, `server.js`, `--config=*`: an entry matches if it matches one whole argument, or all of them with
/// single spaces in between, `node *server.js*`.
#[derive(Clone, Debug, Default)]
pub struct ArgPatterns(NamePatterns);

impl ArgPatterns {
    /// Compiles `entries`, as they were typed.
    ///
    /// # Errors
    /// Those of [`NamePatterns::new`].
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        NamePatterns::new(entries).map(Self)
    }

    /// The entry that matches `args`, as it was typed.
    pub fn find(&self, args: &[Name]) -> Option<&str> {
        let whole = || args.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b' ');
        args.iter().find_map(|arg| self.0.find(arg.as_bytes())).or_else(|| self.0.find(&whole()))
    }
}

/// An entry that can never match, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?}: {reason}")]
pub struct PatternError {
    /// Index in its list, from 0.
    pub index: usize,
    /// The entry as it was typed.
    pub entry: String,
    /// The reason why it can never match.
    pub reason: String,
}

impl PatternError {
    fn new(index: usize, entry: &str, reason: impl Into<String>) -> Self {
        Self { index, entry: entry.to_owned(), reason: reason.into() }
    }
}

const METACHARACTERS: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

fn is_glob(entry: &str) -> bool {
    entry.contains(METACHARACTERS)
}

/// The pattern that matches `name` and nothing else.
pub(super) fn escape(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        if METACHARACTERS.contains(&character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// Meaning of a slash for `*` and `?`: an ordinary character, or the end of a level.
#[derive(Clone, Copy, PartialEq)]
enum Slash {
    Any,
    Separator,
}

/// Compiles one set per glob, so that a match and an error can be attributed to its entry.
fn compile(index: usize, entry: &str, slash: Slash) -> Result<GlobSet, PatternError> {
    // A class contains bytes: `[ü]` would match either byte of the letter, and never protect the process it names.
    let mut classes = entry.split('[').skip(1).filter_map(|rest| rest.split(']').next());
    if !classes.all(str::is_ascii) {
        return Err(PatternError::new(
            index,
            entry,
            "only ASCII characters can stand in []; use {a,b} for others",
        ));
    }
    GlobBuilder::new(entry)
        .literal_separator(slash == Slash::Separator)
        .empty_alternates(true)
        .build()
        .and_then(|glob| GlobSet::new([glob]))
        .map_err(|error| PatternError::new(index, entry, error.kind().to_string()))
}

/// Compares and serializes lists as they were typed.
macro_rules! as_typed {
    ($($patterns:ty: $($part:tt).+;)*) => {$(
        impl $patterns {
            /// Every entry as it was typed, in the same order.
            pub fn entries(&self) -> &[String] {
                &self.$($part).+
            }
        }

        impl PartialEq for $patterns {
            fn eq(&self, other: &Self) -> bool {
                self.entries() == other.entries()
            }
        }

        impl Serialize for $patterns {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.entries().serialize(serializer)
            }
        }
    )*};
}

as_typed! {
    NamePatterns: entries;
    ArgPatterns: 0.entries;
    CgroupPatterns: 0.entries;
    ExePatterns: 0.entries;
    UnitPatterns: 0.entries;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_matches_the_whole_name_exactly() {
        for (entry, name, matches) in [
            ("sshd", &b"sshd"[..], true),
            ("sshd", b"sshd2", false),
            ("sshd", b"xsshd", false),
            ("sshd", b"SSHD", false),
            ("docker", b"dockerd", false),
            ("init", b"initialise", false),
            ("python3.*", b"python3.11", true),
            ("python3.*", b"python3", false),
            ("python3.*", b"xpython3.11", false),
            ("*d", b"sshd", true),
            ("*d", b"sshd2", false),
            ("*.service", b"a.b.service", true),
            ("*.service", b"a.service\n", false),
            ("worker-?", b"worker-1", true),
            ("worker-?", b"worker-12", false),
            ("[ab]x", b"ax", true),
            ("[ab]x", b"[ab]x", false),
            ("{red,blue}*", b"blueberry", true),
            (r"\[x\]", b"[x]", true),
            (r"a\*", b"a*", true),
            (r"a\*", b"ab", false),
            ("*", b"", true),
            ("*", b"\n\x1b\xff", true),
            ("a*z", b"a\n\xff\x00z", true),
            ("a?b", b"a\xffb", true),
            ("a*", b"a/b/c", true),
            ("..", b"..", true),
            ("*.", b"trailing.", true),
            ("?\u{e9}?", "x\u{e9}y".as_bytes(), true),
            ("{\u{e9},o}", "\u{e9}".as_bytes(), true),
            ("\u{e9}[ab]\u{e9}", "\u{e9}a\u{e9}".as_bytes(), true),
            ("caf\u{e9}*", "caf\u{e9}1".as_bytes(), true),
        ] {
            let patterns = NamePatterns::new([entry]).unwrap();
            assert_eq!(patterns.find(name), matches.then_some(entry), "{entry} {name:?}");
        }
    }

    #[test]
    fn the_entry_that_matched_is_returned() {
        let patterns = NamePatterns::new(["a*", "abc", "abc", "*c"]).unwrap();
        assert_eq!(patterns.find(b"abc"), Some("abc"));
        assert_eq!(patterns.find(b"abd"), Some("a*"));
        assert_eq!(patterns.find(b"bc"), Some("*c"));
        assert_eq!(patterns.find(b"b"), None);
        assert_eq!(NamePatterns::default().find(b""), None);
    }

    #[test]
    fn a_cgroup_glob_respects_levels() {
        for (entry, path, matches) in [
            ("/user.slice/**", "/user.slice/user-1000.slice/app.scope", true),
            ("/user.slice/**", "/user.slice", true),
            ("/user.slice/**", "/user.slice2", false),
            ("/user.slice/**", "/system.slice/user.slice/x", false),
            ("/user.slice/*", "/user.slice/user-1000.slice", true),
            ("/user.slice/*", "/user.slice/user-1000.slice/app.scope", false),
            ("/user.slice", "/user.slice", true),
            ("/user.slice", "/user.slice/x", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("**/docker-*.scope", "/system.slice/docker-12ab.scope", true),
            ("**/docker-*.scope", "/system.slice/docker-12ab.scope/init", false),
            ("**/docker-*.scope/**", "/system.slice/docker-12ab.scope", true),
            ("**/docker-*.scope/**", "/system.slice/docker-12ab.scope/init", true),
            ("/a/**/b", "/a/x/y/b", true),
        ] {
            let patterns = CgroupPatterns::new([entry]).unwrap();
            assert_eq!(patterns.matches(path.as_bytes()), matches, "{entry} {path}");
        }
        assert!(!CgroupPatterns::default().matches(b"/"));
    }

    #[test]
    fn executables_units_and_arguments_are_matched_whole() {
        let exe = |entry, path: &str| ExePatterns::new([entry]).unwrap().find(path.as_bytes()).is_some();
        assert!(exe("/usr/bin/node", "/usr/bin/node") && !exe("/usr/bin/node", "/usr/bin/node2"));
        assert!(exe("/usr/lib/pg/*/bin/pg", "/usr/lib/pg/15/bin/pg"));
        assert!(!exe("/usr/*", "/usr/bin/node") && exe("/usr/**", "/usr/bin/node"));
        for entry in ["node", "*/node", "/usr/", ""] {
            assert!(ExePatterns::new([entry]).is_err(), "{entry}");
        }

        let unit = |entry, path: &str| UnitPatterns::new([entry]).unwrap().find(&path.into()).is_some();
        let app = "/user.slice/user-7.slice/user@7.service/app.slice/app-x.scope/sub";
        assert!(unit("nginx.service", "/system.slice/nginx.service/worker"));
        // A cgroup that a user or a service named so is no unit of the system.
        assert!(!unit("nginx.service", "/user.slice/user-7.slice/user@7.service/nginx.service"));
        assert!(!unit("nginx.service", "/system.slice/x.service/nginx.service"));
        assert!(unit("user@*.service", app) && unit("user@7.service/app-*.scope", app));
        assert!(
            unit("user@{7,8}.service/*", app) && !unit("user@8.service/*", app) && !unit("app-x.scope", app)
        );
        for entry in
            ["nginx", "/system.slice/nginx.service", "a.slice", "x.service/y.service", "user@7.service/a/b*"]
        {
            assert!(UnitPatterns::new([entry]).is_err(), "{entry}");
        }

        let args: Vec<Name> = ["node", "--max-old-space-size=512", "dist/server.js"].map(Name::from).into();
        let arg = |entry| ArgPatterns::new([entry]).unwrap().find(&args).is_some();
        assert!(arg("dist/server.js") && arg("*server.js") && arg("node *server.js") && arg("--max-*"));
        assert!(!arg("server.js") && !arg("batch.js") && !arg("node dist/server.js"));
        assert_eq!(ArgPatterns::new(["*"]).unwrap().find(&[]), Some("*"));
    }

    #[test]
    fn an_entry_that_can_never_match_is_refused_with_its_index() {
        let error = NamePatterns::new(["sshd", "a[b"]).unwrap_err();
        insta::assert_snapshot!(error, @r#""a[b": unclosed character class; missing ']'"#);
        assert_eq!(error.index, 1);
        for entry in ["", "{a", "a}", r"a\", "[z-a]", "a[x\u{e9}]b"] {
            assert!(NamePatterns::new([entry]).is_err(), "{entry}");
        }
        for entry in ["", "user.slice/**", "/user.slice/", "*", "/a[b"] {
            assert!(CgroupPatterns::new([entry]).is_err(), "{entry}");
        }
    }

    #[test]
    fn lists_are_compared_and_shown_as_typed() {
        let patterns = NamePatterns::new(["b*", "a"]).unwrap();
        assert_eq!(patterns, NamePatterns::new(["b*", "a"]).unwrap());
        assert_ne!(patterns, NamePatterns::new(["a", "b*"]).unwrap());
        assert_eq!(serde_json::to_string(&patterns).unwrap(), r#"["b*","a"]"#);
    }
}

//! Names and cgroups as an administrator lists them: literally, or as globs.

use std::collections::BTreeMap;

use globset::{Candidate, GlobBuilder, GlobSet};
use serde::{Serialize, Serializer};

use crate::model::{Fact, Name, NameField, Names};

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

    /// Every entry as it was typed, in the same order.
    pub fn entries(&self) -> &[String] {
        &self.entries
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

/// Globs for cgroup paths, `/user.slice/**`: `*` stays within one level, `/**` is a cgroup and all cgroups below it.
#[derive(Clone, Debug, Default)]
pub struct CgroupPatterns {
    entries: Vec<String>,
    globs: Vec<GlobSet>,
}

impl CgroupPatterns {
    /// Compiles `entries`, as they were typed.
    ///
    /// # Errors
    /// The first entry that is not a glob, or that no cgroup path can match.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut patterns = Self::default();
        for (index, entry) in entries.into_iter().enumerate() {
            if !entry.starts_with('/') && !entry.starts_with("**/") {
                return Err(PatternError::new(index, entry, "a cgroup's path begins with a slash"));
            }
            if entry.len() > 1 && entry.ends_with('/') {
                return Err(PatternError::new(index, entry, "a cgroup's path does not end with a slash"));
            }
            patterns.globs.push(compile(index, entry, Slash::Separator)?);
            // In a glob `/**` covers only the levels below, but an entry for a slice includes the slice's own processes.
            if let Some(parent) = entry.strip_suffix("/**") {
                let parent = if parent.is_empty() { "/" } else { parent };
                patterns.globs.push(compile(index, parent, Slash::Separator)?);
            }
            patterns.entries.push(entry.to_owned());
        }
        Ok(patterns)
    }

    /// Whether an entry matches `path`. An empty list matches nothing.
    pub fn matches(&self, path: &[u8]) -> bool {
        let candidate = Candidate::from_bytes(path);
        self.globs.iter().any(|glob| glob.is_match_candidate(&candidate))
    }

    /// Every entry as it was typed, in the same order.
    pub fn entries(&self) -> &[String] {
        &self.entries
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
    ($($patterns:ty)*) => {$(
        impl PartialEq for $patterns {
            fn eq(&self, other: &Self) -> bool {
                self.entries == other.entries
            }
        }

        impl Serialize for $patterns {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.entries.serialize(serializer)
            }
        }
    )*};
}

as_typed!(NamePatterns CgroupPatterns);

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

//! Patterns of other languages, regular expressions above all, in a list that takes globs: they compile as globs, and
//! match nothing that was meant. Each is recognized, and put into globs that mean the same if there are any.

use regex_syntax::{
    ParserBuilder,
    hir::{Class, ClassBytesRange, Hir, HirKind, Look},
};

/// The kind of a list, because a slash is a letter of names and the end of a level of cgroups.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Names,
    Cgroups,
}

/// More globs than that are no help.
const MOST: usize = 12;

/// A glob's own characters: after a backslash they stand for themselves.
const META: &str = r"*?[]{}\!,-^";

/// The globs that mean the same as `entry` does in its language; `None` if it is a glob already, or a plain name. An empty
/// list if no small number of globs means the same.
pub(crate) fn globs(entry: &str) -> Option<Vec<String>> {
    translated(entry, Of::Names)
}

pub(super) fn translated(entry: &str, of: Of) -> Option<Vec<String>> {
    // SQL's, where it stands beside a word: "100%" is no pattern.
    let word = entry.trim_matches('%');
    if word != entry && word.starts_with(|first: char| first.is_ascii_alphabetic()) && !word.contains('%') {
        return Some(vec![entry.replace('%', "*")]);
    }
    let globs = match (is_regex(entry), extended(entry)) {
        (_, Extended::Certain(regex)) => regex.and_then(|regex| from_regex(&regex, of)),
        // Two languages have a use for it: what means the same in both is what was meant.
        (true, Extended::Perhaps(regex)) => {
            let globs = from_regex(entry, of);
            globs.filter(|globs| regex.and_then(|regex| from_regex(&regex, of)).as_ref() == Some(globs))
        }
        (false, Extended::Perhaps(_)) => None,
        (true, Extended::No) => from_regex(entry, of),
        (false, Extended::No) => Some(vec![without_posix_classes(entry)?]),
    };
    let is_useful = |glob: &String| !glob.trim_matches(['*', '?', '/']).is_empty();
    let globs = globs.filter(|globs| globs.iter().all(is_useful)).unwrap_or_default();
    // An escape that both languages have.
    (globs != [entry]).then_some(globs)
}

/// The globs for a regular expression. It is compared as a whole, except where only one of its ends has an anchor.
fn from_regex(regex: &str, of: Of) -> Option<Vec<String>> {
    // Bytes, as globs have them, and short: what is huge in Unicode is a few ranges.
    let parsed = ParserBuilder::new().unicode(false).utf8(false).nest_limit(20).build().parse(regex);
    let globs = Translation { of }.anchored(&parsed.ok()?)?;
    (globs.len() <= MOST).then(|| unique(globs))
}

/// Whether an entry is one of bash's extended globs, and the regular expression that means the same, if there is one.
enum Extended {
    No,
    /// It could be a regular expression, too.
    Perhaps(Option<String>),
    Certain(Option<String>),
}

fn extended(entry: &str) -> Extended {
    let opens = |sign: char| entry.match_indices('(').any(|(place, _)| entry[..place].ends_with(sign));
    let starts = ["?(", "+("].iter().any(|start| entry.starts_with(start)) && entry.contains(')');
    let is_anchored = entry.starts_with('^') || entry.ends_with('$');
    if !entry.contains(')') || is_anchored {
        Extended::No
    } else if opens('@') || opens('!') || starts {
        Extended::Certain(as_regex(entry))
    } else if ['?', '+', '*'].into_iter().any(opens) && entry.contains('|') {
        Extended::Perhaps(as_regex(entry))
    } else {
        Extended::No
    }
}

/// An extended glob as a regular expression; `None` for `!(…)`, and where brackets or braces stand beside it.
fn as_regex(entry: &str) -> Option<String> {
    let (mut regex, mut closing) = (String::new(), Vec::new());
    let mut letters = entry.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '@' | '?' | '*' | '+' if letters.peek() == Some(&'(') => {
                letters.next();
                regex.push_str("(?:");
                closing.push(letter);
            }
            '!' if letters.peek() == Some(&'(') => return None,
            '[' | ']' | '{' | '}' | '\\' => return None,
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '|' => regex.push('|'),
            ')' => {
                regex.push(')');
                match closing.pop()? {
                    '@' => {}
                    times => regex.push(times),
                }
            }
            literal => regex.push_str(&regex_syntax::escape(&literal.to_string())),
        }
    }
    closing.is_empty().then_some(regex)
}

/// `entry` with the ranges of the POSIX classes in it, `[[:digit:]]`; `None` if it has no such class.
fn without_posix_classes(entry: &str) -> Option<String> {
    const CLASSES: [(&str, &str); 6] = [
        ("[:digit:]", "0-9"),
        ("[:alpha:]", "a-zA-Z"),
        ("[:alnum:]", "a-zA-Z0-9"),
        ("[:lower:]", "a-z"),
        ("[:upper:]", "A-Z"),
        ("[:xdigit:]", "0-9a-fA-F"),
    ];
    let known = |glob: String, (class, ranges): &(&str, &str)| glob.replace(class, ranges);
    let glob = CLASSES.iter().fold(entry.to_owned(), known);
    (glob != entry).then_some(glob)
}

/// Whether `entry` has what only a regular expression has a use for. `(sd-pam)`, `g++` and `python3.*` are names and globs.
fn is_regex(entry: &str) -> bool {
    let anchored = entry.len() > 1 && (entry.starts_with('^') || entry.ends_with('$'));
    let pairs = || entry.chars().zip(entry.chars().skip(1));
    let mut after_backslash = false;
    let escaped = entry.chars().any(|letter| {
        let is_escape = after_backslash && !META.contains(letter);
        after_backslash = letter == '\\' && !after_backslash;
        is_escape
    });
    let repeated =
        pairs().any(|pair| matches!(pair, (')' | ']' | '.', '+') | (')', '?' | '*' | '{') | (']', '{')));
    let any = entry.match_indices(".*").any(|(place, _)| {
        // A version, or an extension.
        !entry[..place].ends_with(|before: char| before.is_ascii_digit())
    });
    anchored || escaped || repeated || any || entry.contains('|') || entry.starts_with("(?")
}

struct Translation {
    of: Of,
}

impl Translation {
    /// The globs of a whole expression: with an anchor at one end only, the other end is open.
    fn anchored(&self, hir: &Hir) -> Option<Vec<String>> {
        let parts = match hir.kind() {
            HirKind::Alternation(branches) => {
                let branches: Option<Vec<_>> = branches.iter().map(|branch| self.anchored(branch)).collect();
                return Some(branches?.concat());
            }
            HirKind::Concat(parts) => parts,
            _ => return self.globs(hir),
        };
        let is =
            |part: Option<&Hir>, look: Look| part.is_some_and(|part| *part.kind() == HirKind::Look(look));
        let globs = self.globs(hir)?;
        match (is(parts.first(), Look::Start), is(parts.last(), Look::End)) {
            (true, false) => Some(globs.iter().flat_map(|glob| self.begun(glob)).collect()),
            // A path's beginning has levels of its own.
            (false, true) if self.of == Of::Cgroups => None,
            (false, true) => Some(globs.iter().map(|glob| joined("*", glob)).collect()),
            _ => Some(globs),
        }
    }

    /// The globs for what begins like `glob`.
    fn begun(&self, glob: &str) -> Vec<String> {
        let is_path = self.of == Of::Cgroups && glob.starts_with('/');
        if is_path && glob.ends_with('/') {
            vec![format!("{glob}**")]
        } else if is_path && !glob.ends_with("**") {
            vec![joined(glob, "*"), format!("{}/**", joined(glob, "*"))]
        } else {
            vec![joined(glob, "*")]
        }
    }

    /// Globs that together match what `hir` does, whole; `None` if there are none, or too many.
    fn globs(&self, hir: &Hir) -> Option<Vec<String>> {
        let globs = match hir.kind() {
            // A name is compared as a whole anyway.
            HirKind::Empty | HirKind::Look(_) => vec![String::new()],
            HirKind::Literal(literal) => vec![escaped(std::str::from_utf8(&literal.0).ok()?)],
            HirKind::Class(class) => vec![self.class(class)?],
            HirKind::Capture(capture) => self.globs(&capture.sub)?,
            HirKind::Concat(parts) => {
                let mut whole = vec![String::new()];
                for part in parts {
                    let part = self.globs(part)?;
                    whole = whole
                        .iter()
                        .flat_map(|left| part.iter().map(move |right| joined(left, right)))
                        .collect();
                    if whole.len() > MOST {
                        return None;
                    }
                }
                whole
            }
            HirKind::Alternation(parts) => {
                let parts: Option<Vec<_>> = parts.iter().map(|part| self.globs(part)).collect();
                parts?.concat()
            }
            HirKind::Repetition(repetition) => {
                let one = self.globs(&repetition.sub)?;
                let is_any = one == ["?"];
                match (repetition.min, repetition.max) {
                    (0, Some(1)) => [vec![String::new()], one].concat(),
                    (0, None) if is_any => vec![self.anything()],
                    (1, None) if is_any => vec![format!("?{}", self.anything())],
                    _ => return None,
                }
            }
        };
        (globs.len() <= MOST).then(|| unique(globs))
    }

    /// The glob for any text; across levels that is a level of its own.
    fn anything(&self) -> String {
        match self.of {
            Of::Names => "*".to_owned(),
            Of::Cgroups => "**".to_owned(),
        }
    }

    fn class(&self, class: &Class) -> Option<String> {
        let class = match class {
            Class::Bytes(class) => class.clone(),
            Class::Unicode(class) => class.to_byte_class()?,
        };
        let written = |ranges: &[ClassBytesRange]| {
            let mut text = String::new();
            for range in ranges {
                let (start, end) = (char::from(range.start()), char::from(range.end()));
                let is_plain = |letter: char| letter.is_ascii_graphic() && !META.contains(letter);
                match range.len() {
                    _ if !(is_plain(start) && is_plain(end)) => return None,
                    1 => text.push(start),
                    2 => text.extend([start, end]),
                    _ => text.extend([start, '-', end]),
                }
            }
            Some(text)
        };
        let mut other = class.clone();
        other.negate();
        match other.ranges() {
            // `.` is anything but a line's end.
            [] => Some("?".to_owned()),
            [only] if (only.start(), only.end()) == (b'\n', b'\n') => Some("?".to_owned()),
            others => match class.ranges() {
                [only] if only.len() == 1 => Some(escaped(&char::from(only.start()).to_string())),
                ranges => written(ranges)
                    .map(|ranges| format!("[{ranges}]"))
                    .or_else(|| written(others).map(|ranges| format!("[!{ranges}]"))),
            },
        }
    }
}

fn escaped(text: &str) -> String {
    let mut glob = String::new();
    for letter in text.chars() {
        if r"*?[]{}\".contains(letter) {
            glob.push('\\');
        }
        glob.push(letter);
    }
    glob
}

/// One after the other; what stands for any text need not stand twice.
fn joined(left: &str, right: &str) -> String {
    let right =
        if left.ends_with('*') && !left.ends_with(r"\*") { right.trim_start_matches('*') } else { right };
    format!("{left}{right}")
}

fn unique(mut globs: Vec<String>) -> Vec<String> {
    globs.sort();
    globs.dedup();
    globs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CgroupPatterns, NamePatterns};

    #[test]
    fn a_regular_expression_is_put_into_globs_that_mean_the_same() {
        for (entry, globs) in [
            ("^(python|ipython)(2|3)?$", "ipython ipython[23] python python[23]"),
            ("(sshd|tmux)", "sshd tmux"),
            ("sshd|tmux", "sshd tmux"),
            (r"python3\.11", "python3.11"),
            (r"^postgres.*$", "postgres*"),
            (".*java.*", "*java*"),
            ("^mysqld$", "mysqld"),
            (r"^node[0-9]$", "node[0-9]"),
            (r"^node\d$", "node[0-9]"),
            ("^a.b$", "a?b"),
            ("^x.+$", "x?*"),
            ("^[^a]b$", "[!a]b"),
            ("(?i)^ab$", "[Aa][Bb]"),
            (r"^\[x\]$", r"\[x\]"),
            ("postgres%", "postgres*"),
            ("^postgres", "postgres*"),
            ("ssh$", "*ssh"),
            ("^(sshd|tmux)", "sshd* tmux*"),
            ("^ssh|tmux$", "*tmux ssh*"),
            ("^[[:digit:]]x$", "[0-9]x"),
            // POSIX classes, and the extended globs of bash.
            ("python[[:digit:]]*", "python[0-9]*"),
            ("[![:lower:]_]x", "[!a-z_]x"),
            ("@(tmux|screen)", "screen tmux"),
            ("node@(js|)*", "node* nodejs*"),
            ("?(a)b", "ab b"),
            ("x?(a|b)", ""),
            ("+(a)b", ""),
            ("!(x)", ""),
            ("a!(x|y)", ""),
            // Nothing of ours means the same, or only what spares everybody.
            (r"^node\d+$", ""),
            (".*", ""),
            ("^(a|.*)$", ""),
            ("(a|bb)(c|dd)(e|ff)(g|hh)", ""),
            ("^(unclosed$", ""),
        ] {
            let reported =
                translated(entry, Of::Names).unwrap_or_else(|| panic!("{entry} was not recognized"));
            assert_eq!(reported.join(" "), globs, "{entry}");
            NamePatterns::new(reported.iter().map(String::as_str)).unwrap();
        }
    }

    #[test]
    fn globs_and_names_as_they_are_in_use_are_let_be() {
        for entry in [
            "sshd", "postgres*", "python3.*", "(sd-pam)", "g++", "[ab]x", "{red,blue}*", r"a\*", "worker-?",
            "*.service", "a^b", "cost$x", "100%", "kworker/0:1", "$", "^", "[a-z]*", "", "node[0-9][0-9]",
            "x.?", r"python\\d", r"dev-disk-by\\x2duuid", "*(deleted)", "user@1000",
        ] {
            assert_eq!(translated(entry, Of::Names), None, "{entry}");
        }
    }

    #[test]
    fn a_cgroup_has_levels() {
        for (entry, globs) in [
            ("^/user.slice/.*$", "/user?slice/**"),
            (r"/user\.slice/.*", "/user.slice/**"),
            (r"^/user\.slice/", "/user.slice/**"),
            (r"^/user\.slice/user-10", "/user.slice/user-10* /user.slice/user-10*/**"),
            (r"/user\.slice$", ""),
            ("^/system.slice/(a|b)[.]service$", "/system?slice/[ab].service"),
        ] {
            let reported = translated(entry, Of::Cgroups).unwrap();
            assert_eq!(reported.join(" "), globs, "{entry}");
            CgroupPatterns::new(reported.iter().map(String::as_str)).unwrap();
        }
        assert_eq!(translated("/user.slice/**", Of::Cgroups), None);
    }

    /// The other way of matching decides as the glob does, for every text over a few letters.
    #[test]
    fn suggested_globs_match_the_same_names_as_the_foreign_pattern() {
        let letters = ["", "a", "b", "ab", "ba", "aab", "abab", "1", "a1", "ab1", "a1b", "x"];
        for (entry, meant) in [
            ("^(a|ab)1?$", &["a", "ab", "a1", "ab1"][..]),
            ("^a.*$", &["a", "ab", "aab", "abab", "a1", "ab1", "a1b"]),
            ("^a.?b$", &["ab", "aab", "a1b"]),
            ("^[ab]$", &["a", "b"]),
        ] {
            let globs = translated(entry, Of::Names).unwrap();
            let patterns = NamePatterns::new(globs.iter().map(String::as_str)).unwrap();
            let matched: Vec<_> =
                letters.into_iter().filter(|text| patterns.find(text.as_bytes()).is_some()).collect();
            assert_eq!(matched, meant, "{entry} {globs:?}");
        }
    }
}

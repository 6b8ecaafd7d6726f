//! Several entries in one string of a list, or marks around one: `"sshd, tmux"` compiles, and matches no process that was
//! meant.

/// Marks that stand around an entry, and are hardly ever a part of it.
const MARKS: [char; 5] = [',', ';', '"', '\'', '`'];
/// Those that stand between two.
const BETWEEN: [char; 2] = [',', ';'];
/// In a glob a comma may stand between alternatives, and a name may be in parentheses: `(sd-pam)`.
const GLOBS: [char; 4] = ['{', '[', '(', '\\'];

/// The entries that were meant by `entry`, if it is not one. `is_entry`: whether a part could be an entry of that list.
pub(super) fn parts(entry: &str, is_entry: impl Fn(&str) -> bool) -> Option<Vec<&str>> {
    if entry.contains(GLOBS) {
        return None;
    }
    let is_mark = |letter: char| letter.is_whitespace() || MARKS.contains(&letter);
    let whole = entry.trim_matches(is_mark);
    let parts: Vec<_> = if whole.contains(BETWEEN) {
        whole.split(BETWEEN).map(|part| part.trim_matches(is_mark)).filter(|part| !part.is_empty()).collect()
    } else if whole.split_whitespace().all(stands_alone) {
        whole.split_whitespace().collect()
    } else {
        vec![whole]
    };
    let is_meant = !whole.is_empty() && parts != [entry] && parts.iter().all(|part| is_entry(part));
    is_meant.then_some(parts)
}

/// Whether a word beside others is rather a name of its own: some processes have a blank in theirs, `tmux: server` and
/// `Web Content`.
fn stands_alone(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_lowercase() || first == '/') && !word.ends_with(':')
}

#[cfg(test)]
mod tests {
    use crate::config::tests::warnings;

    const IS_ONE: &str = " is compared as a whole: ";

    #[test]
    fn several_entries_in_one_are_reported_with_each() {
        for (text, meant) in [
            ("whitelist.names = ['sshd tmux']", r#"write "sshd", "tmux""#),
            ("whitelist.names = ['a,b']", r#"write "a", "b""#),
            ("whitelist.names = ['sshd, Xorg; tmux*']", r#"write "sshd", "Xorg", "tmux*""#),
            ("whitelist.names = [' sshd']", r#"write "sshd""#),
            ("whitelist.names = ['Web Content ']", r#"write "Web Content""#),
            ("whitelist.names = ['sshd;']", r#"write "sshd""#),
            (r#"whitelist.names = ["'sshd'", 'tmux']"#, r#"write "sshd""#),
            ("whitelist.units = ['ssh.service,cron.service']", r#"write "ssh.service", "cron.service""#),
            ("whitelist.cgroups = ['/a/**, /b']", r#"write "/a/**", "/b""#),
            ("whitelist.exe = ['/usr/bin/a /usr/bin/b']", r#"write "/usr/bin/a", "/usr/bin/b""#),
            ("scope.cgroups = ['/a,/b']", r#"write "/a", "/b""#),
            ("[[rule]]\nname = 'a'\nnames = ['a,b']\ngb = 1", r#"rule.names: "a,b""#),
            (
                "[[rule]]\nname = 'a'\nnames = ['x']\nnot = { names = ['a b'] }\ngb = 1",
                r#"rule.not.names: "a b""#,
            ),
        ] {
            let warned = warnings(text);
            assert!(warned.contains(IS_ONE) && warned.contains(meant), "{text}: {warned}");
        }
    }

    #[test]
    fn names_and_paths_with_a_blank_or_a_comma_are_let_be() {
        for text in [
            "names = ['tmux: server', 'Web Content', 'nginx: worker process', 'PM2 v5.3.0: God', '(sd-pam)', \"it's\"]",
            "names = ['{a,b}*', '[a,b]x', 'kworker/0:1', '-bash', 'python3', 'bash -c']",
            "exe = ['/opt/My App/x', '/opt/a,b/x']",
            "cgroups = ['/a,b']",
            "args = ['--exclude=a,b', 'a b']",
        ] {
            assert!(!warnings(&format!("whitelist.{text}")).contains(IS_ONE), "{text}");
        }
    }
}

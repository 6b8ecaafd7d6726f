//! `cargo xtask tidy`: checks that the sources follow the rules in ARCHITECTURE.md, so that it stays true.
//!
//! It is a test as well, so that `cargo test` reports the same. [`check`] is pure: paths and texts in, complaints out.

mod circles;
mod imports;
mod source;
mod words;

use std::{collections::BTreeSet, fmt, path::Path};

use anyhow::{Result, bail};
use fs_err as fs;

use self::source::Source;
use crate::workspace;

/// Each module of memmon/src, and the other modules that it may import.
const ROOMS: [(&str, &[&str]); 13] = [
    ("model", &[]),
    ("files", &[]),
    ("socket", &["files"]),
    ("policy", &["model"]),
    ("config", &["model", "files", "policy"]),
    ("observe", &["model"]),
    ("enforce", &["model"]),
    ("history", &["model", "files"]),
    ("report", &["model", "files", "socket"]),
    ("status", &["model", "socket"]),
    ("inspect", &["model", "policy", "observe", "status"]),
    ("daemon", EVERY_ROOM),
    ("cli", EVERY_ROOM),
];
const EVERY_ROOM: &[&str] = &[
    "model", "files", "socket", "policy", "config", "observe", "enforce", "history", "report", "status",
    "inspect", "daemon", "cli",
];

/// The files and folders that may hold `unsafe`: the BPF programs, raw system calls, and tests that make processes.
const UNSAFE: &[&str] = &[
    "memmon-ebpf/src/",
    "memmon/examples/",
    "memmon/tests/",
    "memmon/src/enforce/pidfd.rs",
    "memmon/src/observe/bpf",
    "memmon/src/daemon/host/fd_ready.rs",
    "memmon/src/daemon/host/memory_trim.rs",
    "memmon/src/daemon/host/priority.rs",
    "memmon/src/observe/procfs/kcmp.rs",
    "memmon/src/observe/procfs/live.rs",
    "memmon/src/observe/support/probe.rs",
    "memmon/src/report/notify/hook.rs",
    "memmon/src/status/peer.rs",
    "xtask/src/bench/child.rs",
    "xtask/src/bench/kernel.rs",
];

/// The only place that uses aya, the library that loads BPF programs.
const AYA: &str = "memmon/src/observe/bpf";

/// The largest number of lines that a reader can keep in mind.
const MOST_LINES: usize = 600;

/// Home folders that examples and tests may name.
const EXAMPLES: [&str; 4] = ["alice", "bob", "carol", "user"];

/// A violation of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Complaint {
    /// Relative to the checkout.
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what } = self;
        write!(f, "{path}:{line}: {what}")
    }
}

/// Checks this checkout; `verbs` are the commands of xtask.
pub(crate) fn main(verbs: &[String]) -> Result<()> {
    let files = files(workspace::root())?;
    let complaints = check_all(&files, verbs);
    for complaint in &complaints {
        println!("{complaint}");
    }
    if !complaints.is_empty() {
        bail!("{} complaints, shown above", complaints.len());
    }
    println!("tidy: {} files", files.len());
    Ok(())
}

/// Every text file of the checkout, by its path relative to `root`.
fn files(root: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for path in workspace::files(root)? {
        if let Ok(text) = fs::read_to_string(&path) {
            files.push((path.strip_prefix(root)?.to_string_lossy().into_owned(), text));
        }
    }
    files.sort();
    Ok(files)
}

/// Everything that is wrong with `files`.
fn check_all(files: &[(String, String)], verbs: &[String]) -> Vec<Complaint> {
    let circles = circles::complaints(&imports::edges(files), circles::EXCEPTIONS).into_iter();
    let circles = circles.map(|(path, what)| Complaint { path, line: 1, what });
    files.iter().flat_map(|(path, text)| check(path, text, verbs)).chain(circles).collect()
}

/// Everything that is wrong with one file.
fn check(path: &str, text: &str, verbs: &[String]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut complain =
        |line: usize, what: String| complaints.push(Complaint { path: path.to_owned(), line, what });
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(folder) = home_folder(line) {
            complain(number, format!("{folder} is a home folder of a real machine"));
        }
        for word in words::retired(path, line) {
            complain(number, format!("\"{word}\": CONTRIBUTING.md has a plainer way to write it"));
        }
        for verb in unknown_verbs(line, verbs) {
            complain(number, format!("there is no `cargo xtask {verb}`"));
        }
    }
    if path.ends_with(".rs") {
        if !text.starts_with("//!") {
            complain(1, "the file does not begin with a `//!` that describes it".to_owned());
        }
        let lines = text.lines().count();
        if lines > MOST_LINES {
            complain(lines, format!("{lines} lines are more than a reader can keep in mind ({MOST_LINES})"));
        }
        match Source::parse(path, text) {
            Ok(source) => check_source(path, &source, &mut complain),
            Err(error) => complain(error.line, format!("not Rust: {}", error.what)),
        }
    }
    complaints
}

fn check_source(path: &str, source: &Source, complain: &mut impl FnMut(usize, String)) {
    if !UNSAFE.iter().any(|place| path.starts_with(place)) {
        for &line in &source.unsafes {
            complain(line, "`unsafe` here: it is for the files that xtask/src/tidy lists".to_owned());
        }
    }
    let room = room(path);
    let may = ROOMS.iter().find(|(name, _)| Some(*name) == room).map_or(EVERY_ROOM, |(_, may)| may);
    let mut complaints = BTreeSet::new();
    for found in &source.paths {
        let second = found.words.get(1).map_or("", String::as_str);
        match found.words[0].as_str() {
            library
                if library.starts_with("aya") && path.starts_with("memmon/") && !path.starts_with(AYA) =>
            {
                complaints.insert((found.line, format!("only {AYA} may use `{library}`")));
            }
            // The binary calls the library and does nothing else.
            "memmon" if path == "memmon/src/main.rs" && second != "cli" => {
                complaints.insert((found.line, format!("main imports `{second}`: it may import cli only")));
            }
            _ => {}
        }
        let Some(room) = room.filter(|_| found.is_of_crate()) else { continue };
        let Some(other) = found.target.as_ref().and_then(|target| target.first()) else { continue };
        let is_room = ROOMS.iter().any(|(name, _)| name == other);
        if is_room && other != room && !may.contains(&other.as_str()) {
            let may = if may.is_empty() { "no other room".to_owned() } else { may.join(", ") };
            complaints.insert((found.line, format!("{room} imports {other}: it may import {may}")));
        }
    }
    complaints.into_iter().for_each(|(line, what)| complain(line, what));
}

/// The module that a file of memmon/src belongs to.
fn room(path: &str) -> Option<&str> {
    let below = path.strip_prefix("memmon/src/")?;
    let room = below.split(['/', '.']).next()?;
    (room != "lib" && room != "main").then_some(room)
}

/// A home folder in `line` that is not one of [`EXAMPLES`].
fn home_folder(line: &str) -> Option<String> {
    ["/home/", "/Users/", "/root/"].into_iter().find_map(|parent| {
        line.match_indices(parent).find_map(|(start, _)| {
            // In `/proc/{pid}/root/sys` it is in the middle of a path and means something else.
            let is_start = !line[..start].ends_with(|c: char| is_word(c) || matches!(c, '}' | '.' | '*'));
            let name: String = line[start + parent.len()..].chars().take_while(|c| is_word(*c)).collect();
            let named = is_start && !name.is_empty() && !EXAMPLES.contains(&name.as_str());
            named.then(|| format!("{parent}{name}"))
        })
    })
}

/// The words after `cargo xtask` in `line` that are not commands of it.
fn unknown_verbs(line: &str, known: &[String]) -> Vec<String> {
    let known = |verb: &str| verb == "help" || known.iter().any(|known| known == verb);
    let after = line.split("cargo xtask ").skip(1);
    let verbs = after.map(|rest| rest.chars().take_while(|c| is_word(*c)).collect::<String>());
    verbs.filter(|verb| verb.starts_with(|c: char| c.is_ascii_lowercase()) && !known(verb)).collect()
}

const fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_checkout_is_tidy() {
        let files = files(workspace::root()).unwrap();
        assert!(files.iter().any(|(path, _)| path == "memmon/src/lib.rs"), "the sources were not found");
        let complaints = check_all(&files, &crate::verbs());
        assert!(complaints.is_empty(), "{}", complaints.iter().map(|c| format!("\n{c}")).collect::<String>());
    }

    fn complaints(path: &str, text: &str) -> Vec<(usize, String)> {
        check(path, text, &["setup".to_owned()])
            .into_iter()
            .map(|complaint| (complaint.line, complaint.what))
            .collect()
    }

    /// Checks that `body`, below a head line, has one complaint, on its last line, with a text that contains `part`.
    #[track_caller]
    fn complains(path: &str, body: &str, part: &str) {
        let text = format!("//! Head.\n{body}");
        let found = complaints(path, &text);
        let [(line, what)] = found.as_slice() else { panic!("{path}: {body}: {found:?}") };
        assert_eq!(*line, text.lines().count(), "{what}");
        assert!(what.contains(part), "{what}");
    }

    #[track_caller]
    fn passes(path: &str, body: &str) {
        assert_eq!(complaints(path, &format!("//! Head.\n{body}")), [], "{path}: {body}");
    }

    #[test]
    fn modules_import_only_what_the_table_allows() {
        let enforce = "memmon/src/enforce/escalate.rs";
        complains(enforce, "use crate::policy::Rules;", "enforce imports policy: it may import model");
        complains(enforce, "use crate::{model::Pid, report};", "enforce imports report");
        complains(
            enforce,
            "use crate::{\n    model::{Pid, Uid},\n    config::Settings};",
            "enforce imports config",
        );
        complains(enforce, "fn f() -> crate::daemon::X {}", "enforce imports daemon");
        complains(enforce, "fn f() { assert!(crate::observe::x()); }", "enforce imports observe");
        complains(enforce, "use super::super::observe;", "enforce imports observe");
        complains(enforce, "mod tests { use super::super::super::observe::X; }", "enforce imports observe");
        complains("memmon/src/enforce/mod.rs", "use super::cli;", "enforce imports cli");
        complains(
            "memmon/src/model/mod.rs",
            "use crate::policy;",
            "model imports policy: it may import no other room",
        );
        complains("memmon/src/policy.rs", "use crate::config;", "policy imports config");
        complains("memmon/src/main.rs", "fn main() { memmon::daemon::run() }", "main imports `daemon`");

        passes(enforce, "use crate::{enforce::State, model::{Pid, policy}};");
        passes(enforce, "use super::report; use self::policy::x; mod tests { use super::super::report; }");
        passes(
            enforce,
            "//  use crate::policy;\n/// [`crate::policy`]\nconst TEXT: &str = \"use crate::policy\";",
        );
        passes(
            "memmon/src/daemon/mod.rs",
            "use crate::{cli, config, enforce, model, observe, policy, report};",
        );
        passes("memmon/src/config/mod.rs", "use crate::{model, policy::Rules};");
        passes("memmon/src/main.rs", "use memmon::cli; fn main() { cli::main() }");
        passes("memmon/tests/hogs.rs", "use memmon::{daemon, policy};");
    }

    #[test]
    fn aya_is_known_in_one_place() {
        let what = "only memmon/src/observe/bpf may use `aya`";
        complains("memmon/src/observe/mod.rs", "use aya::Ebpf;", what);
        complains("memmon/src/daemon/mod.rs", "fn f() { aya::x(); }", what);
        complains("memmon/src/cli/mod.rs", "use {std::io, aya_log::EbpfLogger};", "`aya_log`");
        passes("memmon/src/observe/bpf.rs", "use aya::Ebpf; use aya_log::EbpfLogger;");
        passes("memmon/src/observe/bpf/load.rs", "use aya::Ebpf;");
        passes("memmon-ebpf/src/main.rs", "use aya_ebpf::helpers;");
        passes("memmon/src/policy/mod.rs", "fn aya() {} struct S { aya: u8 } use crate::model::aya::X;");
    }

    #[test]
    fn unsafe_is_where_it_is_expected() {
        complains("memmon/src/policy/mod.rs", "fn f() { unsafe { g() } }", "`unsafe` here");
        complains("memmon/src/policy/mod.rs", "#[unsafe(no_mangle)] fn f() {}", "`unsafe` here");
        passes("memmon-ebpf/src/main.rs", "unsafe fn f() {}");
        passes("memmon/src/policy/mod.rs", "#![forbid(unsafe_code)] // unsafe");
    }

    #[test]
    fn files_have_heads_and_ends() {
        assert_eq!(complaints("xtask/src/x.rs", "fn main() {}\n")[0].0, 1);
        assert_eq!(complaints("xtask/src/x.rs", "")[0].0, 1);
        passes("xtask/src/x.rs", &"\n".repeat(MOST_LINES - 1));
        complains("xtask/src/x.rs", &"\n".repeat(MOST_LINES), "601 lines");
        complains("xtask/src/x.rs", "fn f() { )", "not Rust");
    }

    #[test]
    fn texts_name_no_ones_home_and_no_verb_that_is_not_there() {
        // In two parts, so that this file does not contain one.
        let home = ["/ho", "me/jane/src"].concat();
        assert_eq!(complaints("README.md", &format!("\nsee {home}"))[0].0, 2);
        assert_eq!(complaints("README.md", "exe = \"/home/alice/bin/hog\" in /home/ or /root"), []);
        assert_eq!(complaints("README.md", "/proc/{pid}/root/sys and /proc/1/root/run and PID/root/x"), []);
        let line =
            ["`cargo xtask ", "frobnicate --now` and `cargo xtask ", "setup`, `cargo xtask` …"].concat();
        assert_eq!(
            complaints("README.md", &line),
            [(1, ["there is no `cargo xtask ", "frobnicate`"].concat())]
        );
    }
}

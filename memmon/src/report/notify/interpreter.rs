//! The program that a script names in its first line: whoever may change that decides what the hook does.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use crate::report::advice::advised;

/// The folders in which a hook's programs are looked for.
pub(in crate::report) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The part of a file that the kernel looks at: BINPRM_BUF_SIZE of linux/binfmts.h.
const LOOKED_AT: u64 = 256;

/// The interpreter of the script `file`, which `trusted` has judged; `None` for a program, and for a file that memmon may not
/// read.
///
/// # Errors
/// The kernel would not run the file, or others than root may change its interpreter.
pub(in crate::report) fn of(
    file: &Path,
    trusted: fn(&Path) -> Result<PathBuf, String>,
) -> Result<Option<PathBuf>, String> {
    let Some(named) = named(file)? else { return Ok(None) };
    let place = |why: String| {
        // With the carriage return of a file from another system.
        format!("{} is a script for {}: {why}", file.display(), named.escape_ascii())
    };
    let path = Path::new("/").join(std::ffi::OsStr::from_bytes(&named));
    let facts = fs::metadata(&path).map_err(|error| place(advised(&error)))?;
    if !facts.is_file() || facts.mode() & 0o111 == 0 {
        return Err(place("that is no executable file".to_owned()));
    }
    trusted(&path).map(Some).map_err(place)
}

/// The path after `#!`, or the program that env(1) has to find.
fn named(file: &Path) -> Result<Option<Vec<u8>>, String> {
    let mut start = Vec::new();
    let Ok(opened) = File::open(file) else { return Ok(None) };
    opened.take(LOOKED_AT).read_to_end(&mut start).map_err(|error| advised(&error))?;
    let Some(line) = start.strip_prefix(b"#!") else {
        return if start.starts_with(b"\x7fELF") {
            Ok(None)
        } else {
            Err(format!(
                "{} is no program, and no script with a first line such as #!/bin/sh: the kernel does not run it",
                file.display()
            ))
        };
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | 0)).filter(|word| !word.is_empty());
    let Some(interpreter) = words.next() else {
        return Err(format!("{} names no interpreter after #!", file.display()));
    };
    if !interpreter.ends_with(b"/env") {
        return Ok(Some(interpreter.to_owned()));
    }
    // Options, and variables that are set.
    let program = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='));
    let Some(program) = program.filter(|program| !program.contains(&b'/')) else {
        return Ok(Some(program.unwrap_or(interpreter).to_owned()));
    };
    let name = std::ffi::OsStr::from_bytes(program);
    let found = PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    let missing =
        || format!("{}: env finds no {} in {PATH}", file.display(), String::from_utf8_lossy(program));
    found.map(|path| Some(path.as_os_str().as_bytes().to_owned())).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_script_needs_an_interpreter_that_root_alone_decides_about() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hook");
        let own = folder.path().join("own");
        fs::write(&own, "").unwrap();
        let judged = |text: &[u8]| {
            fs::write(&file, text).unwrap();
            of(&file, crate::files::roots_alone)
        };
        for text in [
            &b"#!/bin/sh\n"[..],
            b"#! /bin/sh -e\nx",
            b"#!/usr/bin/env sh\n",
            b"#!/usr/bin/env -S A=b sh -e\n",
        ] {
            assert!(judged(text).is_ok_and(|found| found.is_some()), "{text:?}: {:?}", judged(text));
        }
        assert_eq!(judged(b"\x7fELF\x02"), Ok(None));
        let mine = format!("#!{}\n", own.display());
        for (text, why) in [
            (&b""[..], "the kernel does not run it"),
            (b"echo\n", "the kernel does not run it"),
            (b"\xef\xbb\xbf#!/bin/sh\n", "the kernel does not run it"),
            (b"#!\n", "names no interpreter"),
            (b"#!/bin/sh\r\nx\r\n", "is a script for /bin/sh\\r: No such file"),
            (b"#!/nonexistent/sh\n", "is a script for /nonexistent/sh: No such file"),
            (b"#!/etc/passwd\n", "that is no executable file"),
            (b"#!/usr/bin/env nonexistent-sh\n", "env finds no nonexistent-sh in /usr/local/sbin:"),
            (mine.as_bytes(), "that is no executable file"),
        ] {
            let refused = judged(text).unwrap_err();
            assert!(refused.contains(why), "{text:?}: {refused}");
        }
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        let refused = judged(mine.as_bytes()).unwrap_err();
        assert!(
            refused.contains("others than root may write") || refused.contains("belongs to uid"),
            "{refused}"
        );
    }
}

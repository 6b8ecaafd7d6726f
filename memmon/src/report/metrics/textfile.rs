//! The file for node_exporter's textfile collector: written beside its place and renamed, so that no reader sees half of
//! it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::files;

/// The ways in which a file of metrics begins.
const BEGINS: [&[u8]; 2] = [b"# HELP ", b"# TYPE "];

/// Whether there is no other file at `path` than one with metrics: an existing file would be lost.
///
/// # Errors
/// It has something else in it.
pub(in crate::report) fn replaceable(path: &Path) -> io::Result<()> {
    let mut start = Vec::new();
    // A link is replaced, and never followed; a FIFO that takes the place of the file meanwhile is not waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let is_file = fs::symlink_metadata(path).is_ok_and(|facts| facts.is_file());
    if is_file {
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if file.metadata()?.is_file() {
            file.take(BEGINS[0].len() as u64).read_to_end(&mut start)?;
        }
    }
    if start.is_empty() || BEGINS.iter().any(|begins| *begins == start) {
        return Ok(());
    }
    Err(io::Error::other(
        "it has something else in it than metrics, and would be replaced: name another file",
    ))
}

/// Replaces the file at `path`, whose folder must be there.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    replaceable(path)?;
    // node_exporter, which is another user, reads what ends in .prom: not the new file before it is renamed.
    files::replace(path, text.as_bytes(), 0o644, false)
}

/// OpenMetrics → the older text format, which is all that node_exporter reads: a counter is declared by its whole name
/// (with `_total`), and there is neither `UNIT` nor `EOF`.
pub(super) fn text_format(openmetrics: &str) -> String {
    let declared = |line: &str| {
        let name = line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?;
        Some(name.to_owned())
    };
    let counters: Vec<_> = openmetrics.lines().filter_map(declared).collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => continue,
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.iter().any(|known| known == name) => {
                text.extend(["# ", kind, " ", name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_something_else_in_it_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.prom");
        for text in ["# TYPE memmon_a counter\nmemmon_a_total 1\n", "# HELP memmon_a b\n", "# TYPE c gauge\n"]
        {
            replace(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for precious in ["root:x:0:0:root:/root:/bin/bash\n", "#", "# A comment\n"] {
            fs::write(&path, precious).unwrap();
            let refused = replace(&path, "# TYPE memmon_a counter\n").unwrap_err().to_string();
            assert!(refused.contains("something else in it than metrics"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), precious);
        }
        fs::write(&path, "").unwrap();
        replace(&path, "# TYPE memmon_a counter\n").unwrap();
    }
}

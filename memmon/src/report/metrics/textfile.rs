//! The file for node_exporter's textfile collector: written beside its place and renamed, so that no reader sees half of
//! it.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Replaces the file at `path`, whose folder must be there.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // node_exporter reads what ends in .prom.
    let draft = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A new file, and no link that another user of the folder has put there.
    let mut file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
    // Whatever the umask, which the unit narrows: node_exporter is another user.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&draft, path)
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

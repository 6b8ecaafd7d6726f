//! Whether nobody but root decides what a file says: asked before memmon, which is root, runs a command or takes a
//! password from it.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// Whether `path` is a file that is root's and that nobody else may write, and so all the way to it from the root, as
/// it is written and as links lead.
pub(super) fn roots_alone(path: &Path) -> Result<(), String> {
    let real = fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for step in path.ancestors().chain(real.ancestors()) {
        let facts = fs::symlink_metadata(step).map_err(|error| format!("{}: {error}", step.display()))?;
        let link = facts.file_type().is_symlink();
        if facts.uid() != 0 {
            return Err(format!("{} is not root's: chown root it", step.display()));
        }
        if !link && facts.mode() & 0o022 != 0 {
            return Err(format!("{} may be written by others than root: chmod go-w it", step.display()));
        }
    }
    let facts = fs::metadata(&real).map_err(|error| format!("{}: {error}", real.display()))?;
    if facts.is_file() { Ok(()) } else { Err(format!("{} is no file", real.display())) }
}

/// Whether nobody but its owner may read or write the file with these `facts`.
#[cfg(feature = "mail")]
pub(super) fn is_secret(facts: &fs::Metadata) -> bool {
    facts.is_file() && facts.mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_chain_that_others_may_change_is_not_trusted() {
        assert_eq!(roots_alone(Path::new("/bin/sh")), Ok(()), "links of root's included");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hook");
        fs::write(&file, "").unwrap();
        // Whoever runs this: a temporary folder is below one that anyone may write to.
        let refused = roots_alone(&file).unwrap_err();
        assert!(refused.contains("may be written by others") || refused.contains("not root's"), "{refused}");
        let link = folder.path().join("link");
        symlink("/bin/sh", &link).unwrap();
        assert!(roots_alone(&link).is_err(), "a link that others may turn");
        assert!(roots_alone(Path::new("/bin")).is_err_and(|error| error.ends_with("is no file")));
        assert!(roots_alone(Path::new("/nonexistent/x")).is_err());
    }
}

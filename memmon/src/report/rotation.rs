//! Log rotation, noticed by the file itself: whether a SIGHUP belongs to one, as snippets for logrotate used to send it.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// logrotate runs its scripts right after the rename; a SIGHUP later than this is an administrator's.
const SCRIPT_FOLLOWS_WITHIN: Duration = Duration::from_secs(10);

/// The identity of a file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Whether `path` no longer names the file with `identity`.
pub(super) fn is_moved(path: &Path, identity: Identity) -> bool {
    fs::symlink_metadata(path).map_or(true, |metadata| Identity::from(&metadata) != identity)
}

/// The state of the log file's rotation, shared between its sink and the threads that wait for signals.
#[derive(Clone, Debug, Default)]
pub struct Rotation(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The configured log file.
    path: Option<PathBuf>,
    /// The file that the sink has open under that name.
    open: Option<Identity>,
    /// The sink found that its file had been renamed, and no SIGHUP came since.
    noticed: Option<Instant>,
}

impl Rotation {
    /// The configured log file is this one from now on.
    pub(super) fn follow(&self, path: Option<&Path>) {
        self.state(|state| {
            if state.path.as_deref() != path {
                *state = State { path: path.map(Path::to_owned), ..State::default() };
            }
        });
    }

    /// The sink for `path` writes to this file from now on.
    pub(super) fn opened(&self, path: &Path, identity: Identity) {
        self.state(|state| {
            if state.path.as_deref() == Some(path) {
                state.open = Some(identity);
            }
        });
    }

    /// The sink for `path` found its file renamed or removed.
    pub(super) fn noticed(&self, path: &Path, now: Instant) {
        self.state(|state| {
            // If it is `None`, a SIGHUP was quicker, and has taken this rotation already.
            if state.path.as_deref() == Some(path) && state.open.take().is_some() {
                state.noticed = Some(now);
            }
        });
    }

    /// Whether a SIGHUP that arrives at `now` came with a rotation: the log file has just been renamed. One rotation answers
    /// for one SIGHUP. Looks at the file's name, so it may wait for a file system.
    pub fn takes_hangup(&self, now: Instant) -> bool {
        let (path, open, noticed) =
            self.state(|state| (state.path.clone(), state.open, state.noticed.take()));
        if noticed.is_some_and(|then| now.saturating_duration_since(then) < SCRIPT_FOLLOWS_WITHIN) {
            return true;
        }
        let (Some(path), Some(identity)) = (path, open) else { return false };
        let moved = is_moved(&path, identity);
        if moved {
            self.state(|state| state.open.take_if(|open| *open == identity));
        }
        moved
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rename_answers_for_one_hangup_and_not_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (rotation, start) = (Rotation::default(), Instant::now());
        assert!(!rotation.takes_hangup(start), "no file, no rotation");
        rotation.follow(Some(&path));
        fs::write(&path, "").unwrap();
        let identity = Identity::from(&fs::metadata(&path).unwrap());
        rotation.opened(&path, identity);
        assert!(!rotation.takes_hangup(start), "it is where it was");

        fs::rename(&path, folder.path().join("log.1")).unwrap();
        assert!(rotation.takes_hangup(start), "renamed, and no line was written since");
        rotation.noticed(&path, start);
        assert!(!rotation.takes_hangup(start), "the next one asks for a reload");

        for (later, expected) in [(SCRIPT_FOLLOWS_WITHIN / 2, true), (SCRIPT_FOLLOWS_WITHIN, false)] {
            let open = || {
                fs::write(&path, "").unwrap();
                rotation.opened(&path, Identity::from(&fs::metadata(&path).unwrap()));
            };
            open();
            fs::remove_file(&path).unwrap();
            rotation.noticed(&path, start);
            open();
            assert_eq!(rotation.takes_hangup(start + later), expected);
            assert!(!rotation.takes_hangup(start + later));
        }
        fs::remove_file(&path).unwrap();
        rotation.follow(None);
        assert!(!rotation.takes_hangup(start), "that file is not memmon's log any more");
    }
}

//! The file with the processes that memmon has stopped: after a restart they are still its own, and no one else's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::daemon::engine::state::stopped::KeptStop;
use crate::daemon::state_file::{StateFile, Writer};

/// The file's name in the state directory.
pub(super) const FILE: &str = "stopped.json";

/// Maximum time for the last write at the end of memmon.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    stopped: Vec<KeptStop>,
}

/// Keeps the processes that memmon has stopped.
pub(super) struct StoppedFile {
    file: StateFile,
    writer: Writer<Stored>,
    failed: Arc<AtomicBool>,
}

impl StoppedFile {
    pub(super) fn new(file: StateFile) -> Self {
        Self { writer: Writer::new(file.clone()), file, failed: Arc::default() }
    }

    /// Those of before; an error if the file cannot be used. No process lives through a boot.
    pub(super) fn left(&self) -> Result<Vec<KeptStop>, String> {
        let stored: Option<(Stored, bool)> = self.file.read()?;
        let current = stored.filter(|(_, is_current)| *is_current);
        Ok(current.map_or_else(Vec::new, |(stored, _)| stored.stopped))
    }

    /// Has them written, without waiting for it.
    pub(super) fn keep(&self, stopped: Vec<KeptStop>) {
        let failed = Arc::clone(&self.failed);
        let then = move |error: Option<String>| failed.store(error.is_some(), Ordering::Relaxed);
        self.writer.write(Stored { stopped }, Box::new(then));
    }

    /// Whether the last write failed since this was asked before.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.swap(false, Ordering::Relaxed)
    }

    /// The reason why the last write failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.writer.failure()
    }

    /// Waits for the last write, for a moment.
    pub(super) fn finish(&self) {
        // The report of the end lists them, whether they are kept or not.
        let _ = self.writer.finish(LAST_WAIT);
    }
}

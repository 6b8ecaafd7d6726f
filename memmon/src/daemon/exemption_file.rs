//! The file with the exemptions. It is replaced as a whole, by a thread of its own, because a disk may be slow or full.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, SyncSender, TrySendError},
    },
    thread,
};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::model::{Exempt, Exemption};

/// Directory for what memmon keeps (systemd's `StateDirectory=memmon`).
pub(super) const STATE_DIR: &str = "/var/lib/memmon";

/// The reason why memmon cannot keep anything; `None` if it can.
pub fn cannot_keep() -> Option<String> {
    let error = files::usable_folder(Path::new(STATE_DIR)).err()?;
    Some(format!(
        "nothing can be kept in {STATE_DIR}, so that exemptions and the history end with memmon, and no cgroup is slowed down: \
         {error}"
    ))
}

/// The file's name in there.
const FILE: &str = "exemptions.json";

/// The longest file: many times that of the most exemptions.
const LONGEST: usize = 1 << 20;

/// Writes that may wait for the disk.
const QUEUE: usize = 8;

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    /// The boot in which it was written: the processes of another one are gone.
    boot: String,
    /// The number of the next exemption.
    pub(super) next: u32,
    /// The exemptions.
    pub(super) exemptions: Vec<Exemption>,
}

impl Stored {
    pub(super) fn new(next: u32, exemptions: Vec<Exemption>) -> Self {
        Self { boot: String::new(), next, exemptions }
    }

    /// Nothing, as before the first exemption.
    pub(super) fn nothing() -> Self {
        Self::new(1, vec![])
    }

    /// The content of the file in `folder`; empty if there is none. `boot` is the id of the current boot.
    ///
    /// # Errors
    /// The file exists and cannot be used.
    pub(super) fn read(folder: &Path, boot: &str) -> Result<Self, String> {
        let stored = files::kept(folder, FILE, LONGEST)?;
        Ok(stored.map_or_else(Self::nothing, |stored| Self::of(stored, boot)))
    }

    /// A pid and a start time are those of one process during one boot only.
    fn of(mut stored: Self, boot: &str) -> Self {
        if boot.is_empty() || stored.boot != boot {
            stored.exemptions.retain(|exemption| !matches!(exemption.of, Exempt::Process(_)));
        }
        stored
    }

    fn write(&self, folder: &Path) -> Result<(), String> {
        files::keep(folder, FILE, self)
    }
}

type Then = Box<dyn FnOnce(Option<String>) + Send>;

/// Writes the file. The thread is there from the first time on.
pub(super) struct Writer {
    folder: PathBuf,
    boot: String,
    queue: Mutex<Option<SyncSender<(Stored, Then)>>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Writer {
    pub(super) fn new(folder: &Path, boot: String) -> Self {
        Self { folder: folder.to_owned(), boot, queue: Mutex::new(None), failure: Arc::default() }
    }

    /// The reason why the last write failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has `stored` written, without waiting for it, and `then` called with the reason if that failed.
    pub(super) fn write(&self, stored: Stored, then: Then) {
        let stored = Stored { boot: self.boot.clone(), ..stored };
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match queue.take().map_or_else(|| self.start(), Ok) {
            Ok(sender) => queue.insert(sender),
            Err(error) => return then(Some(format!("no thread to write it: {error}"))),
        };
        match sender.try_send((stored, then)) {
            Ok(()) => {}
            Err(TrySendError::Full((_, then)) | TrySendError::Disconnected((_, then))) => {
                then(Some("the disk does not take it".to_owned()));
            }
        }
    }

    fn start(&self) -> io::Result<SyncSender<(Stored, Then)>> {
        let (sender, jobs) = mpsc::sync_channel::<(Stored, Then)>(QUEUE);
        let (folder, failure) = (self.folder.clone(), Arc::clone(&self.failure));
        let work = move || {
            for (stored, then) in jobs {
                let error = stored.write(&folder).err();
                failure.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&error);
                then(error);
            }
        };
        thread::Builder::new().name("exemptions".to_owned()).stack_size(128 << 10).spawn(work)?;
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::{Phrase, Pid, ProcessId, StartTime, Uid, UnixTime};

    fn exemption(id: u32, of: Exempt) -> Exemption {
        let why = Phrase::try_from("a batch".to_owned()).unwrap();
        Exemption { id, of, until: UnixTime(9), by: Uid(7), why }
    }

    /// A temporary folder is below one that everybody may write to, so that nothing in it is root's alone.
    #[test]
    fn a_file_that_others_may_write_is_neither_written_nor_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Stored::read(folder.path(), "b").unwrap().exemptions.is_empty());
        let refused = Stored::nothing().write(folder.path()).unwrap_err();
        assert!(refused.contains("folder"), "{refused}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        fs::write(folder.path().join(FILE), "{}").unwrap();
        assert!(Stored::read(folder.path(), "b").is_err());
    }

    #[test]
    fn processes_of_another_boot_are_not_exempt() {
        let id = ProcessId { pid: Pid(7), start: StartTime(8) };
        let stored = Stored {
            boot: "one".to_owned(),
            next: 3,
            exemptions: vec![exemption(1, Exempt::Process(id)), exemption(2, Exempt::User(Uid(7)))],
        };
        let text = serde_json::to_vec(&stored).unwrap();
        let back = |boot: &str| Stored::of(serde_json::from_slice(&text).unwrap(), boot);
        assert_eq!(back("one").exemptions, stored.exemptions);
        assert_eq!(back("two").exemptions, [exemption(2, Exempt::User(Uid(7)))]);
        assert_eq!(back("two").next, 3);
    }
}

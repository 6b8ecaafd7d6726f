//! The files with what memmon keeps over a restart, and a thread for each that replaces it as a whole, because a disk may be slow or
//! full. Each has the boot in which it was written: a pid and a start time are those of one process during one boot only.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::files;

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

/// The longest file: many times that of the most exemptions.
const LONGEST: usize = 1 << 20;

/// Writes that may wait for the disk.
const QUEUE: usize = 8;

/// A file of `T` in a folder.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    folder: PathBuf,
    name: &'static str,
    /// The id of the current boot; empty if it cannot be read, so that no process of before is known again.
    boot: String,
}

/// The content of a file.
#[derive(Debug, Serialize, Deserialize)]
struct OfBoot<T> {
    boot: String,
    #[serde(flatten)]
    content: T,
}

impl StateFile {
    pub(super) fn new(folder: &Path, name: &'static str, boot: &str) -> Self {
        Self { folder: folder.to_owned(), name, boot: boot.to_owned() }
    }

    /// The content, and whether it is of the current boot; `None` if there is no file.
    ///
    /// # Errors
    /// The file exists and cannot be used.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<Option<(T, bool)>, String> {
        let kept: Option<OfBoot<T>> = files::kept(&self.folder, self.name, LONGEST)?;
        Ok(kept.map(|OfBoot { boot, content }| (content, !boot.is_empty() && boot == self.boot)))
    }

    /// Replaces the content, and waits for the disk.
    ///
    /// # Errors
    /// Others than root may write to the folder, or a system error.
    pub(super) fn write<T: Serialize>(&self, content: T) -> Result<(), String> {
        files::keep(&self.folder, self.name, &OfBoot { boot: self.boot.clone(), content })
    }
}

type Then = Box<dyn FnOnce(Option<String>) + Send>;

/// A thread that writes a file, from the first time on.
pub(super) struct Writer<T> {
    file: StateFile,
    thread: Mutex<Option<Thread<T>>>,
    failure: Arc<Mutex<Option<String>>>,
}

struct Thread<T> {
    jobs: SyncSender<(T, Then)>,
    /// Has no sender any more when the thread has ended.
    end: Receiver<()>,
}

impl<T: Serialize + Send + 'static> Writer<T> {
    pub(super) fn new(file: StateFile) -> Self {
        Self { file, thread: Mutex::new(None), failure: Arc::default() }
    }

    /// The reason why the last write failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has `content` written, without waiting for it, and `then` called with the reason if that failed.
    pub(super) fn write(&self, content: T, then: Then) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let running = match thread.take().map_or_else(|| self.start(), Ok) {
            Ok(running) => thread.insert(running),
            Err(error) => return then(Some(format!("no thread to write it: {error}"))),
        };
        match running.jobs.try_send((content, then)) {
            Ok(()) => {}
            Err(TrySendError::Full((_, then)) | TrySendError::Disconnected((_, then))) => {
                then(Some("the disk does not take it".to_owned()));
            }
        }
    }

    /// Waits for all writes, but no longer than `most`. Returns whether they are done.
    pub(super) fn finish(&self, most: Duration) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Thread { jobs, end }) = thread else { return true };
        drop(jobs);
        end.recv_timeout(most) == Err(RecvTimeoutError::Disconnected)
    }

    fn start(&self) -> io::Result<Thread<T>> {
        let (sender, jobs) = mpsc::sync_channel::<(T, Then)>(QUEUE);
        let (ends, end) = mpsc::channel();
        let (file, failure) = (self.file.clone(), Arc::clone(&self.failure));
        let work = move || {
            for (content, then) in jobs {
                let error = file.write(content).err();
                failure.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&error);
                then(error);
            }
            drop(ends);
        };
        thread::Builder::new().name("state".to_owned()).stack_size(128 << 10).spawn(work)?;
        Ok(Thread { jobs: sender, end })
    }
}

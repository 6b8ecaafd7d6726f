//! Frees the memory of killed processes on a thread of its own: freeing 30 GB takes seconds, and a process that hangs in
//! the kernel can block it. The event loop waits for neither.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use nix::errno::Errno;

use super::pidfd::Pidfd;
use crate::model::ProcessId;

/// Number of attempts while only a part could be freed, and the pause between them, as in the kernel's own OOM reaper.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Handle to the thread. It frees one process after the other; one that hangs delays the freeing of others, but not
/// their end.
#[derive(Debug)]
pub struct Reaper {
    jobs: mpsc::Sender<(ProcessId, Arc<Pidfd>)>,
}

impl Reaper {
    /// Starts the thread before it is needed, because there may be no memory for a thread then. It calls `done` with each
    /// outcome. The thread ends after this value is dropped, but the drop does not wait for it.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(done: impl Fn(ProcessId, Result<(), Errno>) + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<(ProcessId, Arc<Pidfd>)>();
        thread::Builder::new().name("reaper".into()).spawn(move || {
            for (id, pidfd) in queue {
                done(id, reclaim(&pidfd));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Queues a process that was sent SIGKILL, so that its memory is freed.
    pub fn reclaim(&self, id: ProcessId, pidfd: Arc<Pidfd>) {
        // The thread outlives this value. Even without it the process frees its own memory.
        let _ = self.jobs.send((id, pidfd));
    }
}

fn reclaim(pidfd: &Pidfd) -> Result<(), Errno> {
    for _ in 1..TRIES {
        match pidfd.reclaim() {
            Err(Errno::EAGAIN) => thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    pidfd.reclaim()
}

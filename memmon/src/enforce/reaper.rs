//! Frees what killed processes hold, on a thread of its own: giving back 30 GB takes seconds, and a process that hangs
//! in the kernel can hold it up. The loop waits for neither.

use std::{
    io,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use rustix::io::Errno;

use super::pidfd::Pidfd;
use crate::model::ProcessId;

/// How often to try again while only a part could be freed, and how long to wait: as the kernel's own OOM reaper does.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// The thread. It takes one process after the other; one that hangs delays the freeing of others, not their end.
#[derive(Debug)]
pub struct Reaper {
    jobs: mpsc::Sender<(ProcessId, Arc<Pidfd>)>,
}

impl Reaper {
    /// Starts it ahead of any need: there may be no memory for a thread when there is one. `done` gets the outcome of
    /// each, on that thread; it ends with this value, but is not waited for.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(done: impl Fn(ProcessId, Result<(), Errno>) + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<(ProcessId, Arc<Pidfd>)>();
        thread::Builder::new().name("reaper".into()).spawn(move || {
            for (whom, pidfd) in queue {
                done(whom, reclaim(&pidfd));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Has the memory of a process freed that was sent SIGKILL.
    pub fn reclaim(&self, whom: ProcessId, pidfd: Arc<Pidfd>) {
        // The thread ends after this value only; were it gone, the process would still free its own memory.
        let _ = self.jobs.send((whom, pidfd));
    }
}

fn reclaim(pidfd: &Pidfd) -> Result<(), Errno> {
    for _ in 1..TRIES {
        match pidfd.reclaim() {
            Err(Errno::AGAIN) => thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    pidfd.reclaim()
}

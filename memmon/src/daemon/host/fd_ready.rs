//! Waits for a descriptor to become readable, which is all that the event loop needs.
#![expect(unsafe_code, reason = "tokio requires its caller to keep the descriptor open")]

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A duplicate of a descriptor, registered with the current runtime.
#[derive(Debug)]
pub(crate) struct Readiness {
    descriptor: AsyncFd<OwnedFd>,
    interest: Interest,
}

impl Readiness {
    pub(crate) fn of(source: &impl AsFd) -> io::Result<Self> {
        Self::with_interest(source, Interest::READABLE)
    }

    /// Readiness of a descriptor whose events are urgent ones (EPOLLPRI): they have no data that must be read.
    pub(crate) fn of_urgent(source: &impl AsFd) -> io::Result<Self> {
        Self::with_interest(source, Interest::PRIORITY)
    }

    fn with_interest(source: &impl AsFd, interest: Interest) -> io::Result<Self> {
        let fd = source.as_fd().try_clone_to_owned()?;
        // SAFETY: an OwnedFd is the same open descriptor until it is dropped, and the AsyncFd owns it.
        let descriptor = unsafe { AsyncFd::register_with_interest(fd, interest) }?;
        Ok(Self { descriptor, interest })
    }

    /// Returns when there is something to read. The caller must then read everything; data that arrives later makes it
    /// readable again.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.descriptor.ready(self.interest).await?.clear_ready();
        Ok(())
    }
}

/// Waits for [`Readiness::readable`]; never returns if `source` is `None`.
pub(crate) async fn readable(source: Option<&Readiness>) -> io::Result<()> {
    match source {
        Some(source) => source.readable().await,
        None => std::future::pending().await,
    }
}

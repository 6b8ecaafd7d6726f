//! Waits for a descriptor to become readable, which is all that the event loop needs.
#![expect(unsafe_code, reason = "tokio requires its caller to keep the descriptor open")]

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A duplicate of a descriptor, registered with the current runtime.
#[derive(Debug)]
pub(in crate::daemon) struct Readiness(AsyncFd<OwnedFd>);

impl Readiness {
    pub(in crate::daemon) fn of(source: &impl AsFd) -> io::Result<Self> {
        let fd = source.as_fd().try_clone_to_owned()?;
        // SAFETY: an OwnedFd is the same open descriptor until it is dropped, and the AsyncFd owns it.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?))
    }

    /// Returns when there is something to read. The caller must then read everything; data that arrives later makes it
    /// readable again.
    pub(in crate::daemon) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

/// Waits for [`Readiness::readable`]; never returns if `source` is none.
pub(in crate::daemon) async fn readable(source: Option<&Readiness>) -> io::Result<()> {
    match source {
        Some(source) => source.readable().await,
        None => std::future::pending().await,
    }
}

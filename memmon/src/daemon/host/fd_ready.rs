//! Waiting for a descriptor to become readable, which is all that the loop ever asks of one.
#![expect(unsafe_code, reason = "tokio leaves it to its caller that a descriptor stays the same one")]

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A second descriptor for the same thing, watched by the runtime that this is called in.
#[derive(Debug)]
pub(in crate::daemon) struct Readiness(AsyncFd<OwnedFd>);

impl Readiness {
    pub(in crate::daemon) fn of(source: &impl AsFd) -> io::Result<Self> {
        let fd = source.as_fd().try_clone_to_owned()?;
        // SAFETY: an OwnedFd is one open descriptor from its making to its drop, and the AsyncFd owns it.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?))
    }

    /// Comes back when there is something to be read, which is to be taken to the end then: what arrives later makes
    /// it readable anew.
    pub(in crate::daemon) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}

/// [`Readiness::readable`], or never where there is nothing to wait for.
pub(in crate::daemon) async fn readable(source: Option<&Readiness>) -> io::Result<()> {
    match source {
        Some(source) => source.readable().await,
        None => std::future::pending().await,
    }
}

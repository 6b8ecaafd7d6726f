//! The types that cross to the kernel as plain data, and the errors of its maps.

#![expect(unsafe_code, reason = "marks the types that cross to the kernel as plain data")]

use std::io;

use aya::{Pod, maps::MapError};
use memmon_common::{Config, Counters, Offsets, ProcessRss, Sum, SumConfig, SumKey, SumLevel, WakeLevel};

/// A value of a map, as bytes that are passed to the kernel.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Plain<T>(pub(super) T);

// SAFETY: repr(C) structs of integers, whose sizes memmon-common asserts: no padding, every bit pattern valid.
unsafe impl Pod for Plain<ProcessRss> {}
// SAFETY: as above.
unsafe impl Pod for Plain<WakeLevel> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Config> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Counters> {}
// SAFETY: as above.
unsafe impl Pod for Plain<SumKey> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Sum> {}
// SAFETY: as above.
unsafe impl Pod for Plain<SumLevel> {}
// SAFETY: as above.
unsafe impl Pod for Plain<SumConfig> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Offsets> {}

pub(super) fn ignore_missing(outcome: Result<(), MapError>) -> io::Result<()> {
    match outcome {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(as_io),
    }
}

pub(super) fn as_io(error: MapError) -> io::Error {
    match error {
        // Its own text leaves out the kernel's error.
        MapError::SyscallError(error) => {
            io::Error::new(error.io_error.kind(), format!("{}: {}", error.call, error.io_error))
        }
        error => io::Error::other(error),
    }
}

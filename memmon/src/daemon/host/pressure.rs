//! Has the kernel wake memmon when processes wait for memory: a trigger of /proc/pressure/memory
//! (Documentation/accounting/psi.rst).

use std::{fs::OpenOptions, io, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use nix::fcntl::OFlag;

use super::fd_ready::Readiness;

/// Processes waited for 50 ms of a second. Needs CAP_SYS_RESOURCE.
const IN_A_SECOND: &[u8] = b"some 50000 1000000\0";

/// Processes waited for 100 ms of two seconds: the shortest window without that privilege, since Linux 6.5.
const IN_TWO_SECONDS: &[u8] = b"some 100000 2000000\0";

/// The file.
const FILE: &str = "/proc/pressure/memory";

/// A trigger that exists until this value is dropped. It becomes ready at most once in its window. The caller must have
/// entered a runtime.
///
/// # Errors
/// The reason why the kernel refuses it: it does not measure pressure, or memmon lacks the privilege.
pub(crate) fn trigger() -> Result<Readiness, String> {
    // A file has one trigger: each attempt opens it again.
    let outcome = at(Path::new(FILE), IN_A_SECOND).or_else(|_| at(Path::new(FILE), IN_TWO_SECONDS));
    outcome.map_err(|error| match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(nix::errno::Errno::ENOENT | nix::errno::Errno::EOPNOTSUPP) => {
            format!("{FILE}: the kernel measures no pressure: start it with psi=1")
        }
        Some(nix::errno::Errno::EPERM | nix::errno::Errno::EACCES | nix::errno::Errno::EINVAL) => format!(
            "{FILE}: {error}: before Linux 6.5 this needs CAP_SYS_RESOURCE, by a drop-in with \
             CapabilityBoundingSet=CAP_SYS_RESOURCE"
        ),
        _ => format!("{FILE}: {error}"),
    })
}

fn at(path: &Path, text: &[u8]) -> io::Result<Readiness> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    file.write_all(text)?;
    Readiness::of_urgent(&file)
}

//! The C library that a binary needs.
//!
//! glibc runs binaries that were built for an older version, but not for a newer one. So the newest symbol version in a binary
//! is the oldest library that it runs with.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{shell, toolchain::Version};

/// The newest version that packages may need: that of Debian 12. Those of RHEL 9 and Ubuntu 22.04 are older.
const NEWEST: Version = Version { major: 2, minor: 36 };

/// The version that `binary` needs.
///
/// # Errors
/// It is newer than [`NEWEST`].
pub(super) fn checked(binary: &Path) -> Result<Version> {
    let needed = needed(binary)?;
    ensure!(
        needed <= NEWEST,
        "{} needs glibc {needed}, but packages must run with glibc {NEWEST}: build them on an older distribution",
        binary.display()
    );
    Ok(needed)
}

/// The version that `binary` needs, by its symbol versions.
pub(super) fn needed(binary: &Path) -> Result<Version> {
    let mut readelf = Command::new("readelf");
    let text = shell::read(readelf.env("LC_ALL", "C").args(["--version-info", "--wide"]).arg(binary))?;
    newest(&text).with_context(|| format!("{} is not linked with glibc", binary.display()))
}

/// The newest `Name: GLIBC_2.34` in the output of readelf; private versions have no number.
fn newest(text: &str) -> Option<Version> {
    let names = text.split("GLIBC_").skip(1).filter_map(|rest| rest.split_whitespace().next());
    names.filter_map(Version::parse).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_decides_what_is_needed() {
        let text = "  000000: Version: 1  File: libc.so.6  Cnt: 4\n  0x0010:   Name: GLIBC_2.2.5  Flags: none  Version: 9\n  \
                    0x0020:   Name: GLIBC_2.34  Flags: none  Version: 5\n  0x0030:   Name: GLIBC_2.4  Flags: none\n  \
                    0x0040:   Name: GLIBC_PRIVATE  Flags: none\n  0x0050:   Name: GCC_3.0  Flags: none\n";
        assert_eq!(newest(text), Some(Version { major: 2, minor: 34 }));
        assert_eq!(newest("No version information found in this file.\n"), None);
    }

    #[test]
    fn a_real_binary_needs_a_glibc() {
        let this = std::env::current_exe().unwrap();
        assert!(needed(&this).unwrap() >= Version { major: 2, minor: 2 });
        assert!(needed(Path::new("/proc/self/status")).is_err());
    }
}

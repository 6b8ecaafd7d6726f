//! Errors of the system's that the shipped unit may be behind, with where to read what allows it.

use std::io;

/// `error`, and where to read on if it is one of those that the unit's restrictions make.
pub(super) fn advised(error: &io::Error) -> String {
    let text = error.to_string();
    let restricted = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
        // The error of the resolver has no number.
        || text.starts_with("failed to lookup address");
    if restricted {
        text + "; where the unit forbids it, memmon(8), SYSTEMD, has what allows it"
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_unit_may_forbid_leads_to_the_manual() {
        for (code, is_advised) in [(libc::EROFS, true), (libc::EAFNOSUPPORT, true), (libc::ENOENT, false)] {
            let text = advised(&io::Error::from_raw_os_error(code));
            assert_eq!(text.ends_with("memmon(8), SYSTEMD, has what allows it"), is_advised, "{text}");
        }
    }
}

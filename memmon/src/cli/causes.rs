//! The text of an error with its causes.

/// `error` with its causes. Many errors have the cause in their own text.
pub(super) fn whole(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match cause.to_string() {
        cause if text.contains(&cause) => text,
        cause if text.is_empty() => cause,
        cause => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot lock x: {source}")]
    struct Outer {
        source: io::Error,
    }

    #[test]
    fn a_cause_is_shown_once() {
        let error = anyhow::Error::new(Outer { source: io::Error::from_raw_os_error(libc::EROFS) });
        let shown = "cannot lock x: Read-only file system (os error 30)";
        assert_eq!(whole(&error), shown);
        assert_eq!(whole(&error.context("no start")), format!("no start: {shown}"));
    }
}

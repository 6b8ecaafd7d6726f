//! A page: prose in roff, with marks where generated text goes.

use anyhow::{Result, ensure};
use clap_mangen::roff::{Inline, Roff};

/// A page that is being filled in.
#[derive(Debug)]
pub(crate) struct Page(String);

impl Page {
    /// A page with this text, and the version filled in.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.replace("@VERSION@", env!("CARGO_PKG_VERSION")))
    }

    /// Puts `text` where the line `@MARK@` is.
    ///
    /// # Errors
    /// There is no such line.
    pub(crate) fn fill(self, mark: &str, text: &str) -> Result<Self> {
        let mark = format!("\n@{mark}@\n");
        ensure!(self.0.contains(&mark), "the page has no line {}", mark.trim());
        Ok(Self(self.0.replace(&mark, &format!("\n{}\n", text.trim_end()))))
    }

    /// The finished text.
    pub(crate) fn finish(self) -> String {
        // The roff crate writes an apostrophe as a string that only its own complete documents define.
        self.0.replace("\\*(Aq", "\\(aq")
    }
}

/// `words` as one line of roff; characters with a meaning in roff are escaped.
pub(crate) fn line(words: impl Into<Vec<Inline>>) -> String {
    let mut roff = Roff::new();
    roff.text(words);
    roff.to_roff()
}

#[cfg(test)]
mod tests {
    use clap_mangen::roff::{bold, roman};

    use super::*;

    #[test]
    fn text_is_text_and_not_roff() {
        assert_eq!(line([roman(".hidden \\n")]), "\\&.hidden \\\\n\n");
        assert_eq!(line([bold("--a"), roman(" b")]), "\\fB\\-\\-a\\fR b\n");
    }

    #[test]
    fn a_mark_that_is_not_there_is_an_error() {
        assert!(Page::new("a\n@B@\n").fill("C", "").is_err());
        assert_eq!(Page::new("a\n@B@\nc").fill("B", "b\n").unwrap().finish(), "a\nb\nc");
        assert_eq!(Page::new("it\\*(Aqs\n").finish(), "it\\(aqs\n");
    }
}

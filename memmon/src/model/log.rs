//! The format of the log.

use serde::Serialize;

use super::words::words;

words! {
    /// The format of a log line.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
    pub enum LogFormat {
        /// v1's lines, to the letter.
        #[default]
        Text = "text",
        /// One object per line.
        Json = "json",
    }
}

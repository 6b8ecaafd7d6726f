//! Which way memory is watched: what was asked for, and what is used.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The source that an administrator asks for: `kernel.source` or `--source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceChoice {
    /// The best that the running kernel offers.
    #[default]
    Auto,
    /// The kernel map, or nothing.
    Ebpf,
    /// Polling /proc, whatever else there is.
    Proc,
}

/// A source of readings, as it is named in configuration, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// BPF programs count inside the kernel and wake the daemon at a crossing.
    Ebpf,
    /// Every process under /proc is read at each scan.
    Proc,
}

impl SourceChoice {
    /// As it is written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Proc => "proc",
        }
    }
}

impl Source {
    /// As it is written in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Proc => "proc",
        }
    }
}

impl fmt::Display for SourceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_written_as_it_is_read() {
        for choice in [SourceChoice::Auto, SourceChoice::Ebpf, SourceChoice::Proc] {
            assert_eq!(serde_json::to_value(choice).unwrap(), choice.as_str());
            assert_eq!(serde_json::from_value::<SourceChoice>(choice.as_str().into()).unwrap(), choice);
        }
        assert!(serde_json::from_str::<SourceChoice>("\"EBPF\"").is_err());
    }
}

//! The source of readings: the requested one, and the one in use.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The source that an administrator requests with `kernel.source` or `--source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceChoice {
    /// The best source that the running kernel offers.
    #[default]
    Auto,
    /// The kernel map only.
    Ebpf,
    /// Polling /proc, even if the kernel map is available.
    Proc,
}

/// A source of readings, as named in configuration, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// BPF programs count in the kernel and wake the daemon at a crossing.
    Ebpf,
    /// Each scan reads every process in /proc.
    Proc,
}

impl SourceChoice {
    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Proc => "proc",
        }
    }
}

impl Source {
    /// The name in logs.
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

//! The source of readings and the gears of its kernel side: what was requested, and the source in use.

use serde::{Deserialize, Serialize};

use super::words::words;

words! {
    /// The source that an administrator requests with `kernel.source` or `--source`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum SourceChoice {
        /// The best source that the running kernel offers.
        #[default]
        Auto = "auto",
        /// The kernel map only.
        Ebpf = "ebpf",
        /// Polling /proc, even if the kernel map is available.
        Proc = "proc",
    }
}

words! {
    /// The gears that an administrator requests with `kernel.gear`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum GearChoice {
        /// Two gears where they pay and are sound: on this kernel, and with these limits.
        #[default]
        Auto = "auto",
        /// One gear: every change of the counters is seen.
        Always = "always",
        /// Two gears also with a limit that is small for them.
        Two = "two",
    }
}

/// The programs of the kernel side that notice the growth of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gear {
    /// Ticks of busy CPUs: they cost a page fault nothing, and notice growth within a tick of CPU time.
    Calm,
    /// Every change of the counters as well.
    Exact,
}

words! {
    /// A source of readings, as named in configuration, logs and metrics.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum Source {
        /// BPF programs count in the kernel and wake the daemon at a crossing.
        Ebpf = "ebpf",
        /// Each scan reads every process in /proc.
        Proc = "proc",
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
        for choice in [GearChoice::Auto, GearChoice::Always, GearChoice::Two] {
            assert_eq!(serde_json::to_value(choice).unwrap(), choice.as_str());
        }
    }
}

//! The figure of a process's memory that is compared with its limit.

use serde::{Deserialize, Serialize};

use super::{Bytes, words::words};

words! {
    /// `thresholds.measure`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum Measure {
        /// Resident memory decides where memmon looks, and charged memory decides the verdict: what the end of the process would
        /// give back.
        #[default]
        Charged = "charged",
        /// Resident memory alone, as in v1.
        Rss = "rss",
    }
}

impl Measure {
    /// The least charged memory with which a process whose resident memory exceeds `limit` is over it: 95 % of the limit,
    /// or all of it but 4 MiB if that is less. So the few megabytes of program text that every process maps delay no
    /// verdict.
    pub const fn least_charged(limit: Bytes) -> Bytes {
        const PROGRAM_TEXT: u64 = 4 << 20;
        let share = limit.0 / 20;
        Bytes(limit.0.saturating_sub(if share > PROGRAM_TEXT { share } else { PROGRAM_TEXT }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_is_written_as_it_is_read() {
        for measure in [Measure::Charged, Measure::Rss] {
            assert_eq!(serde_json::to_value(measure).unwrap(), measure.as_str());
            assert_eq!(serde_json::from_value::<Measure>(measure.as_str().into()).unwrap(), measure);
        }
        for (limit, least) in [(2000, 1900), (80, 76), (32, 28), (3, 0)] {
            assert_eq!(Measure::least_charged(Bytes(limit << 20)), Bytes(least << 20), "{limit} MiB");
        }
    }
}

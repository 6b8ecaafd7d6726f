//! Conditions of the daemon that are reported once, and again only after they were resolved. No system calls.

use std::collections::BTreeMap;

use crate::report::Event;

/// Something that does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Degradation {
    /// The source could not be read.
    SurveyFailed,
    /// The kernel map is full.
    MapFull,
    /// The kernel map could not be compared with /proc.
    NoSweep,
    /// Wake levels could not be set.
    NoLevels,
    /// The kernel keeps no sums, or their levels could not be set.
    NoKernelSums,
    /// The programs of the exact gear could not be attached.
    NoExactGear,
    /// Attaching them took long.
    LateGear,
    /// The status socket is not available, or not to all users that it should be.
    NoStatus,
    /// The socket at which users ask about their own processes is not available.
    NoMine,
    /// The lock is not where a second memmon looks for it.
    NoLock,
    /// The kernel does not wake memmon when processes wait for memory.
    NoPressure,
    /// The processes that write files in memory cannot be found.
    NoWriters,
    /// The history cannot be written.
    NoHistory,
    /// Exemptions cannot be stored.
    NoExemptionFile,
    /// The processes that memmon has stopped cannot be stored.
    NoStoppedFile,
    /// Reading a configuration takes long.
    LateReload,
    /// A user that the configuration names exists by now, and the configuration was edited since it was read.
    AwaitsReload,
    /// The last reload changed what only a start applies.
    AwaitsRestart,
}

/// The conditions that were reported and are not resolved.
#[derive(Debug, Default)]
pub(super) struct Conditions(BTreeMap<Degradation, String>);

impl Conditions {
    /// Notes that something does not work. Returns the report, unless this was reported and has not been resolved since.
    pub(super) fn begins(&mut self, what: Degradation, text: impl FnOnce() -> String) -> Option<Event> {
        if self.lasts(what) {
            return None;
        }
        let text = text();
        self.0.insert(what, text.clone());
        Some(Event::Degraded { what: text })
    }

    /// Notes that it works: if it fails again, it is reported again.
    pub(super) fn ends(&mut self, what: Degradation) {
        self.0.remove(&what);
    }

    pub(super) fn lasts(&self, what: Degradation) -> bool {
        self.0.contains_key(&what)
    }

    /// The texts of the reports.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_reported_once_until_it_ends() {
        let mut conditions = Conditions::default();
        let mut begins = |what, text: &str| conditions.begins(what, || text.to_owned()).is_some();
        assert!(begins(Degradation::MapFull, "full") && begins(Degradation::NoLevels, "none"));
        assert!(!begins(Degradation::MapFull, "again"));
        assert_eq!(conditions.texts().collect::<Vec<_>>(), ["full", "none"]);
        conditions.ends(Degradation::MapFull);
        assert!(conditions.lasts(Degradation::NoLevels) && !conditions.lasts(Degradation::MapFull));
        assert!(conditions.begins(Degradation::MapFull, String::new).is_some());
    }
}

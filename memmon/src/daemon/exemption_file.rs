//! The file with the exemptions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::daemon::state_file::StateFile;
use crate::model::{Exempt, Exemption};

/// The file's name in the state directory.
pub(super) const FILE: &str = "exemptions.json";

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    /// The number of the next exemption.
    pub(super) next: u32,
    /// The exemptions.
    pub(super) exemptions: Vec<Exemption>,
    /// The time since the boot at which each ends, by its number.
    #[serde(default)]
    pub(super) ends: Vec<(u32, Duration)>,
}

impl Stored {
    /// Nothing, as before the first exemption.
    pub(super) fn nothing() -> Self {
        Self { next: 1, exemptions: vec![], ends: vec![] }
    }

    /// The content of the `file`; empty if there is none.
    ///
    /// # Errors
    /// The file exists and cannot be used.
    pub(super) fn read(file: &StateFile) -> Result<Self, String> {
        let stored = file.read()?;
        Ok(stored.map_or_else(Self::nothing, |(stored, is_current)| Self::of(stored, is_current)))
    }

    /// The processes of another boot are gone, and so is its clock.
    fn of(mut stored: Self, is_current: bool) -> Self {
        if !is_current {
            stored.ends.clear();
            stored.exemptions.retain(|exemption| !matches!(exemption.of, Exempt::Process(_)));
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::{Phrase, Pid, ProcessId, StartTime, Uid, UnixTime};

    fn exemption(id: u32, of: Exempt) -> Exemption {
        let why = Phrase::try_from("a batch".to_owned()).unwrap();
        Exemption { id, of, until: UnixTime(9), by: Uid(7), why }
    }

    /// A temporary folder is below one that everybody may write to, so that nothing in it is root's alone.
    #[test]
    fn a_file_that_others_may_write_is_neither_written_nor_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), FILE, "b");
        assert!(Stored::read(&file).unwrap().exemptions.is_empty());
        let refused = file.write(Stored::nothing()).unwrap_err();
        assert!(refused.contains("folder"), "{refused}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        fs::write(folder.path().join(FILE), "{}").unwrap();
        assert!(Stored::read(&file).is_err());
    }

    #[test]
    fn processes_of_another_boot_are_not_exempt() {
        let id = ProcessId { pid: Pid(7), start: StartTime(8) };
        let stored = Stored {
            next: 3,
            exemptions: vec![exemption(1, Exempt::Process(id)), exemption(2, Exempt::User(Uid(7)))],
            ends: vec![(2, Duration::from_secs(9))],
        };
        let text = serde_json::to_vec(&stored).unwrap();
        let back = |is_current| Stored::of(serde_json::from_slice(&text).unwrap(), is_current);
        assert_eq!((back(true).exemptions, back(true).ends), (stored.exemptions, stored.ends));
        assert_eq!(back(false).ends, []);
        assert_eq!(back(false).exemptions, [exemption(2, Exempt::User(Uid(7)))]);
        assert_eq!(back(false).next, 3);
    }
}

//! The database: redb, an embedded store in Rust alone. A commit is on the disk before it counts, so that after a loss of
//! power or a full disk the file holds what it held before.
//!
//! Terminations and warnings have a table each, and so have samples of processes for `memmon replay`, so that no number of one kind
//! displaces another: each holds a third of the bound.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _,
    StorageError, TableDefinition,
};

use super::summary::Summary;
use crate::files;
use crate::model::{Entry, History, Sample, Samples, Select};

/// The time in microseconds since 1970 → the entry as JSON.
type Entries = TableDefinition<'static, u64, &'static [u8]>;

const TERMINATIONS: Entries = TableDefinition::new("terminations");
const WARNINGS: Entries = TableDefinition::new("warnings");
/// The same of samples.
const SAMPLES: Entries = TableDefinition::new("samples");

/// Memory for pages of the file. Little: an entry is written now and then, and a question reads each page once.
const CACHE: usize = 256 << 10;

/// The largest part of the file that an entry takes, with all that the file needs besides.
const ENTRY: u64 = 1024;

/// Samples of one page.
const PAGE: usize = 500;

/// The bounds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For how many days.
    pub days: u32,
    /// The largest file.
    pub bytes: u64,
}

impl Bounds {
    /// Entries of one table.
    const fn most(&self) -> u64 {
        self.bytes / 3 / ENTRY
    }

    fn oldest(&self, now: u64) -> u64 {
        now.saturating_sub(u64::from(self.days) * 24 * 60 * 60 * 1_000_000)
    }
}

/// The database is not available, or did not take something.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}{}", path.display(), remedy(error))]
pub struct StoreError {
    path: PathBuf,
    error: redb::Error,
}

/// The remedy, if only an administrator can apply it.
fn remedy(error: &redb::Error) -> &'static str {
    let is_damaged = match error {
        redb::Error::Corrupted(_) => true,
        // The file has another beginning, such as zeros after a loss of power, or is too short to have one.
        redb::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    };
    if is_damaged { "; move it away, and memmon begins another one" } else { "" }
}

/// An open database.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

impl Store {
    /// Opens the database at `path`, or creates it. All of it is checked, as a damaged one must not be relied on.
    ///
    /// # Errors
    /// The database is damaged, another process has it open, or the system reports an error.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let named = |error: redb::Error| StoreError { path: path.to_owned(), error };
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let database = match builder.open(path) {
            Err(DatabaseError::Storage(StorageError::Io(error)))
                if error.kind() == io::ErrorKind::NotFound =>
            {
                create(&builder, path).map_err(named)?
            }
            opened => opened.map_err(|error| named(error.into()))?,
        };
        Ok(Self { path: path.to_owned(), database })
    }

    /// Adds `entries` and removes those that `bounds` leave no room for: all of that, or nothing.
    ///
    /// # Errors
    /// The error of the disk. The database must be opened again then.
    pub fn add(&self, entries: &[Entry], samples: &[Sample], bounds: Bounds) -> Result<(), StoreError> {
        self.add_to_tables(entries, samples, bounds)
            .map_err(|error| StoreError { path: self.path.clone(), error })
    }

    fn add_to_tables(
        &self,
        entries: &[Entry],
        samples: &[Sample],
        bounds: Bounds,
    ) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        if !samples.is_empty() {
            let mut table = transaction.open_table(SAMPLES)?;
            for sample in samples {
                insert(&mut table, sample.at_unix_seconds, &sample_as_json(sample))?;
            }
            trim(&mut table, bounds, samples.iter().map(|sample| sample.at_unix_seconds))?;
        }
        for (table, warnings) in [(TERMINATIONS, false), (WARNINGS, true)] {
            let mut table = transaction.open_table(table)?;
            for entry in entries.iter().filter(|entry| entry.what.is_warning() == warnings) {
                // Every type in here can be serialized.
                insert(&mut table, entry.at_unix_seconds, &serde_json::to_vec(entry).unwrap_or_default())?;
            }
            trim(&mut table, bounds, entries.iter().map(|entry| entry.at_unix_seconds))?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The entries that match `select`. Entries of a later memmon that this one does not understand are left out.
    ///
    /// # Errors
    /// The error of the disk.
    pub fn select(&self, select: &Select) -> Result<History, StoreError> {
        self.read(select).map_err(|error| StoreError { path: self.path.clone(), error })
    }

    /// The samples from `first` on, in microseconds since 1970, as many as one page has.
    ///
    /// # Errors
    /// The error of the disk.
    pub fn samples(&self, first: u64) -> Result<Samples, StoreError> {
        self.read_samples(first).map_err(|error| StoreError { path: self.path.clone(), error })
    }

    fn read_samples(&self, first: u64) -> Result<Samples, redb::Error> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(SAMPLES) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Samples::default()),
            Err(error) => return Err(error.into()),
        };
        let mut page = Samples::default();
        for (count, entry) in table.range(first..)?.enumerate() {
            let (key, value) = entry?;
            if count == PAGE {
                page.next = Some(key.value());
                break;
            }
            // A sample of a later memmon that this one does not understand is left out.
            page.samples.extend(serde_json::from_slice::<Sample>(value.value()));
        }
        Ok(page)
    }

    fn read(&self, select: &Select) -> Result<History, redb::Error> {
        let transaction = self.database.begin_read()?;
        let open = |table| match transaction.open_table(table) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(redb::Error::from(error)),
        };
        let tables = [open(TERMINATIONS)?, open(WARNINGS)?];
        let [terminations, warnings] = &tables;
        let since = select.since_unix_seconds.map_or(0, micros);
        let range = |table: &Option<redb::ReadOnlyTable<u64, &'static [u8]>>| match table {
            Some(table) => table.range(since..).map(Some),
            None => Ok(None),
        };
        let mut terminations_left = range(terminations)?.into_iter().flatten().peekable();
        let mut warnings_left = range(warnings)?.into_iter().flatten().peekable();
        let mut summary = Summary::default();
        // By time: of two that are sorted, always the older one.
        loop {
            let key = |next: Option<&Result<(redb::AccessGuard<'_, u64>, _), _>>| match next {
                Some(Ok((key, _))) => key.value(),
                Some(Err(_)) => 0,
                None => u64::MAX,
            };
            let warning_first = key(warnings_left.peek()) < key(terminations_left.peek());
            let next = if warning_first { warnings_left.next() } else { terminations_left.next() };
            let Some(next) = next.or_else(|| warnings_left.next()) else { break };
            let (_, value) = next?;
            if let Ok(entry) = serde_json::from_slice::<Entry>(value.value())
                && select.matches(&entry)
            {
                summary.take(entry);
            }
        }
        let first = |table: &Option<redb::ReadOnlyTable<u64, &'static [u8]>>| match table {
            Some(table) => Ok::<_, redb::Error>(table.first()?.map(|(key, _)| key.value())),
            None => Ok(None),
        };
        let oldest = [first(terminations)?, first(warnings)?].into_iter().flatten().min();
        Ok(summary.finish(oldest.map(|micros| micros as f64 / 1e6)))
    }
}

type Table<'a> = redb::Table<'a, u64, &'static [u8]>;

/// Adds an entry at its time, or just after it if there is one already.
fn insert(table: &mut Table<'_>, at_unix_seconds: f64, entry: &[u8]) -> Result<(), redb::Error> {
    let mut key = micros(at_unix_seconds);
    while table.get(key)?.is_some() {
        key += 1;
    }
    table.insert(key, entry)?;
    Ok(())
}

/// Removes the entries that `bounds` leave no room for, after some `times` were added.
fn trim(table: &mut Table<'_>, bounds: Bounds, times: impl Iterator<Item = f64>) -> Result<(), redb::Error> {
    let oldest = bounds.oldest(times.map(micros).max().unwrap_or_default());
    while table.len()? > bounds.most() || table.first()?.is_some_and(|(key, _)| key.value() < oldest) {
        if table.pop_first()?.is_none() {
            break;
        }
    }
    Ok(())
}

/// A sample as it is kept: without long texts, if it would need more room than it may have.
fn sample_as_json(sample: &Sample) -> Vec<u8> {
    // Every type in here can be serialized.
    let json = serde_json::to_vec(sample).unwrap_or_default();
    let longest = usize::try_from(ENTRY).unwrap_or(usize::MAX) - 64;
    let mut sample = sample.clone();
    match &mut sample.seen {
        Some(seen) if json.len() > longest => {
            seen.shorten();
            serde_json::to_vec(&sample).unwrap_or_default()
        }
        _ => json,
    }
}

/// Creates a database beside its place and moves it there when it is whole: on a full disk half of one may come to be, which
/// is never a valid one.
fn create(builder: &Builder, path: &Path) -> Result<Database, redb::Error> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    let created = || {
        files::remove(draft).map_err(redb::Error::Io)?;
        let database = builder.create(draft)?;
        fs::rename(draft, path).map_err(redb::Error::Io)?;
        Ok(database)
    };
    let database = created();
    if database.is_err() {
        // It may not have come to be.
        let _ = fs::remove_file(draft);
    }
    database
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::summary::tests::entry,
        model::{Happened, Uid},
    };

    const BOUNDS: Bounds = Bounds { days: 90, bytes: 1 << 20 };

    fn comms(history: &History) -> Vec<&str> {
        history.entries.iter().map(|entry| &*entry.comm).collect()
    }

    #[test]
    fn entries_come_back_by_time_after_the_database_was_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let all = [
            entry(100.5, Happened::Terminated, "b", 5),
            entry(100.5, Happened::Terminated, "c", 6),
            entry(99.0, Happened::NearLimit, "a", 4),
            entry(200.0, Happened::WouldTerminate, "d", 7),
        ];
        Store::open(&path).unwrap().add(&all, &[], BOUNDS).unwrap();
        let store = Store::open(&path).unwrap();
        let select = |select: Select| store.select(&select).unwrap();
        let everything = select(Select::default());
        assert_eq!(comms(&everything), ["a", "b", "c", "d"]);
        assert_eq!(
            (everything.entries[1].clone(), everything.oldest_unix_seconds),
            (all[0].clone(), Some(99.0))
        );
        let since = Select { since_unix_seconds: Some(100.0), ..Select::default() };
        assert_eq!(comms(&select(since)), ["b", "c", "d"]);
        assert_eq!(comms(&select(Select { would: true, ..Select::default() })), ["d"]);
        assert_eq!(comms(&select(Select { user: Some(Uid(1)), ..Select::default() })), Vec::<&str>::new());
        let unit = |unit: &str| Select { unit: Some(unit.to_owned()), ..Select::default() };
        assert_eq!((select(unit("x.service")).matched, select(unit("y.service")).matched), (4, 0));
    }

    #[test]
    fn nothing_was_kept_yet() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("history")).unwrap();
        assert_eq!(store.select(&Select::default()).unwrap(), History::default());
    }

    #[test]
    fn the_file_is_bounded_in_age_and_size_and_warnings_displace_no_termination() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let store = Store::open(&path).unwrap();
        store.add(&[entry(1.0, Happened::Terminated, "victim", 5)], &[], BOUNDS).unwrap();
        let long = "x".repeat(200);
        for turn in 0..40_u32 {
            let noise = |at: u32| Entry {
                unit: Some(long.clone()),
                ..entry(f64::from(turn * 100 + at), Happened::NearLimit, "n", 1)
            };
            store.add(&(0..100).map(noise).collect::<Vec<_>>(), &[], BOUNDS).unwrap();
        }
        let kept = store.select(&Select::default()).unwrap();
        assert_eq!(kept.matched, BOUNDS.most() + 1);
        assert_eq!(comms(&kept)[0], "victim");
        let size = fs::metadata(&path).unwrap().len();
        assert!(size <= BOUNDS.bytes, "{size}");

        let later = f64::from(BOUNDS.days + 1) * 86_400.0 + 4000.0;
        store.add(&[entry(later, Happened::Terminated, "new", 5)], &[], BOUNDS).unwrap();
        assert_eq!(comms(&store.select(&Select::default()).unwrap()), ["new"]);
    }

    #[test]
    fn samples_are_read_by_pages_and_displace_no_entry_and_long_ones_are_shortened() {
        use crate::model::{Fact, Name, WantedFacts};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let store = Store::open(&path).unwrap();
        assert_eq!(store.samples(0).unwrap(), Samples::default());
        store.add(&[entry(1.0, Happened::Terminated, "victim", 5)], &[], BOUNDS).unwrap();
        let sample = |at: u32, path: &[u8]| -> Sample {
            let cgroup: String = path.iter().copied().map(char::from).collect();
            serde_json::from_value(serde_json::json!({
                "at_unix_seconds": at, "pid": at, "start": 7,
                "seen": {
                    "memory": { "total_bytes": 9, "available_bytes": 5 }, "then": "within",
                    "read": [false, false, false], "parent": 1, "rss_bytes": 5, "error_bytes": 0,
                    "uids": [1000, 1000], "comm": "hog", "exe": "absent", "argv0": "absent",
                    "cgroup": { "known": cgroup }, "oom_score_adj": { "known": 0 }, "groups": [1000],
                    "args": "absent", "exe_file": "absent", "session": "absent", "inherited": "absent",
                    "holdings": null,
                },
            }))
            .unwrap()
        };
        let long = vec![0xfe; 4096];
        for turn in 0..10_u32 {
            let samples: Vec<_> = (0..100).map(|at| sample(turn * 100 + at, b"/a\x1b\xff")).collect();
            store.add(&[], &samples, BOUNDS).unwrap();
        }
        store.add(&[], &[sample(1000, &long)], BOUNDS).unwrap();
        let first = store.samples(0).unwrap();
        assert_eq!(first.samples.len() as u64, BOUNDS.most().min(PAGE as u64));
        let mut all = first.samples;
        let mut next = first.next;
        while let Some(key) = next {
            let page = store.samples(key).unwrap();
            all.extend(page.samples);
            next = page.next;
        }
        assert_eq!(all.len() as u64, BOUNDS.most());
        let last = all.pop().unwrap();
        let cgroup = |sample: Sample| sample.seen.unwrap().process(sample.id, WantedFacts::default()).cgroup;
        assert_eq!(cgroup(last), Fact::Unreadable, "too long to keep");
        assert_eq!(cgroup(all.pop().unwrap()), Fact::Known(Name::new(*b"/a\x1b\xff")));
        assert_eq!(comms(&store.select(&Select::default()).unwrap()), ["victim"]);
        assert!(fs::metadata(&path).unwrap().len() <= BOUNDS.bytes);
    }

    /// A crash leaves the file as it is, in the middle of whatever came after the last commit.
    #[test]
    fn committed_entries_are_there_after_a_crash_and_a_damaged_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, crashed) = (folder.path().join("history"), folder.path().join("crashed"));
        let store = Store::open(&path).unwrap();
        for at in 1..20_u32 {
            store.add(&[entry(f64::from(at), Happened::Terminated, "a", 1)], &[], BOUNDS).unwrap();
            fs::copy(&path, &crashed).unwrap();
            let found = Store::open(&crashed).unwrap().select(&Select::default()).unwrap();
            assert_eq!(found.matched, u64::from(at));
        }
        drop(store);
        let sound = fs::read(&path).unwrap();
        assert!(sound.len() > 16_384);
        for damage in [0, 4096, 8192, 16_384] {
            let mut bytes = sound.clone();
            for byte in bytes.iter_mut().skip(damage).take(3000) {
                *byte ^= 0x55;
            }
            fs::write(&crashed, bytes).unwrap();
            // Some pages hold nothing: then all entries are there. A damaged entry is never read as another one.
            if let Ok(store) = Store::open(&crashed) {
                let found = store.select(&Select::default()).unwrap();
                assert_eq!(found.matched, 19, "damage at {damage}");
            }
        }
        let zeros = vec![0; sound.len()];
        for other in [&b"no database"[..], &zeros, &sound[..200], &sound[..9000]] {
            fs::write(&crashed, other).unwrap();
            let refused = Store::open(&crashed).unwrap_err().to_string();
            assert!(
                refused.contains("crashed: ") && refused.ends_with("memmon begins another one"),
                "{refused}"
            );
        }
    }
}

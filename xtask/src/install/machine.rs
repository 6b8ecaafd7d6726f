//! The machine to install on, or a directory in its place: reads it, and changes it step by step.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    items::{CONFIG, Item},
    manifest::{MANIFEST, Manifest},
    plan::{self, DRY_RUN, ENABLED, Facts, Step, V1_CONFIG, V1_LOGROTATE},
};

/// The file tree of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The machine below `root`, `/` being this one.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The path on this machine of `path` on that machine.
    pub(crate) fn place(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()))
    }

    /// Reads everything that a plan for `items` depends on. v1 is not retired until the user agrees.
    pub(crate) fn look(&self, items: &[Item]) -> Result<Facts> {
        let mut facts = Facts::default();
        if let Some(text) = self.read(Path::new(MANIFEST))? {
            facts.manifest = Manifest::parse(&String::from_utf8_lossy(&text));
        }
        let new_config = format!("{CONFIG}.new");
        let mut paths: Vec<PathBuf> = items.iter().map(|item| item.path.clone()).collect();
        paths.extend(facts.manifest.entries().map(|entry| entry.path.clone()));
        paths.extend(
            [CONFIG, &new_config, MANIFEST, DRY_RUN, ENABLED, V1_CONFIG, V1_LOGROTATE].map(PathBuf::from),
        );
        for path in paths {
            for above in path.ancestors().skip(1).filter(|above| self.place(above).is_dir()) {
                facts.directories.insert(above.to_owned());
            }
            if let Some(content) = self.read(&path)? {
                facts.files.insert(path, content);
            }
        }
        let log = plan::log_file(facts.files.get(Path::new(CONFIG)).map(Vec::as_slice));
        if let Some(log) = log {
            facts.logs = self.logs(Path::new(&log))?;
        }
        facts.state =
            plan::STATE.iter().map(PathBuf::from).filter(|path| self.place(path).is_file()).collect();
        Ok(facts)
    }

    /// The files of `log` and its rotated predecessors (`log.1`, `log.2.gz`) that exist.
    fn logs(&self, log: &Path) -> Result<Vec<PathBuf>> {
        let (Some(folder), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str()))
        else {
            return Ok(Vec::new());
        };
        let place = self.place(folder);
        let entries = match place.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("cannot list {}", place.display()))?,
        };
        let mut logs = Vec::new();
        for entry in entries {
            let found = entry?.file_name();
            let rest = found.to_str().and_then(|found| found.strip_prefix(name));
            if rest.is_some_and(is_rotated) {
                logs.push(folder.join(found));
            }
        }
        logs.sort();
        Ok(logs)
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let place = self.place(path);
        match fs::read(&place) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound || place.is_dir() => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", place.display())),
        }
    }

    /// Takes one step.
    pub(crate) fn perform(&self, step: &Step) -> Result<()> {
        let done = match step {
            Step::Note(_) => Ok(()),
            Step::CreateDirectory(path) => {
                let place = self.place(path);
                fs::create_dir(&place)
                    .and_then(|()| fs::set_permissions(&place, fs::Permissions::from_mode(0o755)))
            }
            Step::Write { path, mode, content } => write(&self.place(path), *mode, content),
            Step::Move { from, to } => fs::rename(self.place(from), self.place(to)),
            Step::Remove(path) => match fs::remove_file(self.place(path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            },
            Step::RemoveDirectory(path) => match fs::remove_dir(self.place(path)) {
                Err(error)
                    if [io::ErrorKind::NotFound, io::ErrorKind::DirectoryNotEmpty]
                        .contains(&error.kind()) =>
                {
                    Ok(())
                }
                done => done,
            },
        };
        done.with_context(|| format!("cannot {step}"))
    }
}

/// Whether `rest` is a suffix that logrotate appends to a name: nothing, `.1`, `.2.gz`, `-20251003.gz`.
fn is_rotated(rest: &str) -> bool {
    let rest = rest.strip_suffix(".gz").unwrap_or(rest);
    let number = rest.strip_prefix(['.', '-']).unwrap_or(rest);
    rest.is_empty()
        || (number != rest && !number.is_empty() && number.chars().all(|digit| digit.is_ascii_digit()))
}

/// Replaces the file atomically: a running memmon keeps the old one, and no reader sees half a file.
fn write(place: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let unfinished = place.with_file_name(name);
    let _ = fs::remove_file(&unfinished);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    file.write_all(content)?;
    // The mode does not depend on the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(unfinished, place)
}

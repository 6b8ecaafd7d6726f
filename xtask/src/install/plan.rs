//! What an installation does: the machine as it is goes in, steps come out, nothing is touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use super::{
    items::{CONFIG, Item, Kind, LOG},
    manifest::{Entry, MANIFEST, Manifest},
};

/// v1's files.
pub(crate) const V1_CONFIG: &str = "/opt/memory-monitor/config.toml";
pub(crate) const V1_LOGROTATE: &str = "/etc/logrotate.d/memory-monitor";
/// Its unit, as its installer and as its README.md call it.
pub(crate) const V1_UNITS: [&str; 2] = ["memory-monitor.service", "memory_monitor.service"];
/// Where v1's rotation is kept, as it would rotate the same log.
const V1_RETIRED: &str = "/opt/memory-monitor/logrotate.disabled";

/// What keeps an installed memmon from enforcing.
pub(crate) const DRY_RUN: &str = "/etc/systemd/system/memmon.service.d/dry-run.conf";

/// What the plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The content of those files of interest that exist.
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    /// The directories above files of interest that exist.
    pub(crate) directories: BTreeSet<PathBuf>,
    /// The logs that there are, rotated ones included.
    pub(crate) logs: Vec<PathBuf>,
    /// What earlier installations wrote.
    pub(crate) manifest: Manifest,
    /// Whether nothing of v1 is in force, or will not be, as that was agreed to.
    pub(crate) retire_v1: bool,
}

impl Facts {
    fn content(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        self.files.get(path.as_ref()).map(Vec::as_slice)
    }
}

/// One thing to do; paths are from the machine's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something to know.
    Tell(String),
    CreateDirectory(PathBuf),
    Write {
        path: PathBuf,
        mode: u32,
        content: Vec<u8>,
    },
    Move {
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
    /// Unless there is something in it that is not memmon's.
    RemoveDirectory(PathBuf),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tell(text) => f.write_str(text),
            Self::CreateDirectory(path) => write!(f, "create {}/", path.display()),
            Self::Write { path, mode, content: _ } => write!(f, "write  {} ({mode:o})", path.display()),
            Self::Move { from, to } => write!(f, "move   {} to {}", from.display(), to.display()),
            Self::Remove(path) => write!(f, "remove {}", path.display()),
            Self::RemoveDirectory(path) => write!(f, "remove {}/ if it is empty", path.display()),
        }
    }
}

/// Puts `items` in their places.
pub(crate) fn install(items: &[Item], facts: &Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut manifest = facts.manifest.clone();
    let v1 = take_over(facts, &mut steps);
    let log = log_file(facts.content(CONFIG).or(v1));
    for item in items {
        let mut item = item.clone();
        match item.kind {
            Kind::Config => item.content = v1.map_or(item.content, <[u8]>::to_vec),
            Kind::Snippet => match &log {
                // A log that is not there needs no rotation.
                None => continue,
                Some(log) if facts.content(V1_LOGROTATE).is_some() && !facts.retire_v1 && log == LOG => {
                    steps.push(Step::Tell(format!(
                        "{} is left out, as v1's {V1_LOGROTATE} rotates the same log",
                        item.path.display()
                    )));
                    continue;
                }
                Some(log) => item.content = replaced(&item.content, LOG, log),
            },
            Kind::Program => {}
        }
        match (facts.content(&item.path), item.kind) {
            (Some(there), _) if there == item.content => manifest.add(Entry::file(&item)),
            (Some(_), Kind::Config) => {
                manifest.add(Entry::file(&item));
                item.path.as_mut_os_string().push(".new");
                steps.push(Step::Tell(format!(
                    "{CONFIG} was edited and stays as it is; what would be installed now is {}",
                    item.path.display()
                )));
                item.kind = Kind::Program;
                if facts.content(&item.path) != Some(&item.content) {
                    write(&item, facts, &mut manifest, &mut steps);
                }
            }
            (Some(_), Kind::Snippet) => {
                manifest.add(Entry::file(&item));
                steps.push(Step::Tell(format!("{} was edited and stays as it is", item.path.display())));
            }
            (None, _) | (Some(_), Kind::Program) => write(&item, facts, &mut manifest, &mut steps),
        }
    }
    // What an installation elsewhere, or of another version, left.
    let wanted: Vec<&Path> = items.iter().map(|item| &*item.path).collect();
    let left: Vec<_> =
        manifest.programs().filter(|path| !wanted.contains(&path.as_path())).cloned().collect();
    for path in left.into_iter().filter(|path| path != Path::new(&format!("{CONFIG}.new"))) {
        manifest.forget(&path);
        steps.push(Step::Remove(path));
    }
    if manifest != facts.manifest {
        let path = PathBuf::from(MANIFEST);
        directories(&path, facts, &mut manifest, &mut steps);
        steps.push(Step::Write { path, mode: 0o644, content: manifest.to_string().into_bytes() });
    }
    steps
}

/// v1's configuration, if it is to be memmon's, and what becomes of the rest of v1.
fn take_over<'f>(facts: &'f Facts, steps: &mut Vec<Step>) -> Option<&'f [u8]> {
    let config = facts.content(V1_CONFIG).filter(|_| facts.content(CONFIG).is_none());
    if config.is_some() {
        steps.push(Step::Tell(format!("v1's {V1_CONFIG} is taken over as {CONFIG}")));
    }
    if facts.content(V1_LOGROTATE).is_some() && facts.retire_v1 {
        let (from, to) = (V1_LOGROTATE.into(), V1_RETIRED.into());
        directories(V1_RETIRED.as_ref(), facts, &mut Manifest::default(), steps);
        steps.push(Step::Move { from, to });
    }
    config
}

fn write(item: &Item, facts: &Facts, manifest: &mut Manifest, steps: &mut Vec<Step>) {
    directories(&item.path, facts, manifest, steps);
    let Item { path, mode, content, kind: _ } = item.clone();
    steps.push(Step::Write { path, mode, content });
    manifest.add(Entry::file(item));
}

/// The directories above `path` that are missing.
fn directories(path: &Path, facts: &Facts, manifest: &mut Manifest, steps: &mut Vec<Step>) {
    let above: Vec<_> = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).collect();
    for directory in above.into_iter().rev() {
        let step = Step::CreateDirectory(directory.to_owned());
        if !facts.directories.contains(directory) && !steps.contains(&step) {
            manifest.add(Entry::directory(directory));
            steps.push(step);
        }
    }
}

/// Takes away what installations wrote; with `purge` the configuration and the logs, too.
pub(crate) fn uninstall(shipped_config: &[u8], facts: &Facts, purge: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut kept = Manifest::default();
    for entry in facts.manifest.entries() {
        match entry {
            Entry::Directory(_) => {}
            Entry::Program(path) => steps.extend(facts.content(path).map(|_| Step::Remove(path.clone()))),
            Entry::Config(path) => match facts.content(path) {
                Some(content) if !purge && content != shipped_config && path == Path::new(CONFIG) => {
                    kept.add(entry.clone());
                    steps.push(Step::Tell(format!("{CONFIG} was edited and is kept: --purge removes it")));
                }
                Some(_) => steps.push(Step::Remove(path.clone())),
                None => {}
            },
        }
    }
    if facts.content(DRY_RUN).is_some() {
        steps.push(Step::Remove(DRY_RUN.into()));
        steps.extend(Path::new(DRY_RUN).parent().map(|above| Step::RemoveDirectory(above.to_owned())));
    }
    if purge {
        steps.extend(facts.logs.iter().cloned().map(Step::Remove));
    } else if !facts.logs.is_empty() {
        steps.push(Step::Tell("the log is kept: --purge removes it".to_owned()));
    }
    if kept.is_empty() {
        steps.push(Step::Remove(MANIFEST.into()));
    } else {
        facts.manifest.directories().for_each(|path| kept.add(Entry::directory(path)));
        let content = kept.to_string().into_bytes();
        steps.push(Step::Write { path: MANIFEST.into(), mode: 0o644, content });
    }
    let mut directories: Vec<_> = facts.manifest.directories().cloned().collect();
    directories.sort();
    steps.extend(directories.into_iter().rev().map(Step::RemoveDirectory));
    steps
}

/// The log file that a configuration names; none if it names none. A file that cannot be read as TOML is memmon's to
/// complain about.
pub(crate) fn log_file(config: Option<&[u8]>) -> Option<String> {
    let config = config.and_then(|text| std::str::from_utf8(text).ok());
    let table = config.and_then(|text| text.parse::<toml::Table>().ok()).unwrap_or_default();
    let named = table.get("settings").and_then(|settings| settings.get("log_file"));
    match named.and_then(toml::Value::as_str) {
        None => Some(LOG.to_owned()),
        Some("") => None,
        Some(path) => Some(path.to_owned()),
    }
}

fn replaced(content: &[u8], from: &str, to: &str) -> Vec<u8> {
    String::from_utf8_lossy(content).replace(from, to).into_bytes()
}

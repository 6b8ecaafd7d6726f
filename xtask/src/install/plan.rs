//! Decides what an installation does: facts of the machine in, steps out, without changing anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use super::{
    items::{CONFIG, Item, Kind, LOG},
    manifest::{Entry, EntryKind, MANIFEST, Manifest},
};

/// v1's files.
pub(crate) const V1_CONFIG: &str = "/opt/memory-monitor/config.toml";
pub(crate) const V1_LOGROTATE: &str = "/etc/logrotate.d/memory-monitor";
/// The names of its unit in its installer and in its README.md.
pub(crate) const V1_UNITS: [&str; 2] = ["memory-monitor.service", "memory_monitor.service"];
/// The place to which v1's rotation is moved, because it would rotate the same log.
const V1_RETIRED: &str = "/opt/memory-monitor/logrotate.disabled";

/// The consent that `memmon enable` writes; without it memmon is in dry run.
pub(crate) const ENABLED: &str = "/etc/memmon/enabled";
/// The files that memmon keeps over restarts.
pub(crate) const STATE: [&str; 4] = [
    "/var/lib/memmon/exemptions.json",
    "/var/lib/memmon/history.redb",
    "/var/lib/memmon/stopped.json",
    "/var/lib/memmon/throttled.json",
];
/// The drop-in that kept memmon in dry run before there was `memmon enable`.
pub(crate) const DRY_RUN: &str = "/etc/systemd/system/memmon.service.d/dry-run.conf";

/// The facts on which the plan depends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The content of those files of interest that exist.
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    /// The directories above files of interest that exist.
    pub(crate) directories: BTreeSet<PathBuf>,
    /// The existing logs, including rotated ones.
    pub(crate) logs: Vec<PathBuf>,
    /// The files that memmon keeps over restarts, as far as they exist.
    pub(crate) state: Vec<PathBuf>,
    /// The files of earlier installations.
    pub(crate) manifest: Manifest,
    /// Whether nothing of v1 is in force, or the user has agreed to disable it.
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
    /// A remark for the user.
    Note(String),
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
    /// Removes a directory unless it holds files that are not memmon's.
    RemoveDirectory(PathBuf),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(text) => f.write_str(text),
            Self::CreateDirectory(path) => write!(f, "create {}", folder(path)),
            Self::Write { path, mode, content: _ } => write!(f, "write  {} ({mode:o})", path.display()),
            Self::Move { from, to } => write!(f, "move   {} to {}", from.display(), to.display()),
            Self::Remove(path) => write!(f, "remove {}", path.display()),
            Self::RemoveDirectory(path) => write!(f, "remove {} if it is empty", folder(path)),
        }
    }
}

/// A folder's path, with a slash at its end.
fn folder(path: &Path) -> String {
    path.join("").display().to_string()
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
                // Without a log file there is no rotation.
                None => continue,
                Some(log) if facts.content(V1_LOGROTATE).is_some() && !facts.retire_v1 && log == LOG => {
                    steps.push(Step::Note(format!(
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
                steps.push(Step::Note(format!(
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
                steps.push(Step::Note(format!("{} was edited and stays as it is", item.path.display())));
            }
            (None, _) | (Some(_), Kind::Program) => write(&item, facts, &mut manifest, &mut steps),
        }
    }
    // Files of an installation with another prefix, or of another version.
    let wanted: Vec<&Path> = items.iter().map(|item| &*item.path).collect();
    let left: Vec<_> =
        manifest.of(EntryKind::Program).filter(|path| !wanted.contains(&path.as_path())).cloned().collect();
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

/// Takes over v1's configuration if memmon has none, and retires the rest of v1.
fn take_over<'f>(facts: &'f Facts, steps: &mut Vec<Step>) -> Option<&'f [u8]> {
    let config = facts.content(V1_CONFIG).filter(|_| facts.content(CONFIG).is_none());
    if config.is_some() {
        steps.push(Step::Note(format!("v1's {V1_CONFIG} is taken over as {CONFIG}")));
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

/// Removes the files of installations; with `purge`, the configuration, the logs, and what memmon keeps as well.
pub(crate) fn uninstall(shipped_config: &[u8], facts: &Facts, purge: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut kept = Manifest::default();
    let config = Entry { kind: EntryKind::Config, path: CONFIG.into() };
    for entry in facts.manifest.entries() {
        let Some(content) = facts.content(&entry.path).filter(|_| entry.kind != EntryKind::Directory) else {
            continue;
        };
        if !purge && content != shipped_config && *entry == config {
            kept.add(entry.clone());
            steps.push(Step::Note(format!("{CONFIG} was edited and is kept: --purge removes it")));
        } else {
            steps.push(Step::Remove(entry.path.clone()));
        }
    }
    steps.extend(remove_drop_in(facts));
    steps.extend(facts.content(ENABLED).map(|_| Step::Remove(ENABLED.into())));
    if purge {
        steps.extend(facts.logs.iter().chain(&facts.state).cloned().map(Step::Remove));
        let folder = facts.state.first().and_then(|file| file.parent());
        steps.extend(folder.map(|folder| Step::RemoveDirectory(folder.to_owned())));
    } else if !facts.logs.is_empty() {
        steps.push(Step::Note("the log is kept: --purge removes it".to_owned()));
    }
    if !purge && !facts.state.is_empty() {
        steps.push(Step::Note("the history and the exemptions are kept: --purge removes them".to_owned()));
    }
    if kept.is_empty() {
        steps.push(Step::Remove(MANIFEST.into()));
    } else {
        facts.manifest.of(EntryKind::Directory).for_each(|path| kept.add(Entry::directory(path)));
        let content = kept.to_string().into_bytes();
        steps.push(Step::Write { path: MANIFEST.into(), mode: 0o644, content });
    }
    let mut directories: Vec<_> = facts.manifest.of(EntryKind::Directory).cloned().collect();
    directories.sort();
    steps.extend(directories.into_iter().rev().map(Step::RemoveDirectory));
    steps
}

/// Removes the drop-in of earlier installations.
pub(crate) fn remove_drop_in(facts: &Facts) -> Vec<Step> {
    let above = Path::new(DRY_RUN).parent().unwrap_or(Path::new("/"));
    match facts.content(DRY_RUN) {
        Some(_) => vec![Step::Remove(DRY_RUN.into()), Step::RemoveDirectory(above.to_owned())],
        None => Vec::new(),
    }
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

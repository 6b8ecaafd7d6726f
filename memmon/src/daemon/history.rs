//! The events that the history keeps, and the answer to a question about them.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::config;
use crate::daemon::state_file::STATE_DIR;
use crate::files;
use crate::history::{Bounds, Recorder, Store, Trouble};
use crate::model::{
    Bytes, Cause, ContainerNames, Entry, Happened, History, Limit, Name, Protection, Sample, Samples, Select,
    Workload,
};
use crate::report::{ContainerFiles, Event, Subject};
use crate::status::{Body, Refusal, answer as reply};

/// The file's name in the state directory.
const FILE: &str = "history.redb";

/// The longest text of an entry, in characters.
const LONGEST: usize = 200;

/// Time that the last entries may take to reach the disk.
const PATIENCE: Duration = Duration::from_millis(500);

/// The history, while it is kept.
pub(super) struct Historian {
    recorder: Option<Recorder>,
    /// Whether this memmon may keep one.
    may_keep: bool,
}

impl Historian {
    /// A history as `settings` define it; without them this memmon keeps none, whatever they are later.
    pub(super) fn new(settings: Option<config::History>) -> Self {
        let recorder = settings.and_then(bounds).map(recorder);
        Self { recorder, may_keep: settings.is_some() }
    }

    /// Keeps so much from now on.
    pub(super) fn replace(&mut self, settings: config::History) {
        match (bounds(settings).filter(|_| self.may_keep), &mut self.recorder) {
            (Some(bounds), Some(recorder)) => recorder.keep(bounds),
            (bounds, kept) => *kept = bounds.map(recorder),
        }
    }

    /// Keeps an event, if it is one to keep.
    pub(super) fn note(&mut self, event: &Event) {
        if let Some(recorder) = &mut self.recorder
            && let Some(entry) = entry(event, Timestamp::now())
        {
            let workload = event.subject().and_then(|subject| subject.workload.clone());
            recorder.add(move || named(entry, workload.as_ref(), &ContainerFiles::default()));
        }
    }

    /// Answers a question, when its turn has come.
    pub(super) fn answer(&mut self, select: Select, answer: oneshot::Sender<String>) {
        // The client may have left.
        let Some(recorder) = &mut self.recorder else {
            let _ = answer.send(refused(NOTHING_KEPT));
            return;
        };
        recorder.select(select, move |found| send(answer, found, Body::History));
    }

    /// Answers with a page of samples.
    pub(super) fn answer_samples(&mut self, first: u64, answer: oneshot::Sender<String>) {
        let Some(recorder) = &mut self.recorder else {
            let _ = answer.send(refused(NOTHING_KEPT));
            return;
        };
        recorder.samples(first, move |found| send(answer, found, Body::Samples));
    }

    /// Whether anything is kept.
    pub(super) const fn is_kept(&self) -> bool {
        self.recorder.is_some()
    }

    /// Keeps the samples that `look` returns, which a thread calls that may wait.
    pub(super) fn look(&mut self, look: impl FnOnce() -> Vec<Sample> + Send + 'static) {
        if let Some(recorder) = &mut self.recorder {
            recorder.look(look);
        }
    }

    /// Its last failure.
    pub(super) fn trouble(&self) -> Trouble {
        self.recorder.as_ref().map(Recorder::trouble).unwrap_or_default()
    }

    /// Waits for the last entries, for a moment.
    pub(super) fn finish(self) {
        if let Some(recorder) = self.recorder {
            recorder.finish(PATIENCE);
        }
    }
}

const NOTHING_KEPT: &str = "this memmon keeps no history: days = 0 in [history], or it is not root's";

fn refused(message: &str) -> String {
    reply(&Body::Error(Refusal::new("refused", message)))
}

fn send<T>(answer: oneshot::Sender<String>, found: Result<T, String>, body: fn(Box<T>) -> Body) {
    let found = found.map(|found| reply(&body(Box::new(found))));
    let _ = answer.send(found.unwrap_or_else(|error| refused(&error)));
}

fn recorder(bounds: Bounds) -> Recorder {
    Recorder::new(&Path::new(STATE_DIR).join(FILE), bounds, |path| {
        files::own_folder(path.parent().unwrap_or(path)).map(drop)
    })
}

const fn bounds(settings: config::History) -> Option<Bounds> {
    let config::History { days, bytes } = settings;
    if days == 0 { None } else { Some(Bounds { days, bytes: bytes.0 }) }
}

/// The history as a memmon left it that no longer runs.
///
/// # Errors
/// There is no history, or this user may not read it.
pub fn history_on_disk(select: &Select) -> anyhow::Result<History> {
    Ok(on_disk()?.select(select)?)
}

/// A page of the samples, in the same way.
///
/// # Errors
/// There are none, or this user may not read them.
pub fn samples_on_disk(first: u64) -> anyhow::Result<Samples> {
    Ok(on_disk()?.samples(first)?)
}

fn on_disk() -> anyhow::Result<Store> {
    let path = Path::new(STATE_DIR).join(FILE);
    anyhow::ensure!(
        path.try_exists().unwrap_or(true),
        "no memmon runs, and {} does not exist: nothing was recorded here",
        path.display()
    );
    files::roots_alone_state(Path::new(STATE_DIR)).map_err(anyhow::Error::msg)?;
    Ok(Store::open(&path)?)
}

/// The entry of an event; `None` if it is not kept.
fn entry(event: &Event, at: Timestamp) -> Option<Entry> {
    let of =
        |subject, what, rule: Option<String>, limit, peak| Some(about(subject, what, rule, limit, peak, at));
    match event {
        Event::Terminated { subject, record, .. } => {
            let breach = &record.breach;
            let rule = Some(breach.rule_name());
            Some(Entry {
                cause: Some(cause(record.cause).to_owned()),
                signal_to_exit_seconds: record.overshoot.map(|_| record.signal_to_exit.as_secs_f64()),
                ..about(
                    subject,
                    Happened::Terminated,
                    rule,
                    limit(breach.rule, breach.limit),
                    record.peak,
                    at,
                )
            })
        }
        Event::Killing { subject, breach, dry_run: true, .. } => {
            let limit = limit(breach.rule, breach.limit);
            of(subject, Happened::WouldTerminate, Some(breach.rule_name()), limit, breach.rss)
        }
        Event::Culprit { subject, gives_back, dry_run: true, .. } => {
            of(subject, Happened::WouldTerminate, Some(Limit::Machine.to_string()), None, *gives_back)
        }
        Event::OverButProtected { subject, rss, limit, protection: Protection::Exempt(_) } => {
            of(subject, Happened::Exempt, None, Some(*limit), *rss)
        }
        Event::OverRule { subject, breach } => {
            of(subject, Happened::Warned, Some(breach.rule_name()), Some(breach.limit), breach.rss)
        }
        Event::Approaching { subject, rss, limit, .. } => {
            of(subject, Happened::NearLimit, None, Some(*limit), *rss)
        }
        _ => None,
    }
}

fn shown(name: &Name) -> String {
    name.to_string().chars().take(LONGEST).collect()
}

/// The entry with the names of its container.
fn named(entry: Entry, workload: Option<&Workload>, files: &ContainerFiles) -> Entry {
    let ContainerNames { name, pod_name, namespace } =
        workload.map(|workload| files.names_of(workload)).unwrap_or_default();
    let [container_name, pod_name, namespace] =
        [name, pod_name, namespace].map(|name| name.as_ref().map(shown));
    Entry { container_name, pod_name, namespace, ..entry }
}

fn about(
    subject: &Subject,
    what: Happened,
    rule: Option<String>,
    limit: Option<Bytes>,
    peak: Bytes,
    at: Timestamp,
) -> Entry {
    let workload = subject.workload.as_ref();
    Entry {
        at_unix_seconds: at.as_duration().as_secs_f64(),
        what,
        pid: subject.id.pid,
        comm: shown(&subject.name),
        uid: subject.uid,
        unit: workload.and_then(|workload| workload.unit.as_ref()).map(shown),
        job: workload.and_then(|workload| workload.slurm.as_ref()).map(|slurm| slurm.job),
        container: workload.and_then(|workload| workload.container.as_ref()).map(|one| shown(&one.id)),
        container_name: None,
        pod_name: None,
        namespace: None,
        rule,
        limit_bytes: limit,
        peak_bytes: peak,
        cause: None,
        signal_to_exit_seconds: None,
    }
}

/// A machine that is short of memory has no limit for the process.
const fn limit(rule: Limit, limit: Bytes) -> Option<Bytes> {
    match rule {
        Limit::Machine => None,
        Limit::Percent | Limit::Gb => Some(limit),
    }
}

const fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Term => "SIGTERM",
        Cause::Kill => "SIGKILL",
        Cause::Itself => "itself",
        Cause::OomKiller => "the OOM killer",
        Cause::SomebodyElse => "somebody else",
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;
    use crate::{
        model::{Fact, Process},
        policy::fixtures::hog,
    };

    #[test]
    fn an_entry_gets_the_names_of_its_container() {
        const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let folder = tempfile::tempdir().unwrap();
        let stored = folder.path().join("var/lib/docker/containers").join(ID);
        fs::create_dir_all(&stored).unwrap();
        fs::write(stored.join("config.v2.json"), r#"{"Name":"/web","Config":{}}"#).unwrap();
        let owner = fs::metadata(&stored).unwrap().uid();
        let files = ContainerFiles { roots: vec![folder.path().to_owned()], owner };
        let in_cgroup = |cgroup: &str| {
            let subject = Subject::from(&Process { cgroup: Fact::Known(Name::from(cgroup)), ..hog() });
            let entry = about(&subject, Happened::Warned, None, None, Bytes(7), Timestamp::UNIX_EPOCH);
            assert_eq!((entry.pid, &entry.container_name), (hog().id.pid, &None));
            let workload = subject.workload;
            named(entry, workload.as_ref(), &files)
        };
        let entry = in_cgroup(&format!("/system.slice/docker-{ID}.scope"));
        assert_eq!((entry.container.as_deref(), entry.container_name.as_deref()), (Some(ID), Some("web")));
        assert_eq!(in_cgroup("/system.slice/nginx.service").container_name, None);
    }

    #[test]
    fn a_memmon_that_keeps_no_history_keeps_none_after_a_reload_either() {
        let settings = |days| config::History { days, bytes: Bytes(2 << 20) };
        let mut looks_beside_another = Historian::new(None);
        looks_beside_another.replace(settings(7));
        assert!(!looks_beside_another.is_kept());
        let mut historian = Historian::new(Some(settings(0)));
        historian.replace(settings(7));
        assert!(historian.is_kept());
        historian.replace(settings(0));
        assert!(!historian.is_kept());
    }
}

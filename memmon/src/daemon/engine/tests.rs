//! The engine without an event loop, on a captured /proc. Dry runs only: the pids may be those of other processes here.

use std::{cell::RefCell, path::Path, time::Duration};

use super::Engine;
use super::state::reports::Observer;
use crate::config::{self, FakeUsers};
use crate::daemon::clock::Now;
use crate::daemon::source::sources::Sources;
use crate::enforce::Reaper;
use crate::observe::procfs::{Accuracy, testing::Tree};
use crate::report::{Event, MapFigures};

#[derive(Default)]
struct Recorder(RefCell<Vec<Event>>);

impl Observer for Recorder {
    fn event(&self, event: Event) {
        self.0.borrow_mut().push(event);
    }

    fn scanned(&self, _: Duration, map: Option<MapFigures>, dry_run: bool) {
        assert_eq!((map, dry_run), (None, true));
    }
}

impl Recorder {
    /// The events since the last call about processes, in short.
    fn about_processes(&self) -> Vec<String> {
        let short = |event: Event| match event {
            Event::SystemMemory { .. } | Event::ScanComplete { .. } => None,
            Event::Killing { subject, dry_run: true, .. } => {
                Some(format!("would terminate {}", subject.name))
            }
            Event::Unsure { subject, .. } => Some(format!("in doubt about {}", subject.name)),
            other => Some(format!("{other:?}")),
        };
        self.0.take().into_iter().filter_map(short).collect()
    }
}

/// A machine with one `cat` of 4 MB, which is over its limit.
fn machine() -> Tree {
    let tree = Tree::new();
    tree.write("meminfo", "MemTotal:  16777216 kB\nMemFree:  1 kB\nMemAvailable:  9437184 kB\n");
    tree.cat(4_000_042);
    tree
}

fn engine<'a>(tree: &Tree, recorder: &'a Recorder, now: Now) -> Engine<'a> {
    let text = "thresholds = { ram_gb_threshold = 0.001, measure = 'rss' }
                settings.dry_run = true
                whitelist = { pids = [], names = [], users = [] }";
    let settings = config::parse(text, Path::new("c"), &FakeUsers(&[])).unwrap().settings;
    let sources = Sources::new(tree.root(), Accuracy::StatmExact, None);
    let memory = sources.memory().unwrap();
    let reaper = Reaper::start(|_, _| {}).unwrap();
    Engine::new(settings, sources, memory, false, reaper, recorder, now).unwrap()
}

#[test]
fn a_process_over_its_limit_is_reported_once_while_it_stays() {
    let (tree, recorder, now) = (machine(), Recorder::default(), Now::read());
    let mut engine = engine(&tree, &recorder, now);
    engine.scan(now);
    assert_eq!(recorder.about_processes(), ["would terminate cat"]);
    engine.scan(now.later(Duration::from_secs(30)));
    assert_eq!((recorder.about_processes(), engine.over_limit().largest().len()), (vec![], 1));
    assert!(engine.next_recheck().is_none() && !engine.has_graces());
}

#[test]
fn a_process_in_doubt_is_looked_at_again_by_the_clock() {
    let (tree, recorder, now) = (machine(), Recorder::default(), Now::read());
    tree.spoil("4000042/oom_score_adj");
    let mut engine = engine(&tree, &recorder, now);
    engine.scan(now);
    assert_eq!(recorder.about_processes(), ["in doubt about cat"]);
    let due = engine.next_recheck().unwrap();
    std::fs::remove_dir(tree.path().join("4000042/oom_score_adj")).unwrap();
    tree.write("4000042/oom_score_adj", "0\n");
    engine.recheck_next(now);
    assert_eq!((recorder.about_processes(), engine.next_recheck()), (vec![], Some(due)), "it is not due");
    engine.recheck_next(now.later(Duration::from_secs(1)));
    assert_eq!(recorder.about_processes(), ["would terminate cat"]);
    assert_eq!(engine.next_recheck(), None);
}

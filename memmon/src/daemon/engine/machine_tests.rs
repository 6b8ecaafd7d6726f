//! `[machine]` on a captured /proc: what changes while memmon looks, or between two looks. No signal is sent.

use std::{cell::Cell, fs, thread, time::Duration};

use super::state::reports::Observer;
use super::state::sum_trends::SumState;
use super::tests::{Recorder, WITH_MACHINE, engine_with, memory, sized, small_machine};
use crate::daemon::clock::Now;
use crate::model::{Bytes, RuleName};
use crate::observe::procfs::testing::Tree;
use crate::report::{Event, MapFigures};

const HOG: u32 = 4_000_010;

/// Starts a process of 300 MB while the first scan looks at others.
struct DuringTheScan<'a> {
    tree: &'a Tree,
    recorder: Recorder,
    is_done: Cell<bool>,
}

impl Observer for DuringTheScan<'_> {
    fn event(&self, event: Event) {
        if matches!(event, Event::SystemMemory { .. }) && !self.is_done.replace(true) {
            // Start times are counted in ticks of 10 ms.
            thread::sleep(Duration::from_millis(30));
            let ticks = Now::read().since_boot().as_millis() / 10;
            self.tree.cat(HOG);
            let stat = fs::read_to_string(self.tree.path().join(format!("{HOG}/stat"))).unwrap();
            self.tree.write(&format!("{HOG}/stat"), stat.replace(" 777 ", &format!(" {ticks} ")));
            sized(self.tree, HOG, 300);
            thread::sleep(Duration::from_millis(60));
        }
        self.recorder.event(event);
    }

    fn scanned(&self, took: Duration, map: Option<MapFigures>, dry_run: bool) {
        self.recorder.scanned(took, map, dry_run);
    }

    fn sums(&self, limits: &[(RuleName, Bytes)], sums: &[SumState]) {
        self.recorder.sums(limits, sums);
    }
}

#[test]
fn a_process_that_starts_during_a_scan_has_grown_by_all_that_it_has() {
    let tree = small_machine(0);
    let observer = DuringTheScan { tree: &tree, recorder: Recorder::default(), is_done: Cell::new(false) };
    let mut engine = engine_with(WITH_MACHINE, &tree, &observer, Now::read());
    engine.scan(Now::read());
    assert_eq!(observer.recorder.about_processes(), [""; 0]);
    memory(&tree, 20, 0);
    engine.check_machine(Now::read());
    let events = observer.recorder.about_processes();
    assert_eq!(events.last().map(String::as_str), Some("would terminate cat"), "{events:?}");
}

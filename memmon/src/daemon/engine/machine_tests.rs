//! `[machine]` on a captured /proc: what changes while memmon looks, or between two looks. No signal is sent.

use std::{cell::Cell, fs, thread, time::Duration};

use super::Engine;
use super::state::reports::Observer;
use super::state::sum_trends::SumState;
use super::tests::{Recorder, WITH_MACHINE, engine_with, memory, sized, small_machine};
use crate::daemon::clock::Now;
use crate::enforce::{Check, Course, Errno, Event as Step, Phase};
use crate::model::{Breach, Bytes, Limit, Pid, Process, ProcessId, RuleName, Unconfirmed, Verdict};
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

/// Chooses the process that comes first, as it is done before a signal.
fn choose(engine: &mut Engine<'_>, now: Now) {
    let readings = engine.sources.readings().unwrap();
    let machine = engine.sources.machine_memory().unwrap().memory;
    let baseline = engine.machine.baseline.take().unwrap();
    let candidates = engine.growers(&baseline, &machine, &readings, now);
    let lost = engine.machine.marks.lost(&baseline, &machine, now.moment());
    engine.machine.baseline = Some(baseline);
    let order = crate::policy::machine::order(engine.settings.rules(), &machine, lost, &candidates);
    let first = order.first().unwrap().process;
    engine.machine.chose(first, candidates, lost);
}

fn process(engine: &Engine<'_>) -> Process {
    engine.sources.confirm(Pid(HOG), None, Bytes::ZERO).unwrap()
}

#[test]
fn the_culprit_stays_the_culprit_while_it_takes_the_rest_of_the_memory() {
    let (tree, recorder, now) = (small_machine(1), Recorder::default(), Now::read());
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    engine.scan(now);
    // A quarter of the loss, and little more.
    sized(&tree, HOG, 166);
    memory(&tree, 50, 0);
    choose(&mut engine, now);
    // It ignores SIGTERM. Its growth counts as it was, and so must the loss.
    sized(&tree, HOG, 215);
    memory(&tree, 1, 0);
    let victim = process(&engine);
    let check = engine.look_again_for_machine(&victim, now).check;
    assert!(matches!(check, Check::StillOver(_)), "{check:?}");
    memory(&tree, 60, 0);
    let check = engine.look_again_for_machine(&victim, now).check;
    assert!(matches!(check, Check::Within { .. }), "memory is back: {check:?}");
}

#[test]
fn nobody_is_said_to_be_the_culprit_while_the_culprit_is_left_alone_for_a_moment() {
    let (tree, recorder, now) = (small_machine(1), Recorder::default(), Now::read());
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    engine.scan(now);
    sized(&tree, HOG, 400);
    memory(&tree, 20, 0);
    choose(&mut engine, now);
    // The look right before the signal found it in doubt.
    let id = process(&engine).id;
    engine.machine.is_over(id, false, now.instant());
    engine.check_machine(now);
    assert_eq!(recorder.about_processes(), ["short of memory"]);
    engine.check_machine(now.later(Duration::from_secs(2)));
    let expected = ["cat 4000010 grew by 398, 1 grew by 398", "would terminate cat"];
    assert_eq!(recorder.about_processes(), expected);
}

/// Has the hog be a victim that got SIGTERM.
fn in_grace(engine: &mut Engine<'_>, course: Course, now: Now) -> ProcessId {
    let (process, now) = (process(engine), now.instant());
    let (id, limit) = (process.id, Bytes(1));
    let breach = Breach { rule: Limit::Gb, limit, rss: process.rss, percent: 1.0, by: None };
    let over = Check::judged(id, &process, Verdict::Terminate(breach), limit);
    let victims = &mut engine.terminations.victims;
    drop(victims.start_termination(process, breach, course, now));
    for step in [Step::Opened(Ok(())), Step::Checked(over), Step::Sent(Ok(()))] {
        drop(victims.handle(id, step, now));
    }
    id
}

#[test]
fn a_grace_ends_if_the_cgroup_that_all_processes_are_in_is_nearly_full() {
    let (tree, recorder, now) = (small_machine(1), Recorder::default(), Now::read());
    let place = tree.path().display();
    tree.write("self/mountinfo", format!("30 1 0:26 / {place}/cg rw - cgroup2 cgroup rw\n"));
    for pid in [1, 4_000_001, HOG] {
        tree.write(&format!("{pid}/cgroup"), "0::/box\n");
    }
    let uses = |mib: u64| tree.write("cg/box/memory.current", (mib << 20).to_string());
    tree.write("cg/box/memory.max", (512_u64 << 20).to_string());
    uses(100);
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    engine.scan(now);
    let victim = in_grace(&mut engine, Course::default(), now);
    let is_in_grace = |engine: &Engine<'_>| {
        let mut victims = engine.terminations.victims.iter();
        victims.any(|(process, phase)| process.id == victim && matches!(phase, Phase::Grace { .. }))
    };
    engine.check_graces(now);
    assert!(is_in_grace(&engine), "the cgroup has 412 MB left, and the machine 700");
    uses(505);
    engine.check_graces(now);
    assert!(!is_in_grace(&engine));
}

#[test]
fn a_victim_that_cannot_be_looked_at_again_keeps_no_other_one_from_its_turn() {
    let (tree, recorder, now) = (small_machine(2), Recorder::default(), Now::read());
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    engine.scan(now);
    let victim = in_grace(&mut engine, Course::default(), now);
    let (late, error) = (now.later(Duration::from_secs(3600)), "out of memory".to_owned());
    let unreadable = Check::Unconfirmed(Unconfirmed::Unreadable { file: "stat", error });
    for step in [Step::Tick, Step::Checked(unreadable)] {
        drop(engine.terminations.victims.handle(victim, step, late.instant()));
    }
    sized(&tree, HOG + 1, 400);
    memory(&tree, 20, 0);
    engine.check_machine(late);
    engine.check_machine(late.later(Duration::from_secs(1)));
    assert_eq!(recorder.about_processes(), ["short of memory"]);
    engine.check_machine(late.later(Duration::from_secs(3)));
    let expected = ["cat 4000011 grew by 398, 1 grew by 398", "would terminate cat"];
    assert_eq!(recorder.about_processes(), expected);
}

#[test]
fn a_victim_that_a_lack_of_descriptors_keeps_from_being_opened_is_waited_for() {
    for (error, is_awaited) in [(Errno::EMFILE, true), (Errno::EPERM, false)] {
        let (tree, recorder, now) = (small_machine(2), Recorder::default(), Now::read());
        let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
        engine.scan(now);
        let victim = process(&engine);
        let breach = Breach { rule: Limit::Gb, limit: Bytes(1), rss: victim.rss, percent: 1.0, by: None };
        let (id, victims) = (victim.id, &mut engine.terminations.victims);
        drop(victims.start_termination(victim, breach, Course::default(), now.instant()));
        drop(victims.handle(id, Step::Opened(Err(error)), now.instant()));
        sized(&tree, HOG + 1, 400);
        memory(&tree, 20, 0);
        let would_end = |second| {
            engine.check_machine(now.later(Duration::from_secs(second)));
            recorder.about_processes().iter().any(|event| event.starts_with("would terminate"))
        };
        assert_eq!([0, 1].map(would_end).contains(&true), !is_awaited, "{error}");
        if is_awaited {
            engine.check_machine(now.later(Duration::from_secs(4)));
            let expected = ["cat 4000011 grew by 398, 1 grew by 398", "would terminate cat"];
            assert_eq!(recorder.about_processes(), expected, "not for ever");
        }
    }
}

#[test]
fn the_long_grace_that_a_rule_gives_one_process_is_not_waited_for() {
    let (tree, recorder, now) = (small_machine(2), Recorder::default(), Now::read());
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    engine.scan(now);
    let course = Course { grace: Some(Duration::from_secs(3600)), ..Course::default() };
    in_grace(&mut engine, course, now);
    sized(&tree, HOG + 1, 400);
    memory(&tree, 20, 0);
    let usual = engine.settings.timing().grace;
    engine.check_machine(now.later(usual / 2));
    assert_eq!(recorder.about_processes(), ["short of memory"]);
    engine.check_machine(now.later(usual * 2));
    let expected = ["cat 4000011 grew by 398, 1 grew by 398", "would terminate cat"];
    assert_eq!(recorder.about_processes(), expected);
}

#[test]
fn nobody_else_ends_while_the_memory_of_a_killed_process_comes_back() {
    let (tree, recorder, now) = (small_machine(2), Recorder::default(), Now::read());
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    engine.scan(now);
    let victim = in_grace(&mut engine, Course::default(), now);
    let killed = now.later(engine.settings.timing().grace);
    let (process, limit) = (process(&engine), Bytes(1));
    let breach = Breach { rule: Limit::Gb, limit, rss: process.rss, percent: 1.0, by: None };
    let over = Check::judged(victim, &process, Verdict::Terminate(breach), limit);
    for step in [Step::Tick, Step::Checked(over), Step::Sent(Ok(()))] {
        drop(engine.terminations.victims.handle(victim, step, killed.instant()));
    }
    sized(&tree, HOG + 1, 400);
    // The kernel takes its time, and the machine is short of memory until it has freed enough.
    for (second, available) in [(1, 20), (2, 24), (3, 28), (4, 32)] {
        memory(&tree, available, 0);
        engine.check_machine(killed.later(Duration::from_secs(second)));
    }
    assert_eq!(recorder.about_processes(), ["short of memory"]);
    engine.check_machine(killed.later(Duration::from_secs(7)));
    let expected = ["cat 4000011 grew by 398, 1 grew by 398", "would terminate cat"];
    assert_eq!(recorder.about_processes(), expected, "no more comes back");
}

//! The engine without an event loop, on a captured /proc. Dry runs only: the pids may be those of other processes here.

use std::{cell::RefCell, path::Path, time::Duration};

use super::Engine;
use super::state::reports::Observer;
use super::state::sum_trends::SumState;
use crate::config::{self, FakeUsers};
use crate::daemon::clock::Now;
use crate::daemon::source::sources::Sources;
use crate::enforce::Reaper;
use crate::model::{Bytes, Pid, RuleName};
use crate::observe::procfs::{Accuracy, testing::Tree};
use crate::report::{Event, MapFigures};

#[derive(Default)]
pub(super) struct Recorder(RefCell<Vec<Event>>);

impl Observer for Recorder {
    fn event(&self, event: Event) {
        self.0.borrow_mut().push(event);
    }

    fn scanned(&self, _: Duration, map: Option<MapFigures>, dry_run: bool) {
        assert_eq!((map, dry_run), (None, true));
    }

    fn sums(&self, limits: &[(RuleName, Bytes)], sums: &[SumState]) {
        assert!(limits.is_empty() && sums.is_empty());
    }
}

impl Recorder {
    /// The events since the last call about processes, in short.
    pub(super) fn about_processes(&self) -> Vec<String> {
        let short = |event: Event| match event {
            Event::SystemMemory { .. } | Event::ScanComplete { .. } => None,
            Event::Killing { subject, dry_run: true, .. } => {
                Some(format!("would terminate {}", subject.name))
            }
            Event::MemoryLow { acts, .. } => {
                Some(if acts { "short of memory" } else { "low on memory" }.to_owned())
            }
            Event::Culprit { subject, culprit, growth, .. } => Some(format!(
                "{} {} grew by {}, {} grew by {}",
                subject.name,
                subject.id,
                growth.0 >> 20,
                culprit.processes,
                culprit.growth.0 >> 20
            )),
            Event::NoCulprit { lost, grown, elsewhere, .. } => Some(format!(
                "nobody: lost {}, grown {}, shmem {}",
                lost.0 >> 20,
                grown.0 >> 20,
                elsewhere.shmem.0 >> 20
            )),
            Event::MemoryBack { .. } => Some("memory is back".to_owned()),
            Event::Unsure { subject, .. } => Some(format!("in doubt about {}", subject.name)),
            other => Some(format!("{other:?}")),
        };
        self.0.take().into_iter().filter_map(short).collect()
    }
}

/// A machine with one `cat` of 4 MB, which is over its limit.
pub(super) fn machine() -> Tree {
    let tree = Tree::new();
    tree.write("meminfo", "MemTotal:  16777216 kB\nMemFree:  1 kB\nMemAvailable:  9437184 kB\n");
    tree.cat(4_000_042);
    tree
}

fn engine<'a>(tree: &Tree, recorder: &'a Recorder, now: Now) -> Engine<'a> {
    let text = "thresholds = { ram_gb_threshold = 0.001, measure = 'rss' }
                settings.dry_run = true
                whitelist = { pids = [], names = [], users = [] }";
    engine_with(text, tree, recorder, now)
}

pub(super) fn engine_with<'a>(text: &str, tree: &Tree, observer: &'a dyn Observer, now: Now) -> Engine<'a> {
    let settings = config::parse(text, Path::new("c"), &FakeUsers(&[])).unwrap().settings;
    let sources = Sources::new(tree.root(), Accuracy::StatmExact, None);
    let memory = sources.memory().unwrap();
    let reaper = Reaper::start(|_, _| {}).unwrap();
    Engine::new(settings, sources, memory, false, reaper, observer, now).unwrap()
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

/// Not in dry run: no process can have this pid (PID_MAX_LIMIT).
#[test]
fn a_process_that_is_protected_since_the_look_at_it_gets_no_signal() {
    let (tree, recorder, now) = (machine(), Recorder::default(), Now::read());
    let pid = Pid(4_200_042);
    tree.cat(pid.0);
    let text = "thresholds = { ram_gb_threshold = 0.001, measure = 'rss' }
                whitelist = { pids = [], names = [], users = [] }";
    let mut engine = engine_with(text, &tree, &recorder, now);
    let score = tree.path().join(format!("{pid}/oom_score_adj"));
    std::fs::remove_file(&score).unwrap();
    nix::unistd::mkfifo(&score, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let changes = std::thread::spawn(move || {
        // The look has come to this file.
        let mut read = std::fs::OpenOptions::new().write(true).open(&score).unwrap();
        std::fs::remove_file(&score).unwrap();
        std::fs::write(&score, "-1000\n").unwrap();
        std::thread::sleep(Duration::from_millis(2));
        std::io::Write::write_all(&mut read, b"0\n").unwrap();
    });
    engine.look((pid, None), None, None, now);
    changes.join().unwrap();
    let reported = recorder.about_processes();
    let [only] = &reported[..] else { panic!("{reported:#?}") };
    assert!(only.starts_with("OverButProtected") && only.contains("OomScoreAdj"), "{only}");
}

/// A machine of 1 GB with a database of 200 MB, and so many workers of user 1000.
pub(super) fn small_machine(workers: u32) -> Tree {
    let tree = Tree::new();
    memory(&tree, 700, 0);
    tree.cat(4_000_001);
    tree.stat(4_000_001, b"database", 0x0040_0000, 1);
    sized(&tree, 4_000_001, 200);
    for pid in (4_000_010..).take(workers as usize) {
        tree.cat(pid);
        sized(&tree, pid, 2);
    }
    tree
}

/// Sets the memory that is available, and that of files in memory, in MB.
pub(super) fn memory(tree: &Tree, available: u64, shmem: u64) {
    let kib = |mib: u64| mib << 10;
    let text = format!(
        "MemTotal: {} kB\nMemAvailable: {} kB\nSwapTotal: 0 kB\nShmem: {} kB\n",
        kib(1024),
        kib(available),
        kib(shmem)
    );
    tree.write("meminfo", text);
}

/// A process has so many MB of anonymous memory.
pub(super) fn sized(tree: &Tree, pid: u32, mib: u64) {
    let pages = (mib << 20) / 4096;
    tree.write(&format!("{pid}/statm"), format!("999999 {} 300 1 0 99 0\n", pages + 300));
    let status =
        format!("Name:\tx\nUid:\t1000\t1000\t1000\t1000\nRssAnon: {} kB\nRssFile: 1200 kB\n", mib << 10);
    tree.write(&format!("{pid}/status"), status + "RssShmem: 0 kB\nVmSwap: 0 kB\n");
}

pub(super) const WITH_MACHINE: &str = "thresholds = { ram_gb_threshold = 100, ram_percent_threshold = 100 }
    settings.dry_run = true
    whitelist = { pids = [], names = [], users = [] }
    [machine]";

#[test]
fn a_crowd_would_end_one_by_one_and_the_idle_database_not_at_all() {
    let (tree, recorder, now) = (small_machine(10), Recorder::default(), Now::read());
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    engine.scan(now);
    assert_eq!(recorder.about_processes(), Vec::<String>::new());
    let looks_at = engine.next_machine_look().unwrap();
    assert!(looks_at <= now.instant() + Duration::from_secs(1), "{:?}", looks_at - now.instant());

    for pid in 4_000_010..4_000_020 {
        sized(&tree, pid, 30);
    }
    sized(&tree, 4_000_015, 31);
    memory(&tree, 90, 0);
    let later = now.later(Duration::from_secs(3));
    engine.check_machine(later);
    assert_eq!(recorder.about_processes(), ["low on memory"]);
    memory(&tree, 10, 0);
    engine.check_machine(later);
    // 41 MB are needed, and no more are taken than that takes.
    let expected = [
        "short of memory",
        "cat 4000015 grew by 29, 10 grew by 281",
        "would terminate cat",
        "cat 4000010 grew by 28, 10 grew by 281",
        "would terminate cat",
    ];
    assert_eq!(recorder.about_processes(), expected);
    engine.check_machine(later.later(Duration::from_secs(1)));
    assert_eq!(recorder.about_processes(), Vec::<String>::new(), "each is reported once");
    memory(&tree, 150, 0);
    engine.check_machine(later);
    assert_eq!(recorder.about_processes(), Vec::<String>::new(), "it is not well yet");
    memory(&tree, 500, 0);
    engine.check_machine(later);
    assert_eq!(recorder.about_processes(), ["memory is back"]);
}

#[test]
fn a_crowd_that_is_larger_than_the_number_of_looks_is_the_culprit_all_the_same() {
    // 1200 workers that grow by 48 MB each, on a machine of 64 GB.
    let (tree, recorder, now) = (small_machine(1200), Recorder::default(), Now::read());
    let available = |mib: u64| {
        tree.write(
            "meminfo",
            format!("MemTotal: 67108864 kB\nMemAvailable: {} kB\nSwapTotal: 0 kB\n", mib << 10),
        );
    };
    available(60_000);
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    engine.scan(now);
    recorder.about_processes();
    for pid in 4_000_010..4_001_210 {
        sized(&tree, pid, 50);
    }
    available(2_000);
    engine.check_machine(now);
    let events = recorder.about_processes();
    assert_eq!(events.get(2).map(String::as_str), Some("would terminate cat"), "{events:?}");
}

#[test]
fn a_reload_prolongs_the_time_for_which_a_sum_is_over_its_limit_only_if_it_changes_the_rules() {
    let (tree, now) = (small_machine(20), Now::read());
    for pid in (4_000_010..).take(20) {
        sized(&tree, pid, 30);
    }
    let text = |grace: u32, gb: f64| {
        format!(
            "thresholds = {{ ram_gb_threshold = 100, ram_percent_threshold = 100 }}
             settings.dry_run = true
             termination.grace = {grace}
             whitelist = {{ pids = [], names = [], users = [] }}
             [[rule]]
             name = 'together'
             uids = ['1000']
             per = 'user'
             for = '60s'
             gb = {gb}"
        )
    };
    for (gb, is_due) in [(0.5, true), (0.4, false)] {
        let recorder = Recorder::default();
        let mut engine = engine_with(&text(5, 0.5), &tree, &recorder, now);
        let later = |seconds| now.later(Duration::from_secs(seconds));
        (0..40).step_by(2).for_each(|second| engine.look_at_sums(later(second)));
        let reload = text(6, gb);
        let settings = config::parse(&reload, Path::new("c"), &FakeUsers(&[])).unwrap().settings;
        let former = engine.replace_settings(settings);
        engine.hand_over(&former, later(40));
        engine.look_at_sums(later(40));
        assert_eq!(recorder.about_processes(), [""; 0]);
        (42..62).step_by(2).for_each(|second| engine.look_at_sums(later(second)));
        let reported = recorder.about_processes();
        assert_eq!(reported.iter().any(|event| event.contains("would terminate")), is_due, "{reported:?}");
    }
}

#[test]
fn no_crowd_that_changes_all_the_time_keeps_memmon_from_a_verdict_on_its_sum() {
    let (tree, recorder, now) = (small_machine(1500), Recorder::default(), Now::read());
    tree.write("meminfo", "MemTotal: 67108864 kB\nMemAvailable: 60000000 kB\n");
    let text = "thresholds = { ram_gb_threshold = 100, ram_percent_threshold = 100 }
        settings.dry_run = true
        whitelist = { pids = [], names = [], users = [] }
        [[rule]]
        name = 'crowd'
        uids = ['1000']
        per = 'user'
        gb = 1";
    let mut engine = engine_with(text, &tree, &recorder, now);
    let mut ends = (0..40).filter(|look| {
        for pid in (4_000_010..).take(1500) {
            sized(&tree, pid, if look % 2 == 0 { 2 } else { 5 });
        }
        engine.look_at_sums(now);
        recorder.about_processes().iter().any(|event| event.contains("would terminate"))
    });
    assert!(ends.next().is_some());
}

/// The looks at the processes of one user, all of which have changed since the last one, take longer than memmon looks at once.
#[test]
fn no_user_with_very_many_processes_keeps_memmon_from_the_sum_of_another_one() {
    let (tree, recorder, now) = (small_machine(3000), Recorder::default(), Now::read());
    tree.write("meminfo", "MemTotal: 67108864 kB\nMemAvailable: 60000000 kB\n");
    tree.cat(4_100_000);
    sized(&tree, 4_100_000, 900);
    let status = tree.path().join("4100000/status");
    let text = std::fs::read_to_string(&status).unwrap().replace("1000\t1000", "2000\t2000");
    std::fs::write(&status, text).unwrap();
    // The many are only warned about, as are those that are protected.
    let text = "thresholds = { ram_gb_threshold = 100, ram_percent_threshold = 100 }
        settings.dry_run = true
        whitelist = { pids = [], names = [], users = [] }
        [[rule]]
        name = 'many'
        uids = ['1000']
        per = 'user'
        gb = 1
        action = 'warn'
        [[rule]]
        name = 'others'
        uids = ['2000']
        per = 'user'
        gb = 0.5";
    let mut engine = engine_with(text, &tree, &recorder, now);
    for look in 0..3 {
        for pid in (4_000_010..).take(3000) {
            sized(&tree, pid, if look % 2 == 0 { 2 } else { 5 });
        }
        engine.look_at_sums(now);
    }
    let reported = recorder.0.take();
    let would = |event: &Event| matches!(event, Event::Killing { subject, .. } if subject.uid.0 == 2000);
    assert!(reported.iter().any(would), "{reported:#?}");
}

#[test]
fn memory_of_a_tmpfs_ends_nobody() {
    let (tree, recorder, now) = (small_machine(3), Recorder::default(), Now::read());
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    engine.scan(now);
    sized(&tree, 4_000_010, 14);
    memory(&tree, 20, 660);
    engine.check_machine(now);
    engine.check_machine(now);
    let expected = ["short of memory", "nobody: lost 680, grown 12, shmem 660"];
    assert_eq!(recorder.about_processes(), expected);
}

#[test]
fn without_the_section_memmon_does_not_look() {
    let (tree, recorder, now) = (small_machine(3), Recorder::default(), Now::read());
    let mut engine = engine_with(WITH_MACHINE.trim_end_matches("[machine]"), &tree, &recorder, now);
    memory(&tree, 1, 0);
    sized(&tree, 4_000_010, 500);
    engine.scan(now);
    engine.check_machine(now);
    assert_eq!((recorder.about_processes(), engine.next_machine_look()), (vec![], None));
}

#[test]
fn a_preferred_process_would_end_first_although_it_is_idle() {
    let (tree, recorder, now) = (small_machine(3), Recorder::default(), Now::read());
    let text = format!("{WITH_MACHINE}\n[[rule]]\nname = 'batch'\nnames = ['database']\nprefer = true");
    let mut engine = engine_with(&text, &tree, &recorder, now);
    engine.scan(now);
    sized(&tree, 4_000_010, 300);
    memory(&tree, 20, 0);
    engine.check_machine(now);
    let expected = ["short of memory", "database 4000001 grew by 0, 1 grew by 0", "would terminate database"];
    assert_eq!(recorder.about_processes(), expected);
}

#[test]
fn memory_that_is_swapped_in_again_is_no_growth() {
    let (tree, recorder, now) = (small_machine(0), Recorder::default(), Now::read());
    let swapped = |resident: u64, swap: u64| {
        sized(&tree, 4_000_001, resident);
        let status = "4000001/status";
        let text = std::fs::read_to_string(tree.path().join(status)).unwrap();
        tree.write(status, text.replace("VmSwap: 0 kB", &format!("VmSwap: {} kB", swap << 10)));
    };
    let with_swap = |available: u64| {
        memory(&tree, available, 0);
        let text = std::fs::read_to_string(tree.path().join("meminfo")).unwrap();
        tree.write("meminfo", text.replace("SwapTotal: 0 kB", "SwapTotal: 524288 kB\nSwapFree: 9 kB"));
    };
    with_swap(700);
    swapped(40, 160);
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    engine.scan(now);
    recorder.about_processes();
    with_swap(20);
    swapped(200, 0);
    engine.check_machine(now);
    let events = recorder.about_processes();
    assert_eq!(events.last().map(String::as_str), Some("nobody: lost 680, grown 0, shmem 0"), "{events:?}");
}

/// Half of a second: the pause without a reason to look is longer.
const SOON: Duration = Duration::from_millis(500);

#[test]
fn a_process_that_fills_a_tmpfs_since_the_warning_would_be_stopped_at_the_first_look() {
    let (tree, recorder, now) = (small_machine(1), Recorder::default(), Now::read());
    let look = |engine: &mut Engine<'_>, available: u64, shmem: u64, written: u64| {
        tree.write("4000010/fdinfo/3", format!("pos:\t{}\nflags:\t0100001\nmnt_id:\t29\n", written << 20));
        memory(&tree, available, shmem);
        engine.check_machine(now);
        recorder.0.take()
    };
    tree.write("4000010/comm", "dd\n");
    tree.write("4000010/mountinfo", "29 1 0:21 / /dev/shm rw - tmpfs tmpfs rw\n");
    let mut engine = engine_with(&format!("{WITH_MACHINE}\nstop_writers = true"), &tree, &recorder, now);
    engine.scan(now);
    recorder.0.take();
    let events = look(&mut engine, 80, 620, 600);
    assert!(matches!(&events[..], [Event::MemoryLow { acts: false, .. }]), "{events:?}");
    let events = look(&mut engine, 41, 660, 5000);
    assert!(!events.iter().any(|event| matches!(event, Event::Stopped { .. })), "most of its file is a hole");
    let events = look(&mut engine, 40, 660, 640);
    let stopped =
        |event: &Event| matches!(event, Event::Stopped { subject, .. } if subject.id.pid.0 == 4_000_010);
    assert!(events.iter().any(stopped), "{events:?}");
}

#[test]
fn the_process_that_fills_a_tmpfs_is_named_and_would_be_stopped_by_choice() {
    for stops in [false, true] {
        let (tree, recorder, now) = (small_machine(1), Recorder::default(), Now::read());
        let written = |mib: u64| {
            let text = format!("pos:\t{}\nflags:\t0100001\nmnt_id:\t29\n", mib << 20);
            tree.write("4000010/fdinfo/3", text);
        };
        tree.write("4000010/comm", "dd\n");
        tree.write("4000010/mountinfo", "29 1 0:21 / /dev/shm rw - tmpfs tmpfs rw\n");
        let text = format!("{WITH_MACHINE}\nstop_writers = {stops}");
        let mut engine = engine_with(&text, &tree, &recorder, now);
        engine.scan(now);
        recorder.about_processes();
        written(200);
        memory(&tree, 40, 660);
        engine.check_machine(now);
        let events = recorder.0.take();
        let Some(Event::NoCulprit { writers, .. }) = events.last() else { panic!("nobody: {events:?}") };
        let [writer] = &writers[..] else { panic!("one writer: {writers:?}") };
        assert_eq!((writer.name.to_string(), writer.used.0 >> 20), ("dd".to_owned(), 200));
        let is_soon =
            |engine: &Engine<'_>, at: Now| engine.next_machine_look().unwrap() - at.instant() < SOON;
        assert_eq!(is_soon(&engine, now), stops, "the second look shows whether it writes on");
        let later = now.later(Duration::from_secs(1));
        engine.check_machine(later);
        assert_eq!(recorder.about_processes(), [""; 0], "it does not write on");
        assert!(!is_soon(&engine, later), "no search follows another one at once for ever");
        written(201);
        engine.check_machine(later);
        let events = recorder.0.take();
        let is_stopped = matches!(
            &events[..],
            [Event::Stopped { subject, dry_run: true, .. }] if subject.id.pid.0 == 4_000_010
        );
        assert_eq!((is_stopped, events.is_empty()), (stops, !stops), "{events:?}");
    }
}

#[test]
fn a_process_that_fills_a_tmpfs_later_in_the_shortage_is_named_once() {
    for stops in [false, true] {
        let (tree, recorder, now) = (small_machine(2), Recorder::default(), Now::read());
        let writes = |pid: u32| {
            tree.write(&format!("{pid}/comm"), "dd\n");
            tree.write(&format!("{pid}/mountinfo"), "29 1 0:21 / /dev/shm rw - tmpfs tmpfs rw\n");
            let text = format!("pos:\t{}\nflags:\t0100001\nmnt_id:\t29\n", 200 << 20);
            tree.write(&format!("{pid}/fdinfo/3"), text);
        };
        let named = |engine: &mut Engine<'_>, seconds| {
            engine.check_machine(now.later(Duration::from_secs(seconds)));
            let writers = |event| match event {
                Event::NoCulprit { writers, .. } => Some(writers),
                _ => None,
            };
            let named = recorder.0.take().into_iter().filter_map(writers).flatten();
            named.map(|writer| writer.pid.0).collect::<Vec<_>>()
        };
        let text = format!("{WITH_MACHINE}\nstop_writers = {stops}");
        let mut engine = engine_with(&text, &tree, &recorder, now);
        engine.scan(now);
        memory(&tree, 40, 660);
        writes(4_000_010);
        assert_eq!(named(&mut engine, 1), [4_000_010]);
        writes(4_000_011);
        // A search takes time, so it does not come every second if nothing depends on it.
        assert_eq!(named(&mut engine, 2), if stops { vec![4_000_011, 4_000_010] } else { vec![] });
        assert_eq!(named(&mut engine, 11), if stops { vec![] } else { vec![4_000_011, 4_000_010] });
        assert_eq!(named(&mut engine, 21), [0; 0], "once");
        memory(&tree, 700, 0);
        assert_eq!(named(&mut engine, 22), [0; 0]);
        memory(&tree, 40, 660);
        assert_eq!(named(&mut engine, 23), [4_000_011, 4_000_010], "another shortage");
    }
}

#[test]
fn memmon_looks_often_enough_for_files_in_memory_only_if_it_would_stop_their_writer() {
    for stops in [false, true] {
        let (tree, recorder, now) = (small_machine(1), Recorder::default(), Now::read());
        memory(&tree, 300, 0);
        let text = format!("{WITH_MACHINE}\nstop_writers = {stops}");
        let mut engine = engine_with(&text, &tree, &recorder, now);
        engine.woken_by_pressure(true);
        engine.scan(now);
        // There are about 200 MB until the level for a warning.
        let pause = engine.next_machine_look().unwrap() - now.instant();
        assert_eq!(pause < SOON, stops, "{pause:?}");
    }
}

#[test]
fn a_process_gets_other_wake_levels_if_its_limit_changes_and_the_lowest_one_does_not() {
    let (tree, recorder, now) = (small_machine(1), Recorder::default(), Now::read());
    // Noon and midnight, in a time zone without a change of the clocks.
    let at =
        |hour: i8| jiff::civil::date(2026, 3, 2).at(hour, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    let text = "thresholds = { ram_percent_threshold = 50, ram_gb_threshold = 1 }
                settings.dry_run = true
                schedule = [{ from = '12:00', to = '13:00', ram_gb_threshold = 0.125 }]
                rule = [{ name = 'low', names = ['nobody-has-this-name'], gb = 0.0625 }]
                whitelist = { pids = [], names = [], users = [] }";
    let mut engine = engine_with(text, &tree, &recorder, now);
    engine.follow_schedule(&at(0));
    engine.scan(now);
    let process = engine.sources.confirm(Pid(4_000_010), None, Bytes::ZERO).unwrap();
    let known = |engine: &mut Engine<'_>| {
        engine.note_levels(&process);
        let limit = engine.settings.limit_of(&process);
        engine.known_limits.note(process.id, limit, Duration::from_secs(60), now.instant());
        assert_eq!(engine.growth.levels_of(process.id).limit(), limit);
        limit.0 >> 20
    };
    let forgotten = |engine: &Engine<'_>| {
        let reading = crate::policy::fixtures::reading(4_000_010, 2);
        let reading = crate::model::Reading { start: Some(process.id.start), ..reading };
        engine.growth.levels_of(process.id).limit().0 >> 20 == 64
            && !engine.known_limits.is_within(&reading, now.instant())
    };
    assert_eq!(known(&mut engine), 512);
    assert!(!forgotten(&engine));
    // The hour comes, and then memory is taken out of the machine. (A scan would forget processes that do not grow.)
    let measured = |engine: &mut Engine<'_>| engine.measured(engine.sources.memory().unwrap(), now);
    engine.follow_schedule(&at(12));
    measured(&mut engine);
    assert!(forgotten(&engine));
    engine.follow_schedule(&at(13));
    measured(&mut engine);
    assert_eq!(known(&mut engine), 512);
    tree.write("meminfo", "MemTotal: 524288 kB\nMemAvailable: 400000 kB\n");
    measured(&mut engine);
    assert!(forgotten(&engine));
    assert_eq!(known(&mut engine), 256);
}

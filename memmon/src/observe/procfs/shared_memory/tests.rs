//! Lookups in captured trees: a lookup that fails, hangs or waits for its turn terminates no process, unless the owner of
//! the process can cause that for ever.

use std::{sync::mpsc, thread, time::Duration};

use nix::sys::stat::{major, minor};

use super::super::{Accuracy, ProcRoot, testing::Tree};
use super::*;
use crate::model::{Measure, Pid, Process, StartTime, Uid};

const LIMIT: Bytes = Bytes(100 << 20);
const KIB: u64 = 1024;

/// A tree whose pids no other test has, as reads that hang are remembered by pid.
struct Family {
    tree: Tree,
    first: u32,
}

impl Family {
    fn new(number: u32) -> Self {
        let tree = Tree::new();
        tree.write("sysvipc/shm", "key shmid perms\n");
        Self { tree, first: 5_000_000 + number * 1000 }
    }

    fn pid(&self, member: u32) -> Pid {
        Pid(self.first + member)
    }

    /// A process of 200 MiB in an object of shared memory, of which it has touched `touched` MiB.
    fn member(&self, member: u32, parent: u32, touched: u64) {
        let (pid, parent) = (self.pid(member), self.pid(parent));
        self.tree.cat(pid.0);
        let stat = format!(
            "{pid} (cat) S {parent} {pid} {pid} 0 -1 4194304 9 0 1 0 2 3 0 0 20 0 1 0 {} 8192000 1 1 1\n",
            700 + member
        );
        self.tree.write(&format!("{pid}/stat"), stat);
        let kib = touched * KIB;
        let pages = (kib + 3000) * KIB / self.tree.root().page_size;
        let sizes = format!("900000 {pages} 0 0 0 0 0\n");
        self.tree.write(&format!("{pid}/statm"), &sizes);
        // A user of its own, as reads that hang count for their user.
        let uid = self.first;
        let status = format!(
            "Name:\tcat\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nRssAnon:\t3000 kB\nRssFile:\t0 kB\nRssShmem:\t{kib} kB\n"
        );
        self.tree.write(&format!("{pid}/status"), status);
        self.tree.write(&format!("{pid}/mountinfo"), "28 1 254:0 / / rw - ext4 /dev/vda rw\n");
        let device = internal_device().unwrap();
        let (major, minor) = (major(device), minor(device));
        let line = format!(
            "7f1c2d400000-7f1c39c00000 rw-s 00000000 {major:02x}:{minor:02x} 2051    /memfd:x (deleted)\n"
        );
        self.tree.write(&format!("{pid}/maps"), &line);
        self.tree.write(&format!("{pid}/smaps"), format!("{line}Rss: {kib} kB\nAnonymous: 0 kB\n"));
    }

    fn root(&self) -> ProcRoot {
        self.tree.root().measuring(Measure::Charged)
    }

    fn confirm(&self, root: &ProcRoot, member: u32) -> Process {
        root.confirm(self.pid(member), None, LIMIT, &Accuracy::StatmExact).unwrap()
    }

    /// The next fact about the shared memory of `member`, and the trouble with it.
    fn look(&self, root: &ProcRoot, member: u32) -> (Fact<SharedMemory>, Option<String>) {
        let holdings = self.confirm(root, member).holdings.unwrap();
        (holdings.shared, holdings.trouble)
    }

    /// The fact that is found in the end; fails if it is withheld before `expected` holds.
    fn found(&self, root: &ProcRoot, member: u32) -> SharedMemory {
        match self.until(root, member, |fact, _| *fact != Fact::Unreadable) {
            Fact::Known(found) => found,
            other => panic!("{other:?}"),
        }
    }

    fn until(
        &self,
        root: &ProcRoot,
        member: u32,
        is_right: impl Fn(&Fact<SharedMemory>, Option<&str>) -> bool,
    ) -> Fact<SharedMemory> {
        let begun = Instant::now();
        loop {
            let (fact, trouble) = self.look(root, member);
            if is_right(&fact, trouble.as_deref()) {
                return fact;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{fact:?}: {trouble:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn elder_of(&self, found: &SharedMemory) -> Option<Pid> {
        match found.largest.as_ref()?.why {
            KeptWhy::Elder { pid } => Some(pid),
            KeptWhy::Named | KeptWhy::SystemV => None,
        }
    }

    fn fifo(&self, member: u32, file: &str) {
        let path = format!("{}/{file}", self.pid(member));
        self.tree.remove(&path);
        nix::unistd::mkfifo(&self.tree.path().join(path), Mode::S_IRWXU).unwrap();
    }

    fn restore(&self, member: u32, files: &[&str]) {
        for file in files {
            std::fs::remove_dir(self.tree.path().join(format!("{}/{file}", self.pid(member)))).unwrap();
        }
        self.member(member, 0, 150);
    }

    fn spoil(&self, member: u32, files: &[&str]) {
        for file in files {
            self.tree.spoil(&format!("{}/{file}", self.pid(member)));
        }
    }

    /// Has `member` map something else as well: `range` is its addresses and permissions, `object` its offset, device, inode
    /// and path.
    fn maps_too(&self, member: u32, range: &str, object: &str) {
        let path = format!("{}/maps", self.pid(member));
        let text = std::fs::read_to_string(self.tree.path().join(&path)).unwrap();
        self.tree.write(&path, format!("{text}{range} {object}\n"));
    }
}

#[test]
fn the_eldest_that_maps_an_object_is_charged_for_what_it_has_touched() {
    let family = Family::new(0);
    family.member(1, 0, 150);
    family.member(2, 1, 190);
    family.member(3, 1, 190);
    let root = family.root();
    assert_eq!(family.found(&root, 1).returned, Bytes(150 << 20));
    for younger in [2, 3] {
        let found = family.found(&root, younger);
        assert_eq!((found.returned, family.elder_of(&found)), (Bytes::ZERO, Some(family.pid(1))));
    }
    assert_eq!(family.confirm(&root, 1).charged(), Bytes((150 << 20) + 3000 * KIB));
}

#[test]
fn an_elder_whose_main_thread_has_ended_still_maps_the_object() {
    let family = Family::new(9);
    family.member(1, 0, 150);
    family.member(2, 0, 190);
    let pid = family.pid(1);
    let (tree, thread) = (&family.tree, format!("{pid}/task/9"));
    let maps = std::fs::read(tree.path().join(format!("{pid}/maps"))).unwrap();
    tree.write(&format!("{pid}/maps"), "");
    for dead in [format!("{pid}/statm"), format!("{pid}/task/{pid}/statm")] {
        tree.write(&dead, "0 0 0 0 0 0 0\n");
    }
    tree.write(&format!("{thread}/statm"), "900 800 0 0 0 0 0\n");
    tree.write(&format!("{thread}/maps"), maps);
    let found = family.found(&family.root(), 2);
    assert_eq!(family.elder_of(&found), Some(pid));
}

/// Whether it is known without a walk over the pages of `member` that enough of its memory is its own.
fn needs_no_walk(family: &Family, member: u32) -> bool {
    family.spoil(member, &["smaps"]);
    let root = family.root();
    let found = family.until(&root, member, |fact, trouble| *fact != Fact::Unreadable || trouble.is_some());
    matches!(found, Fact::Known(_))
}

#[test]
fn pages_are_counted_only_if_they_may_belong_to_another_object() {
    let (mut number, hundred) = (20, "100000000-106400000 rw-s");
    let mut alone_and = |object: &str| {
        number += 1;
        let family = Family::new(number);
        family.member(1, 0, 190);
        family.tree.write(
            &format!("{}/mountinfo", family.pid(1)),
            "28 1 254:0 / / rw - ext4 /dev/vda rw\n27 28 0:25 / /dev/shm rw - tmpfs tmpfs rw\n",
        );
        if !object.is_empty() {
            family.maps_too(1, hundred, object);
        }
        needs_no_walk(&family, 1)
    };
    let internal = internal_device().unwrap();
    let internal = format!("{:02x}:{:02x}", major(internal), minor(internal));
    assert!(alone_and(""));
    assert!(alone_and("0 fe:00 7 /var/lib/large"), "page cache is none of it");
    assert!(alone_and("0 00:00 0"), "nor is anonymous memory");
    assert!(alone_and(&format!("0 {internal} 2052 /memfd:y (deleted)")), "two of its own");
    assert!(!alone_and("0 00:19 7 /dev/shm/stays"));
    assert!(!alone_and(&format!("0 {internal} 5 /SYSV00000007 (deleted)")), "a segment stays");
    assert!(!alone_and("0 00:4d 7 /upper/of/an/overlay"), "what has no disk may be memory");
    assert!(!alone_and(&format!("0 {internal} 2051 /memfd:x (deleted)")), "it may be resident twice");
    // The next part of the same object.
    assert!(alone_and(&format!("c800000 {internal} 2051 /memfd:x (deleted)")));
}

#[test]
fn pages_are_counted_if_an_older_process_maps_the_object() {
    let family = Family::new(31);
    family.member(1, 0, 20);
    family.member(2, 0, 190);
    assert!(!needs_no_walk(&family, 2));
}

#[test]
fn pages_are_counted_if_the_kernels_figures_are_too_inexact() {
    let family = Family::new(32);
    family.member(1, 0, 150);
    family.spoil(1, &["smaps"]);
    let root = family.root();
    let parts = Parts { shmem: Bytes(150 << 20), ..Parts::default() };
    let owner = JobOwner { pid: family.pid(1), uid: Uid(family.first), onlooks: false, lock: Lock::Pages };
    let holder = Holder { pid: family.pid(1), parent: Pid(0), start: StartTime(701) };
    let returned = |error| {
        let question = Question { owner, holder, parts: &parts, least: LIMIT, error };
        let found = root.lookup(&question, None).unwrap().run(&Heartbeat::new(Instant::now()));
        found.ok().map(|found| found.memory.returned)
    };
    assert_eq!(returned(Some(Bytes::ZERO)), Some(Bytes(150 << 20)));
    assert_eq!(returned(Some(Bytes(50 << 20))), Some(LIMIT));
    assert_eq!(returned(Some(Bytes((50 << 20) + 1))), None);
    assert_eq!(returned(None), None, "the amount itself is asked for");
}

#[test]
fn an_older_process_that_cannot_be_read_leaves_doubt_for_as_long_as_that_lasts() {
    let family = Family::new(1);
    family.member(1, 0, 150);
    family.member(2, 0, 190);
    for file in ["maps", "stat", "status"] {
        family.tree.spoil(&format!("{}/{file}", family.pid(1)));
        let mut root = family.root();
        // Time changes nothing about an error.
        root.lookups.hangs_after = Duration::ZERO;
        for _ in 0..3 {
            family.until(&root, 2, |fact, trouble| {
                assert_eq!(*fact, Fact::Unreadable, "{file}");
                trouble.is_some_and(|trouble| trouble.contains("pid 5001001 could not be asked"))
            });
        }
        assert!(family.confirm(&root, 2).charged_at_least() < LIMIT);
        family.restore(1, &[file]);
        let found = family.found(&root, 2);
        assert_eq!(family.elder_of(&found), Some(family.pid(1)), "{file}");
        assert_eq!(family.look(&root, 2).1, None, "the trouble is over");
    }
}

#[test]
fn a_process_whose_own_files_fail_is_in_doubt_and_asked_again_ever_more_rarely() {
    let family = Family::new(2);
    family.member(1, 0, 190);
    for files in [&["smaps", "maps"][..], &["mountinfo"]] {
        family.spoil(1, files);
        let root = family.root();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(400) {
            assert_eq!(family.look(&root, 1).0, Fact::Unreadable, "{files:?}");
            thread::sleep(Duration::from_millis(2));
        }
        assert!(family.look(&root, 1).1.is_some(), "{files:?}");
        family.restore(1, files);
        assert_eq!(family.found(&root, 1).returned, Bytes(150 << 20), "{files:?}");
        family.member(1, 0, 190);
    }
    // Segments that cannot be listed may be any.
    family.tree.spoil("sysvipc/shm");
    let root = family.root();
    family.until(&root, 1, |fact, trouble| {
        assert_eq!(*fact, Fact::Unreadable);
        trouble.is_some()
    });
}

/// As its owner can cause it with a lock.
#[test]
fn a_read_that_hangs_protects_nobody_for_ever() {
    let hangs_after = Duration::from_secs(5);
    let family = Family::new(3);
    family.member(1, 0, 150);
    family.member(2, 0, 190);
    family.fifo(1, "maps");
    let mut root = family.root();
    root.lookups.hangs_after = hangs_after;
    let begun = Instant::now();
    let found = family.found(&root, 2);
    assert_eq!(found.returned, Bytes(190 << 20), "no word of the elder counts as none");
    assert!(begun.elapsed() >= hangs_after);

    let family = Family::new(4);
    family.member(1, 0, 190);
    family.fifo(1, "smaps");
    family.fifo(1, "maps");
    let mut root = family.root();
    root.lookups.hangs_after = hangs_after;
    let begun = Instant::now();
    assert_eq!(family.until(&root, 1, |fact, _| *fact != Fact::Unreadable), Fact::Withheld);
    assert!(begun.elapsed() >= hangs_after);
}

#[test]
fn an_older_process_that_is_slow_is_waited_for() {
    let family = Family::new(5);
    family.member(1, 0, 150);
    family.member(2, 0, 190);
    family.fifo(1, "maps");
    let root = family.root();
    family.until(&root, 2, |fact, trouble| {
        assert_eq!(*fact, Fact::Unreadable);
        trouble.is_some()
    });
    // It answers, once for each read that hangs.
    let maps = family.tree.path().join(format!("{}/maps", family.pid(1)));
    let text = std::fs::read(family.tree.path().join(format!("{}/smaps", family.pid(1)))).unwrap();
    std::fs::write(&maps, &text).unwrap();
    std::fs::remove_file(&maps).unwrap();
    family.tree.write(&format!("{}/maps", family.pid(1)), &text);
    let found = family.found(&root, 2);
    assert_eq!(family.elder_of(&found), Some(family.pid(1)));
}

#[test]
fn more_lookups_than_may_run_at_once_wait_for_their_turn() {
    let family = Family::new(6);
    family.member(1, 0, 3);
    let workers = 2..102;
    for worker in workers.clone() {
        family.member(worker, 1, 190);
    }
    let root = family.root();
    for _ in 0..3 {
        for worker in workers.clone() {
            let (fact, trouble) = family.look(&root, worker);
            assert!(matches!(fact, Fact::Unreadable | Fact::Known(_)), "{fact:?}");
            assert_eq!(trouble, None);
        }
    }
    for worker in workers {
        let found = family.found(&root, worker);
        assert_eq!((found.returned, family.elder_of(&found)), (Bytes::ZERO, Some(family.pid(1))));
    }
}

#[test]
fn lookups_that_hang_keep_no_other_user_from_an_answer() {
    let hanging = Family::new(7);
    for member in 1..40 {
        hanging.member(member, 0, 190);
        hanging.fifo(member, "smaps");
    }
    let root = hanging.root();
    for member in 1..40 {
        assert_eq!(hanging.look(&root, member).0, Fact::Unreadable);
    }
    let family = Family::new(8);
    family.member(1, 0, 150);
    assert_eq!(family.found(&family.root(), 1).returned, Bytes(150 << 20));
    // Its names can be read, too.
    let argv0 = |process: Process| process.names.argv0;
    assert_ne!(argv0(hanging.confirm(&root, 39)), Fact::Unreadable);
}

#[test]
fn an_answer_is_renewed_without_a_walk_as_long_as_the_same_objects_are_mapped() {
    let family = Family::new(10);
    family.member(1, 0, 3);
    family.member(2, 1, 190);
    let root = family.root();
    let (pid, parent, start) = (family.pid(2), family.pid(1), StartTime(702));
    let owner = JobOwner { pid, uid: Uid(family.first), onlooks: false, lock: Lock::Pages };
    let parts = family.confirm(&root, 2).parts.unwrap();
    let question =
        Question { owner, holder: Holder { pid, parent, start }, parts: &parts, least: LIMIT, error: None };
    let (lookup, beat) = (root.lookup(&question, None).unwrap(), Heartbeat::new(Instant::now()));
    let found = lookup.run(&beat).unwrap();
    assert_eq!((found.memory.returned, found.elders.len()), (Bytes::ZERO, 1));
    let file = |pid: Pid, file: &str| format!("{pid}/{file}");
    let maps = std::fs::read_to_string(family.tree.path().join(file(pid, "maps"))).unwrap();
    let holds = || lookup.still_holds(&found, &beat).is_ok_and(|holds| holds);
    family.tree.spoil(&file(pid, "smaps"));
    assert!(holds(), "its pages are not read");

    let another = maps.replace(" 2051 ", " 2052 ").replace("7f1c2d4", "7f1b2d4");
    for (pid, text) in [
        (pid, maps.clone() + &another),
        (pid, another.clone()),
        (pid, String::new()),
        // Less of it.
        (parent, maps.replace("7f1c39c00000", "7f1c39b00000")),
        (parent, another),
    ] {
        family.tree.write(&file(pid, "maps"), text);
        assert!(!holds());
        family.tree.write(&file(pid, "maps"), &maps);
        assert!(holds());
    }
    family.member(1, 0, 3);
    let stat = family.tree.path().join(file(parent, "stat"));
    let another_process = std::fs::read_to_string(&stat).unwrap().replace(" 701 ", " 699 ");
    std::fs::write(&stat, another_process).unwrap();
    assert!(!holds(), "another process has the elder's pid");
}

#[test]
fn the_caller_learns_of_each_answer_and_of_a_lookup_that_fails() {
    let family = Family::new(33);
    family.member(1, 0, 190);
    family.member(2, 0, 190);
    family.spoil(2, &["smaps", "maps"]);
    let mut root = family.root();
    let (sender, answers) = mpsc::channel();
    root.on_answer(move |process| sender.send(process).unwrap());
    for (member, is_known) in [(1, true), (2, false)] {
        assert_eq!(family.look(&root, member).0, Fact::Unreadable, "it was only asked for");
        let process = answers.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(process.pid, family.pid(member));
        assert_eq!(matches!(family.look(&root, member).0, Fact::Known(_)), is_known);
    }
}

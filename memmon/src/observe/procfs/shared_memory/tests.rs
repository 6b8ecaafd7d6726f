//! Lookups in captured trees: a lookup that fails, hangs or waits for its turn terminates no process, unless the owner of
//! the process can cause that for ever.

use std::{thread, time::Duration};

use nix::sys::stat::{major, minor};

use super::super::{Accuracy, ProcRoot, testing::Tree};
use super::*;
use crate::model::{Measure, Process};

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

    fn restore(&self, member: u32, file: &str) {
        let path = self.tree.path().join(format!("{}/{file}", self.pid(member)));
        std::fs::remove_dir(&path).unwrap();
        self.member(member, 0, 150);
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

/// Asks the older processes of `member` ahead, and waits until they have answered.
fn look_ahead(family: &Family, root: &ProcRoot, member: u32) -> Holder {
    let (pid, start) = (family.pid(member), StartTime(u64::from(700 + member)));
    let holder = Holder { pid, parent: Pid(0), start };
    assert!(root.look_ahead(ProcessId { pid, start }).unwrap());
    let answered = || root.lookups.may_look_ahead(holder, Instant::now() + Duration::from_secs(3));
    let begun = Instant::now();
    while !answered() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(2));
    }
    holder
}

#[test]
fn older_processes_that_were_asked_a_moment_ago_are_not_asked_again() {
    let family = Family::new(20);
    family.member(1, 0, 150);
    family.member(2, 0, 190);
    let root = family.root();
    let holder = look_ahead(&family, &root, 2);
    let other = Holder { pid: family.pid(3), ..holder };
    assert!(!root.lookups.may_look_ahead(other, Instant::now()), "they have just been asked");
    family.tree.spoil(&format!("{}/maps", family.pid(1)));
    let found = family.found(&root, 2);
    assert_eq!((found.returned, family.elder_of(&found)), (Bytes::ZERO, Some(family.pid(1))));
    assert!(root.lookups.take_ahead(holder, Instant::now()).is_none(), "they were used");

    let root = family.root();
    family.restore(1, "maps");
    let holder = look_ahead(&family, &root, 2);
    assert!(root.lookups.take_ahead(holder, Instant::now() + Duration::from_secs(2)).is_none());
}

#[test]
fn an_object_that_was_not_asked_for_ahead_or_has_outgrown_its_elder_is_asked_for_now() {
    let family = Family::new(21);
    let maps = |member| format!("{}/maps", family.pid(member));
    let replace = |member, from: &str, to: &str| {
        let maps = maps(member);
        let text = std::fs::read_to_string(family.tree.path().join(&maps)).unwrap();
        assert!(text.contains(from));
        family.tree.write(&maps, text.replace(from, to));
    };
    // Ahead, the holder maps another object; and the older process maps 4 MiB of this one.
    for (member, from, to) in [(2, " 2051 ", " 2052 "), (1, "7f1c39c00000", "7f1c2d800000")] {
        family.member(1, 0, 150);
        family.member(2, 0, 190);
        replace(member, from, to);
        let root = family.root();
        look_ahead(&family, &root, 2);
        replace(member, to, from);
        let found = family.found(&root, 2);
        assert_eq!((found.returned, family.elder_of(&found)), (Bytes::ZERO, Some(family.pid(1))), "{to}");
    }
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
        family.restore(1, file);
        let found = family.found(&root, 2);
        assert_eq!(family.elder_of(&found), Some(family.pid(1)), "{file}");
        assert_eq!(family.look(&root, 2).1, None, "the trouble is over");
    }
}

#[test]
fn a_process_whose_own_files_fail_is_in_doubt_and_asked_again_ever_more_rarely() {
    let family = Family::new(2);
    family.member(1, 0, 190);
    for file in ["smaps", "mountinfo"] {
        family.tree.spoil(&format!("{}/{file}", family.pid(1)));
        let root = family.root();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(400) {
            assert_eq!(family.look(&root, 1).0, Fact::Unreadable, "{file}");
            thread::sleep(Duration::from_millis(2));
        }
        assert!(family.look(&root, 1).1.is_some(), "{file}");
        family.restore(1, file);
        assert_eq!(family.found(&root, 1).returned, Bytes(150 << 20), "{file}");
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
    let question = Question { owner, holder: Holder { pid, parent, start }, parts: &parts, least: LIMIT };
    let (lookup, beat) = (root.lookup(&question, None).unwrap(), Heartbeat::new(Instant::now()));
    let found = lookup.run(&beat, None).unwrap();
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

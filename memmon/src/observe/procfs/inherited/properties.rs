//! Nobody escapes: whatever a family of processes does, what its members are charged with adds up to at least what they hold.
//!
//! The family is a model of fork, whose members are read from a captured /proc like real ones. Two things are not part of it,
//! because /proc does not show them (LIMITS in memmon(8)): a process that forks again after it has written to memory that
//! others share with it, and processes that map new memory at the same addresses.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::{Accuracy, testing::Tree};
use super::*;

/// KiB of one mapping in the model.
const KIB: u64 = 1024;

/// One step of a member of the family; the numbers choose among those that live, and among their mappings.
#[derive(Clone, Debug)]
enum Step {
    Map { member: usize, count: u64 },
    Fork { member: usize },
    Unmap { member: usize, first: usize, count: usize },
    Write { member: usize },
    Exit { member: usize },
}

#[derive(Clone, Debug)]
struct Member {
    parent: u32,
    /// The memory at each address.
    memory: BTreeMap<u64, u64>,
    has_written: bool,
    is_forked: bool,
}

/// The living members by pid, which is also the order of their start.
#[derive(Clone, Debug)]
struct Family {
    members: BTreeMap<u32, Member>,
    next: u64,
    next_pid: u32,
}

impl Family {
    fn new() -> Self {
        let first = Member { parent: 1, memory: BTreeMap::new(), has_written: false, is_forked: false };
        Self { members: BTreeMap::from([(100, first)]), next: 1, next_pid: 101 }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn take(&mut self, step: &Step) {
        let (Step::Map { member, .. }
        | Step::Fork { member }
        | Step::Unmap { member, .. }
        | Step::Write { member }
        | Step::Exit { member }) = step;
        let Some(pid) = self.members.keys().nth(member % self.members.len().max(1)).copied() else { return };
        let mut this = self.members[&pid].clone();
        match *step {
            Step::Map { count, .. } => {
                for _ in 0..count {
                    let (address, page) = (self.number(), self.number());
                    this.memory.insert(address, page);
                }
            }
            Step::Fork { .. } if this.has_written || self.members.len() == 6 => {}
            Step::Fork { .. } => {
                let child = Member { parent: pid, is_forked: true, ..this.clone() };
                self.members.insert(self.next_pid, child);
                self.next_pid += 1;
            }
            Step::Unmap { first, count, .. } => {
                let gone: Vec<_> = this.memory.keys().skip(first).take(count).copied().collect();
                this.memory.retain(|address, _| !gone.contains(address));
            }
            Step::Write { .. } => {
                for (address, page) in this.memory.clone() {
                    if self.holders(address, page) > 1 {
                        this.memory.insert(address, self.number());
                        this.has_written = true;
                    }
                }
            }
            Step::Exit { .. } => {
                self.members.remove(&pid);
                let orphans = self.members.values_mut().filter(|member| member.parent == pid);
                orphans.for_each(|orphan| orphan.parent = 1);
                return;
            }
        }
        self.members.insert(pid, this);
    }

    fn holders(&self, address: u64, page: u64) -> usize {
        self.members.values().filter(|member| member.memory.get(&address) == Some(&page)).count()
    }

    /// All memory that somebody holds, in KiB.
    fn held(&self) -> u64 {
        let pages: BTreeSet<_> = self.members.values().flat_map(|member| member.memory.values()).collect();
        pages.len() as u64 * KIB
    }

    /// The same as a captured /proc.
    fn write(&self, tree: &Tree) {
        for (pid, member) in &self.members {
            tree.cat(*pid);
            let flags = if member.is_forked { 0x0040_0040 } else { 0x0040_0000 };
            let zeros = "0 ".repeat(18);
            let stat = format!(
                "{pid} (x) S {} {pid} {pid} 0 -1 {flags} 9 0 1 0 2 3 0 0 20 0 1 0 {pid} 8192000 1 1 4096 2 99000 \
                 {zeros}7340032 8 8 8 8 0\n",
                member.parent
            );
            tree.write(&format!("{pid}/stat"), stat);
            let rss = member.memory.len() as u64 * KIB;
            let pages = rss * 1024 / tree.root().page_size;
            tree.write(&format!("{pid}/statm"), format!("900000 {pages} 0 0 0 0 0\n"));
            let status =
                format!("Name:\tx\nUid:\t7\t7\t7\t7\nRssAnon:\t{rss} kB\nRssFile:\t0 kB\nRssShmem:\t0 kB\n");
            tree.write(&format!("{pid}/status"), status);
            let region = |(address, page): (&u64, &u64)| {
                let shared = if self.holders(*address, *page) > 1 { KIB } else { 0 };
                let start = 0x7f00_0000_0000 + address * KIB * 1024;
                let end = start + KIB * 1024;
                format!(
                    "{start:x}-{end:x} rw-p 00000000 00:00 0\nShared_Dirty: {shared} kB\nAnonymous: {KIB} kB\n"
                )
            };
            tree.write(&format!("{pid}/smaps"), member.memory.iter().map(region).collect::<String>());
        }
    }

    /// The memory that each member is charged with, in KiB, if that decides.
    fn charged(&self) -> BTreeMap<u32, u64> {
        let tree = Tree::new();
        self.write(&tree);
        let charged = |(pid, member): (&u32, &Member)| {
            let limit = Bytes((member.memory.len() as u64 * KIB * 1024).checked_sub(4096)?);
            let found =
                tree.root().confirm_forked(Pid(*pid), None, limit, &Accuracy::StatmExact, None).unwrap();
            Some((*pid, found.charged().0 / 1024))
        };
        self.members.iter().filter_map(charged).collect()
    }
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..6_usize;
    prop_oneof![
        3 => (member.clone(), 1..4_u64).prop_map(|(member, count)| Step::Map { member, count }),
        3 => member.clone().prop_map(|member| Step::Fork { member }),
        2 => (member.clone(), 0..4_usize, 1..5_usize)
            .prop_map(|(member, first, count)| Step::Unmap { member, first, count }),
        1 => member.clone().prop_map(|member| Step::Write { member }),
        1 => member.prop_map(|member| Step::Exit { member }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_family_is_charged_with_all_that_it_holds(steps in prop::collection::vec(step(), 1..24)) {
        let mut family = Family::new();
        steps.iter().for_each(|step| family.take(step));
        let charged = family.charged();
        prop_assert!(charged.values().sum::<u64>() >= family.held(), "{charged:?} of {}: {family:#?}", family.held());
    }

    /// A worker of a living parent is charged for no more than it has added or made its own.
    #[test]
    fn a_worker_is_charged_for_its_own_memory_only(
        inherited in 1..8_u64, added in 1..4_u64, workers in 1..4_usize,
    ) {
        let mut family = Family::new();
        family.take(&Step::Map { member: 0, count: inherited });
        for _ in 0..workers {
            family.take(&Step::Fork { member: 0 });
        }
        family.take(&Step::Map { member: 1, count: added });
        let mut charged = family.charged();
        prop_assert_eq!(charged.remove(&100), Some(inherited * KIB));
        prop_assert_eq!(charged.remove(&101), Some(added * KIB));
        prop_assert!(charged.values().all(|charged| *charged == 0), "{charged:?}");
    }
}

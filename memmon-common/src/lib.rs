//! The bytes that cross between memmon and its BPF programs.
//!
//! The writer of each map is part of the contract, because neither side can lock the other out:
//!
//! | map | type | written by | read by |
//! |---|---|---|---|
//! | [`map::PROCESSES`] | hash, tgid → [`ProcessRss`] | BPF | user space |
//! | [`map::FRONT`] | array, tgid % [`FRONT_SLOTS`] → [`Front`] | BPF | BPF |
//! | [`map::LEVELS`] | hash, tgid → [`WakeLevel`] | user space (BPF removes on exec and exit) | BPF |
//! | [`map::CONFIG`] | array of one [`Config`] | user space | BPF |
//! | [`map::SUMS`] | hash, [`SumKey`] → [`Sum`] | BPF (user space removes those of earlier epochs) | user space |
//! | [`map::SUM_LEVELS`] | hash, [`SumKey`] of epoch 0 → [`SumLevel`] | user space | BPF |
//! | [`map::SUM_CONFIG`] | array of one [`SumConfig`] | user space | BPF |
//! | [`map::COUNTERS`] | per-CPU array of one [`Counters`] | BPF | user space |
//! | [`map::EVENTS`] | ring of [`Event`] | BPF | user space |
//!
//! A page is the kernel's base page; user space converts it to bytes. Times are nanoseconds.
#![no_std]

use core::mem::{align_of, size_of};

/// Number of slots in the front array, a power of two. A pid shares its slot with every pid that is equal modulo this.
pub const FRONT_SLOTS: u32 = 4096;

/// Distance in pages that a process's RSS may move before its entry is written again.
pub const STEP: u64 = 64;

/// A wake level that is never reached.
pub const NEVER: u64 = u64::MAX;

/// Capacity that the BPF object is built with; the loader sets the real one.
pub const DEFAULT_CAPACITY: usize = 32_768;

/// Sums that the kernel side keeps at most. If there are more, they are incomplete, which is counted.
pub const SUM_CAPACITY: u32 = 4096;

/// Sums that have a level of their own at most: those that are near or above their limit.
pub const SUM_LEVEL_CAPACITY: u32 = 1024;

/// Size of the ring of events in bytes: a power of two and a multiple of every page size (64 KiB on some arm64).
pub const RING_BYTES: usize = 64 << 10;

/// Names of the maps in the BPF object.
pub mod map {
    /// One entry per process.
    pub const PROCESSES: &str = "PROCESSES";
    /// Bounds of RSS within which nothing needs to be done.
    pub const FRONT: &str = "FRONT";
    /// Wake levels of single processes.
    pub const LEVELS: &str = "LEVELS";
    /// The level of all other processes.
    pub const CONFIG: &str = "CONFIG";
    /// Memory that the processes of each user, and those in each cgroup, hold together.
    pub const SUMS: &str = "SUMS";
    /// Wake levels of single sums.
    pub const SUM_LEVELS: &str = "SUM_LEVELS";
    /// The kinds of sums that are kept, and the level of all sums without one of their own.
    pub const SUM_CONFIG: &str = "SUM_CONFIG";
    /// Counters of the BPF programs' own work.
    pub const COUNTERS: &str = "COUNTERS";
    /// Processes that reached their wake level, and the ends of those and of processes with a level of their own.
    pub const EVENTS: &str = "EVENTS";
}

/// Names of the programs, and of the frozen global that holds [`Offsets`].
pub mod program {
    /// Runs at every change of an mm's counters. The tracepoint has the same name, as for the next three.
    pub const RSS_STAT: &str = "rss_stat";
    /// Registers a new process.
    pub const FORK: &str = "sched_process_fork";
    /// Resets a process's entry.
    pub const EXEC: &str = "sched_process_exec";
    /// Removes a process whose last thread exits.
    pub const EXIT: &str = "sched_process_exit";
    /// Moves a process from one sum to another. The tracepoint has the same name.
    pub const CGROUP_MOVE: &str = "cgroup_attach_task";
    /// Looks at the process that a busy CPU runs, at the kernel's [`TIMER`].
    pub const TICK: &str = "tick";
    /// The tracepoint of [`TICK`].
    pub const TIMER: &str = "hrtimer_expire_entry";
    /// Task iterator: registers processes that started before the programs were attached, and updates the others.
    pub const REFRESH: &str = "refresh";
    /// Iterator over the table: updates every entry, and writes it with its tgid to the file that is read.
    pub const SURVEY: &str = "survey";
    /// Iterator over the mappings of a process (5.12): writes those of files, each as a [`FileMapping`](crate::FileMapping), to
    /// the file that is read.
    pub const MAPPINGS: &str = "mappings";
    /// The global that holds [`Offsets`](crate::Offsets).
    pub const OFFSETS: &str = "OFFSETS";
}

/// One process, as the kernel's counters have it.
///
/// RSS is `file_pages + anon_pages + shmem_pages`, as in /proc/PID/statm. The sum dates from the last event that moved it
/// by [`STEP`] pages or more; the parts date from the same event, so pages that change from one kind to another without
/// changing the sum are not seen. `uid` and `comm` are as old as the last write and are never used for a decision.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRss {
    /// Address of the `mm_struct`: used as an identity, and never shown.
    pub mm: u64,
    /// `group_leader->start_boottime` in ns since boot, suspend included (field 22 of /proc/PID/stat is derived from it).
    pub start_boottime: u64,
    /// Resident file pages.
    pub file_pages: u64,
    /// Resident anonymous pages.
    pub anon_pages: u64,
    /// Resident pages of shared memory (tmpfs, memfd, shared anonymous).
    pub shmem_pages: u64,
    /// Swapped-out pages.
    pub swap_entries: u64,
    /// The highest RSS that was written since the process started or called exec.
    pub peak_pages: u64,
    /// Resident memory of the process when it was forked, or the least that was written since: no more than this can be its
    /// elder's. 0 after exec, and in a process that was not forked while the programs were attached.
    pub inherited_pages: u64,
    /// Address of the `mm_struct` of the process that forked it, with [`elder`](Self::elder): an identity only.
    pub elder_mm: u64,
    /// The wake level that the last event was compared with, in pages.
    pub wake_at: u64,
    /// Latch: the generation of the level whose crossing was put on the ring; 0 when armed.
    pub reported: u64,
    /// The pages that it is counted with in the sums of [`sum_uid`](Self::sum_uid) and [`sum_cgroup`](Self::sum_cgroup).
    pub summed_pages: u64,
    /// The cgroup in whose sum it counts; 0 if sums of cgroups are not kept.
    pub sum_cgroup: u64,
    /// The user in whose sum it counts.
    pub sum_uid: u32,
    /// The [`SumKey::epoch`] of its sums; 0 if it counts in none.
    pub sum_epoch: u32,
    /// Real uid of the thread group's leader.
    pub uid: u32,
    /// The process that forked it (tgid). It still shares memory with this one if it has an entry with
    /// [`elder_mm`](Self::elder_mm).
    pub elder: u32,
    /// Name of the leader, up to the first NUL.
    pub comm: [u8; 16],
}

impl ProcessRss {
    /// Resident pages, summed as in /proc/PID/statm.
    #[must_use]
    pub const fn rss_pages(&self) -> u64 {
        self.file_pages + self.anon_pages + self.shmem_pages
    }
}

/// A mapping of a file, as a node of the tree that has all mappings of the file, those of all processes
/// (`address_space.i_mmap`). Addresses are identities, and never shown.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileMapping {
    /// Inode number of the file.
    pub inode: u64,
    /// Address of the node at the root of the tree.
    pub root: u64,
    /// Address of this node.
    pub node: u64,
    /// Address of the node below it on the left, or 0.
    pub left: u64,
    /// Address of the node below it on the right, or 0.
    pub right: u64,
    /// Device of the file as the kernel has it: the major number, and the minor one in the lower 20 bits.
    pub device: u32,
    /// The process that has the mapping.
    pub tgid: u32,
}

/// A slot of the front array: the bounds within which one process's RSS needs no attention.
///
/// Two CPUs may write a slot at once. `key` is a checksum over `bounds`: the halves of two writes do not match, so a torn
/// slot is a miss. It includes the generation, so a new generation makes every slot a miss.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Front {
    /// tgid << 32 ^ bounds ^ generation; 0 in an empty slot.
    pub key: u64,
    /// In pages: the lowest RSS in the upper half, the first RSS above the range in the lower half.
    pub bounds: u64,
}

/// The wake level of one process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeLevel {
    /// Start time of the process: a level that was set for an earlier process with the same pid is ignored.
    pub start_boottime: u64,
    /// The level in pages; [`NEVER`] for a process that must not wake memmon.
    pub wake_at: u64,
    /// The [`Config::generation`] that this level was set with. A new generation arms the latch again.
    pub generation: u64,
}

/// Settings for every process without a level of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Counts every change of a level. User space writes it last: BPF programs that see it see the level as well.
    pub generation: u64,
    /// Level in pages for a process that user space has not seen yet (the newest child of a fork bomb).
    pub default_wake_at: u64,
    /// The generation that `default_wake_at` was set with.
    pub default_generation: u64,
    /// RSS in pages below which `rss_stat` ignores a change. 0 if it alone keeps the table up to date; with two gears
    /// somewhat below every level, because ticks and scans do that.
    pub floor: u64,
}

/// Values of [`SumKey::kind`], which are bits of [`SumConfig::in_force`].
pub mod sum_kind {
    /// The processes with a real uid.
    pub const USER: u32 = 0;
    /// The processes in a cgroup of the unified hierarchy, without those in cgroups below it.
    pub const CGROUP: u32 = 1;
}

/// The identity of a sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SumKey {
    /// The uid, or the id of the cgroup (the inode of its folder).
    pub id: u64,
    /// One of the constants in [`sum_kind`].
    pub kind: u32,
    /// All sums are counted again, from zero, in another epoch. 0 in [`map::SUM_LEVELS`].
    pub epoch: u32,
}

/// Memory that the processes of a sum hold together, each shared page once for each process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Total of the pages that its processes are counted with. Less than zero, as a signed number, for a moment at most.
    pub pages: u64,
    /// Number of its processes.
    pub members: u64,
    /// The wake level that it was last compared with, in pages.
    pub wake_at: u64,
    /// The generation that `wake_at` was set with.
    pub since: u64,
    /// The [`SumConfig::generation`] at which `wake_at` was looked up.
    pub generation: u64,
    /// Latch: `since` of the level whose crossing was put on the ring; 0 when armed.
    pub reported: u64,
}

impl Sum {
    /// The pages that its processes are counted with.
    #[must_use]
    #[inline(always)]
    pub const fn counted(&self) -> u64 {
        if self.pages.cast_signed() < 0 { 0 } else { self.pages }
    }

    /// The memory that its processes may have, to be compared with `level`: each may have `slack_pages` more than it is
    /// counted with. For more processes than make a quarter of the level, that error is not likely, and a level would have
    /// no meaning.
    #[must_use]
    #[inline(always)]
    pub const fn at_most(&self, slack_pages: u64, level: u64) -> u64 {
        let (slack, quarter) = (self.members.wrapping_mul(slack_pages), level / 4);
        self.counted() + if slack < quarter { slack } else { quarter }
    }
}

/// The wake level of a sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SumLevel {
    /// The level in pages.
    pub wake_at: u64,
    /// The [`SumConfig::generation`] that it was set with. A new one arms the latch again.
    pub generation: u64,
}

/// The kinds of sums that are kept.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SumConfig {
    /// The epoch in the upper half; in the lower half a bit for each kind that is kept. No bit: no sum is looked up.
    pub in_force: u64,
    /// Counts every change of a level. User space writes it last.
    pub generation: u64,
    /// Level in pages of a user's sum without a level of its own.
    pub user_wake_at: u64,
    /// The same of a cgroup's sum.
    pub cgroup_wake_at: u64,
    /// The generation that these two were set with.
    pub default_generation: u64,
    /// Pages that a process may have more than it is counted with.
    pub slack_pages: u64,
}

/// Values of [`Event::kind`].
pub mod kind {
    /// The process reached its wake level.
    pub const CROSSED: u32 = 0;
    /// The process, which had reached a level before or has one of its own, ended.
    pub const ENDED: u32 = 1;
    /// The process ended, and the kernel's OOM killer had marked it as a victim.
    pub const OOM_KILLED: u32 = 2;
    /// The process ended or called exec, and another one runs on in its memory (CLONE_VM).
    pub const OUTLIVED: u32 = 3;
    /// A sum reached its wake level by a change of the process.
    pub const SUM_CROSSED: u32 = 4;
}

/// An event that wakes user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub time: u64,
    /// Start time: the process's identity, together with `tgid`. For a sum its id.
    pub start_boottime: u64,
    /// Resident pages at that moment; for a process that ended, the highest that was written; for a sum its pages.
    pub rss_pages: u64,
    /// The pid, in the initial namespace's numbering.
    pub tgid: u32,
    /// One of the constants in [`kind`].
    pub kind: u32,
    /// `task_struct.exit_code` of the thread that ended last, in the format of wait(2).
    pub exit_code: u32,
    /// One of the constants in [`sum_kind`], for a sum; otherwise 0.
    pub sum_kind: u32,
    /// Name of the leader, up to the first NUL.
    pub comm: [u8; 16],
}

/// Counters of the BPF programs' own work, one set per CPU. They are not on the fast path: an event that the front array
/// settles is not counted.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Ticks that found a process running.
    pub ticks: u64,
    /// Entries updated in place.
    pub updates: u64,
    /// Entries inserted.
    pub inserts: u64,
    /// Entries not inserted because the map was full: these processes are not watched.
    pub insert_full: u64,
    /// Entries not inserted for another reason (the bucket was locked by an interrupted update).
    pub insert_failed: u64,
    /// Entries that could not be removed, and are stale.
    pub remove_failed: u64,
    /// Events put on the ring.
    pub events: u64,
    /// Events lost because the ring was full; a crossing is tried again with the process's next change.
    pub ring_full: u64,
    /// Processes that do not count in a sum because there was no room for it.
    pub sums_full: u64,
}

/// Offsets in bytes, in the running kernel, of the fields that the programs read. The loader resolves them from the
/// kernel's own type information; they are frozen before the verifier runs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Offsets {
    /// `mm_struct.rss_stat`: the first counter's 64-bit value. Since Linux 6.2 that is `rss_stat[0].count`, before it
    /// `rss_stat.count[0]`. The counters are file, anonymous, swap entries, shared memory, in pages.
    pub rss: u32,
    /// Distance from one counter to the next: `sizeof(struct percpu_counter)` since 6.2, 8 before.
    pub rss_stride: u32,
    /// 1 if the counters are `atomic_long_t` (before 6.2), which the verifier allows to be read only through a helper.
    pub rss_legacy: u32,
    /// `mm_struct.owner` (`CONFIG_MEMCG`).
    pub mm_owner: u32,
    /// `mm_struct.mm_users.counter`: who runs in the memory or looks at it right now.
    pub mm_users: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.pid`.
    pub task_pid: u32,
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `task_struct.flags`.
    pub task_flags: u32,
    /// `task_struct.start_boottime` (5.5), nanoseconds.
    pub task_start_boottime: u32,
    /// `task_struct.comm`, 16 bytes.
    pub task_comm: u32,
    /// `task_struct.real_cred`.
    pub task_real_cred: u32,
    /// `task_struct.group_leader`: the thread that provides start time, comm and credentials in /proc/PID.
    pub task_group_leader: u32,
    /// `task_struct.cgroups`; 0 if the kernel has no cgroups.
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`: the cgroup in the unified hierarchy.
    pub css_set_dfl_cgrp: u32,
    /// `cgroup.kn`.
    pub cgroup_kn: u32,
    /// `kernfs_node.id`.
    pub kernfs_node_id: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `cred.uid.val`.
    pub cred_uid: u32,
    /// `task_struct.exit_code`.
    pub task_exit_code: u32,
    /// `signal_struct.live.counter`.
    pub signal_live: u32,
    /// `signal_struct.oom_mm`.
    pub signal_oom_mm: u32,
    /// The way from a mapping to the tree of all mappings of its file.
    pub file_mapping: FileMappingOffsets,
}

/// The way from a mapping to the tree of all mappings of its file; all 0 if the kernel has another one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FileMappingOffsets {
    /// `vm_area_struct.vm_file`.
    pub vma_vm_file: u32,
    /// `vm_area_struct.shared.rb`.
    pub vma_node: u32,
    /// `vm_area_struct.shared.rb.rb_left`.
    pub vma_left: u32,
    /// `vm_area_struct.shared.rb.rb_right`.
    pub vma_right: u32,
    /// `file.f_mapping`.
    pub file_f_mapping: u32,
    /// `address_space.i_mmap.rb_root.rb_node`.
    pub address_space_root: u32,
    /// `address_space.host`.
    pub address_space_host: u32,
    /// `inode.i_ino`.
    pub inode_i_ino: u32,
    /// `inode.i_sb`.
    pub inode_i_sb: u32,
    /// `super_block.s_dev`.
    pub super_block_s_dev: u32,
}

impl Offsets {
    /// The value in the BPF object until the loader fills it in.
    pub const UNRESOLVED: Self = Self {
        rss: 0,
        rss_stride: 0,
        rss_legacy: 0,
        mm_owner: 0,
        mm_users: 0,
        task_tgid: 0,
        task_pid: 0,
        task_mm: 0,
        task_flags: 0,
        task_start_boottime: 0,
        task_comm: 0,
        task_real_cred: 0,
        task_group_leader: 0,
        task_cgroups: 0,
        css_set_dfl_cgrp: 0,
        cgroup_kn: 0,
        kernfs_node_id: 0,
        task_signal: 0,
        cred_uid: 0,
        task_exit_code: 0,
        signal_live: 0,
        signal_oom_mm: 0,
        file_mapping: FileMappingOffsets {
            vma_vm_file: 0,
            vma_node: 0,
            vma_left: 0,
            vma_right: 0,
            file_f_mapping: 0,
            address_space_root: 0,
            address_space_host: 0,
            inode_i_ino: 0,
            inode_i_sb: 0,
            super_block_s_dev: 0,
        },
    };
}

/// The two halves are compiled by different compilers for different targets. No type may change its size unnoticed, and
/// none may contain padding: it would leak kernel stack to user space, and the verifier refuses it.
const _: () = {
    assert!(size_of::<ProcessRss>() == 13 * 8 + 4 * 4 + 16 && align_of::<ProcessRss>() == 8);
    assert!(size_of::<Front>() == 16 && align_of::<Front>() == 8);
    assert!(size_of::<WakeLevel>() == 24 && align_of::<WakeLevel>() == 8);
    assert!(size_of::<Config>() == 32 && align_of::<Config>() == 8);
    assert!(size_of::<Event>() == 3 * 8 + 4 * 4 + 16 && align_of::<Event>() == 8);
    assert!(size_of::<SumKey>() == 16 && align_of::<SumKey>() == 8);
    assert!(size_of::<Sum>() == 48 && align_of::<Sum>() == 8);
    assert!(size_of::<SumLevel>() == 16 && align_of::<SumLevel>() == 8);
    assert!(size_of::<SumConfig>() == 48 && align_of::<SumConfig>() == 8);
    assert!(size_of::<Counters>() == 9 * 8 && align_of::<Counters>() == 8);
    assert!(size_of::<Offsets>() == 32 * 4 && align_of::<Offsets>() == 4);
    assert!(size_of::<FileMapping>() == 48 && align_of::<FileMapping>() == 8);
    assert!(FRONT_SLOTS.is_power_of_two());
    assert!(RING_BYTES.is_power_of_two() && RING_BYTES.is_multiple_of(64 << 10));
};

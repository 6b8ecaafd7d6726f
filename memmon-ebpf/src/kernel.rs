//! Typed reads of the kernel's own structures.
//!
//! The offsets are a frozen global: the verifier treats them as constants, knows the field of each load, and turns a load
//! through a stale pointer into a read of zero (BPF_PROBE_MEM). Only constants are added to a kernel pointer, because the
//! verifier allows nothing else.

use core::ptr;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use memmon_common::{FileMapping, Offsets};

/// Filled in by the loader (`EbpfLoader::override_global`), the same for all programs.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::UNRESOLVED;

/// Distance between two counters of an mm, the size of a `percpu_counter`, in a kernel without debugging of locks.
const USUAL_STRIDE: usize = 40;

const PF_EXITING: u32 = 0x0000_0004;

// `MM_FILEPAGES` and so on: unchanged since 4.5.
const FILE: usize = 0;
const ANON: usize = 1;
const SWAP: usize = 2;
const SHMEM: usize = 3;

/// A `struct mm_struct` that the verifier tracks: the address space whose counters are read.
#[derive(Clone, Copy)]
pub(crate) struct Mm(*const u8);

/// A `struct task_struct` that the verifier tracks: one thread.
#[derive(Clone, Copy)]
pub(crate) struct Task(*const u8);

/// The four counters of an mm (`enum` MM_FILEPAGES …), never negative.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) file: u64,
    pub(crate) anon: u64,
    pub(crate) swap: u64,
    pub(crate) shmem: u64,
}

/// The sums in which a process counts.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) uid: u32,
    /// 0 if sums of cgroups are not kept.
    pub(crate) cgroup: u64,
}

impl Counts {
    #[inline(always)]
    pub(crate) fn rss(self) -> u64 {
        self.file + self.anon + self.shmem
    }
}

impl Mm {
    /// # Safety
    /// `pointer` is an `mm_struct *` that the verifier knows as one.
    #[inline(always)]
    pub(crate) unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    /// The address as an identity.
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    /// The task that the memory controller charges: a thread of the process that this mm belongs to. None once the mm is
    /// being torn down.
    #[inline(always)]
    pub(crate) fn owner(self) -> Option<Task> {
        // SAFETY: `mm_struct.owner` is a `task_struct *`.
        let owner: *const u8 = unsafe { read(self.0, offset(&OFFSETS.mm_owner)) };
        if owner.is_null() { None } else { Some(Task(owner)) }
    }

    /// Resident pages. Like all counters, this lacks the batch that each CPU (before 6.2: each thread) holds back.
    #[inline(always)]
    pub(crate) fn rss(self) -> u64 {
        if offset(&OFFSETS.rss_legacy) != 0 {
            return self.legacy_counts().rss();
        }
        self.count(FILE) + self.count(ANON) + self.count(SHMEM)
    }

    #[inline(always)]
    pub(crate) fn counts(self) -> Counts {
        if offset(&OFFSETS.rss_legacy) != 0 {
            return self.legacy_counts();
        }
        Counts {
            file: self.count(FILE),
            anon: self.count(ANON),
            swap: self.count(SWAP),
            shmem: self.count(SHMEM),
        }
    }

    /// `percpu_counter rss_stat[member].count`, since 6.2.
    #[inline(always)]
    fn count(self, member: usize) -> u64 {
        let counter = offset(&OFFSETS.rss) + member * offset(&OFFSETS.rss_stride);
        // SAFETY: the field is an s64.
        positive(unsafe { read(self.0, counter) })
    }

    /// `rss_stat.count`: four atomic_long_t, which the verifier does not allow to be loaded one by one.
    #[inline(always)]
    fn legacy_counts(self) -> Counts {
        let counters = self.0.wrapping_add(offset(&OFFSETS.rss)).cast::<[i64; 4]>();
        // SAFETY: a probe read checks the address itself.
        let counts = unsafe { bpf_probe_read_kernel(counters) }.unwrap_or([0; 4]);
        let [file, anon, swap, shmem] = counts.map(positive);
        Counts { file, anon, swap, shmem }
    }
}

/// Memory by the address of its `mm_struct`, which may be gone, and the address another's, since it was remembered. The
/// verifier does not track it: each read is a probe read, which checks the address itself.
#[derive(Clone, Copy)]
pub(crate) struct RememberedMm(u64);

impl RememberedMm {
    pub(crate) fn new(address: u64) -> Self {
        Self(address)
    }

    /// Number of tasks that run in the memory, and of those that look at it right now.
    #[inline(always)]
    pub(crate) fn users(self) -> u32 {
        probe(self.0, offset(&OFFSETS.mm_users))
    }

    /// Whether this is the memory of process `tgid`: its owner is one of the process's threads, and runs in it.
    #[inline(always)]
    pub(crate) fn is_of(self, tgid: u32) -> bool {
        let owner: u64 = probe(self.0, offset(&OFFSETS.mm_owner));
        let (mm, owners): (u64, u32) =
            (probe(owner, offset(&OFFSETS.task_mm)), probe(owner, offset(&OFFSETS.task_tgid)));
        mm == self.0 && owners == tgid
    }

    /// The sums in which its process counts; `cgroup`: whether that of its cgroup is needed.
    #[inline(always)]
    pub(crate) fn place(self, cgroup: bool) -> Place {
        let owner: u64 = probe(self.0, offset(&OFFSETS.mm_owner));
        let leader: u64 = probe(owner, offset(&OFFSETS.task_group_leader));
        let cred: u64 = probe(leader, offset(&OFFSETS.task_real_cred));
        let uid = probe(cred, offset(&OFFSETS.cred_uid));
        if !cgroup || offset(&OFFSETS.task_cgroups) == 0 {
            return Place { uid, cgroup: 0 };
        }
        let set: u64 = probe(leader, offset(&OFFSETS.task_cgroups));
        let group: u64 = probe(set, offset(&OFFSETS.css_set_dfl_cgrp));
        let node: u64 = probe(group, offset(&OFFSETS.cgroup_kn));
        Place { uid, cgroup: probe(node, offset(&OFFSETS.kernfs_node_id)) }
    }

    /// Its counters, if `percpu_counter`s keep them (since 6.2).
    #[inline(always)]
    pub(crate) fn counts(self) -> Counts {
        if offset(&OFFSETS.rss_stride) == USUAL_STRIDE {
            // One helper call takes less than four, and most of the time of each is a miss of the cache.
            let all: [i64; 3 * USUAL_STRIDE / 8 + 1] = probe(self.0, offset(&OFFSETS.rss));
            let count = |member: usize| positive(all[member * USUAL_STRIDE / 8]);
            return Counts { file: count(FILE), anon: count(ANON), swap: count(SWAP), shmem: count(SHMEM) };
        }
        let count = |member: usize| {
            positive(probe(self.0, offset(&OFFSETS.rss) + member * offset(&OFFSETS.rss_stride)))
        };
        Counts { file: count(FILE), anon: count(ANON), swap: count(SWAP), shmem: count(SHMEM) }
    }
}

/// A `struct vm_area_struct`: one mapping of an address space.
#[derive(Clone, Copy)]
pub(crate) struct Vma(u64);

impl Vma {
    pub(crate) fn new(pointer: *const u8) -> Self {
        Self(pointer as u64)
    }

    /// Its place among all mappings of its file. None: it maps no file.
    #[inline(always)]
    pub(crate) fn file_mapping(self, tgid: u32) -> Option<FileMapping> {
        let offsets = &OFFSETS.file_mapping;
        let file: u64 = probe(self.0, offset(&offsets.vma_vm_file));
        if file == 0 {
            return None;
        }
        let space: u64 = probe(file, offset(&offsets.file_f_mapping));
        let inode: u64 = probe(space, offset(&offsets.address_space_host));
        let super_block: u64 = probe(inode, offset(&offsets.inode_i_sb));
        Some(FileMapping {
            inode: probe(inode, offset(&offsets.inode_i_ino)),
            root: probe(space, offset(&offsets.address_space_root)),
            node: self.0 + offset(&offsets.vma_node) as u64,
            left: probe(self.0, offset(&offsets.vma_left)),
            right: probe(self.0, offset(&offsets.vma_right)),
            device: probe(super_block, offset(&offsets.super_block_s_dev)),
            tgid,
        })
    }
}

/// The value `offset` bytes behind `address`; zero if that cannot be read.
#[inline(always)]
fn probe<T: Copy + Default>(address: u64, offset: usize) -> T {
    let field = (address as *const u8).wrapping_add(offset).cast::<T>();
    // SAFETY: a probe read checks the address itself.
    unsafe { bpf_probe_read_kernel(field) }.unwrap_or_default()
}

/// A counter as the kernel reads it: each CPU's share may be negative, and so may the sum of the shares folded in so far.
#[inline(always)]
fn positive(count: i64) -> u64 {
    if count < 0 { 0 } else { count.cast_unsigned() }
}

impl Task {
    /// # Safety
    /// `pointer` is a `task_struct *` that the verifier knows as one, not null.
    #[inline(always)]
    pub(crate) unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    #[inline(always)]
    pub(crate) fn is(self, other: Self) -> bool {
        self.0 as u64 == other.0 as u64
    }

    #[inline(always)]
    pub(crate) fn tgid(self) -> u32 {
        // SAFETY: a pid_t.
        unsafe { read(self.0, offset(&OFFSETS.task_tgid)) }
    }

    /// Whether this thread is the first of its process (or took that place by exec).
    #[inline(always)]
    pub(crate) fn leads(self) -> bool {
        // SAFETY: a pid_t.
        let pid: u32 = unsafe { read(self.0, offset(&OFFSETS.task_pid)) };
        pid == self.tgid()
    }

    /// The mm that the thread runs in. A kernel thread has none, and an exiting thread has released it.
    #[inline(always)]
    pub(crate) fn mm(self) -> Option<Mm> {
        // SAFETY: an `mm_struct *`.
        let mm: *const u8 = unsafe { read(self.0, offset(&OFFSETS.task_mm)) };
        if mm.is_null() { None } else { Some(Mm(mm)) }
    }

    /// Whether the thread runs in `mm`. While fork copies and exec builds an mm, its owner does not run in it yet.
    #[inline(always)]
    pub(crate) fn runs_in(self, mm: Mm) -> bool {
        // SAFETY: an `mm_struct *`, compared only.
        let own: *const u8 = unsafe { read(self.0, offset(&OFFSETS.task_mm)) };
        own as u64 == mm.address()
    }

    /// Whether this thread is exiting.
    #[inline(always)]
    pub(crate) fn exiting(self) -> bool {
        // SAFETY: an unsigned int.
        let flags: u32 = unsafe { read(self.0, offset(&OFFSETS.task_flags)) };
        flags & PF_EXITING != 0
    }

    /// Whether no thread of its process is left. This is `signal->live`, which is counted down before sched_process_exit;
    /// the tracepoint's own `group_dead` argument exists on newer kernels only.
    #[inline(always)]
    pub(crate) fn group_dead(self) -> bool {
        // SAFETY: a `signal_struct *`.
        let signal: *const u8 = unsafe { read(self.0, offset(&OFFSETS.task_signal)) };
        // SAFETY: `live.counter`, an int; null reads as 0, and a task without signal_struct is dead.
        let live: u32 = unsafe { read(signal, offset(&OFFSETS.signal_live)) };
        live == 0
    }

    /// The status that wait(2) will return for it.
    #[inline(always)]
    pub(crate) fn exit_code(self) -> u32 {
        // SAFETY: an int.
        unsafe { read(self.0, offset(&OFFSETS.task_exit_code)) }
    }

    /// Whether the kernel's OOM killer marked its process, as its choice or because it was dying already
    /// (`mark_oom_victim` keeps the mm).
    #[inline(always)]
    pub(crate) fn oom_victim(self) -> bool {
        // SAFETY: a `signal_struct *`.
        let signal: *const u8 = unsafe { read(self.0, offset(&OFFSETS.task_signal)) };
        // SAFETY: an `mm_struct *`, compared only; null reads as 0.
        let mm: *const u8 = unsafe { read(signal, offset(&OFFSETS.signal_oom_mm)) };
        !mm.is_null()
    }

    /// The first thread. /proc shows its start time, name and credentials as the process's, also after its exit.
    #[inline(always)]
    pub(crate) fn leader(self) -> Self {
        // SAFETY: a `task_struct *`, never null.
        Self(unsafe { read(self.0, offset(&OFFSETS.task_group_leader)) })
    }

    /// Nanoseconds since boot, suspend included.
    #[inline(always)]
    pub(crate) fn start_boottime(self) -> u64 {
        // SAFETY: a u64.
        unsafe { read(self.0, offset(&OFFSETS.task_start_boottime)) }
    }

    /// The real uid.
    #[inline(always)]
    pub(crate) fn uid(self) -> u32 {
        // SAFETY: a `cred *`.
        let cred: *const u8 = unsafe { read(self.0, offset(&OFFSETS.task_real_cred)) };
        // SAFETY: a kuid_t.
        unsafe { read(cred, offset(&OFFSETS.cred_uid)) }
    }

    /// The sums in which its process counts; `cgroup`: whether that of its cgroup is needed.
    #[inline(always)]
    pub(crate) fn place(self, cgroup: bool) -> Place {
        let leader = self.leader();
        Place { uid: leader.uid(), cgroup: if cgroup { leader.cgroup() } else { 0 } }
    }

    /// The id of its cgroup in the unified hierarchy.
    #[inline(always)]
    fn cgroup(self) -> u64 {
        if offset(&OFFSETS.task_cgroups) == 0 {
            return 0;
        }
        // SAFETY: a `css_set *`.
        let set: *const u8 = unsafe { read(self.0, offset(&OFFSETS.task_cgroups)) };
        // SAFETY: a `cgroup *`; null reads as 0, as below.
        let group: *const u8 = unsafe { read(set, offset(&OFFSETS.css_set_dfl_cgrp)) };
        // SAFETY: a `kernfs_node *`.
        let node: *const u8 = unsafe { read(group, offset(&OFFSETS.cgroup_kn)) };
        // SAFETY: a u64.
        unsafe { read(node, offset(&OFFSETS.kernfs_node_id)) }
    }

    /// TASK_COMM_LEN bytes, NUL within them.
    #[inline(always)]
    pub(crate) fn comm(self) -> [u8; 16] {
        let first = offset(&OFFSETS.task_comm);
        // SAFETY: bytes 0 to 7 of a char[16].
        let head: u64 = unsafe { read(self.0, first) };
        // SAFETY: bytes 8 to 15 of it.
        let tail: u64 = unsafe { read(self.0, first + 8) };
        // SAFETY: any sixteen bytes are a [u8; 16].
        unsafe { core::mem::transmute([head, tail]) }
    }
}

/// One load of a field.
///
/// # Safety
/// The structure that `base` points to has a `T` at `offset`.
#[inline(always)]
unsafe fn read<T: Copy>(base: *const u8, offset: usize) -> T {
    // SAFETY: the caller promises the type; the verifier checks the address.
    unsafe { ptr::read_volatile(base.wrapping_add(offset).cast()) }
}

/// A frozen offset. The read is volatile because the compiler must not take the zero in the object for its value.
#[inline(always)]
fn offset(field: &'static u32) -> usize {
    // SAFETY: a valid reference.
    unsafe { ptr::read_volatile(field) as usize }
}

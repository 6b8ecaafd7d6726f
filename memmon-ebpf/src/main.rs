//! The BPF programs of memmon: they count and wake, they never judge.
//!
//! Four tracepoints keep a table of every process's resident memory, and an iterator adds the processes that started
//! earlier. A change of an mm's counters belongs to the process of `mm->owner`, and only while that runs in this mm: the
//! current task may be a parent that copies, a vfork child, kswapd, or any process that truncates a shared file.
//!
//! Since Linux 6.2 `rss_stat` fires once per page, which costs a page fault some percent of its time. With two gears it is
//! attached only while a process is near a limit; at other times `tick` looks at the process that each busy CPU runs.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    unsafe_code,
    reason = "BPF programs read kernel memory and map elements by pointer; the verifier checks both"
)]
#![expect(clippy::needless_pass_by_value, reason = "the program macro passes contexts by value")]

mod count;
mod front;
mod kernel;
mod sums;
mod table;
mod wake;

use core::ptr;

use aya_ebpf::{
    bindings::seq_file,
    helpers::{bpf_get_current_task_btf, bpf_seq_write},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use memmon_common::{FileMapping, ProcessRss};

use kernel::{Mm, Task, Vma};

/// A counter of an mm changed: page faults, unmapping, reclaim. Arguments `(mm, member)`, before 6.2 also the count.
#[btf_tracepoint(function = "rss_stat")]
fn rss_stat(context: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is the mm.
    let mm = unsafe { Mm::new(context.arg(0)) };
    let rss = mm.rss();
    if rss >= wake::floor() {
        changed(mm, rss);
    }
    0
}

/// A high-resolution timer expired, in interrupt context: on a busy CPU the scheduler's tick is one. No argument is read:
/// the second has another type since 7.2.
#[btf_tracepoint(function = "hrtimer_expire_entry")]
fn tick(_: BtfTracePointContext) -> i32 {
    // SAFETY: a helper without arguments (5.11).
    let task = unsafe { bpf_get_current_task_btf() };
    // SAFETY: the interrupted task, which the verifier knows and which is never null.
    let task = unsafe { Task::new(task.cast()) };
    // None: the CPU is idle, or runs a kernel thread.
    if let Some(mm) = task.mm() {
        count::count(|counters| counters.ticks += 1);
        changed(mm, mm.rss());
    }
    0
}

/// Takes note that `mm` has `rss` pages resident now.
#[inline(always)]
fn changed(mm: Mm, rss: u64) {
    // None: the last user is gone and the memory is being torn down.
    let Some(owner) = mm.owner() else { return };
    let generation = wake::generation();
    if !front::settled(owner.tgid(), rss, generation) && owner.runs_in(mm) {
        table::record(owner, mm, generation);
    }
}

/// A thread or process was made. Arguments `(parent, child)`.
#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(context: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is a task.
    let parent = unsafe { Task::new(context.arg(0)) };
    // SAFETY: the second is one, too.
    let child = unsafe { Task::new(context.arg(1)) };
    if !child.leads() {
        return 0;
    }
    let Some(mm) = child.mm() else { return 0 };
    // vfork, CLONE_VM: the memory stays the parent's.
    if !parent.runs_in(mm) {
        table::renew(child, mm, Some(parent));
    }
    0
}

/// A process runs another program in new memory. Arguments `(task, old pid, bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(context: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is a task.
    let task = unsafe { Task::new(context.arg(0)) };
    wake::forget(task.tgid());
    if let Some(mm) = task.mm() {
        table::renew(task, mm, None);
    }
    0
}

/// A process, or one thread, was moved to another cgroup. Arguments `(cgroup, path, task, whole process)`.
#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_attach_task(context: BtfTracePointContext) -> i32 {
    // SAFETY: the third argument is a task.
    let task = unsafe { Task::new(context.arg(2)) };
    if task.leads() {
        table::moved(task);
    }
    0
}

/// A thread exits. Argument `(task)`; since 6.16 also whether it is the last, which `live` shows on all kernels.
#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(context: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is a task.
    let task = unsafe { Task::new(context.arg(0)) };
    if task.group_dead() {
        table::remove(task.tgid(), task);
    }
    0
}

/// Visits every thread once: a thread that runs in memory of its own stands for a process. Comparing with the owner, and
/// not with the leader, covers a leader that exited before its threads, and leaves out borrowed memory (vfork, kernel
/// threads). A process that is in the table already is brought up to date.
///
/// The argument is a `struct bpf_iter__task { meta, task }`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn refresh(context: *const *const u8) -> i32 {
    // SAFETY: two pointers, of which the second is the task, null after the last one.
    let task = unsafe { ptr::read_volatile(context.wrapping_add(1)) };
    if task.is_null() {
        return 0;
    }
    // SAFETY: checked for null, and the verifier knows the type.
    let task = unsafe { Task::new(task) };
    let Some(mm) = task.mm() else { return 0 };
    if mm.owner().is_some_and(|owner| owner.is(task)) {
        table::refresh(task, mm);
    }
    0
}

/// Visits every entry of the table: brings it up to date, and writes it to the file that user space reads, as a tgid and an
/// entry. This takes one pass over the table, and none over all threads of the machine.
///
/// The argument is a `struct bpf_iter__bpf_map_elem { meta, map, key, value }`, and `meta` begins with the file.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_map_elem")]
extern "C" fn survey(context: *const *const u8) -> i32 {
    // SAFETY: the argument is four pointers.
    let [meta, _, key, value] = unsafe { ptr::read_volatile(context.cast::<[*const u8; 4]>()) };
    // Both are null after the last entry.
    if key.is_null() || value.is_null() {
        return 0;
    }
    let entry = value.cast_mut().cast::<ProcessRss>();
    // SAFETY: keys of the table are tgids.
    let tgid = unsafe { ptr::read_volatile(key.cast::<u32>()) };
    table::revisit(tgid, entry);
    // SAFETY: `meta` begins with a `seq_file *`.
    let file = unsafe { ptr::read_volatile(meta.cast::<*mut seq_file>()) };
    // If the file's buffer is full, the kernel discards what this visit wrote, and visits the entry again.
    write(file, key.cast::<u32>());
    write(file, entry);
    0
}

/// Visits every mapping of a process, and writes those of files to the file that user space reads.
///
/// The argument is a `struct bpf_iter__task_vma { meta, task, vma }`, and `meta` begins with the file.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_vma")]
extern "C" fn mappings(context: *const *const u8) -> i32 {
    // SAFETY: the argument is three pointers.
    let [meta, task, vma] = unsafe { ptr::read_volatile(context.cast::<[*const u8; 3]>()) };
    // Both are null after the last mapping.
    if task.is_null() || vma.is_null() {
        return 0;
    }
    // SAFETY: checked for null, and the verifier knows the type.
    let task = unsafe { Task::new(task) };
    if let Some(mapping) = Vma::new(vma).file_mapping(task.tgid()) {
        // SAFETY: `meta` begins with a `seq_file *`.
        let file = unsafe { ptr::read_volatile(meta.cast::<*mut seq_file>()) };
        write(file, ptr::from_ref::<FileMapping>(&mapping));
    }
    0
}

/// Writes what `value` points to.
#[inline(always)]
fn write<T>(file: *mut seq_file, value: *const T) {
    let Ok(size) = u32::try_from(size_of::<T>()) else { return };
    // SAFETY: `size` bytes, which the verifier checks.
    unsafe { bpf_seq_write(file, value.cast_mut().cast(), size) };
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers used here are for GPL-compatible programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

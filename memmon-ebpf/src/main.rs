//! The BPF programs of memmon: they count and wake, they never judge.
//!
//! Four tracepoints keep a table of every process's resident memory, and an iterator fills in who was there before. A
//! change of an mm's counters belongs to the process of `mm->owner`, and only while that runs in this mm: the current
//! task may be a parent that copies, a vfork child, kswapd, or whoever truncates a shared file.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "BPF programs read kernel memory and map elements by pointer; the verifier checks both"
)]
#![expect(clippy::needless_pass_by_value, reason = "the program macro passes contexts by value")]

mod count;
mod front;
mod kernel;
mod table;
mod wake;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use kernel::{Mm, Task};

/// A counter of an mm changed: page faults, unmapping, reclaim. Arguments `(mm, member)`, before 6.2 also the count.
#[btf_tracepoint(function = "rss_stat")]
fn rss_stat(context: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is the mm.
    let mm = unsafe { Mm::new(context.arg(0)) };
    // None: the last user is gone and the memory is being torn down.
    let Some(owner) = mm.owner() else { return 0 };
    let generation = wake::generation();
    if front::settled(owner.tgid(), mm.rss(), generation) || !owner.runs_in(mm) {
        return 0;
    }
    table::record(owner, mm, generation);
    0
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

/// A thread exits. Argument `(task)`; since 6.16 also whether it is the last, which `live` tells on all kernels.
#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(context: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is a task.
    let task = unsafe { Task::new(context.arg(0)) };
    if task.group_dead() {
        table::remove(task.tgid(), task);
    }
    0
}

/// Visits every thread once: what runs in memory of its own is a process. That the owner is asked, and not the leader,
/// covers a leader that exited before its threads, and leaves out who borrows memory (vfork, kernel threads).
///
/// The argument is a `struct bpf_iter__task { meta, task }`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn seed(context: *const *const u8) -> i32 {
    // SAFETY: two pointers, of which the second is the task, null after the last one.
    let task = unsafe { core::ptr::read_volatile(context.wrapping_add(1)) };
    if task.is_null() {
        return 0;
    }
    // SAFETY: checked for null, and the verifier knows the type.
    let task = unsafe { Task::new(task) };
    let Some(mm) = task.mm() else { return 0 };
    if mm.owner().is_some_and(|owner| owner.is(task)) {
        table::seed(task, mm);
    }
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers used here are for GPL-compatible programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

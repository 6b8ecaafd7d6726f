//! A process that takes memory as fast as it can, past its limit, until its SIGTERM.
//!
//! | growth of a sprint | |
//! |---|---|
//! | `pages` | one thread touches page by page |
//! | `threads` | the same with two threads |
//! | `bursts` | one thread, with a sleep of 2 ms after each MiB |
//! | `memfd` | one thread touches a shared file in memory |
//! | `huge` | one thread touches huge pages of 2 MiB |
//! | `populate` | one thread has the kernel fill 16 MiB at a time (MADV_POPULATE_WRITE, Linux 5.14) |
//!
//! A sprint ends with `term LATENCY_NS RSS_BYTES SPEED`: the time from its crossing of LIMIT to its SIGTERM handler (0 if
//! it had not crossed), its resident memory then, and its bytes per second up to the crossing.
#![expect(unsafe_code, reason = "a signal handler may call what is async-signal-safe alone")]
#![expect(clippy::print_stdout, reason = "the benchmark reads it")]

use std::{
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use nix::{
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{self, SigHandler, Signal},
    },
    unistd,
};

use crate::{
    MOST, clock,
    memory::{advise, map, map_new, touch},
    shared::{PAGE, become_user},
};

/// Seconds after which SIGALRM ends a sprint that was not stopped.
const PATIENCE: u32 = 60;

/// Time of the crossing, on CLOCK_MONOTONIC; 0 if it has not crossed yet.
static CROSSED: AtomicU64 = AtomicU64::new(0);
/// Bytes per second up to the crossing.
static SPEED: AtomicU64 = AtomicU64::new(0);

/// The way in which a sprint takes memory.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Growth {
    Pages,
    Threads,
    Bursts,
    Memfd,
    Huge,
    Populate,
}

impl Growth {
    pub(crate) fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "pages" => Self::Pages,
            "threads" => Self::Threads,
            "bursts" => Self::Bursts,
            "memfd" => Self::Memfd,
            "huge" => Self::Huge,
            "populate" => Self::Populate,
            _ => bail!("{name} is no growth of a sprint"),
        })
    }

    /// Bytes that one step takes.
    const fn step(self) -> usize {
        match self {
            Self::Pages | Self::Threads | Self::Bursts | Self::Memfd => PAGE,
            Self::Huge => 2 << 20,
            Self::Populate => 16 << 20,
        }
    }

    /// Memory that is not touched yet, for a sprint of `len` bytes.
    fn map(self, len: usize) -> Result<usize> {
        match self {
            Self::Pages | Self::Threads | Self::Bursts | Self::Populate => map(len),
            Self::Memfd => map_memfd(len),
            Self::Huge => map_huge(len),
        }
    }

    /// Takes the step at `address`.
    fn take(self, address: usize) {
        match self {
            Self::Pages | Self::Threads | Self::Memfd | Self::Huge => touch(address),
            Self::Bursts => {
                touch(address);
                if address.is_multiple_of(1 << 20) {
                    thread::sleep(Duration::from_millis(2));
                }
            }
            Self::Populate => populate(address, self.step()),
        }
    }
}

/// Becomes `uid` and takes `most` bytes, past `limit`; the SIGTERM handler prints the figures and ends it.
pub(crate) fn sprint(growth: Growth, uid: u32, limit: usize, most: usize) -> Result<()> {
    ensure!(limit < most && most <= MOST, "a limit below MOST, and MOST up to {MOST} bytes");
    let (start, step) = (growth.map(most)?, growth.step());
    // SAFETY: the handler calls async-signal-safe functions only.
    unsafe { signal::signal(Signal::SIGTERM, SigHandler::Handler(report)) }?;
    // SAFETY: alarm(2) takes a number.
    unsafe { libc::alarm(PATIENCE) };
    become_user([uid; 3])?;
    rss();
    println!("go");
    let mut ours = (start..start + most).step_by(step);
    // The second thread takes steps from the middle on.
    let mut seconds = (start + most / 2..start + most).step_by(step);
    if growth == Growth::Threads {
        ours = (start..start + most / 2).step_by(step);
    }
    let began = clock(libc::CLOCK_MONOTONIC);
    // Up to shortly before the limit by count; from there on by the kernel's own figure.
    let near = limit.saturating_sub(8 << 20) / step;
    if growth == Growth::Threads {
        thread::scope(|scope| {
            scope.spawn(|| seconds.by_ref().take(near / 2).for_each(touch));
            ours.by_ref().take(near / 2).for_each(touch);
        });
    } else {
        ours.by_ref().take(near).for_each(|address| growth.take(address));
    }
    let left = limit.saturating_sub(rss()) / step;
    ours.by_ref().take(left).for_each(|address| growth.take(address));
    thread::scope(|scope| {
        if growth == Growth::Threads {
            scope.spawn(move || {
                while CROSSED.load(Ordering::Relaxed) == 0 {
                    std::hint::spin_loop();
                }
                seconds.for_each(touch);
            });
        }
        let crossing = |now: u64| {
            SPEED.store(
                (limit as u64).saturating_mul(1_000_000_000) / (now - began).max(1),
                Ordering::Relaxed,
            );
            CROSSED.store(now, Ordering::Relaxed);
        };
        // A step of many pages crosses somewhere within; the time before it is the one that cannot be too late.
        if growth == Growth::Populate {
            crossing(clock(libc::CLOCK_MONOTONIC));
        }
        ours.by_ref().take(1).for_each(|address| growth.take(address));
        if growth != Growth::Populate {
            crossing(clock(libc::CLOCK_MONOTONIC));
        }
        ours.for_each(|address| growth.take(address));
    });
    loop {
        unistd::pause();
    }
}

/// The SIGTERM handler of a sprint. Formatting numbers into a buffer on the stack allocates nothing.
extern "C" fn report(_: libc::c_int) {
    let now = clock(libc::CLOCK_MONOTONIC);
    let held = rss();
    let crossed = CROSSED.load(Ordering::Relaxed);
    let latency = if crossed == 0 { 0 } else { now - crossed };
    let mut line = [0; 96];
    let mut rest = &mut line[..];
    let written = writeln!(rest, "term {latency} {held} {}", SPEED.load(Ordering::Relaxed));
    let left = rest.len();
    let length = if written.is_ok() { line.len() - left } else { 0 };
    // SAFETY: write(2) is async-signal-safe; the buffer has this length.
    unsafe { libc::write(1, line.as_ptr().cast(), length) };
    // SAFETY: _exit(2) is async-signal-safe.
    unsafe { libc::_exit(0) };
}

/// Resident memory of this process, from /proc/self/statm; async-signal-safe.
fn rss() -> usize {
    // SAFETY: open(2) with a C string.
    let fd = unsafe { libc::open(c"/proc/self/statm".as_ptr(), libc::O_RDONLY) };
    let mut text = [0_u8; 128];
    // SAFETY: read(2) into a buffer of that length; a bad descriptor is an error.
    let length = unsafe { libc::read(fd, text.as_mut_ptr().cast(), text.len()) };
    // SAFETY: close(2) of the descriptor that was opened above.
    unsafe { libc::close(fd) };
    let text = text.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
    let resident = text.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    resident.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0')) * PAGE
}

/// Private memory in huge pages, which begins where one begins.
fn map_huge(len: usize) -> Result<usize> {
    const HUGE: usize = Growth::Huge.step();
    let start = map_new(len + HUGE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?.next_multiple_of(HUGE);
    ensure!(advise(start, len, libc::MADV_HUGEPAGE), "MADV_HUGEPAGE: {}", io::Error::last_os_error());
    Ok(start)
}

/// A file in memory, mapped for all to see.
fn map_memfd(len: usize) -> Result<usize> {
    let file = memfd_create(c"sprint", MFdFlags::MFD_CLOEXEC)?;
    unistd::ftruncate(&file, len.try_into()?)?;
    map_new(len, libc::MAP_SHARED, file.as_raw_fd())
}

/// Has the kernel fill memory, as far as a signal does not interrupt it.
fn populate(start: usize, len: usize) {
    // Refused before Linux 5.14.
    if !advise(start, len, libc::MADV_POPULATE_WRITE) {
        (start..start + len).step_by(PAGE).for_each(touch);
    }
}

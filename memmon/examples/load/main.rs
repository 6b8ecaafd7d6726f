//! The loads for the measurements of `cargo xtask bench`. One mode per run; it uses no more memory than listed.
//!
//! | mode | effect |
//! |---|---|
//! | `faults` | for each line `THREADS ROUNDS` on stdin: each thread touches 64 MiB and drops it, ROUNDS times; answers `CPU_NS` |
//! | `switches` | for each line `TRIPS` on stdin: two processes hand a byte to and fro so many times; answers `CPU_NS` of both |
//! | `hold MIB` | touches so much memory (at most 512 MiB), answers `ready`, and sleeps until stdin is closed |
//! | `spin` | keeps one CPU busy until stdin is closed |
//! | `crowd N` | N children that sleep; answers `ready`; ends and reaps them when stdin is closed |
//! | `sprint UID LIMIT MOST` | becomes UID and touches memory at full speed, page by page, up to MOST bytes; on SIGTERM prints its figures |
//!
//! A sprint ends with `term LATENCY_NS RSS_BYTES SPEED`: the time from its crossing of LIMIT to its SIGTERM handler (0 if
//! it had not crossed), its resident memory then, and its bytes per second up to the crossing.
//!
//! All die with the thread that started them (PR_SET_PDEATHSIG).
#![expect(unsafe_code, reason = "the loads need mmap, signal handlers and forks")]
#![expect(clippy::print_stdout, reason = "the benchmark reads it")]

mod shared;

use std::{
    env,
    io::{self, Read as _, Write as _},
    process, ptr,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        signal::{self, SigHandler, Signal},
        time::TimeValLike as _,
        wait::waitpid,
    },
    unistd::{self, ForkResult, Pid},
};

use shared::{PAGE, become_user, die_with_parent, page_at};

/// Memory that each thread of `faults` touches.
const REGION: usize = 64 << 20;
/// Maximum of memory that a sprint may hold.
const MOST: usize = 512 << 20;
/// Seconds after which SIGALRM ends a sprint that was not stopped.
const PATIENCE: u32 = 60;

fn main() -> Result<()> {
    die_with_parent()?;
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["faults"] => faults(),
        ["switches"] => switches(),
        ["hold", mib] => hold(mib.parse()?),
        ["spin"] => spin(),
        ["crowd", count] => crowd(count.parse()?),
        ["sprint", uid, limit, most] => sprint(uid.parse()?, limit.parse()?, most.parse()?),
        _ => bail!("modes are: faults, switches, hold MIB, spin, crowd N, sprint UID LIMIT MOST"),
    }
}

fn hold(mib: usize) -> Result<()> {
    ensure!(mib << 20 <= MOST, "{mib} MiB are too many");
    let held = vec![1_u8; mib << 20];
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(())
}

fn faults() -> Result<()> {
    for line in io::stdin().lines() {
        let line = line?;
        let (threads, rounds) = line.split_once(' ').context("THREADS ROUNDS")?;
        let (threads, rounds): (usize, usize) = (threads.parse()?, rounds.parse()?);
        let regions = (0..threads).map(|_| map(REGION)).collect::<Result<Vec<_>>>()?;
        let before = clock(libc::CLOCK_PROCESS_CPUTIME_ID);
        thread::scope(|scope| {
            for &start in &regions {
                scope.spawn(move || {
                    for _ in 0..rounds {
                        (start..start + REGION).step_by(PAGE).for_each(touch);
                        drop_contents(start, REGION);
                    }
                });
            }
        });
        let spent = clock(libc::CLOCK_PROCESS_CPUTIME_ID) - before;
        for start in regions {
            // SAFETY: a whole mapping of ours, to which no pointer is left.
            unsafe { libc::munmap(page_at(start).cast(), REGION) };
        }
        println!("{spent}");
    }
    Ok(())
}

fn switches() -> Result<()> {
    for line in io::stdin().lines() {
        let trips: usize = line?.parse()?;
        let ((mut asked, mut ask), (mut answered, mut answer)) = (io::pipe()?, io::pipe()?);
        let before = clock(libc::CLOCK_PROCESS_CPUTIME_ID) + children()?;
        let mut byte = [0];
        // SAFETY: this process has one thread, so no lock is held by a thread that is not copied.
        match unsafe { unistd::fork() }? {
            ForkResult::Parent { child } => {
                // With these open, a child that failed would be waited for without an end.
                drop((asked, answer));
                for _ in 0..trips {
                    ask.write_all(&byte)?;
                    answered.read_exact(&mut byte)?;
                }
                waitpid(child, None)?;
            }
            ForkResult::Child => {
                let mut trip = || asked.read_exact(&mut byte).and_then(|()| answer.write_all(&byte));
                let all = die_with_parent().is_ok() && (0..trips).all(|_| trip().is_ok());
                process::exit(i32::from(!all));
            }
        }
        println!("{}", clock(libc::CLOCK_PROCESS_CPUTIME_ID) + children()? - before);
    }
    Ok(())
}

/// Nanoseconds of CPU time of all children that have ended.
fn children() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time() + usage.system_time()).num_nanoseconds().unsigned_abs())
}

fn spin() -> Result<()> {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(0);
    });
    loop {
        std::hint::spin_loop();
    }
}

fn crowd(count: usize) -> Result<()> {
    let mut children = Vec::with_capacity(count);
    for _ in 0..count {
        // SAFETY: this process has one thread, so no lock is held by a thread that is not copied.
        match unsafe { unistd::fork() }? {
            ForkResult::Parent { child } => children.push(child),
            ForkResult::Child => {
                let armed = die_with_parent();
                while armed.is_ok() {
                    unistd::pause();
                }
                process::exit(1);
            }
        }
    }
    println!("ready");
    io::stdin().lock().read_to_end(&mut Vec::new())?;
    // Our own children, not reaped yet, so each pid is still the child's.
    let end = |child: &Pid| signal::kill(*child, Signal::SIGKILL).and_then(|()| waitpid(*child, None));
    for child in &children {
        end(child)?;
    }
    Ok(())
}

/// Time of the crossing, on CLOCK_MONOTONIC; 0 if it has not crossed yet.
static CROSSED: AtomicU64 = AtomicU64::new(0);
/// Bytes per second up to the crossing.
static SPEED: AtomicU64 = AtomicU64::new(0);

fn sprint(uid: u32, limit: usize, most: usize) -> Result<()> {
    ensure!(limit < most && most <= MOST, "a limit below MOST, and MOST up to {MOST} bytes");
    let start = map(most)?;
    // SAFETY: the handler calls async-signal-safe functions only.
    unsafe { signal::signal(Signal::SIGTERM, SigHandler::Handler(report)) }?;
    // SAFETY: alarm(2) takes a number.
    unsafe { libc::alarm(PATIENCE) };
    become_user(uid, uid)?;
    rss();
    println!("go");
    let mut pages = (start..start + most).step_by(PAGE);
    let began = clock(libc::CLOCK_MONOTONIC);
    // Up to shortly before the limit by count; from there on by the kernel's own figure.
    let near = limit.saturating_sub(8 << 20) / PAGE;
    pages.by_ref().take(near).for_each(touch);
    let left = limit.saturating_sub(rss()) / PAGE;
    pages.by_ref().take(left).for_each(touch);
    pages.by_ref().take(1).for_each(touch);
    let now = clock(libc::CLOCK_MONOTONIC);
    let took = now - began;
    SPEED.store((limit as u64).saturating_mul(1_000_000_000) / took.max(1), Ordering::Relaxed);
    CROSSED.store(now, Ordering::Relaxed);
    pages.for_each(touch);
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

/// Private memory in pages of 4 KiB, so that each touch is one fault.
fn map(len: usize) -> Result<usize> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
    ensure!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
    // SAFETY: the mapping that was just made. A kernel without huge pages refuses, which does no harm.
    unsafe { libc::madvise(start, len, libc::MADV_NOHUGEPAGE) };
    Ok(start.expose_provenance())
}

fn touch(address: usize) {
    // SAFETY: inside a mapping of this process that is writable and still there.
    unsafe { page_at(address).write_volatile(1) };
}

fn drop_contents(start: usize, len: usize) {
    // SAFETY: a whole mapping of ours; its contents mean nothing.
    unsafe { libc::madvise(page_at(start).cast(), len, libc::MADV_DONTNEED) };
}

/// Nanoseconds of `clock`.
fn clock(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) writes one timespec.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

//! The loads for the measurements of `cargo xtask bench`. One mode per run; it uses no more memory than listed.
//!
//! | mode | effect |
//! |---|---|
//! | `faults` | for each line `THREADS ROUNDS` on stdin: each thread touches 64 MiB and drops it, ROUNDS times; answers `CPU_NS` |
//! | `switches` | for each line `TRIPS` on stdin: two processes hand a byte to and fro so many times; answers `CPU_NS` of both |
//! | `hold MIB` | touches so much memory (at most 512 MiB), answers `ready`, and sleeps until stdin is closed |
//! | `spin` | keeps one CPU busy until stdin is closed |
//! | `crowd N` | N children that sleep; answers `ready`; ends and reaps them when stdin is closed |
//! | `forks` | keeps one CPU busy with children that end at once, until stdin is closed |
//! | `sprint GROWTH UID LIMIT MOST` | becomes UID and takes memory at full speed, up to MOST bytes; on SIGTERM prints its figures |
//! | `shortage LOAD UID OTHER MS MEMMON…` | runs memmon on a small machine that becomes short of memory (shortage.rs) |
//!
//! All die with the thread that started them (PR_SET_PDEATHSIG).
#![expect(unsafe_code, reason = "the loads need mmap, signal handlers and forks")]
#![expect(clippy::print_stdout, reason = "the benchmark reads it")]

mod memory;
mod memory_cgroup;
#[path = "../shared/mod.rs"]
mod shared;
mod shortage;
mod sprint;

use std::{
    env,
    io::{self, Read as _, Write as _},
    process, thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        signal::{self, Signal},
        time::TimeValLike as _,
        wait::waitpid,
    },
    unistd::{self, ForkResult, Pid},
};

use memory::{drop_contents, map, touch, unmap};
use shared::{PAGE, die_with_parent};
use shortage::Shortage;
use sprint::{Growth, sprint};

/// Memory that each thread of `faults` touches.
const REGION: usize = 64 << 20;
/// Maximum of memory that a load may hold.
const MOST: usize = 512 << 20;

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
        ["forks"] => forks(),
        ["sprint", growth, uid, limit, most] => {
            sprint(Growth::named(growth)?, uid.parse()?, limit.parse()?, most.parse()?)
        }
        ["shortage", load, uid, other, delay, ref memmon @ ..] => {
            let users = [uid.parse()?, other.parse()?];
            Shortage { load, users, delay: Duration::from_millis(delay.parse()?), memmon }.run()
        }
        _ => bail!(
            "modes are: faults, switches, hold MIB, spin, crowd N, forks, sprint GROWTH UID LIMIT MOST, \
             shortage LOAD UID OTHER MS MEMMON…"
        ),
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
            unmap(start, REGION);
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

/// Ends this process when stdin is closed.
fn end_with_stdin() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(0);
    });
}

fn spin() -> Result<()> {
    end_with_stdin();
    loop {
        std::hint::spin_loop();
    }
}

fn forks() -> Result<()> {
    end_with_stdin();
    loop {
        // SAFETY: the child calls _exit(2) alone, which is async-signal-safe.
        match unsafe { unistd::fork() }? {
            ForkResult::Parent { child } => waitpid(child, None).map(drop)?,
            // SAFETY: as above.
            ForkResult::Child => unsafe { libc::_exit(0) },
        }
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

/// Nanoseconds of `clock`.
fn clock(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) writes one timespec.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

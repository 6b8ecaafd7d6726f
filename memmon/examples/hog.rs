//! A real memory hog for memmon's tests: it runs a script from its arguments, step by step.
//!
//! ```text
//! hog uid 47001 ignore-term anon 100M fork anon 20M hold end hold
//! ```
//!
//! | step | effect |
//! |---|---|
//! | `anon SIZE` | maps private memory and touches it |
//! | `grow SIZE RATE` | the same at RATE per second (`50M/s`, or `max`), never faster to compensate for a stall |
//! | `busy` | a thread that computes without a pause, so that each tick of the kernel's timer meets the hog |
//! | `shmem SIZE` | a memfd, mapped shared and touched |
//! | `memfd SIZE` | a memfd that is held open, and not mapped |
//! | `map` | maps the memfd shared, and does not touch it |
//! | `map-part SIZE` | the same for its first SIZE |
//! | `segment SIZE` | shared anonymous memory, mapped and not touched: for the children of later forks |
//! | `tmpfs PATH SIZE` | a new file on a tmpfs, mapped shared and touched; it is left behind |
//! | `write PATH SIZE RATE` | a new file, written to at RATE per second and held open; it is left behind |
//! | `sysv SIZE` | a System V segment, attached and touched; it is left behind |
//! | `file PATH SIZE` | a new file (removed at once), mapped and read; PATH must not be on a tmpfs |
//! | `threads N SIZE` | N threads that touch SIZE each and stay |
//! | `pinned N SIZE` | the same, each of them on its own CPU (N at most the number of CPUs) |
//! | `free` / `dontneed` / `madvise-free` | munmap / MADV_DONTNEED / MADV_FREE of everything mapped so far |
//! | `rewrite` | writes to everything mapped so far: what a fork made shared becomes the process's own |
//! | `fork STEPS… end` | a child with a copy of the memory, which runs STEPS; the script continues |
//! | `split STEPS… end` | the same with a child that outlives the hog: it ends with its steps, as `hold` with stdin |
//! | `vfork-exec STEPS… end` | a child by posix_spawn (CLONE_VFORK): a new hog that runs STEPS |
//! | `vfork` | a child that runs in the hog's own memory and does nothing until it dies |
//! | `share` | a child that runs in the hog's own memory, outlives the hog, and waits until stdin is closed |
//! | `exec ARGV0` | executes the hog again with that argv[0] for the remaining steps; its memory is freed |
//! | `churn` | the main thread ends, and from then on each thread starts the next one and ends; never done |
//! | `leader-exits` | the main thread ends, another one runs the remaining steps |
//! | `ignore-term` | ignores SIGTERM from here on |
//! | `ignore-int` / `exit-on-int` | ignores SIGINT from here on / a SIGINT handler that exits 0 |
//! | `save-on-term PATH` | a SIGTERM handler that writes `saved` to PATH and exits 0 |
//! | `wait-term` | waits for SIGTERM (blocked meanwhile), then continues |
//! | `stop` | raises SIGSTOP |
//! | `rename TEXT` | sets comm; `\n`, `\xHH` and `\\` are understood |
//! | `oom-adj N` | writes oom_score_adj (before `uid`, if it is to be lowered) |
//! | `login UID` | begins a session of the kernel's audit for UID, as pam_loginuid(8) does (before `uid`) |
//! | `mount FILE ONTO` | mounts FILE onto the file ONTO, in a mount namespace of its own (before `uid`) |
//! | `new-pids` | the next child becomes the first process of a new pid namespace (before `uid`) |
//! | `new-users` | enters a user namespace in which its uid is 0 (after `uid` and `exec`, by which /proc/self is its own) |
//! | `uid REAL[:EFFECTIVE[:SAVED]]` | drops all groups and becomes that uid and gid |
//! | `work` | writes to everything mapped so far, once a second, for as long as it lives |
//! | `hold` | waits until stdin is closed |
//!
//! Each step prints a line when it is done, `PID ready anon 100M` (`PID ready fork CHILD`, `vfork CHILD`, `sysv ID`); steps that
//! take time (grow, write, wait-term, stop, hold) print `PID begin …` first. So tests wait for lines, never for time.
//! After the last step the hog exits 0; a step that fails exits 1. Sizes take K, M or G (powers of 1024).
//!
//! A hog dies with the thread that started it (PR_SET_PDEATHSIG), and refuses to hold more than 300 MB, or
//! more than `HOG_MOST` in its environment, which is for machines of their own.
#![expect(unsafe_code, reason = "a hog needs mmap, signal handlers and raw exits")]

mod shared;

use std::{
    env,
    ffi::CString,
    fs,
    io::{self, Write},
    os::{
        fd::{AsRawFd, FromRawFd, RawFd},
        unix::process::CommandExt,
    },
    path::Path,
    process, ptr,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicI32, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
    vec,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    mount::MsFlags,
    sched::{CloneFlags, CpuSet, sched_setaffinity},
    sys::signal::{self, SigHandler, SigSet, Signal},
    unistd::{self, ForkResult},
};

use shared::{PAGE, die_with_parent, page_at};

/// Maximum of memory that one hog may hold, for any script.
const MOST: usize = 300 << 20;

/// Address and length of each mapping.
static REGIONS: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());
static HELD: AtomicUsize = AtomicUsize::new(0);
/// The memfd of `memfd`.
static MEMFD: Mutex<Option<fs::File>> = Mutex::new(None);
static SAVE_TO: OnceLock<CString> = OnceLock::new();

fn main() {
    let script = Script(env::args().skip(1).collect::<Vec<_>>().into_iter());
    process::exit(report(die_with_parent().and_then(|()| script.run())));
}

/// The remaining steps.
struct Script(vec::IntoIter<String>);

impl Script {
    fn run(mut self) -> Result<()> {
        while let Some(step) = self.0.next() {
            let done = self.step(&step).with_context(|| format!("hog: step {step}"))?;
            say("ready", &done);
        }
        Ok(())
    }

    /// Runs one step and returns its text for the line.
    fn step(&mut self, step: &str) -> Result<String> {
        let mut reported = String::from(step);
        let mut word = || -> Result<String> {
            let word = self.0.next().context("a word is missing after it")?;
            reported = format!("{reported} {word}");
            Ok(word)
        };
        match step {
            "anon" => touch(map(size(&word()?)?, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?),
            "grow" => {
                let (size, rate) = (size(&word()?)?, rate(&word()?)?);
                say("begin", &reported);
                grow(map(size, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?, rate);
            }
            "shmem" => {
                let memfd = memfd(size(&word()?)?)?;
                touch(map_shared(&memfd)?);
            }
            "memfd" => *MEMFD.lock().unwrap_or_else(PoisonError::into_inner) = Some(memfd(size(&word()?)?)?),
            "map" => {
                let memfd = MEMFD.lock().unwrap_or_else(PoisonError::into_inner);
                map_shared(memfd.as_ref().context("there is no memfd")?)?;
            }
            "map-part" => {
                let (memfd, size) = (MEMFD.lock().unwrap_or_else(PoisonError::into_inner), size(&word()?)?);
                map(size, libc::MAP_SHARED, memfd.as_ref().context("there is no memfd")?.as_raw_fd())?;
            }
            "segment" => drop(map(size(&word()?)?, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?),
            "tmpfs" => {
                let (path, size) = (word()?, size(&word()?)?);
                let file = fs::File::options().read(true).write(true).create_new(true).open(path)?;
                file.set_len(size as u64)?;
                touch(map_shared(&file)?);
            }
            "login" => fs::write("/proc/self/loginuid", word()?)?,
            "write" => {
                let (path, size, rate) = (word()?, size(&word()?)?, rate(&word()?)?);
                say("begin", &reported);
                write_slowly(fs::File::options().write(true).create_new(true).open(path)?, size, rate)?;
            }
            "sysv" => {
                let (id, region) = segment(size(&word()?)?)?;
                touch(region);
                reported = format!("sysv {id}");
            }
            "file" => {
                let (path, size) = (word()?, size(&word()?)?);
                read(map_file(Path::new(&path), size)?);
            }
            "threads" => threads(word()?.parse()?, size(&word()?)?, false)?,
            "pinned" => threads(word()?.parse()?, size(&word()?)?, true)?,
            "free" => free()?,
            "dontneed" => advise(libc::MADV_DONTNEED)?,
            "madvise-free" => advise(libc::MADV_FREE)?,
            "rewrite" => rewrite(),
            "fork" | "split" => {
                let steps = self.block()?;
                // SAFETY: scripts fork before they start threads, so no lock is held by a thread that is not copied.
                let forked = unsafe { unistd::fork() }?;
                match forked {
                    ForkResult::Parent { child } => reported = format!("{step} {child}"),
                    ForkResult::Child => {
                        if step == "fork" {
                            die_with_parent()?;
                        }
                        let ended = Self(steps.into_iter()).run();
                        process::exit(report(ended));
                    }
                }
            }
            "vfork-exec" => {
                let child = process::Command::new("/proc/self/exe").args(self.block()?).spawn()?;
                reported = format!("vfork-exec {}", child.id());
            }
            "vfork" => reported = format!("vfork {}", lend_memory()?),
            "share" => reported = format!("share {}", share_memory()?),
            "exec" => {
                let name = word()?;
                // Not /proc/self, which is the leader, because that may have exited.
                return Err(process::Command::new("/proc/thread-self/exe")
                    .arg0(name)
                    .args(&mut self.0)
                    .exec()
                    .into());
            }
            "churn" => churn(),
            "leader-exits" => leader_exits(Self(std::mem::take(&mut self.0))),
            "mount" => mount(Path::new(&word()?), Path::new(&word()?))?,
            "new-users" => {
                let uid = unistd::getuid();
                nix::sched::unshare(CloneFlags::CLONE_NEWUSER)?;
                fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            }
            "new-pids" => nix::sched::unshare(CloneFlags::CLONE_NEWPID)?,
            "ignore-term" => handle(Signal::SIGTERM, SigHandler::SigIgn)?,
            "ignore-int" => handle(Signal::SIGINT, SigHandler::SigIgn)?,
            "exit-on-int" => handle(Signal::SIGINT, SigHandler::Handler(exit))?,
            "save-on-term" => {
                let path = CString::new(word()?)?;
                ensure!(SAVE_TO.set(path).is_ok(), "only once");
                handle(Signal::SIGTERM, SigHandler::Handler(save))?;
            }
            "wait-term" => {
                let term = SigSet::from(Signal::SIGTERM);
                term.thread_block()?;
                say("begin", &reported);
                term.wait()?;
                term.thread_unblock()?;
            }
            "stop" => {
                say("begin", &reported);
                signal::raise(Signal::SIGSTOP)?;
            }
            "rename" => rename(&word()?)?,
            "oom-adj" => fs::write("/proc/self/oom_score_adj", word()?)?,
            "uid" => {
                let uids = word()?.split(':').map(str::parse).collect::<Result<Vec<u32>, _>>()?;
                let (real, uids) = uids.split_first().context("a uid is needed")?;
                let effective = uids.first().unwrap_or(real);
                shared::become_user([*real, *effective, *uids.get(1).unwrap_or(effective)])?;
            }
            "busy" => {
                thread::spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
            "work" => {
                say("begin", &reported);
                loop {
                    rewrite();
                    thread::sleep(Duration::from_secs(1));
                }
            }
            "hold" => {
                say("begin", &reported);
                io::copy(&mut io::stdin().lock(), &mut io::sink())?;
            }
            _ => bail!("unknown"),
        }
        Ok(reported)
    }

    /// The steps up to the matching `end`.
    fn block(&mut self) -> Result<Vec<String>> {
        let (mut steps, mut depth) = (Vec::new(), 1);
        loop {
            let word = self.0.next().context("`end` is missing")?;
            match word.as_str() {
                "fork" | "split" | "vfork-exec" => depth += 1,
                "end" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(steps);
            }
            steps.push(word);
        }
    }
}

/// Prints one line with one write.
fn say(what: &str, reported: &str) {
    let line = format!("{} {what} {reported}\n", process::id());
    // The script continues even if no process reads the output.
    let _ = io::stdout().lock().write_all(line.as_bytes());
}

fn report(ended: Result<()>) -> i32 {
    ended.map_or_else(
        |error| {
            let _ = writeln!(io::stderr(), "{error:#}");
            1
        },
        |()| 0,
    )
}

fn size(text: &str) -> Result<usize> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    Ok(digits.parse::<usize>().with_context(|| format!("`{text}` is no size"))? << shift)
}

/// Parses bytes per second; `None` for the maximum speed.
fn rate(text: &str) -> Result<Option<usize>> {
    if text == "max" { Ok(None) } else { size(text.strip_suffix("/s").unwrap_or(text)).map(Some) }
}

/// Counts `len` bytes more as held, unless that is more than a hog may hold.
fn hold_more(len: usize) -> Result<()> {
    let held = HELD.fetch_add(len, Ordering::Relaxed) + len;
    let most = env::var("HOG_MOST").map_or(Ok(MOST), |most| size(&most))?;
    ensure!(held <= most, "{held} bytes are more than a hog may hold");
    Ok(())
}

fn map(len: usize, flags: i32, fd: RawFd) -> Result<(usize, usize)> {
    hold_more(len)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, 0) };
    ensure!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
    let region = (start.addr(), len);
    regions().push(region);
    Ok(region)
}

fn memfd(len: usize) -> Result<fs::File> {
    // SAFETY: the name is a C string; the call creates a descriptor and nothing else.
    let fd = unsafe { libc::memfd_create(c"hog".as_ptr(), libc::MFD_CLOEXEC) };
    ensure!(fd >= 0, "memfd_create: {}", io::Error::last_os_error());
    // SAFETY: the descriptor was just made and has no other owner.
    let file = unsafe { fs::File::from_raw_fd(fd) };
    file.set_len(len as u64)?;
    Ok(file)
}

fn map_shared(file: &fs::File) -> Result<(usize, usize)> {
    map(usize::try_from(file.metadata()?.len())?, libc::MAP_SHARED, file.as_raw_fd())
}

fn segment(len: usize) -> Result<(i32, (usize, usize))> {
    hold_more(len)?;
    // SAFETY: shmget takes integers, and makes a new segment.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, len, 0o600) };
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists; a wrong id is an error.
    let start = unsafe { libc::shmat(id, ptr::null(), 0) };
    ensure!(id >= 0 && start.addr() != usize::MAX, "shmget, shmat: {}", io::Error::last_os_error());
    Ok((id, (start.addr(), len)))
}

fn map_file(path: &Path, len: usize) -> Result<(usize, usize)> {
    let file = fs::File::options().read(true).write(true).create_new(true).open(path)?;
    fs::remove_file(path)?;
    file.set_len(len as u64)?;
    map(len, libc::MAP_SHARED, file.as_raw_fd())
}

fn regions() -> std::sync::MutexGuard<'static, Vec<(usize, usize)>> {
    REGIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn touch((start, len): (usize, usize)) {
    for address in (start..start + len).step_by(PAGE) {
        // SAFETY: inside a mapping that was just made writable and that only `free` ends.
        unsafe { page_at(address).write_volatile(1) };
    }
}

/// Reads one byte per page: this maps the pages of a file, and writes nothing to the disk.
fn read((start, len): (usize, usize)) {
    for address in (start..start + len).step_by(PAGE) {
        // SAFETY: inside a mapping of a file of that length.
        unsafe { page_at(address).read_volatile() };
    }
}

fn grow((start, len): (usize, usize), rate: Option<usize>) {
    let Some(rate) = rate else { return touch((start, len)) };
    let (mut last, mut time, mut grown) = (Instant::now(), Duration::ZERO, 0);
    while grown < len {
        // A stall is not followed by a burst.
        time += last.elapsed().min(Duration::from_millis(20));
        last = Instant::now();
        let due = time.as_micros().saturating_mul(rate as u128) / 1_000_000;
        let due = usize::try_from(due).unwrap_or(len).min(len).next_multiple_of(PAGE).min(len);
        if due > grown {
            touch((start + grown, due - grown));
            grown = due;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Writes `size` to `file`, which stays open.
fn write_slowly(mut file: fs::File, size: usize, rate: Option<usize>) -> Result<()> {
    const PART: usize = 1 << 20;
    let part = vec![1; PART];
    let pause = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(PART as f64 / rate as f64));
    for _ in 0..size.div_ceil(PART) {
        file.write_all(&part)?;
        thread::sleep(pause);
    }
    std::mem::forget(file);
    Ok(())
}

fn threads(count: usize, size: usize, pinned: bool) -> Result<()> {
    let (done, all_done) = mpsc::channel();
    for number in 0..count {
        let done = done.clone();
        thread::spawn(move || {
            // Only the script's thread takes signals.
            let quiet = SigSet::all().thread_block().map_err(anyhow::Error::from);
            let placed = quiet.and_then(|()| if pinned { pin(number) } else { Ok(()) });
            let mapped =
                placed.and_then(|()| map(size, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)).map(touch);
            let _ = done.send(mapped);
            loop {
                thread::park();
            }
        });
    }
    all_done.iter().take(count).collect()
}

/// Binds this thread to one CPU.
fn pin(processor: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    sched_setaffinity(unistd::Pid::from_raw(0), &only).with_context(|| format!("processor {processor}"))
}

/// Starts a child as vfork does, which never calls exec. A thread of this process waits for it in the kernel.
fn lend_memory() -> Result<i32> {
    static CHILD: AtomicI32 = AtomicI32::new(0);
    extern "C" fn linger(_: *mut libc::c_void) -> libc::c_int {
        // SAFETY: prctl takes one integer here. The parent is the waiting thread, which ends with its process.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: pause takes no arguments and changes no memory.
            unsafe { libc::pause() };
        }
    }
    let waiter = thread::spawn(|| {
        SigSet::all().thread_block()?;
        let stack = Box::leak(Box::new([0_u128; 1024]));
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
        // SAFETY: the child has a stack of its own, which is never freed, and calls nothing that needs a lock.
        let cloned = unsafe {
            libc::clone(linger, stack.as_mut_ptr_range().end.cast(), flags, ptr::null_mut(), CHILD.as_ptr())
        };
        ensure!(cloned >= 0, "clone: {}", io::Error::last_os_error());
        Ok(())
    });
    loop {
        match CHILD.load(Ordering::Acquire) {
            0 if waiter.is_finished() => bail!("no child: {:?}", waiter.join()),
            0 => thread::sleep(Duration::from_millis(1)),
            child => return Ok(child),
        }
    }
}

/// Starts a child that runs in this very memory and outlives this process.
fn share_memory() -> Result<i32> {
    extern "C" fn wait(_: *mut libc::c_void) -> libc::c_int {
        let mut byte = 0_u8;
        // SAFETY: one byte of this function's own stack.
        let _ = unsafe { libc::read(0, (&raw mut byte).cast(), 1) };
        0
    }
    let stack = Box::leak(Box::new([0_u128; 1024]));
    let flags = libc::CLONE_VM | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own, which is never freed, and calls nothing that needs a lock.
    let child = unsafe { libc::clone(wait, stack.as_mut_ptr_range().end.cast(), flags, ptr::null_mut()) };
    ensure!(child >= 0, "clone: {}", io::Error::last_os_error());
    Ok(child)
}

/// Writes to each page.
fn rewrite() {
    for &(start, len) in regions().iter() {
        for offset in (0..len).step_by(PAGE) {
            // SAFETY: within a mapping of ours.
            unsafe { page_at(start + offset).write_volatile(2) };
        }
    }
}

fn free() -> Result<()> {
    for (start, len) in regions().drain(..) {
        // SAFETY: a whole mapping of ours, to which no pointer is left.
        let freed = unsafe { libc::munmap(page_at(start).cast(), len) };
        ensure!(freed == 0, "munmap: {}", io::Error::last_os_error());
        HELD.fetch_sub(len, Ordering::Relaxed);
    }
    Ok(())
}

/// Gives the kernel this advice, which lets go of the contents of everything mapped so far.
fn advise(advice: i32) -> Result<()> {
    for &(start, len) in regions().iter() {
        // SAFETY: a whole mapping of ours; its contents mean nothing.
        let advised = unsafe { libc::madvise(page_at(start).cast(), len, advice) };
        ensure!(advised == 0, "madvise: {}", io::Error::last_os_error());
    }
    Ok(())
}

/// Ends this thread and never returns; the process continues in another thread.
fn leader_exits(rest: Script) {
    thread::spawn(move || {
        let armed = die_with_parent();
        // The line must not come before /proc shows the leader as a zombie.
        while !fs::read_to_string(format!("/proc/self/task/{}/stat", process::id()))
            .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|state| state.starts_with('Z')))
        {
            thread::sleep(Duration::from_millis(1));
        }
        say("ready", "leader-exits");
        process::exit(report(armed.and_then(|()| rest.run())));
    });
    // SAFETY: exit(2) ends this thread only; nothing on its stack is used by the other one.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// Ends this thread and never returns: threads follow each other, each of which ends at once.
/// No other process sees the mount.
fn mount(file: &Path, onto: &Path) -> Result<()> {
    let none = None::<&Path>;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    nix::mount::mount(Some(file), onto, none, MsFlags::MS_BIND, none)?;
    Ok(())
}

fn churn() {
    fn next(parent: unistd::Pid) {
        // PR_SET_PDEATHSIG holds for one thread.
        if unistd::getppid() != parent {
            process::exit(0);
        }
        thread::spawn(move || next(parent));
    }
    let parent = unistd::getppid();
    say("begin", "churn");
    for _ in 0..2 {
        thread::spawn(move || next(parent));
    }
    // SAFETY: exit(2) ends this thread only; nothing on its stack is used by the other ones.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

fn handle(signal: Signal, handler: SigHandler) -> Result<()> {
    // SAFETY: the handler is SIG_IGN, `save` or `exit`, which call async-signal-safe functions only.
    unsafe { signal::signal(signal, handler) }?;
    Ok(())
}

extern "C" fn save(_: libc::c_int) {
    let Some(path) = SAVE_TO.get() else { return };
    // SAFETY: open(2) is async-signal-safe and the path a C string that is never freed.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC, 0o644) };
    // SAFETY: write(2) is async-signal-safe; the buffer is a constant of that length.
    unsafe { libc::write(fd, b"saved".as_ptr().cast(), 5) };
    // SAFETY: _exit(2) is async-signal-safe.
    unsafe { libc::_exit(0) };
}

extern "C" fn exit(_: libc::c_int) {
    // SAFETY: _exit(2) is async-signal-safe.
    unsafe { libc::_exit(0) };
}

fn rename(text: &str) -> Result<()> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'n') => b'\n',
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let digits: Vec<u8> = rest.by_ref().take(2).collect();
                    u8::from_str_radix(str::from_utf8(&digits)?, 16)?
                }
                _ => bail!("an escape is \\n, \\\\ or \\xHH"),
            },
            _ => byte,
        });
    }
    // Through /proc and not prctl, because any thread may run the script, and the name is the leader's.
    Ok(fs::write(format!("/proc/self/task/{}/comm", process::id()), bytes)?)
}

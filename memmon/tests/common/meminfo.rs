//! A machine that is short of memory as far as memmon sees: its /proc/meminfo is a copy of the real one, with less available.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tempfile::NamedTempFile;

use super::daemon::{Daemon, ScopedConfig, with_file};

const MEMINFO: &str = "/proc/meminfo";

/// Time between two copies.
const OFTEN: Duration = Duration::from_millis(5);

/// A level of `[machine]` above what seems available: the machine is short of memory whatever the tests of others free.
pub const LEVELS: [(&str, &str); 2] =
    [("machine.available_percent", "45"), ("machine.warn", "{ available_percent = 50 }")];

/// Memory that seems available, in percent. There is room below it for what a test takes.
const SEEMS: u64 = 40;

/// The copy, which follows the real file until it is dropped.
pub struct ShortMachine {
    file: NamedTempFile,
    less: Arc<AtomicU64>,
    end: Option<Sender<()>>,
    copies: Option<JoinHandle<()>>,
}

impl ShortMachine {
    pub fn new() -> Self {
        let file = NamedTempFile::new().unwrap_or_else(|error| panic!("meminfo: {error}"));
        let copy = file.reopen().unwrap_or_else(|error| panic!("meminfo: {error}"));
        let text = read();
        let (total, available) = (field(&text, "MemTotal:"), field(&text, "MemAvailable:"));
        let less = available.saturating_sub(total / 100 * SEEMS);
        write(&copy, &text, less);
        let less = Arc::new(AtomicU64::new(less));
        let taken = Arc::clone(&less);
        let (end, ends) = mpsc::channel();
        let copies = thread::spawn(move || {
            while ends.recv_timeout(OFTEN) == Err(RecvTimeoutError::Timeout) {
                write(&copy, &read(), taken.load(Ordering::Relaxed));
            }
        });
        Self { file, less, end: Some(end), copies: Some(copies) }
    }

    /// Gives the memory back.
    pub fn relieve(&self) {
        self.less.store(0, Ordering::Relaxed);
    }

    /// Starts `memmon run` on it, and waits until it watches.
    pub fn start(&self, config: &ScopedConfig, arguments: &[&str]) -> Daemon {
        let daemon = Daemon::spawn_prepared(config, arguments, |command| {
            with_file(command, self.file.path(), MEMINFO);
        });
        daemon.started();
        daemon
    }
}

impl Drop for ShortMachine {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(copies) = self.copies.take() {
            let _ = copies.join();
        }
    }
}

/// All memory of the machine, in kB.
pub fn total() -> u64 {
    field(&read(), "MemTotal:")
}

fn read() -> String {
    fs::read_to_string(MEMINFO).unwrap_or_else(|error| panic!("{MEMINFO}: {error}"))
}

/// A field in kB.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {MEMINFO}"))
}

/// Writes `text` with so many kB less available. The numbers are as wide as the kernel's, so the length stays the same and one
/// write replaces it all.
fn write(copy: &File, text: &str, less: u64) {
    let lines = text.lines().map(|line| match line.strip_prefix("MemAvailable:") {
        Some(_) => {
            format!("MemAvailable:   {:8} kB\n", field(line, "MemAvailable:").saturating_sub(less))
        }
        None => format!("{line}\n"),
    });
    let text: String = lines.collect();
    copy.write_all_at(text.as_bytes(), 0).unwrap_or_else(|error| panic!("meminfo: {error}"));
}

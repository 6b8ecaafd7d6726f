//! Other programs that end processes when memory runs short, and when they do.

use std::fmt;

use serde::Serialize;

use super::{Bytes, Pid, words::words};

words! {
    /// A program that is known to end processes when memory runs short.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    pub enum GuardKind {
        /// <https://github.com/rfjakob/earlyoom>
        Earlyoom = "earlyoom",
        /// <https://github.com/hakavlad/nohang>
        Nohang = "nohang",
        /// systemd-oomd.service(8)
        SystemdOomd = "systemd-oomd",
        /// <https://gitlab.freedesktop.org/hadess/low-memory-monitor>
        LowMemoryMonitor = "low-memory-monitor",
        /// <https://github.com/facebookincubator/oomd>
        Oomd = "oomd",
        /// Android's.
        Lmkd = "lmkd",
    }
}

/// A guard that runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guard {
    /// The program.
    pub guard: GuardKind,
    /// The process.
    pub pid: Pid,
    /// Levels at which it ends a process, as far as its command line and its configuration show them.
    #[serde(flatten)]
    pub strikes: Strikes,
}

/// Levels at which a guard ends a process: each level that is given must be reached, except for pressure, which counts
/// alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Strikes {
    /// Below this much available memory.
    #[serde(rename = "available_bytes")]
    pub available: Option<Bytes>,
    /// Below this share of free swap, in percent.
    pub swap_free_percent: Option<f64>,
    /// Above this pressure of a cgroup, in percent.
    pub pressure_percent: Option<f64>,
    /// Whether it only reports what it would do.
    pub dry_run: bool,
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guard, pid, strikes } = self;
        let Strikes { available, swap_free_percent, pressure_percent, dry_run } = strikes;
        write!(f, "{} (pid {pid})", guard.as_str())?;
        if *dry_run {
            return f.write_str(", which runs in dry run, and ends nothing");
        }
        let low = [
            available.map(|available| format!("less than {available} of memory is available")),
            swap_free_percent.map(|percent| format!("less than {percent}% of swap is free")),
        ];
        let low: Vec<_> = low.into_iter().flatten().collect();
        let pressure =
            pressure_percent.map(|percent| format!("the pressure of a cgroup is above {percent}%"));
        let when: Vec<_> =
            Some(low.join(" and ")).filter(|low| !low.is_empty()).into_iter().chain(pressure).collect();
        match &when[..] {
            [] => f.write_str(", which ends processes when memory runs short"),
            when => write!(f, ", which ends processes if {}", when.join(", or if ")),
        }?;
        if *guard == GuardKind::SystemdOomd {
            f.write_str(", in the cgroups that `oomctl` lists")?;
        }
        Ok(())
    }
}

//! A process that takes memory past its limit, and reports when it got SIGTERM.

use anyhow::{Result, bail};

use super::{programs::Programs, user::TestUser};

/// memmon's limit for sprints.
pub(super) const LIMIT: u64 = 256 << 20;
/// The memory at which a sprint ends by itself.
pub(super) const MOST: u64 = 512 << 20;

/// The result that one sprint prints at its end.
pub(super) struct Sprint {
    pub(super) milliseconds: f64,
    /// Memory above the limit, in MB of 10^6 bytes.
    pub(super) overshoot: f64,
    /// Bytes per second.
    pub(super) speed: f64,
    /// Whether it had reached its end before SIGTERM came.
    pub(super) ended: bool,
}

/// One sprint, which takes its memory in the way of `growth` (memmon/examples/load).
pub(super) fn sprint(programs: &Programs, user: &TestUser, growth: &str) -> Result<Sprint> {
    let [uid, limit, most] = [u64::from(user.uid()), LIMIT, MOST].map(|number| number.to_string());
    let mut running = programs.start(&["sprint", growth, &uid, &limit, &most])?;
    let line = running.line("a SIGTERM", |line| line.starts_with("term "))?;
    let words: Vec<&str> = line.split(' ').collect();
    let [_, nanoseconds, held, speed] = words[..] else { bail!("`{line}` is not what a sprint prints") };
    let (nanoseconds, held, speed): (f64, u64, f64) = (nanoseconds.parse()?, held.parse()?, speed.parse()?);
    Ok(Sprint {
        milliseconds: nanoseconds / 1e6,
        overshoot: (held as f64 - LIMIT as f64) / 1e6,
        speed,
        ended: held >= MOST,
    })
}

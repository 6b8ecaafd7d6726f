//! On whom the daemon has an eye, for those who ask: who climbs towards its limit, and who comes back too often.

use std::{collections::HashMap, io};

use crate::daemon::engine::backoff;
use crate::daemon::engine::over_limit::{Standing, Stays};
use crate::daemon::engine::wake::monotonic;
use crate::daemon::event_loop::Daemon;
use crate::daemon::nearest::Basis;
use crate::enforce;
use crate::model::{Bytes, ProcessId, Unit, Verdict};
use crate::observe::procfs::ProcRoot;
use crate::policy::{self, Rate};
use crate::status::{Climber, Growth, OverLimit, Row, Text, Waiting};

/// As many processes over the limit as one answer lists.
const MOST_LISTED: usize = 50;

/// As many as are looked at closely for one answer.
const MOST: usize = 10;

/// Those of `growths` that grow towards their limit and could be terminated there, who will be there first before the
/// others. Looks at them closely, and some may hang: not for the loop.
///
/// # Errors
/// /proc cannot be read.
pub(super) fn climbing(basis: &Basis, growths: HashMap<ProcessId, Growth>) -> io::Result<Vec<Climber>> {
    let proc = ProcRoot::real()?.onlooking().measuring(basis.rules.measure);
    let memory = proc.memory()?;
    let (_, limit) = basis.rules.limit(&memory);
    let mut growths: Vec<_> = growths.into_iter().collect();
    let left = |growth: &Growth| growth.seconds_to_limit.unwrap_or(f64::INFINITY);
    growths.sort_by(|(_, one), (_, other)| left(one).total_cmp(&left(other)));
    let climber = |(whom, growth): (ProcessId, Growth)| {
        let process = proc.confirm(whom.pid, Some(whom.start), Bytes::MAX, &basis.accuracy).ok()?;
        let heads_there = process.rss < limit && policy::could_be_terminated(&basis.rules, &process, &memory);
        heads_there.then(|| Climber {
            id: whom,
            comm: Text::from(&process.names.comm),
            uid: process.real_uid,
            rss_bytes: process.rss,
            growth,
        })
    };
    Ok(growths.into_iter().take(MOST).filter_map(climber).collect())
}

impl Daemon<'_> {
    /// How fast each of those grows that has a slope.
    pub(super) fn growths(&self) -> HashMap<ProcessId, Growth> {
        let (_, limit) = self.settings.rules.limit(&self.memory);
        let now = |whom| self.sources.again(whom).map(|reading| reading.rss);
        let rates = self.growth.rates(limit, self.sources.error(), monotonic(), now);
        rates.into_iter().map(|(whom, rate)| (whom, growth(&rate))).collect()
    }

    /// The processes that are over their limit and stay.
    pub(super) fn over_the_limit(&self) -> Vec<OverLimit> {
        let entry = |standing: &Standing| {
            let (would_terminate, verdict) = match &standing.stays {
                Stays::Protected(protection) => (false, Verdict::Protected(protection.clone())),
                Stays::DryRun(breach) => (true, Verdict::Terminate(*breach)),
            };
            let Row { id, comm, uid, rss_bytes, why, .. } = Row::new(&standing.process, None, &verdict);
            OverLimit { id, comm, uid, rss_bytes, would_terminate, why }
        };
        self.over_limit.largest().into_iter().take(MOST_LISTED).map(entry).collect()
    }

    /// Those that would be terminated, had that not been done so often already.
    pub(super) fn held_back(&self) -> Vec<Waiting> {
        let (now, leniency) = (backoff::since_boot(), backoff::leniency(&self.settings));
        let waiting = self.offenders.waiting(now, &leniency);
        let waiting = waiting.map(|enforce::Waiting { origin, times, wait, left, since }| Waiting {
            program: Text::from(&origin.program),
            script: origin.script.as_ref().map(Text::from),
            cgroup: origin.cgroup.as_ref().map(Text::from),
            unit: origin.cgroup.as_ref().and_then(Unit::of).map(|unit| Text::from(&unit.name)),
            uid: origin.uid,
            times,
            wait_seconds: wait.as_secs_f64(),
            left_seconds: left.as_secs_f64(),
            since_boot_seconds: since.as_secs_f64(),
        });
        waiting.collect()
    }
}

fn growth(rate: &Rate) -> Growth {
    Growth {
        bytes_per_second: Some(rate.bytes_per_second),
        seconds_to_limit: rate.time_to_limit.map(|left| left.as_secs_f64()),
    }
}

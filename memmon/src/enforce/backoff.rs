//! Repeat offenders: what is started again after each termination and exceeds its limit again and again. Without a
//! syscall or a clock.
//!
//! ```text
//! terminated, comes back, terminated, … limit times within window ─▶ the next one waits ─▶ twice as long ─▶ …
//!                                                  └─ not seen over its limit for a whole window: forgotten
//! ```
//!
//! A supervisor that restarts a leaking service and a daemon that terminates it would keep each other busy for ever,
//! and the service would never be up. Waiting ever longer (never for ever) leaves it some use, and the administrator
//! time to mend it. It must not cost the machine: where memory is short nobody waits.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::model::{Breach, Bytes, Origin, Process, StartTime, SystemMemory};

/// Who has been terminated how often, by what stays the same when a process is started again.
///
/// Times are since boot (CLOCK_BOOTTIME, clock_gettime(2)), as the start times of processes are.
#[derive(Debug, Default)]
pub struct RepeatOffenders(BTreeMap<Origin, Offence>);

/// When to have somebody wait: `termination.repeat_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Terminations until the next one waits; 0: none ever does.
    pub limit: u32,
    /// Within how much time.
    pub window: Duration,
    /// The first wait, from one termination to the next.
    pub backoff: Duration,
}

/// A process that is over its limit and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// How often its like was terminated since they began.
    pub times: u32,
    /// From the last termination to the next.
    pub wait: Duration,
    /// Whether this is the first word of it.
    pub first: bool,
}

/// Those of one origin who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// Whose.
    pub origin: &'a Origin,
    /// How often one of them was terminated since they began.
    pub times: u32,
    /// From the last termination to the next.
    pub wait: Duration,
    /// What is left of that.
    pub left: Duration,
    /// Only who started after this time, since boot, waits.
    pub since: Duration,
}

#[derive(Debug)]
struct Offence {
    /// Terminations within the window.
    recent: VecDeque<Duration>,
    times: u32,
    /// The last termination that was due, from which on the next one waits. What started before did not come back.
    last: Duration,
    /// When one of them was over its limit last.
    seen: Duration,
    wait: Option<Wait>,
    /// Whether it was said that they wait.
    told: bool,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    length: Duration,
    doublings: u8,
}

/// 2^4 times the first wait: a quarter of an hour by default.
const MOST_DOUBLINGS: u8 = 4;

impl RepeatOffenders {
    /// Whether `process`, which is over its limit, is to be left alone for now because it came back too often.
    ///
    /// Not where it is [urgent](is_urgent), which is asked only of those who would wait.
    pub fn delay(
        &mut self,
        process: &Process,
        urgent: impl FnOnce() -> bool,
        now: Duration,
        leniency: &BackoffPolicy,
    ) -> Option<HeldBack> {
        let offence = self.0.get_mut(&Origin::of(process))?;
        if offence.is_over(now, leniency) {
            return None;
        }
        offence.seen = now;
        let wait = offence.wait?;
        let waits = offence.has_come_back(process) && offence.waits(now, leniency) && !urgent();
        let first = waits && !std::mem::replace(&mut offence.told, true);
        waits.then_some(HeldBack { times: offence.times, wait: wait.length, first })
    }

    /// Who waits now.
    pub fn waiting(&self, now: Duration, leniency: &BackoffPolicy) -> impl Iterator<Item = Waiting<'_>> {
        let waiting = self.0.iter().filter(move |(_, offence)| offence.waits(now, leniency));
        waiting.filter_map(move |(origin, offence)| {
            let Offence { times, last, wait, .. } = *offence;
            let wait = wait?.length;
            Some(Waiting { origin, times, wait, left: (last + wait).saturating_sub(now), since: last })
        })
    }

    /// Notes that `process` was sent SIGTERM.
    pub fn terminated(&mut self, process: &Process, now: Duration, leniency: &BackoffPolicy) {
        self.0.retain(|_, offence| !offence.is_over(now, leniency));
        let offence = self.0.entry(Origin::of(process)).or_insert_with(|| Offence::new(now));
        if offence.times > 0 && !offence.has_come_back(process) {
            // One of several that ran at once: that they all are too large is no loop.
            return;
        }
        offence.count(now, leniency);
    }
}

/// Whether waiting could cost the machine.
pub fn is_urgent(breach: &Breach, memory: &SystemMemory) -> bool {
    breach.rss >= urgent_above(breach.limit) || is_short(memory)
}

/// Whether the machine has too little memory left for anybody to wait: less than a tenth.
pub const fn is_short(memory: &SystemMemory) -> bool {
    memory.available.0 < memory.total.0 / 10
}

/// With how much resident nobody waits whose limit is `limit`.
pub const fn urgent_above(limit: Bytes) -> Bytes {
    Bytes(limit.0.saturating_mul(2))
}

impl Offence {
    fn new(now: Duration) -> Self {
        Self { recent: VecDeque::new(), times: 0, last: now, seen: now, wait: None, told: false }
    }

    fn count(&mut self, now: Duration, leniency: &BackoffPolicy) {
        (self.times, self.seen) = (self.times.saturating_add(1), now);
        // One in between, who could not wait, changes nothing for the others who do: with one of those now and then they
        // would wait for ever.
        if self.waits(now, leniency) {
            return;
        }
        self.last = now;
        self.recent.retain(|at| now.saturating_sub(*at) <= leniency.window);
        self.recent.push_back(now);
        if let Some(Wait { doublings, .. }) = self.wait {
            let doublings = (doublings + 1).min(MOST_DOUBLINGS);
            self.wait = Some(Wait { length: leniency.backoff.saturating_mul(1 << doublings), doublings });
        } else if leniency.limit > 0 && self.recent.len() as u64 >= u64::from(leniency.limit) {
            self.wait = Some(Wait { length: leniency.backoff, doublings: 0 });
        }
    }

    /// Whether its time has not come yet.
    fn waits(&self, now: Duration, leniency: &BackoffPolicy) -> bool {
        leniency.limit > 0 && self.wait.is_some_and(|wait| now.saturating_sub(self.last) < wait.length)
    }

    fn has_come_back(&self, process: &Process) -> bool {
        // The start was rounded down to a tick, and a supervisor may be that fast.
        process.id.start.since_boot() + StartTime::TICK > self.last
    }

    fn is_over(&self, now: Duration, leniency: &BackoffPolicy) -> bool {
        let wait = self.wait.map_or(Duration::ZERO, |wait| wait.length);
        now.saturating_sub(self.seen) > leniency.window && now.saturating_sub(self.last) > wait
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        enforce::testing,
        model::{Fact, Limit, Uid},
    };

    const LENIENCY: BackoffPolicy =
        BackoffPolicy { limit: 3, window: Duration::from_secs(600), backoff: Duration::from_secs(60) };
    const BREACH: Breach = Breach { rule: Limit::Gb, limit: Bytes(100), rss: Bytes(101), percent: 1.0 };
    const PLENTY: SystemMemory = SystemMemory { total: Bytes(1000), available: Bytes(500) };

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A process of one service that started so many seconds after boot.
    fn leaky(start: u64) -> Process {
        let mut process = testing::process(4242, start * StartTime::TICKS_PER_SECOND);
        process.names.exe = Fact::Known("/usr/sbin/leaky".into());
        process.cgroup = Fact::Known("/system.slice/leaky.service".into());
        process
    }

    fn hold(offenders: &mut RepeatOffenders, process: &Process, now: u64) -> Option<HeldBack> {
        offenders.delay(process, || is_urgent(&BREACH, &PLENTY), at(now), &LENIENCY)
    }

    /// Runs a service that is restarted at once and over its limit at once, looked at each second: when it is terminated.
    fn looped(offenders: &mut RepeatOffenders, seconds: std::ops::Range<u64>) -> Vec<u64> {
        let mut start = seconds.start;
        let mut terminations = Vec::new();
        for now in seconds {
            if hold(offenders, &leaky(start), now).is_none() {
                offenders.terminated(&leaky(start), at(now), &LENIENCY);
                terminations.push(now);
                start = now;
            }
        }
        terminations
    }

    #[test]
    fn one_that_comes_back_waits_ever_longer_and_never_for_ever() {
        let mut offenders = RepeatOffenders::default();
        let terminations = looped(&mut offenders, 1000..8000);
        let pauses: Vec<_> = terminations.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses, [1, 1, 60, 120, 240, 480, 960, 960, 960, 960, 960, 960]);
        let last = terminations.last().copied().unwrap();
        let held = hold(&mut offenders, &leaky(last), 8000);
        assert_eq!(held, Some(HeldBack { times: 13, wait: at(960), first: false }));
    }

    #[test]
    fn one_that_could_not_wait_changes_nothing_for_the_others() {
        let mut offenders = RepeatOffenders::default();
        looped(&mut offenders, 1000..1003);
        let waits = |offenders: &mut RepeatOffenders, now| hold(offenders, &leaky(1005), now);
        assert_eq!(waits(&mut offenders, 1010), Some(HeldBack { times: 3, wait: at(60), first: true }));
        offenders.terminated(&leaky(1006), at(1020), &LENIENCY);
        let waiting: Vec<_> =
            offenders.waiting(at(1030), &LENIENCY).map(|one| (one.times, one.left)).collect();
        assert_eq!(waiting, [(4, at(32))]);
        assert_eq!(waits(&mut offenders, 1061), Some(HeldBack { times: 4, wait: at(60), first: false }));
        assert_eq!(waits(&mut offenders, 1062), None);
        offenders.terminated(&leaky(1005), at(1062), &LENIENCY);
        assert_eq!(waits(&mut offenders, 1063), None, "all who waited are due together");
        let next = hold(&mut offenders, &leaky(1063), 1064);
        assert_eq!(next, Some(HeldBack { times: 5, wait: at(120), first: false }));
    }

    #[test]
    fn one_that_behaves_for_a_while_is_forgotten() {
        let mut offenders = RepeatOffenders::default();
        assert_eq!(looped(&mut offenders, 1000..1100).len(), 4);
        let held = hold(&mut offenders, &leaky(1099), 1100);
        assert_eq!(held, Some(HeldBack { times: 4, wait: at(120), first: false }));
        assert_eq!(hold(&mut offenders, &leaky(1099), 1701), None);
        assert_eq!(looped(&mut offenders, 1701..1704).len(), 3, "it begins anew");
        assert!(hold(&mut offenders, &leaky(1703), 1704).is_some_and(|held| held.first), "and is said anew");
    }

    #[test]
    fn slow_comebacks_are_no_loop() {
        let mut offenders = RepeatOffenders::default();
        for now in [1000, 1301, 1602, 1903, 2204, 2505] {
            assert_eq!(hold(&mut offenders, &leaky(now - 1), now), None, "{now}");
            offenders.terminated(&leaky(now - 1), at(now), &LENIENCY);
        }
    }

    #[test]
    fn many_at_once_are_no_loop() {
        let mut offenders = RepeatOffenders::default();
        for start in 0..20 {
            assert_eq!(hold(&mut offenders, &leaky(start), 1000), None);
            offenders.terminated(&leaky(start), at(1000), &LENIENCY);
        }
        assert_eq!(hold(&mut offenders, &leaky(1000), 1001), None, "its first comeback");
    }

    #[test]
    fn a_supervisor_may_be_faster_than_a_tick() {
        let mut offenders = RepeatOffenders::default();
        for now in 1000..1003 {
            // Terminated 9 ms after the tick in which the next one starts.
            offenders.terminated(&leaky(now), at(now) + Duration::from_millis(9), &LENIENCY);
        }
        assert!(hold(&mut offenders, &leaky(1002), 1003).is_some());
    }

    #[test]
    fn nobody_waits_where_memory_is_short() {
        let mut offenders = RepeatOffenders::default();
        looped(&mut offenders, 1000..1003);
        let mut held = |rss, available| {
            let (breach, memory) = (
                Breach { rss: Bytes(rss), ..BREACH },
                SystemMemory { available: Bytes(available), ..PLENTY },
            );
            let urgent = || is_urgent(&breach, &memory);
            offenders.delay(&leaky(1002), urgent, at(1004), &LENIENCY).is_some()
        };
        assert!(held(101, 500));
        assert!(held(199, 100));
        assert!(!held(200, 500), "twice what it may have");
        assert!(!held(101, 99), "less than a tenth is left");
    }

    #[test]
    fn another_program_unit_or_user_is_another_identity() {
        let mut offenders = RepeatOffenders::default();
        looped(&mut offenders, 1000..1003);
        let mut other = leaky(1002);
        other.cgroup = Fact::Known("/system.slice/leaky.service/worker".into());
        assert!(hold(&mut offenders, &other, 1003).is_some(), "a cgroup below the same unit");
        other.cgroup = Fact::Known("/system.slice/other.service".into());
        assert_eq!(hold(&mut offenders, &other, 1003), None);
        let mut other = leaky(1002);
        other.names.exe = Fact::Known("/usr/sbin/other".into());
        assert_eq!(hold(&mut offenders, &other, 1003), None);
        let other = Process { real_uid: Uid(1001), ..leaky(1002) };
        assert_eq!(hold(&mut offenders, &other, 1003), None, "a job of another user below the same unit");
    }

    #[test]
    fn a_limit_of_zero_lets_nobody_wait() {
        let mut offenders = RepeatOffenders::default();
        let never = BackoffPolicy { limit: 0, ..LENIENCY };
        for now in 1000..1100 {
            assert_eq!(offenders.delay(&leaky(now - 1), || false, at(now), &never), None);
            offenders.terminated(&leaky(now - 1), at(now), &never);
        }
        // Switched off while somebody waits.
        let mut offenders = RepeatOffenders::default();
        looped(&mut offenders, 1000..1003);
        assert_eq!(offenders.delay(&leaky(1002), || false, at(1003), &never), None);
    }

    proptest! {
        #[test]
        fn whatever_happens_a_wait_ends(
            steps in prop::collection::vec((0_u64..2000, 0_u64..2000, any::<bool>()), 1..60),
            sacrifices in prop::collection::btree_set(0_u64..1000, 0..20),
        ) {
            let mut offenders = RepeatOffenders::default();
            let mut now = 10_000;
            for (pause, age, terminate) in steps {
                now += pause;
                let process = leaky(now - age);
                if hold(&mut offenders, &process, now).is_none() && terminate {
                    offenders.terminated(&process, at(now), &LENIENCY);
                }
            }
            let longest = LENIENCY.backoff.as_secs() << MOST_DOUBLINGS;
            let waits = hold(&mut offenders, &leaky(now), now).is_some();
            // Those who cannot wait end meanwhile.
            for after in sacrifices.into_iter().filter(|after| waits && *after < longest) {
                offenders.terminated(&leaky(now + after), at(now + after), &LENIENCY);
            }
            prop_assert_eq!(hold(&mut offenders, &leaky(now), now + longest), None);
            prop_assert!(offenders.0.values().all(|offence| offence.recent.len() <= 60));
        }
    }
}

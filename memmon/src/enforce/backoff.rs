//! Repeat offenders: what a supervisor starts again after each termination and exceeds its limit again and again.
//! Without a system call or a clock.
//!
//! ```text
//! terminated, comes back, terminated, … limit times within window ─▶ the next one waits ─▶ twice as long ─▶ …
//!                                       │                               └─ too urgent to wait: twice as long, too
//!                                       └─ not seen over its limit for a whole window: forgotten
//! ```
//!
//! A supervisor that restarts a leaking service and a daemon that terminates it would keep each other busy for ever,
//! and the service would never be up. Waiting ever longer (never for ever) leaves it some use, and the administrator
//! time to fix it. It must not cost the machine: while memory is short nothing waits. Whether a process is one that a
//! supervisor restarts is for the caller to find out ([`is_restarted`](crate::model::is_restarted)).

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::model::{Breach, Bytes, Origin, Process, ProcessId, StartTime, SystemMemory};

/// How often each origin was terminated: what stays the same when a process is started again.
///
/// Times are since boot (CLOCK_BOOTTIME, clock_gettime(2)), as the start times of processes are.
#[derive(Debug, Default)]
pub struct RepeatOffenders {
    offences: BTreeMap<Origin, Offence>,
    /// Processes that waited, or would have, and what each had resident when it was looked at last.
    delayed: VecDeque<(ProcessId, Bytes)>,
}

/// When a termination is delayed: `termination.repeat_*`.
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
    /// Whether this is the first report of it.
    pub first: bool,
}

/// The processes of one origin that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// Their origin.
    pub origin: &'a Origin,
    /// How often one of them was terminated since they began.
    pub times: u32,
    /// From the last termination to the next.
    pub wait: Duration,
    /// What is left of that.
    pub left: Duration,
    /// Only a process that started after this time, since boot, waits.
    pub since: Duration,
}

#[derive(Debug)]
struct Offence {
    /// Terminations within the window.
    recent: VecDeque<Duration>,
    times: u32,
    /// The last termination that was due: what started before did not come back.
    due: Duration,
    /// The last one that counts, due or urgent.
    last: Duration,
    /// When one of them was over its limit last.
    seen: Duration,
    wait: Option<Wait>,
    /// Whether it was reported that they wait.
    reported: bool,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    /// When it began.
    from: Duration,
    length: Duration,
    doublings: u8,
    /// The first termination since that could not wait, and the end of the wait for what started before.
    urgent: Option<(Duration, Duration)>,
}

/// 2^4 times the first wait: a quarter of an hour by default.
const MOST_DOUBLINGS: u8 = 4;

/// As many delayed processes are remembered.
const MOST_DELAYED: usize = 256;

impl RepeatOffenders {
    /// Whether `process`, which is over its limit, is to be left alone for now because it came back too often.
    ///
    /// Not if it is [urgent](is_urgent), which is asked only of a process that would wait.
    pub fn delay(
        &mut self,
        process: &Process,
        breach: &Breach,
        urgent: impl FnOnce() -> bool,
        now: Duration,
        policy: &BackoffPolicy,
    ) -> Option<HeldBack> {
        // What it has now is what it had when its wait ended, if it has.
        if let Some((_, rss)) = self.delayed.iter_mut().find(|(id, _)| *id == process.id) {
            *rss = breach.rss;
        }
        let offence = self.offences.get_mut(&Origin::of(process))?;
        if offence.is_over(now, policy) {
            return None;
        }
        offence.seen = now;
        let wait = offence.wait?;
        if !offence.has_come_back(process) || !offence.waits(process, now, policy) {
            return None;
        }
        if self.delayed.iter().all(|(id, _)| *id != process.id) {
            self.delayed.truncate(MOST_DELAYED - 1);
            self.delayed.push_front((process.id, breach.rss));
        }
        if urgent() {
            return None;
        }
        let first = !std::mem::replace(&mut offence.reported, true);
        Some(HeldBack { times: offence.times, wait: wait.length, first })
    }

    /// What a process had resident when its termination was no longer delayed; none if it never was. It grew that far
    /// because memmon waited: its grace is not cut short for it.
    pub fn had_when_due(&self, process: ProcessId) -> Option<Bytes> {
        self.delayed.iter().find(|(id, _)| *id == process).map(|(_, rss)| *rss)
    }

    /// What waits now.
    pub fn waiting(&self, now: Duration, policy: &BackoffPolicy) -> impl Iterator<Item = Waiting<'_>> {
        let waiting = self.offences.iter().filter(move |(_, offence)| offence.is_waiting(now, policy));
        waiting.filter_map(move |(origin, offence)| {
            let Offence { times, due, wait, .. } = *offence;
            let wait = wait?;
            let left = wait.until().saturating_sub(now);
            Some(Waiting { origin, times, wait: wait.length, left, since: due })
        })
    }

    /// Notes that `process`, which a supervisor restarts, was sent SIGTERM.
    pub fn terminated(&mut self, process: &Process, now: Duration, policy: &BackoffPolicy) {
        self.offences.retain(|_, offence| !offence.is_over(now, policy));
        let offence = self.offences.entry(Origin::of(process)).or_insert_with(|| Offence::new(now));
        if offence.times > 0 && !offence.has_come_back(process) {
            // One of several that ran at once: that they all are too large is no loop.
            return;
        }
        offence.count(process, now, policy);
    }
}

/// Whether waiting could cost the machine.
pub fn is_urgent(breach: &Breach, memory: &SystemMemory) -> bool {
    breach.rss >= urgent_above(breach.limit) || is_short(memory)
}

/// Whether the machine has too little memory left for any process to wait: less than a tenth.
pub const fn is_short(memory: &SystemMemory) -> bool {
    memory.available.0 < memory.total.0 / 10
}

/// With how much resident a process does not wait whose limit is `limit`.
pub const fn urgent_above(limit: Bytes) -> Bytes {
    Bytes(limit.0.saturating_mul(2))
}

impl Offence {
    fn new(now: Duration) -> Self {
        let (recent, wait) = (VecDeque::new(), None);
        Self { recent, times: 0, due: now, last: now, seen: now, wait, reported: false }
    }

    fn count(&mut self, process: &Process, now: Duration, policy: &BackoffPolicy) {
        let before = self.last;
        (self.times, self.seen, self.last) = (self.times.saturating_add(1), now, now);
        if self.is_waiting(now, policy) {
            // It was too urgent to wait. That is an offence like any other, but not one more for each of several that
            // ran at once. Those that wait already wait no longer than they would have.
            if started_after(process, before) {
                let urgent = |wait: Wait| wait.urgent.or(Some((now, wait.until())));
                self.wait = self.wait.map(|wait| Wait { urgent: urgent(wait), ..wait.longer(now, policy) });
            }
            return;
        }
        self.due = now;
        self.recent.retain(|at| now.saturating_sub(*at) <= policy.window);
        self.recent.push_back(now);
        if let Some(wait) = self.wait {
            self.wait = Some(wait.longer(now, policy));
        } else if policy.limit > 0 && self.recent.len() as u64 >= u64::from(policy.limit) {
            self.wait = Some(Wait { from: now, length: policy.backoff, doublings: 0, urgent: None });
        }
    }

    /// Whether the next termination is not due yet.
    fn is_waiting(&self, now: Duration, policy: &BackoffPolicy) -> bool {
        policy.limit > 0 && self.wait.is_some_and(|wait| now < wait.until())
    }

    /// The same for `process`, which has its own end of it: others that are urgent do not make it wait without end.
    fn waits(&self, process: &Process, now: Duration, policy: &BackoffPolicy) -> bool {
        let own = |wait: Wait| match wait.urgent {
            Some((since, until)) if !started_after(process, since) => until,
            _ => process.id.start.since_boot() + StartTime::TICK + wait.length,
        };
        self.is_waiting(now, policy) && self.wait.is_some_and(|wait| now < own(wait))
    }

    fn has_come_back(&self, process: &Process) -> bool {
        started_after(process, self.due)
    }

    fn is_over(&self, now: Duration, policy: &BackoffPolicy) -> bool {
        let waits = self.wait.is_some_and(|wait| now <= wait.until());
        now.saturating_sub(self.seen) > policy.window && !waits
    }
}

impl Wait {
    fn until(&self) -> Duration {
        self.from + self.length
    }

    fn longer(self, now: Duration, policy: &BackoffPolicy) -> Self {
        let doublings = (self.doublings + 1).min(MOST_DOUBLINGS);
        Self { from: now, length: policy.backoff.saturating_mul(1 << doublings), doublings, urgent: None }
    }
}

/// The start was rounded down to a tick, and a supervisor may be that fast.
fn started_after(process: &Process, time: Duration) -> bool {
    process.id.start.since_boot() + StartTime::TICK > time
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        enforce::testing,
        model::{Fact, Limit, Uid},
    };

    const POLICY: BackoffPolicy =
        BackoffPolicy { limit: 3, window: Duration::from_secs(600), backoff: Duration::from_secs(60) };
    const BREACH: Breach =
        Breach { rule: Limit::Gb, limit: Bytes(100), rss: Bytes(101), percent: 1.0, by: None };
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
        offenders.delay(process, &BREACH, || is_urgent(&BREACH, &PLENTY), at(now), &POLICY)
    }

    /// Runs a service that is restarted at once and over its limit at once, looked at each second: when it is terminated.
    fn looped(offenders: &mut RepeatOffenders, seconds: std::ops::Range<u64>) -> Vec<u64> {
        let mut start = seconds.start;
        let mut terminations = Vec::new();
        for now in seconds {
            if hold(offenders, &leaky(start), now).is_none() {
                offenders.terminated(&leaky(start), at(now), &POLICY);
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
    fn one_that_is_too_urgent_to_wait_doubles_the_wait() {
        let mut offenders = RepeatOffenders::default();
        looped(&mut offenders, 1000..1003);
        let mut waits = Vec::new();
        // Restarted at once each time, and at twice its limit within a second.
        for now in 1004..1044 {
            let urgent = Breach { rss: Bytes(200), ..BREACH };
            let process = leaky(now - 1);
            assert_eq!(offenders.delay(&process, &urgent, || true, at(now), &POLICY), None);
            assert_eq!(offenders.had_when_due(process.id), Some(Bytes(200)), "its grace is not cut short");
            offenders.terminated(&process, at(now), &POLICY);
            waits.extend(offenders.waiting(at(now), &POLICY).map(|one| one.wait.as_secs()));
        }
        assert_eq!(waits[..5], [120, 240, 480, 960, 960]);
        let last = hold(&mut offenders, &leaky(1043), 1044);
        assert_eq!(last, Some(HeldBack { times: 43, wait: at(960), first: true }));
        assert!(offenders.delayed.len() <= MOST_DELAYED);
    }

    #[test]
    fn several_that_are_too_urgent_at_once_are_one_offence() {
        let mut offenders = RepeatOffenders::default();
        looped(&mut offenders, 1000..1003);
        for pid in 1..10 {
            let mut process = leaky(1005);
            process.id.pid = crate::model::Pid(pid);
            offenders.terminated(&process, at(1010), &POLICY);
        }
        let waits: Vec<_> = offenders.waiting(at(1010), &POLICY).map(|one| one.wait.as_secs()).collect();
        assert_eq!(waits, [120]);
    }

    #[test]
    fn one_that_is_too_urgent_does_not_make_the_others_wait_without_end() {
        let mut offenders = RepeatOffenders::default();
        looped(&mut offenders, 1000..1003);
        let waits = hold(&mut offenders, &leaky(1005), 1010);
        assert_eq!(waits, Some(HeldBack { times: 3, wait: at(60), first: true }));
        let mut ended = None;
        for now in (1011..4000).step_by(30) {
            offenders.terminated(&leaky(now - 1), at(now), &POLICY);
            if ended.is_none() && hold(&mut offenders, &leaky(1005), now).is_none() {
                ended = Some(now);
            }
        }
        assert_eq!(ended, Some(1071), "as if there had been no other");
    }

    #[test]
    fn one_whose_wait_ended_has_its_whole_grace() {
        let mut offenders = RepeatOffenders::default();
        looped(&mut offenders, 1000..1003);
        let process = leaky(1003);
        assert_eq!(offenders.had_when_due(process.id), None);
        assert!(hold(&mut offenders, &process, 1010).is_some());
        let breach = Breach { rss: Bytes(190), ..BREACH };
        assert_eq!(offenders.delay(&process, &breach, || false, at(1064), &POLICY), None);
        assert_eq!(offenders.had_when_due(process.id), Some(Bytes(190)));
    }

    #[test]
    fn one_that_behaves_for_a_while_is_forgotten() {
        let mut offenders = RepeatOffenders::default();
        assert_eq!(looped(&mut offenders, 1000..1100).len(), 4);
        let held = hold(&mut offenders, &leaky(1099), 1100);
        assert_eq!(held, Some(HeldBack { times: 4, wait: at(120), first: false }));
        assert_eq!(hold(&mut offenders, &leaky(1099), 1701), None);
        assert_eq!(looped(&mut offenders, 1701..1704).len(), 3, "it begins again");
        assert!(
            hold(&mut offenders, &leaky(1703), 1704).is_some_and(|held| held.first),
            "and is reported again"
        );
    }

    #[test]
    fn slow_comebacks_are_no_loop() {
        let mut offenders = RepeatOffenders::default();
        for now in [1000, 1301, 1602, 1903, 2204, 2505] {
            assert_eq!(hold(&mut offenders, &leaky(now - 1), now), None, "{now}");
            offenders.terminated(&leaky(now - 1), at(now), &POLICY);
        }
    }

    #[test]
    fn many_at_once_are_no_loop() {
        let mut offenders = RepeatOffenders::default();
        for start in 0..20 {
            assert_eq!(hold(&mut offenders, &leaky(start), 1000), None);
            offenders.terminated(&leaky(start), at(1000), &POLICY);
        }
        assert_eq!(hold(&mut offenders, &leaky(1000), 1001), None, "its first comeback");
    }

    #[test]
    fn a_supervisor_may_be_faster_than_a_tick() {
        let mut offenders = RepeatOffenders::default();
        for now in 1000..1003 {
            // Terminated 9 ms after the tick in which the next one starts.
            offenders.terminated(&leaky(now), at(now) + Duration::from_millis(9), &POLICY);
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
            offenders.delay(&leaky(1002), &breach, urgent, at(1004), &POLICY).is_some()
        };
        assert!(held(101, 500));
        assert!(held(199, 100));
        assert!(!held(200, 500), "twice what it may have");
        assert!(!held(101, 99), "less than a tenth is left");
    }

    #[test]
    fn another_program_script_unit_or_user_is_another_identity() {
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
        let mut other = leaky(1002);
        other.names.script = Some("thesis.py".into());
        assert_eq!(hold(&mut offenders, &other, 1003), None, "another script");
    }

    #[test]
    fn a_limit_of_zero_lets_nobody_wait() {
        let mut offenders = RepeatOffenders::default();
        let never = BackoffPolicy { limit: 0, ..POLICY };
        for now in 1000..1100 {
            assert_eq!(offenders.delay(&leaky(now - 1), &BREACH, || false, at(now), &never), None);
            offenders.terminated(&leaky(now - 1), at(now), &never);
        }
        // Switched off while somebody waits.
        let mut offenders = RepeatOffenders::default();
        looped(&mut offenders, 1000..1003);
        assert_eq!(offenders.delay(&leaky(1002), &BREACH, || false, at(1003), &never), None);
    }

    proptest! {
        #[test]
        fn different_scripts_never_wait_for_each_other(scripts in prop::collection::btree_set("[a-z]{1,8}", 0..40)) {
            let mut offenders = RepeatOffenders::default();
            for (now, script) in (1000..).zip(scripts) {
                let mut process = leaky(now);
                process.names.script = Some(script.as_str().into());
                prop_assert_eq!(hold(&mut offenders, &process, now), None);
                offenders.terminated(&process, at(now), &POLICY);
            }
        }

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
                    offenders.terminated(&process, at(now), &POLICY);
                }
            }
            let longest = POLICY.backoff.as_secs() << MOST_DOUBLINGS;
            let waits = hold(&mut offenders, &leaky(now), now).is_some();
            // Those who cannot wait end meanwhile.
            for after in sacrifices.into_iter().filter(|after| waits && *after < longest) {
                offenders.terminated(&leaky(now + after), at(now + after), &POLICY);
            }
            prop_assert_eq!(hold(&mut offenders, &leaky(now), now + longest), None);
            prop_assert!(offenders.offences.values().all(|offence| offence.recent.len() <= 60));
        }
    }
}

//! Repeat offenders over time, and properties of the wait.

use proptest::prelude::*;

use super::{offence::MOST_DOUBLINGS, *};
use crate::{
    enforce::testing,
    model::{Fact, Limit, StartTime, Uid},
};

const POLICY: BackoffPolicy =
    BackoffPolicy { limit: 3, window: Duration::from_secs(600), backoff: Duration::from_secs(60) };
const BREACH: Breach = Breach { rule: Limit::Gb, limit: Bytes(100), rss: Bytes(101), percent: 1.0, by: None };
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

fn hold(offenders: &mut RepeatOffenders, process: &Process, now: u64) -> Option<Delay> {
    offenders.delay(process, &BREACH, || is_urgent(&BREACH, &PLENTY), at(now), &POLICY)
}

/// Runs a service that is restarted at once and over its limit at once, looked at each second: when it is terminated.
fn looped(offenders: &mut RepeatOffenders, seconds: std::ops::Range<u64>) -> Vec<u64> {
    let mut start = seconds.start;
    let mut terminations = Vec::new();
    for now in seconds {
        if hold(offenders, &leaky(start), now).is_none() {
            offenders.terminated(&leaky(start), None, at(now), &POLICY);
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
    assert_eq!(held, Some(Delay { times: 13, wait: at(960), first: false }));
}

#[test]
fn terminations_for_one_rule_delay_none_for_another() {
    let mut offenders = RepeatOffenders::default();
    let [web, users] = ["web", "users"].map(|name| RuleName::new(name).unwrap());
    // Three ends for each of two rules, and two for [thresholds], in turns.
    for (place, rule) in [Some(web), Some(users), None, Some(web), Some(users), None, Some(web), Some(users)]
        .into_iter()
        .enumerate()
    {
        let start = 1000 + place as u64;
        offenders.terminated(&leaky(start), rule, at(start), &POLICY);
    }
    let mut held = |by| {
        let breach = Breach { by, ..BREACH };
        offenders.delay(&leaky(1008), &breach, || false, at(1008), &POLICY).map(|held| held.times)
    };
    assert_eq!([held(Some(web)), held(Some(users)), held(None)], [Some(3), Some(3), None]);
    let rules: Vec<_> = offenders.waiting(at(1008), &POLICY).map(|waiting| waiting.rule).collect();
    assert_eq!(rules, [Some(users), Some(web)]);
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
        offenders.terminated(&process, None, at(now), &POLICY);
        waits.extend(offenders.waiting(at(now), &POLICY).map(|one| one.wait.as_secs()));
    }
    assert_eq!(waits[..5], [120, 240, 480, 960, 960]);
    let last = hold(&mut offenders, &leaky(1043), 1044);
    assert_eq!(last, Some(Delay { times: 43, wait: at(960), first: true }));
    assert!(offenders.delayed.len() <= MOST_DELAYED);
}

#[test]
fn several_that_are_too_urgent_at_once_are_one_offence() {
    let mut offenders = RepeatOffenders::default();
    looped(&mut offenders, 1000..1003);
    for pid in 1..10 {
        let mut process = leaky(1005);
        process.id.pid = crate::model::Pid(pid);
        offenders.terminated(&process, None, at(1010), &POLICY);
    }
    let waits: Vec<_> = offenders.waiting(at(1010), &POLICY).map(|one| one.wait.as_secs()).collect();
    assert_eq!(waits, [120]);
}

#[test]
fn one_that_is_too_urgent_does_not_make_the_others_wait_without_end() {
    let mut offenders = RepeatOffenders::default();
    looped(&mut offenders, 1000..1003);
    let waits = hold(&mut offenders, &leaky(1005), 1010);
    assert_eq!(waits, Some(Delay { times: 3, wait: at(60), first: true }));
    let mut ended = None;
    for now in (1011..4000).step_by(30) {
        offenders.terminated(&leaky(now - 1), None, at(now), &POLICY);
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
    assert_eq!(held, Some(Delay { times: 4, wait: at(120), first: false }));
    assert_eq!(hold(&mut offenders, &leaky(1099), 1701), None);
    assert_eq!(looped(&mut offenders, 1701..1704).len(), 3, "it begins again");
    assert!(hold(&mut offenders, &leaky(1703), 1704).is_some_and(|held| held.first), "and is reported again");
}

#[test]
fn slow_comebacks_are_no_loop() {
    let mut offenders = RepeatOffenders::default();
    for now in [1000, 1301, 1602, 1903, 2204, 2505] {
        assert_eq!(hold(&mut offenders, &leaky(now - 1), now), None, "{now}");
        offenders.terminated(&leaky(now - 1), None, at(now), &POLICY);
    }
}

#[test]
fn many_at_once_are_no_loop() {
    let mut offenders = RepeatOffenders::default();
    for start in 0..20 {
        assert_eq!(hold(&mut offenders, &leaky(start), 1000), None);
        offenders.terminated(&leaky(start), None, at(1000), &POLICY);
    }
    assert_eq!(hold(&mut offenders, &leaky(1000), 1001), None, "its first comeback");
}

#[test]
fn a_supervisor_may_be_faster_than_a_tick() {
    let mut offenders = RepeatOffenders::default();
    for now in 1000..1003 {
        // Terminated 9 ms after the tick in which the next one starts.
        offenders.terminated(&leaky(now), None, at(now) + Duration::from_millis(9), &POLICY);
    }
    assert!(hold(&mut offenders, &leaky(1002), 1003).is_some());
}

#[test]
fn nobody_waits_where_memory_is_short() {
    let mut offenders = RepeatOffenders::default();
    looped(&mut offenders, 1000..1003);
    let mut held = |rss, available| {
        let (breach, memory) =
            (Breach { rss: Bytes(rss), ..BREACH }, SystemMemory { available: Bytes(available), ..PLENTY });
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

/// A process that container `name` of a pod runs, in a cgroup of its own for each start.
fn in_pod(name: Option<&str>, start: u64) -> Process {
    let mut process = leaky(start);
    process.cgroup = Fact::Known(format!("/kubepods/burstable/pod12-3/{start:064x}").as_str().into());
    process.container = name.map(Into::into);
    process
}

#[test]
fn the_containers_of_a_pod_wait_each_for_itself_whatever_their_cgroups() {
    let mut offenders = RepeatOffenders::default();
    for start in 1000..1003 {
        offenders.terminated(&in_pod(Some("web"), start), None, at(start), &POLICY);
    }
    let held = |name| hold(&mut offenders, &in_pod(name, 1003), 1003).map(|held| held.times);
    assert_eq!([Some("web"), Some("sidecar"), None].map(held), [Some(3), None, None]);
    let waiting: Vec<_> =
        offenders.waiting(at(1003), &POLICY).map(|one| one.origin.container.clone()).collect();
    assert_eq!(waiting, [Some("web".into())]);
}

/// Without a name another start is another container: it might be that of another one of the pod.
#[test]
fn containers_without_a_name_never_wait_for_each_other() {
    let mut offenders = RepeatOffenders::default();
    for start in 1000..1010 {
        assert_eq!(hold(&mut offenders, &in_pod(None, start), start), None);
        offenders.terminated(&in_pod(None, start), None, at(start), &POLICY);
    }
    // One that is started again within its container waits.
    let again = |start| Process { id: leaky(start).id, ..in_pod(None, 2000) };
    for start in 2000..2003 {
        offenders.terminated(&again(start), None, at(start), &POLICY);
    }
    assert!(hold(&mut offenders, &again(2003), 2003).is_some());
}

#[test]
fn a_limit_of_zero_lets_nobody_wait() {
    let mut offenders = RepeatOffenders::default();
    let never = BackoffPolicy { limit: 0, ..POLICY };
    for now in 1000..1100 {
        assert_eq!(offenders.delay(&leaky(now - 1), &BREACH, || false, at(now), &never), None);
        offenders.terminated(&leaky(now - 1), None, at(now), &never);
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
            offenders.terminated(&process, None, at(now), &POLICY);
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
                offenders.terminated(&process, None, at(now), &POLICY);
            }
        }
        let longest = POLICY.backoff.as_secs() << MOST_DOUBLINGS;
        let waits = hold(&mut offenders, &leaky(now), now).is_some();
        // Processes that cannot wait end meanwhile.
        for after in sacrifices.into_iter().filter(|after| waits && *after < longest) {
            offenders.terminated(&leaky(now + after), None, at(now + after), &POLICY);
        }
        prop_assert_eq!(hold(&mut offenders, &leaky(now), now + longest), None);
        prop_assert!(offenders.offences.values().all(|offence| offence.recent.len() <= 60));
    }
}

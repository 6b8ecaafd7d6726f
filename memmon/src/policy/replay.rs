//! Judges again, by other rules, what was recorded: which processes would have been ended and when, and which of those that
//! memmon did end would have lived. The verdicts are those of the same walk; nothing here decides anything.
//!
//! A sample of a process holds until the next one. The consequences of another decision are not
//! known: memory that an earlier end had freed, or the growth of a process that did end.

use std::{collections::HashMap, time::Duration};

use crate::model::{Bytes, Decided, Name, Process, ProcessId, Sample, Seen, SystemMemory, Uid, Verdict};

/// The time after a sample for which it holds at most, in seconds: twice the time after which an unchanged process is
/// recorded again. Later it may be gone, if memmon did not run.
const HOLDS: f64 = 7200.0;

/// The verdict on a process at a time, and how long it must last before it counts (`for` of a rule).
pub type Judged = (Verdict, Duration);

/// One process in the outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Fate {
    /// Time of the sample.
    pub at_unix_seconds: f64,
    /// The process.
    pub id: ProcessId,
    /// Its comm.
    pub comm: Name,
    /// Its real uid.
    pub uid: Uid,
    /// Its resident memory.
    pub rss: Bytes,
    /// The verdict of the other rules.
    pub verdict: Verdict,
    /// The verdict of that time.
    pub then: Decided,
    /// Whether memmon was in dry run at that time.
    pub dry_run: bool,
}

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// Samples that were judged.
    pub judged: u64,
    /// Processes that these are of.
    pub processes: usize,
    /// The time of the first one.
    pub first: Option<f64>,
    /// Processes that would have been ended or stopped, by time; `then` is the verdict at that look.
    pub ended: Vec<Fate>,
    /// Processes that memmon ended or stopped, or would have in a dry run, and that would have lived, by time.
    pub lived: Vec<Fate>,
    /// Processes about which the other rules would have been in doubt, and that would not have been ended as far as is known, by
    /// time; `then` is the verdict of that time by which it was ended, if it was.
    pub unsure: Vec<Fate>,
}

/// The course of one process so far.
#[derive(Default)]
struct Course {
    /// Since it is over a limit that must last: when it would be ended, and as what.
    due: Option<(f64, Fate)>,
    last: f64,
    ended: bool,
    struck: Option<Fate>,
    doubt: Option<Fate>,
}

/// Judges `samples`, which are in the order of their times, by the result of `judge` for a process at a time; `process` makes the
/// process of a sample.
pub fn replay(
    samples: impl IntoIterator<Item = Sample>,
    process: impl Fn(Seen, ProcessId) -> Process,
    mut judge: impl FnMut(&Process, &SystemMemory, f64) -> Judged,
) -> Replay {
    let mut courses: HashMap<ProcessId, Course> = HashMap::new();
    let mut outcome = Replay::default();
    let mut now = 0.0;
    for Sample { at_unix_seconds: at, id, seen } in samples {
        now = at;
        outcome.first.get_or_insert(at);
        let course = courses.entry(id).or_default();
        course.lasts_until(at, &mut outcome.ended);
        course.last = at;
        // An administrator had exempted it, which holds for every configuration.
        let Some(seen) = seen.filter(|seen| seen.then != Decided::Exempt) else {
            course.due = None;
            continue;
        };
        outcome.judged += 1;
        let (memory, then, dry_run) = (seen.memory, seen.then, seen.dry_run);
        let process = process(*seen, id);
        let (verdict, lasting) = judge(&process, &memory, at);
        let fate = Fate {
            at_unix_seconds: at,
            id,
            comm: process.names.comm,
            uid: process.real_uid,
            rss: process.rss,
            verdict,
            then,
            dry_run,
        };
        course.note(fate, lasting, &mut outcome.ended);
    }
    outcome.processes = courses.len();
    for mut course in courses.into_values() {
        course.lasts_until(now, &mut outcome.ended);
        // If it was in doubt once, it is not known whether it would have lived.
        match (course.ended, course.doubt) {
            (true, _) => {}
            (false, Some(doubt)) => {
                let then = course.struck.map_or(doubt.then, |struck| struck.then);
                outcome.unsure.push(Fate { then, ..doubt });
            }
            (false, None) => outcome.lived.extend(course.struck),
        }
    }
    for fates in [&mut outcome.ended, &mut outcome.lived, &mut outcome.unsure] {
        fates.sort_by(|one, other| {
            one.at_unix_seconds.total_cmp(&other.at_unix_seconds).then(one.id.cmp(&other.id))
        });
    }
    outcome
}

impl Course {
    /// Ends it, if it was over its limit for long enough before `at`.
    fn lasts_until(&mut self, at: f64, ended: &mut Vec<Fate>) {
        if let Some((due, fate)) = self.due.take_if(|(due, _)| *due <= at)
            && due - self.last <= HOLDS
            && !self.ended
        {
            self.ended = true;
            ended.push(Fate { at_unix_seconds: due, ..fate });
        }
    }

    fn note(&mut self, fate: Fate, lasting: Duration, ended: &mut Vec<Fate>) {
        if fate.then.is_signal() && self.struck.is_none() {
            self.struck = Some(fate.clone());
        }
        match fate.verdict {
            _ if self.ended => {}
            Verdict::Terminate(_) | Verdict::Stop(_) if lasting.is_zero() => {
                self.ended = true;
                ended.push(fate);
            }
            Verdict::Terminate(_) | Verdict::Stop(_) => {
                let due = fate.at_unix_seconds + lasting.as_secs_f64();
                self.due.get_or_insert((due, fate));
            }
            Verdict::Unsure(_) => {
                self.due = None;
                self.doubt.get_or_insert(fate);
            }
            Verdict::Within
            | Verdict::Inherits(_)
            | Verdict::Uncharged(_)
            | Verdict::Protected(_)
            | Verdict::Warn(_) => self.due = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{Fact, Holdings, Parts, Pid, SharedMemory, StartTime},
        policy::{
            self, Limits, Rules,
            fixtures::{any_rules, any_snapshot, hog, memory, rules, rules_with_rules},
        },
    };

    const MEMORY: SystemMemory = SystemMemory { total: Bytes(64 << 30), available: Bytes(32 << 30) };

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times of these tests")]
    fn seconds(fate: &Fate) -> u32 {
        fate.at_unix_seconds as u32
    }

    fn limited(bytes: u64) -> Rules {
        Rules { limits: Limits::new(100.0, Bytes(bytes)).unwrap(), ..rules() }
    }

    /// As the disk gives it back.
    fn stored(sample: &Sample) -> Sample {
        serde_json::from_slice(&serde_json::to_vec(sample).unwrap()).unwrap()
    }

    fn sample(at: f64, process: &Process, memory: SystemMemory, by: &Rules, dry_run: bool) -> Sample {
        let verdict = policy::judge(by, process, &memory);
        let seen = Seen::new(process, memory, (&verdict).into(), dry_run, by.wanted());
        stored(&Sample { at_unix_seconds: at, id: process.id, seen: Some(Box::new(seen)) })
    }

    fn by(rules: &Rules, lasting: u64) -> impl FnMut(&Process, &SystemMemory, f64) -> Judged {
        move |process, memory, _| (policy::judge(rules, process, memory), Duration::from_secs(lasting))
    }

    fn whole(rules: &Rules) -> impl Fn(Seen, ProcessId) -> Process {
        let wanted = rules.wanted();
        move |seen, id| seen.process(id, wanted)
    }

    fn run(samples: Vec<Sample>, rules: &Rules, lasting: u64) -> Replay {
        replay(samples, whole(rules), by(rules, lasting))
    }

    fn with_rules() -> impl Strategy<Value = Rules> {
        prop_oneof![any_rules(), rules_with_rules()]
    }

    fn holdings() -> impl Strategy<Value = Option<Holdings>> {
        let shared = prop_oneof![
            Just(Fact::Absent),
            Just(Fact::Unreadable),
            (any::<u32>(), any::<u32>()).prop_map(|(returned, kept)| Fact::Known(SharedMemory {
                returned: Bytes(returned.into()),
                kept: Bytes(kept.into()),
                largest: None,
            })),
        ];
        let parts = (any::<u32>(), any::<u32>(), any::<u32>());
        let held = (parts, shared, proptest::option::of("[a-z]{1,9}")).prop_map(
            |((anon, file, shmem), shared, trouble)| {
                let [anon, file, shmem] = [anon, file, shmem].map(|part| Bytes(part.into()));
                Holdings { parts: Parts { anon, file, shmem, swap: Bytes::ZERO }, shared, trouble }
            },
        );
        proptest::option::of(held)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// A process that comes back from the disk is judged by the same configuration as it was judged before, process for process;
        /// and a replay ends exactly the processes that were to be ended.
        #[test]
        fn the_same_configuration_gives_the_same_verdicts(
            rules in with_rules(), snapshot in any_snapshot(), held in holdings(),
        ) {
            let (mut samples, mut struck) = (Vec::new(), Vec::new());
            for (number, mut process) in (0_u32..).zip(snapshot.processes) {
                process.id = ProcessId { pid: process.id.pid, start: StartTime(number.into()) };
                process.holdings.clone_from(&held);
                let verdict = policy::judge(&rules, &process, &snapshot.memory);
                let seen = Seen::new(&process, snapshot.memory, (&verdict).into(), false, rules.wanted());
                let sample = Sample { at_unix_seconds: number.into(), id: process.id, seen: Some(Box::new(seen)) };
                let again = stored(&sample).seen.unwrap().process(process.id, rules.wanted());
                prop_assert_eq!(policy::judge(&rules, &again, &snapshot.memory), verdict.clone());
                if Decided::from(&verdict).is_signal() {
                    struck.push(process.id);
                }
                samples.push(sample);
            }
            let outcome = run(samples, &rules, 0);
            let ended: Vec<_> = outcome.ended.iter().map(|fate| fate.id).collect();
            prop_assert_eq!(ended, struck);
            prop_assert_eq!(outcome.lived, vec![]);
        }

        /// A fact that was not read leaves a doubt, and never decides against a process.
        #[test]
        fn what_was_not_read_ends_nobody(
            rules in with_rules(), snapshot in any_snapshot(), memory in memory(),
        ) {
            for process in &snapshot.processes {
                let unread = Seen::new(process, memory, Decided::Within, false, Default::default());
                let process_then = stored(&Sample {
                    at_unix_seconds: 0.0,
                    id: process.id,
                    seen: Some(Box::new(unread)),
                });
                let again = process_then.seen.unwrap().process(process.id, rules.wanted());
                if matches!(policy::judge(&rules, &again, &memory), Verdict::Terminate(_)) {
                    let known = policy::judge(&rules, process, &memory);
                    let is_struck =
                        matches!(known, Verdict::Terminate(_) | Verdict::Stop(_) | Verdict::Unsure(_));
                    prop_assert!(is_struck, "{:?}", known);
                }
            }
        }
    }

    #[test]
    fn lower_limits_end_more_and_higher_ones_let_live() {
        let process = |pid: u32, rss: u64| Process {
            id: ProcessId { pid: Pid(pid), start: StartTime(pid.into()) },
            rss: Bytes(rss),
            ..hog()
        };
        let then = limited(1000);
        let samples = || {
            vec![
                sample(1.0, &process(50, 400), MEMORY, &then, false),
                sample(2.0, &process(51, 700), MEMORY, &then, false),
                sample(3.0, &process(50, 600), MEMORY, &then, false),
                sample(4.0, &process(52, 1500), MEMORY, &then, false),
            ]
        };
        let ids =
            |fates: &[Fate]| fates.iter().map(|fate| (fate.id.pid.0, seconds(fate))).collect::<Vec<_>>();
        let lower = run(samples(), &limited(500), 0);
        assert_eq!((ids(&lower.ended), ids(&lower.lived)), (vec![(51, 2), (50, 3), (52, 4)], vec![]));
        assert_eq!((lower.judged, lower.processes, lower.first), (4, 3, Some(1.0)));
        let higher = run(samples(), &limited(2000), 0);
        assert_eq!((ids(&higher.ended), ids(&higher.lived)), (vec![], vec![(52, 4)]));
        assert_eq!((higher.lived[0].then, &higher.lived[0].verdict), (Decided::Terminate, &Verdict::Within));
    }

    #[test]
    fn a_process_in_doubt_is_not_said_to_have_lived() {
        let then = limited(1000);
        let args = policy::ArgPatterns::new(["x"]).unwrap();
        let also = policy::Matcher { args: Some(args), ..policy::Matcher::default() };
        let other =
            Rules { whitelist: policy::Whitelist { also, ..then.whitelist.clone() }, ..limited(1200) };
        let (below, over) = (Process { rss: Bytes(1100), ..hog() }, Process { rss: Bytes(1500), ..hog() });
        let seen = |at, process| sample(at, process, MEMORY, &then, false);
        // Arguments were not read at that time.
        for samples in [
            vec![seen(1.0, &over)],
            vec![seen(1.0, &below), seen(2.0, &over)],
            vec![seen(1.0, &over), seen(2.0, &below)],
        ] {
            let outcome = run(samples, &other, 0);
            assert_eq!((outcome.ended, outcome.lived), (vec![], vec![]));
            assert!(
                matches!(
                    &outcome.unsure[..],
                    [Fate { verdict: Verdict::Unsure(_), then: Decided::Terminate, .. }]
                ),
                "{:?}",
                outcome.unsure
            );
        }
        assert_eq!(run(vec![seen(1.0, &below)], &other, 0).lived.len(), 1);
    }

    #[test]
    fn a_process_that_was_exempt_is_so_by_every_configuration() {
        use crate::model::{Exempt, Exemption, UnixTime};

        let (over, of) = (Process { rss: Bytes(1500), ..hog() }, Exempt::User(hog().real_uid));
        let why = policy::fixtures::phrase("year end");
        let exemptions = vec![Exemption { id: 1, of, until: UnixTime(9), by: Uid::ROOT, why }];
        let exempt = Rules { exemptions, ..limited(1000) };
        let then = |at, rules: &Rules| sample(at, &over, MEMORY, rules, false);
        assert_eq!(run(vec![then(1.0, &exempt)], &limited(500), 0).ended, vec![]);
        let after = run(vec![then(1.0, &exempt), then(2.0, &limited(1000))], &limited(500), 0);
        assert_eq!(after.ended.first().map(seconds), Some(2));
    }

    #[test]
    fn a_limit_that_must_last_ends_a_process_when_it_has_lasted() {
        let (over, within) = (Process { rss: Bytes(900), ..hog() }, Process { rss: Bytes(100), ..hog() });
        let rules = limited(500);
        let seen = |at, process: &Process| sample(at, process, MEMORY, &limited(5000), false);
        let gone = |at| Sample { at_unix_seconds: at, id: over.id, seen: None };
        let ends = |samples: Vec<Sample>| run(samples, &rules, 60).ended.first().map(seconds);
        assert_eq!(ends(vec![seen(0.0, &over), seen(30.0, &over), seen(90.0, &within)]), Some(60));
        assert_eq!(ends(vec![seen(0.0, &over), seen(59.0, &within), seen(90.0, &over)]), None);
        assert_eq!(ends(vec![seen(0.0, &over), gone(59.0), gone(90.0)]), None);
        assert_eq!(ends(vec![seen(0.0, &over), seen(90_000.0, &within)]), Some(60));
        // A process that was not seen for hours is not known to have stayed as it was.
        let long = run(vec![seen(0.0, &over), seen(90_000.0, &within)], &rules, 80_000);
        assert_eq!(long.ended, vec![]);
    }
}

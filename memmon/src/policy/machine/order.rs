//! The order in which processes end if the machine is short of memory.
//!
//! Memory of one user, unit or session counts as one culprit: ten workers, or a fork storm. So a process ranks by the blame
//! of the group that it belongs to ([`super::blame`]), then by its own part; growth that came early counts less
//! ([`super::recency`]). A process that did not grow is not ended.
//! Neither is one whose group has too small a part in the loss, nor one that works with memory that it held before while
//! others grow by more.

use std::cmp::Reverse;

use serde::Serialize;

use super::blame::{Blame, Sums, Units, groups};
use super::candidate::{Candidates, gives_back};
use super::recency::Lost;
use crate::model::{
    Breach, Bytes, Culprit, Doubt, Fact, Group, Limit, MachineMemory, Process, ProcessId, Protection,
    RuleName, StartTime, Verdict,
};
use crate::policy::{Rules, walk::judge_as_over};

/// All candidates: those that end, in this order, and then those that do not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Order {
    /// The candidates.
    pub places: Vec<Place>,
    /// Decrease of available memory since the machine was well.
    #[serde(rename = "lost_bytes")]
    pub lost: Bytes,
    /// Growth of all candidates together.
    #[serde(rename = "grown_bytes")]
    pub grown: Bytes,
}

/// One candidate, and the reasons for its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The process.
    #[serde(flatten)]
    pub process: ProcessId,
    /// The memory that its end gives back at least.
    #[serde(rename = "gives_back_bytes")]
    pub gives_back: Bytes,
    /// The part of that which came since the machine was well.
    #[serde(rename = "growth_bytes")]
    pub growth: Bytes,
    /// Whether it ends, or why not.
    #[serde(flatten)]
    pub standing: Standing,
}

/// Whether a candidate ends.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "standing")]
pub enum Standing {
    /// It ends if the ends of those before it were not enough.
    Ends {
        /// The culprit that it is a part of.
        culprit: Culprit,
        /// The rule that prefers it, whether it has grown or not.
        #[serde(skip_serializing_if = "Option::is_none")]
        preferred: Option<RuleName>,
    },
    /// It has hardly grown since the machine was well.
    Idle,
    /// It has grown, but not so much, together with others of its user or unit, that it caused the shortage.
    NotTheCause,
    /// A rule exempts it from every limit, or only warns about it.
    Exempt,
    /// It is never touched.
    Protected {
        /// The rule.
        protection: Protection,
    },
    /// A rule that might protect it could not be checked.
    Unsure {
        /// The reason.
        doubt: Doubt,
    },
}

/// The smallest growth that counts: a thousandth of all memory, but at least this and at most that. On a large machine many
/// processes of ordinary size are a crowd, too.
const LEAST_GROWTH: (u64, u64, u64) = (1024, Bytes::MIB, 16 * Bytes::MIB);

/// The smallest growth that can be the cause of a shortage: one percent of all memory, and at most this much.
const LEAST_CAUSE: (u64, u64) = (100, 512 * Bytes::MIB);

/// A group that has at least this share of the loss caused it, even if most of the memory went elsewhere: a quarter.
const LEAST_SHARE: u64 = 4;

/// Most of the memory went to processes if they have grown by at least this share of the loss: a half.
const MOST: u64 = 2;

impl Order {
    /// The process that ends first, if one does.
    pub fn first(&self) -> Option<&Place> {
        self.places.first().filter(|place| place.ends())
    }

    /// The verdict on `process`, which was chosen before: it ends only if it is still the first.
    pub fn verdict(&self, process: &Process, machine: &MachineMemory) -> Verdict {
        let Some(place) = self.places.iter().find(|place| place.process == process.id) else {
            return Verdict::Within;
        };
        match &place.standing {
            Standing::Ends { .. } if self.first() == Some(place) => {
                // Its memory when the machine was well.
                let limit = place.gives_back.saturating_sub(place.growth);
                let (rss, percent) = (process.rss, process.rss.percent_of(machine.memory.total));
                Verdict::Terminate(Breach { rule: Limit::Machine, limit, rss, percent, by: None })
            }
            Standing::Protected { protection } => Verdict::Protected(protection.clone()),
            Standing::Unsure { doubt } => Verdict::Unsure(doubt.clone()),
            Standing::Ends { .. } | Standing::Idle | Standing::NotTheCause | Standing::Exempt => {
                Verdict::Within
            }
        }
    }

    /// The processes that end if `needed` has to come back: no more of them than it takes.
    pub fn enough(&self, needed: Bytes) -> &[Place] {
        let ending = self.places.iter().take_while(|place| place.ends());
        let mut back = Bytes::ZERO;
        let number = ending.take_while(|place| {
            let wanted = back < needed;
            back = back + place.gives_back;
            wanted
        });
        let number = number.count();
        self.places.get(..number).unwrap_or_default()
    }
}

impl Place {
    /// Whether it ends.
    pub const fn ends(&self) -> bool {
        matches!(self.standing, Standing::Ends { .. })
    }
}

/// A grower, with the growth by which it ranks.
struct Grower<'a> {
    process: &'a Process,
    groups: Vec<Group>,
    gives_back: Bytes,
    blame: Blame,
    /// The rule that prefers it, and its place among the rules.
    preferred: Option<(usize, RuleName)>,
}

/// The order in which `candidates` end, if `lost` is the memory that is less available than when the machine was well.
pub fn order(rules: &Rules, machine: &MachineMemory, lost: Lost, candidates: &Candidates) -> Order {
    let total = machine.memory.total;
    let (share, smallest, largest) = LEAST_GROWTH;
    let least = Bytes((total.0 / share).clamp(smallest, largest));
    let (share, largest) = LEAST_CAUSE;
    let least_cause = (total.0 / share).min(largest);
    let (mut growers, mut others) = (Vec::new(), Vec::new());
    let (mut grown, mut grown_weighed) = (Bytes::ZERO, candidates.own_of_others());
    let growths = candidates.grown.iter().map(|candidate| (candidate, candidate.own_growth()));
    let units = Units::new(growths.clone(), &candidates.idle);
    let (mut sums, mut kept) = (Sums::default(), Sums::default());
    for (candidate, growth) in growths {
        let (process, gives_back) = (&candidate.process, gives_back(&candidate.process));
        let (blame, groups) = (units.blame(candidate, growth), groups(process));
        (grown, grown_weighed) = (grown + growth, grown_weighed + blame.weighed);
        let standing = match judge_as_over(rules, process, &machine.memory) {
            Verdict::Protected(protection) => Standing::Protected { protection },
            Verdict::Unsure(doubt) => Standing::Unsure { doubt },
            Verdict::Terminate(_) | Verdict::Stop(_) => {
                let preferred = rules.preferred(process).filter(|_| gives_back.0 >= least_cause);
                if growth >= least {
                    sums.add(&groups, blame);
                }
                if growth >= least || preferred.is_some() {
                    growers.push(Grower { process, groups, gives_back, blame, preferred });
                    continue;
                }
                Standing::Idle
            }
            Verdict::Within | Verdict::Inherits(_) | Verdict::Uncharged(_) | Verdict::Warn(_) => {
                Standing::Exempt
            }
        };
        kept.add(&groups, blame);
        others.push(Place { process: process.id, gives_back, growth, standing });
    }
    let most = sums.most().max(kept.most());
    let is_cause = |Grower { groups, blame, .. }: &Grower<'_>| {
        let growth = sums.largest(groups, |sum| sum.growth);
        let most_went_to_processes = grown_weighed.0.saturating_mul(MOST) >= lost.weighed().0;
        let weighed = sums.largest(groups, |sum| sum.weighed);
        let has_its_share = weighed.0.saturating_mul(LEAST_SHARE) >= lost.weighed().0;
        // Others that memmon does not end have caused it.
        let of_group = sums.largest(groups, |sum| sum.blame);
        let is_bystander = of_group.0.saturating_mul(LEAST_SHARE) < kept.most().0;
        let only_works = blame.works && sums.largest(groups, |sum| sum.worked) < most;
        growth.0 >= least_cause && (most_went_to_processes || has_its_share) && !is_bystander && !only_works
    };
    let mut ending = Vec::new();
    for grower in growers {
        let (rank, culprit) = culprit(&grower, &sums);
        let Grower { process, gives_back, blame, preferred, .. } = grower;
        let growth = blame.growth;
        if preferred.is_some() || is_cause(&grower) {
            let culprit = if growth >= least { culprit } else { alone(process.id, growth) };
            let standing = Standing::Ends { culprit, preferred: preferred.map(|(_, rule)| rule) };
            let place = Place { process: process.id, gives_back, growth, standing };
            let turn = preferred.map_or(usize::MAX, |(at, _)| at);
            ending.push(((turn, precedence(process, rank, blame.rank, gives_back)), place));
        } else {
            let standing = Standing::NotTheCause;
            others.push(Place { process: process.id, gives_back, growth, standing });
        }
    }
    ending.sort_by_key(|(precedence, _)| *precedence);
    others.sort_by_key(|place| (Reverse(place.gives_back), place.process));
    let places = ending.into_iter().map(|(_, place)| place).chain(others).collect();
    Order { places, lost: lost.bytes, grown }
}

type Precedence =
    (Reverse<Bytes>, Reverse<Bytes>, Reverse<Bytes>, Reverse<StartTime>, Reverse<i16>, ProcessId);

/// The order of the candidates: first by the blame of the group that is most to blame, then by that of the process, the
/// memory that it gives back and its youth, and last by the preference of the kernel's OOM killer.
fn precedence(process: &Process, rank: Bytes, blame: Bytes, gives_back: Bytes) -> Precedence {
    let score = match process.oom_score_adj {
        Fact::Known(score) => score,
        Fact::Absent | Fact::Unreadable | Fact::Withheld => 0,
    };
    let age = Reverse(process.id.start);
    (Reverse(rank), Reverse(blame), Reverse(gives_back), age, Reverse(score), process.id)
}

/// A process that is preferred, and has not grown.
const fn alone(process: ProcessId, growth: Bytes) -> Culprit {
    Culprit { group: Group::Process { process }, growth, processes: 1 }
}

/// The blame of that group of a process which is most to blame, and the smallest of its groups that accounts for three
/// quarters of that.
fn culprit(grower: &Grower<'_>, sums: &Sums) -> (Bytes, Culprit) {
    let rank = sums.largest(&grower.groups, |sum| sum.rank);
    let itself = Group::Process { process: grower.process.id };
    let accounts = |group: &&Group| sums.of(group).rank.0.saturating_mul(4) >= rank.0.saturating_mul(3);
    let group = grower.groups.iter().find(accounts).unwrap_or(&itself).clone();
    let sum = sums.of(&group);
    (rank, Culprit { group, growth: sum.growth, processes: sum.processes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Elsewhere, Holdings, Parts, Pid, SystemMemory, Uid};
    use crate::policy::fixtures::{hog, rules};
    use crate::policy::machine::Candidate;
    use crate::policy::{Matcher, NamePatterns, Whitelist};

    const MIB: u64 = Bytes::MIB;

    fn machine() -> MachineMemory {
        MachineMemory {
            memory: SystemMemory { total: Bytes(1024 * MIB), available: Bytes(40 * MIB) },
            swap_total: Bytes::ZERO,
            swap_free: Bytes::ZERO,
            elsewhere: Elsewhere::default(),
            pressure: None,
        }
    }

    /// A process of `uid` in `cgroup`, with `anon` MiB, of which `growth` came since the machine was well.
    fn process(pid: u32, uid: u32, cgroup: &str, anon: u64, growth: u64) -> Candidate {
        let parts = Parts { anon: Bytes(anon * MIB), file: Bytes(20 * MIB), ..Parts::default() };
        let holdings = Holdings { parts, shared: Fact::Absent, trouble: None };
        Candidate {
            process: Process {
                id: ProcessId { pid: Pid(pid), start: StartTime(u64::from(pid)) },
                rss: parts.anon + parts.file,
                holdings: Some(holdings),
                real_uid: Uid(uid),
                effective_uid: Uid(uid),
                cgroup: Fact::Known(cgroup.into()),
                ..hog()
            },
            growth: Bytes(growth * MIB),
            shared_growth: Bytes::ZERO,
            early: Bytes::ZERO,
            shared_early: Bytes::ZERO,
            before: Bytes(anon.saturating_sub(growth) * MIB),
        }
    }

    fn grown(candidates: &[Candidate]) -> Candidates {
        Candidates { grown: candidates.to_vec(), ..Candidates::default() }
    }

    fn lately(lost: u64) -> Lost {
        Lost::lately(Bytes(lost * MIB))
    }

    fn database() -> Candidate {
        process(90, 112, "/system.slice/postgresql.service", 200, 0)
    }

    fn session(user: u32) -> String {
        format!("/user.slice/user-{user}.slice/session-{user}.scope")
    }

    /// The order if so many MiB were lost: which end, and why the others do not.
    fn ordered(candidates: &[Candidate], lost: u64) -> Vec<String> {
        let order = order(&rules(), &machine(), lately(lost), &grown(candidates));
        let shown = |place: &Place| match &place.standing {
            Standing::Ends { culprit: Culprit { group, growth, processes }, preferred: _ } => {
                let group = match group {
                    Group::Process { .. } => "alone".to_owned(),
                    Group::Unit { unit } => unit.to_string(),
                    Group::Session { leader } => format!("session {leader}"),
                    Group::User { uid } => format!("uid {uid}"),
                };
                format!("{}: {group}, {processes} grew by {}", place.process, growth.0 / MIB)
            }
            other => format!("{}: {other:?}", place.process),
        };
        order.places.iter().map(shown).collect()
    }

    #[test]
    fn one_hog_is_the_culprit_and_the_larger_idle_database_is_none() {
        let candidates = [database(), process(2, 1000, &session(1000), 150, 140)];
        assert_eq!(ordered(&candidates, 300), ["2: alone, 1 grew by 140", "90: Idle"]);
    }

    #[test]
    fn a_crowd_of_workers_is_one_culprit() {
        let workers = |uid: fn(u32) -> u32, cgroup: fn(u32) -> String| {
            (2..12).map(|pid| process(pid, uid(pid), &cgroup(pid), 60, 60)).collect::<Vec<_>>()
        };
        // Beside another user's process that has grown more than each of them.
        let mut candidates = vec![database(), process(20, 1001, &session(1001), 95, 90)];
        for (crowd, name) in [
            (workers(|_| 1000, |_| session(1000)), "session-1000.scope"),
            (workers(|_| 1000, |pid| format!("/system.slice/job-{pid}.service")), "uid 1000"),
            (workers(|_| 0, |_| "/system.slice/pool.service".to_owned()), "pool.service"),
        ] {
            candidates.truncate(2);
            candidates.extend(crowd);
            let found = ordered(&candidates, 700);
            assert_eq!(found[0], format!("11: {name}, 10 grew by 600"), "the youngest first");
            assert_eq!(found[10..], ["20: alone, 1 grew by 90", "90: Idle"]);
        }
        // Services of root in units of their own have nothing in common.
        candidates.truncate(2);
        candidates.extend(workers(|_| 0, |pid| format!("/system.slice/job-{pid}.service")));
        assert_eq!(ordered(&candidates, 700)[..2], ["20: alone, 1 grew by 90", "11: alone, 1 grew by 60"]);
    }

    #[test]
    fn a_process_that_grows_ends_before_a_larger_one_that_has_stopped() {
        // Both have started since the machine was well.
        let stopped =
            Candidate { early: Bytes(225 * MIB), ..process(2, 34, "/system.slice/b.service", 225, 225) };
        let leak = Candidate { early: Bytes(84 * MIB), ..process(3, 1000, &session(1000), 200, 200) };
        let ordered = |candidates: &[Candidate], early, late| {
            let lost = Lost { bytes: Bytes((early + late) * MIB), early: Bytes(early * MIB) };
            let order = order(&rules(), &machine(), lost, &grown(candidates));
            let ending = order.places.iter().filter(|place| place.ends());
            ending.map(|place| place.process.pid.0).collect::<Vec<_>>()
        };
        assert_eq!(ordered(&[stopped.clone(), leak], 309, 116), [3, 2]);
        let stopped = [stopped];
        assert_eq!(ordered(&stopped, 225, 0), [2], "a hog that pauses, if nothing else has grown");
        // A file in a tmpfs has grown since, by less than half as much, and by more.
        assert_eq!((ordered(&stopped, 225, 80), ordered(&stopped, 225, 100)), (vec![2], vec![]));
        // A hog that pauses, and a small one that comes later.
        let hog = Candidate { early: Bytes(600 * MIB), ..process(4, 1000, &session(1000), 600, 600) };
        let small = process(5, 1001, &session(1001), 70, 70);
        assert_eq!(ordered(&[hog, small], 600, 100), [4, 5]);
        // Half of a crowd has stopped: what grows on ends first.
        let early = |pid| if pid < 6 { 60 * MIB } else { 0 };
        let mut crowd: Vec<_> = (2..10)
            .map(|pid| Candidate { early: Bytes(early(pid)), ..process(pid, 1000, &session(1000), 60, 60) })
            .collect();
        crowd.push(process(20, 1001, &session(1001), 95, 95));
        assert_eq!(ordered(&crowd, 240, 335), [9, 8, 7, 6, 5, 4, 3, 2, 20]);
    }

    #[test]
    fn shared_memory_that_came_early_and_stays_does_not_hide_a_later_leak() {
        // A worker of a database has touched its shared memory at once, and leaks since then.
        let mut leak = process(2, 112, "/system.slice/postgresql.service", 200, 200);
        (leak.shared_growth, leak.shared_early) = (Bytes(277 * MIB), Bytes(277 * MIB));
        let shared = crate::model::SharedMemory { kept: Bytes(277 * MIB), ..Default::default() };
        leak.process.rss = Bytes(497 * MIB);
        if let Some(holdings) = &mut leak.process.holdings {
            holdings.parts.shmem = Bytes(277 * MIB);
            holdings.shared = Fact::Known(shared);
        }
        let small = process(3, 1000, &session(1000), 50, 50);
        let found = ordered(&[leak, small], 250);
        assert_eq!(found[0], "2: alone, 1 grew by 200");
    }

    #[test]
    fn a_crowd_of_ordinary_processes_fills_a_large_machine_too() {
        let total = Bytes(1024 * Bytes::GIB);
        let memory = SystemMemory { total, available: Bytes(10 * Bytes::GIB) };
        let machine = MachineMemory { memory, ..machine() };
        let crowd: Vec<_> = (2..4000).map(|pid| process(pid, 1000, &session(1000), 250, 250)).collect();
        let order = order(&rules(), &machine, lately(990 * 1024), &grown(&crowd));
        let Some(Standing::Ends { culprit, .. }) = order.first().map(|place| &place.standing) else {
            panic!("{:?}", order.places.first())
        };
        // One of them has the pid of memmon.
        assert_eq!(culprit.processes, 3997);
    }

    #[test]
    fn nobody_ends_if_the_memory_went_to_no_process() {
        // 500 MiB were written to a tmpfs; the others live on, and grow a little.
        let candidates = [database(), process(2, 1000, &session(1000), 30, 12), process(3, 0, "/", 40, 15)];
        assert_eq!(ordered(&candidates, 540), ["90: Idle", "3: NotTheCause", "2: NotTheCause"]);
        // A hog beside it, with a quarter of the loss.
        let hog = process(4, 1001, &session(1001), 140, 136);
        let candidates = [database(), hog, process(2, 1000, &session(1000), 30, 12)];
        assert_eq!(ordered(&candidates, 540), ["4: alone, 1 grew by 136", "90: Idle", "2: NotTheCause"]);
    }

    #[test]
    fn growth_that_an_end_does_not_give_back_does_not_count() {
        // A worker of a database that has touched its shared memory.
        let mut worker = process(2, 112, "/system.slice/postgresql.service", 3, 3);
        worker.shared_growth = Bytes(277 * MIB);
        worker.process.rss = Bytes(300 * MIB);
        let shared = crate::model::SharedMemory { kept: Bytes(277 * MIB), ..Default::default() };
        if let Some(holdings) = &mut worker.process.holdings {
            holdings.parts.shmem = Bytes(277 * MIB);
            holdings.shared = Fact::Known(shared);
        }
        assert_eq!(ordered(&[worker.clone()], 300), ["2: NotTheCause"]);
        // One that touches its shared memory again has grown by nothing, however much anonymous memory it has.
        let mut older = process(3, 112, "/system.slice/postgresql.service", 300, 0);
        older.shared_growth = Bytes(277 * MIB);
        assert_eq!(ordered(&[older], 300), ["3: Idle"]);
        // Shared memory that goes with it does count.
        if let Some(holdings) = &mut worker.process.holdings {
            let shared = crate::model::SharedMemory { returned: Bytes(277 * MIB), ..Default::default() };
            holdings.shared = Fact::Known(shared);
        }
        assert_eq!(ordered(&[worker], 300), ["2: alone, 1 grew by 280"]);
    }

    #[test]
    fn a_database_that_works_is_not_the_culprit() {
        const REDIS: &str = "/system.slice/redis.service";
        let database = |growth| process(90, 112, REDIS, 200 + growth, growth);
        let crowd = |growth| (2..5).map(move |pid| process(pid, 1000, &session(1000), growth, growth));
        let together = |crowd: &mut dyn Iterator<Item = Candidate>, database| {
            ordered(&crowd.chain([database]).collect::<Vec<_>>(), 200)
        };
        // It has grown by more than any of the workers, and then by more than half of all of them.
        let found = together(&mut crowd(40), database(60));
        assert_eq!(
            found[..2],
            ["4: session-1000.scope, 3 grew by 120", "3: session-1000.scope, 3 grew by 120"]
        );
        assert_eq!(found[3], "90: NotTheCause");
        assert_eq!(together(&mut crowd(40), database(110))[3], "90: NotTheCause");
        // Until one is left that has grown by as much.
        assert_eq!(together(&mut crowd(70).take(1), database(60))[1], "90: NotTheCause");
        // Alone it is one: a leak is no work.
        assert_eq!(ordered(&[database(150)], 200), ["90: alone, 1 grew by 150"]);
        let found = together(&mut crowd(15), database(150));
        assert_eq!(found[0], "90: alone, 1 grew by 150", "beside some logins");

        // Its new workers belong to it.
        let workers = || (91..96).map(|pid| process(pid, 112, REDIS, 20, 20));
        let mut candidates = grown(&crowd(35).chain(workers()).collect::<Vec<_>>());
        let first = |candidates: &Candidates| {
            order(&rules(), &machine(), lately(250), candidates).first().unwrap().process.pid
        };
        assert_eq!(first(&candidates), Pid(4));
        candidates.grown.drain(1..3);
        assert_eq!(first(&candidates), Pid(95), "a service that is new has its memory from now");
        candidates.idle.insert("redis.service".into(), Bytes(400 * MIB));
        assert_eq!(first(&candidates), Pid(2));
    }

    #[test]
    fn workers_that_all_grow_beyond_what_they_held_are_one_culprit() {
        let workers: Vec<_> = (2..8).map(|pid| process(pid, 1000, &session(1000), 160, 60)).collect();
        let candidates = [&workers[..], &[process(90, 112, "/system.slice/redis.service", 260, 60)]].concat();
        let found = ordered(&candidates, 450);
        assert_eq!(found[0], "7: session-1000.scope, 6 grew by 360");
        assert_eq!(found[6], "90: NotTheCause");
    }

    #[test]
    fn nobody_ends_for_what_a_protected_process_did() {
        let whitelist = Whitelist { names: NamePatterns::new(["firefox"]).unwrap(), ..Whitelist::default() };
        let rules = Rules { whitelist, ..rules() };
        let mut editor = process(2, 1001, &session(1001), 30, 30);
        (editor.process.names.exe, editor.process.names.argv0) = (Fact::Absent, Fact::Absent);
        let candidates = grown(&[process(3, 1000, &session(1000), 500, 500), editor]);
        let order = order(&rules, &machine(), lately(530), &candidates);
        assert_eq!(order.first(), None, "{order:?}");
        assert!(order.places.iter().any(|place| place.standing == Standing::NotTheCause), "{order:?}");
    }

    #[test]
    fn swapped_out_memory_counts() {
        let mut leak = process(2, 1000, &session(1000), 60, 250);
        if let Some(holdings) = &mut leak.process.holdings {
            holdings.parts.swap = Bytes(196 * MIB);
        }
        assert_eq!(ordered(&[database(), leak], 100), ["2: alone, 1 grew by 250", "90: Idle"]);
    }

    #[test]
    fn the_protected_are_no_part_of_a_cause() {
        let whitelist = Whitelist { names: NamePatterns::new(["firefox"]).unwrap(), ..Whitelist::default() };
        let rules = Rules { whitelist, ..rules() };
        let mut other = process(2, 1000, &session(1000), 100, 100);
        (other.process.names.exe, other.process.names.argv0) = (Fact::Absent, Fact::Absent);
        let candidates = [process(3, 1000, &session(1000), 300, 300), other];
        let order = order(&rules, &machine(), lately(400), &grown(&candidates));
        let [Place { process, standing: Standing::Ends { culprit, .. }, .. }, protected] = &order.places[..]
        else {
            panic!("{order:?}")
        };
        assert_eq!((process.pid, culprit.growth, culprit.processes), (Pid(2), Bytes(100 * MIB), 1));
        assert!(matches!(protected.standing, Standing::Protected { .. }), "{protected:?}");
    }

    #[test]
    fn no_more_end_than_it_takes() {
        let candidates: Vec<_> = (2..8).map(|pid| process(pid, 1000, &session(1000), 40, 30)).collect();
        let order = order(&rules(), &machine(), lately(200), &grown(&candidates));
        let number = |needed| order.enough(Bytes(needed * MIB)).len();
        assert_eq!([number(0), number(1), number(40), number(41), number(10_000)], [0, 1, 1, 2, 6]);
    }

    #[test]
    fn the_preferred_end_first_and_the_whitelisted_never() {
        let rule = |name, user, prefer| crate::policy::LimitRule {
            name: RuleName::new(name).unwrap(),
            matcher: Matcher {
                uids: Some([Uid(user)..=Uid(user)].into_iter().collect()),
                ..Matcher::default()
            },
            limit: crate::policy::RuleLimit::Thresholds,
            action: crate::model::Action::Terminate,
            lasting: std::time::Duration::ZERO,
            signal: crate::model::Signal::Term,
            grace: None,
            hard_ceiling: None,
            prefer,
            notify_user: None,
        };
        let batch = [rule("batch", 1001, true), rule("later", 1002, true), rule("others", 1003, false)];
        let rules = Rules { rules: batch.to_vec(), ..rules() };
        let candidates = [
            process(2, 1000, &session(1000), 300, 300),
            // Idle, small, and of the rules in the other order.
            process(3, 1002, "/b", 90, 0),
            process(4, 1001, "/a", 100, 0),
            process(5, 1001, "/a", 9, 9),
            process(6, 1003, "/c", 150, 0),
        ];
        let shown = |rules: &Rules| {
            let order = order(rules, &machine(), lately(310), &grown(&candidates));
            let ending = order.places.iter().filter(|place| place.ends());
            ending.map(|place| place.process.pid.0).collect::<Vec<_>>()
        };
        assert_eq!(shown(&rules), [4, 3, 2]);
        let order = order(&rules, &machine(), lately(310), &grown(&candidates));
        let Standing::Ends { preferred, culprit } = &order.places[0].standing else { panic!("{order:?}") };
        assert_eq!((preferred.unwrap().as_str(), culprit.growth), ("batch", Bytes::ZERO));
        let whitelist = Whitelist { users: [Uid(1001)].into(), ..Whitelist::default() };
        assert_eq!(shown(&Rules { whitelist, ..rules }), [3, 2]);
    }

    #[test]
    fn only_the_first_is_a_victim() {
        let candidates: Vec<_> =
            [40, 30, 0].map(|grown| process(grown + 2, 1000, "/a", 40, grown.into())).into();
        let order = order(&rules(), &machine(), lately(70), &grown(&candidates));
        let verdict = |index: usize| order.verdict(&candidates[index].process, &machine());
        let Verdict::Terminate(Breach { rule: Limit::Machine, limit, rss, .. }) = verdict(0) else {
            panic!("{order:?}")
        };
        assert_eq!((limit, rss), (Bytes::ZERO, Bytes(60 * MIB)));
        assert_eq!([verdict(1), verdict(2)], [Verdict::Within, Verdict::Within]);
    }
}

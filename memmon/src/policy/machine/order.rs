//! The order in which processes end if the machine is short of memory.
//!
//! Memory of one user, unit or session counts as one culprit: ten workers, or a fork storm. So a process ranks by the blame
//! of the group that it belongs to ([`super::blame`]), then by its own part; growth that came early counts less
//! ([`super::recency`]). A process that did not grow is not ended.
//! Neither is one whose group has too small a part in the loss, nor one that works with memory that it held before while
//! others grow by more.

use std::cmp::Reverse;

use serde::Serialize;

use super::blame::{Blame, GroupGrowths, Units, groups};
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
    let (share, largest) = LEAST_CAUSE;
    let least_cause = (total.0 / share).min(largest);
    let (mut growers, mut others) = (Vec::new(), Vec::new());
    let (mut grown, mut grown_weighed) = (Bytes::ZERO, candidates.own_of_others());
    let growths = candidates.grown.iter().map(|candidate| (candidate, candidate.own_growth()));
    let units = Units::new(growths.clone(), &candidates.idle);
    let (mut sums, mut kept) = (GroupGrowths::default(), GroupGrowths::default());
    let judged: Vec<_> = growths
        .map(|(candidate, growth)| {
            (candidate, growth, judge_as_over(rules, &candidate.process, &machine.memory))
        })
        .collect();
    let may_end = judged.iter().filter(|(_, _, verdict)| ends(verdict)).map(|(_, growth, _)| *growth);
    let least = least_growth(total, lost.bytes, &may_end.collect::<Vec<_>>(), candidates.own_of_others());
    for (candidate, growth, verdict) in judged {
        let (process, gives_back) = (&candidate.process, gives_back(&candidate.process));
        let (blame, groups) = (units.blame(candidate, growth), groups(process));
        (grown, grown_weighed) = (grown + growth, grown_weighed + blame.weighed);
        let standing = match verdict {
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
    let is_cause = |Grower { groups, blame, .. }: &Grower<'_>| {
        let growth = sums.largest(groups, |sum| sum.growth);
        let most_went_to_processes = grown_weighed.0.saturating_mul(MOST) >= lost.weighed().0;
        let weighed = sums.largest(groups, |sum| sum.weighed);
        let has_its_share = weighed.0.saturating_mul(LEAST_SHARE) >= lost.weighed().0;
        // Others that memmon does not end have caused it.
        let of_group = sums.largest(groups, |sum| sum.blame);
        let is_bystander = of_group.0.saturating_mul(LEAST_SHARE) < kept.most().0;
        let counted = if blame.growth >= least { blame.bytes } else { Bytes::ZERO };
        let most_of_others = sums.most_beside(groups, counted).max(kept.most());
        let only_works = blame.works && sums.largest(groups, |sum| sum.worked) < most_of_others;
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

const fn ends(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Terminate(_) | Verdict::Stop(_))
}

/// The smallest growth that counts on a machine with `total` memory that has `lost` so much. If the processes that have grown by
/// more do not explain most of that, and with smaller ones they do, the smaller ones count: thousands of them are a crowd.
fn least_growth(total: Bytes, lost: Bytes, growths: &[Bytes], of_others: Bytes) -> Bytes {
    let (share, smallest, largest) = LEAST_GROWTH;
    let usual = (total.0 / share).clamp(smallest, largest);
    let explain = |least: &u64| {
        let counted = growths.iter().filter(|growth| growth.0 >= *least);
        let sum = counted.fold(Bytes::ZERO, |sum, growth| sum + *growth);
        // The others have grown by less than each of these.
        let all = if growths.iter().all(|growth| growth.0 >= *least) { sum + of_others } else { sum };
        all.0.saturating_mul(MOST) >= lost.0
    };
    let smaller = std::iter::successors(Some(usual), |least| Some(least / 2));
    Bytes(smaller.take_while(|least| *least >= smallest).find(explain).unwrap_or(usual))
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
fn culprit(grower: &Grower<'_>, sums: &GroupGrowths) -> (Bytes, Culprit) {
    let rank = sums.largest(&grower.groups, |sum| sum.rank);
    let itself = Group::Process { process: grower.process.id };
    let accounts = |group: &&Group| sums.of(group).rank.0.saturating_mul(4) >= rank.0.saturating_mul(3);
    let group = grower.groups.iter().find(accounts).unwrap_or(&itself).clone();
    let sum = sums.of(&group);
    (rank, Culprit { group, growth: sum.growth, processes: sum.processes })
}

#[cfg(test)]
mod tests;

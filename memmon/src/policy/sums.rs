//! Sums: what the processes of a user, unit, cgroup, session, tree or program hold together, and which of them end if that is
//! too much.
//!
//! Of the rules of one kind (`per`) the first that matches a process decides in which sum it counts. The limit of a sum is
//! exceeded if it is with all doubts and errors taken off. No more processes are chosen than it takes; a process that is
//! protected counts and is never chosen.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use super::{Matched, Matcher, RuleLimit, Rules, Strike, SumRule, rule_index::RuleIndex, walk};
use crate::model::{
    Action, Bytes, Fact, GroupKey, Limit, Per, Pid, Process, ProcessId, RuleName, SumFigures, SystemMemory,
    Verdict,
};

/// A group of processes, with the rule that limits what they hold together.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// The rule.
    pub rule: &'a SumRule,
    /// The group.
    pub key: GroupKey,
    /// Its limit.
    pub limit: (Limit, Bytes),
    /// Its processes, by their identity, and whether each is certain to count.
    pub members: Vec<(&'a Process, bool)>,
}

/// The groups of `processes` that have a limit, by the order of the rules.
pub fn groups<'a>(
    rules: &'a Rules,
    memory: &SystemMemory,
    processes: impl IntoIterator<Item = &'a Process>,
) -> Vec<Group<'a>> {
    groups_by(rules, memory, processes, true)
}

/// The same. Without `indexed` every rule is compared with every process, and the result is the same.
pub(super) fn groups_by<'a>(
    rules: &'a Rules,
    memory: &SystemMemory,
    processes: impl IntoIterator<Item = &'a Process>,
    indexed: bool,
) -> Vec<Group<'a>> {
    let mut processes: Vec<_> = processes.into_iter().collect();
    processes.sort_by_key(|process| process.id);
    processes.dedup_by_key(|process| process.id);
    let family = Family::new(&processes);
    let mut found: BTreeMap<(usize, GroupKey), Vec<(&Process, bool)>> = BTreeMap::new();
    for per in Per::ALL {
        let of_kind: Vec<_> = rules.sums.iter().enumerate().filter(|(_, sum)| sum.per == per).collect();
        if of_kind.is_empty() {
            continue;
        }
        // A process is in the tree of an ancestor, which the rule matches.
        let index = (indexed && per != Per::Tree)
            .then(|| RuleIndex::new(of_kind.iter().map(|(_, sum)| &sum.rule.matcher)));
        let mut trees: Vec<_> = of_kind.iter().map(|_| Trees::default()).collect();
        for process in &processes {
            let mut certain = true;
            let places = index.as_ref().map(|index| index.may_match(process));
            let places = places.unwrap_or_else(|| (0..of_kind.len()).collect());
            for place in places {
                let (Some((at, sum)), Some(trees)) = (of_kind.get(place), trees.get_mut(place)) else {
                    continue;
                };
                let Some((key, is_certain)) = counts(sum, process, &family, trees) else { continue };
                // A process whose owner withholds whether it is exempt from a limit counts as not exempt.
                let is_free = sum.rule.limit == RuleLimit::None;
                let decides = is_certain == Matched::Yes;
                certain &= !matches!(is_certain, Matched::Unknown(_));
                if !is_free {
                    found.entry((*at, key)).or_default().push((process, certain));
                }
                if decides {
                    break;
                }
            }
        }
    }
    let group = |((at, key), members): ((usize, GroupKey), _)| {
        let rule = rules.sums.get(at)?;
        Some(Group { rule, key, limit: rules.limit_under(Some(&rule.rule), memory)?, members })
    };
    found.into_iter().filter_map(group).collect()
}

/// The group under `sum` in which `process` counts, and whether it certainly does; `None` if it does not count, or if its
/// group is not known.
fn counts(
    sum: &SumRule,
    process: &Process,
    family: &Family<'_>,
    trees: &mut Trees,
) -> Option<(GroupKey, Matched)> {
    let matcher = &sum.rule.matcher;
    if sum.per == Per::Tree {
        let (root, matched) = trees.root(process, family, matcher)?;
        return Some((GroupKey::Tree { root }, matched));
    }
    let matched = matcher.matches(process);
    if matches!(matched, Matched::No(_)) {
        return None;
    }
    match GroupKey::of(sum.per, process) {
        Fact::Known(key) => Some((key, matched)),
        Fact::Absent | Fact::Unreadable | Fact::Withheld => None,
    }
}

/// The processes by pid, to find parents.
struct Family<'a>(HashMap<Pid, &'a Process>);

impl<'a> Family<'a> {
    fn new(processes: &[&'a Process]) -> Self {
        Self(processes.iter().map(|process| (process.id.pid, *process)).collect())
    }

    /// The parent of `child`, if it is known, and the facts do not contradict that.
    fn parent<'s>(&'s self, child: &Process) -> Option<&'s Process> {
        let parent = self.0.get(&child.parent).copied()?;
        (parent.id.start <= child.id.start && parent.id.pid != child.id.pid).then_some(parent)
    }
}

/// The trees of one rule: the root of each process that was asked for, and of its ancestors. Each is compared with the rule once: a
/// user can make a chain of thousands.
#[derive(Default)]
struct Trees(HashMap<ProcessId, Option<(ProcessId, Matched)>>);

impl Trees {
    /// The outermost ancestor of `process`, or itself, that may match, and whether it does.
    fn root(
        &mut self,
        process: &Process,
        family: &Family<'_>,
        matcher: &Matcher,
    ) -> Option<(ProcessId, Matched)> {
        let (mut lineage, mut next, mut root) = (Vec::new(), Some(process), None);
        while let Some(one) = next {
            if let Some(known) = self.0.get(&one.id) {
                root.clone_from(known);
                break;
            }
            // Two that started in the same tick may each be the other's parent, if their facts are of different times: the
            // lineage ends where it comes back.
            self.0.insert(one.id, None);
            lineage.push(one);
            next = family.parent(one);
        }
        for one in lineage.into_iter().rev() {
            root = root.or_else(|| match matcher.matches(one) {
                Matched::No(_) => None,
                matched => Some((one.id, matched)),
            });
            self.0.insert(one.id, root.clone());
        }
        self.0.get(&process.id).cloned().flatten()
    }
}

/// A group whose processes were looked at closely.
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// The rule.
    pub rule: RuleName,
    /// The group.
    pub key: GroupKey,
    /// The limit.
    pub limit: (Limit, Bytes),
    /// Processes end if it has more than this: the limit; for a rule that throttles the hard ceiling; never if it only warns.
    pub ends_above: Bytes,
    /// The action above the limit.
    pub action: Action,
    /// The process that ends first.
    pub strike: Strike,
    /// The processes, by their identity.
    pub members: Vec<Member>,
    /// Those of them that cannot be signalled, as the kernel has refused it.
    pub out_of_reach: BTreeSet<ProcessId>,
}

/// A process of a sum.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The process.
    pub process: Process,
    /// The memory that it holds for certain.
    pub least: Bytes,
    /// The memory that it may hold.
    pub most: Bytes,
    /// Whether it may be ended: [`Verdict::Within`] if nothing speaks against it.
    pub guard: Verdict,
}

/// Whether a sum exceeds its limit.
#[derive(Clone, Debug, PartialEq)]
pub enum SumVerdict {
    /// It does not.
    Within,
    /// It may, by what is not known yet.
    Unsure,
    /// It does, by what is kept alone ([`Sum::kept`]): ending others would not help.
    Kept,
    /// It does.
    Over,
}

impl Sum {
    /// The sum of `group`, whose processes were looked at closely.
    pub fn new(rules: &Rules, memory: &SystemMemory, group: &Group<'_>) -> Self {
        let members = group.members.iter().map(|(process, certain)| {
            let (least, most) = (process.charged_resident_at_least(), process.charged_resident());
            let is_known = *certain && process.inherited != Fact::Unreadable;
            Member {
                process: (*process).clone(),
                least: if is_known { least.saturating_sub(process.error) } else { Bytes::ZERO },
                most: most + process.error,
                guard: walk::guard(rules, process, memory),
            }
        });
        Self {
            rule: group.rule.rule.name,
            key: group.key.clone(),
            limit: group.limit,
            ends_above: group.rule.ends_above(group.limit.1),
            action: group.rule.rule.action,
            strike: group.rule.strike,
            members: members.collect(),
            out_of_reach: BTreeSet::new(),
        }
    }

    /// The memory that its processes hold for certain.
    pub fn least(&self) -> Bytes {
        total(self.members.iter().map(|member| member.least))
    }

    /// The memory that they may hold.
    pub fn most(&self) -> Bytes {
        total(self.members.iter().map(|member| member.most))
    }

    /// Whether it exceeds its limit.
    pub fn verdict(&self) -> SumVerdict {
        let (_, limit) = self.limit;
        if self.most() <= limit {
            SumVerdict::Within
        } else if self.least() <= limit {
            SumVerdict::Unsure
        } else if self.kept() > limit {
            SumVerdict::Kept
        } else {
            SumVerdict::Over
        }
    }

    /// The memory for certain of those that stay: processes that are protected, and those out of reach.
    pub fn kept(&self) -> Bytes {
        total(self.members.iter().filter(|member| self.stays(member)).map(|member| member.least))
    }

    fn stays(&self, member: &Member) -> bool {
        matches!(member.guard, Verdict::Protected(_)) || self.out_of_reach.contains(&member.process.id)
    }

    /// The memory that is left for certain when the processes `going` have ended.
    pub fn without(&self, going: &BTreeSet<ProcessId>) -> Bytes {
        let stays = |member: &&Member| !going.contains(&member.process.id);
        total(self.members.iter().filter(stays).map(|member| member.least))
    }

    /// The processes that may be ended for it, in the order of the rule, without those that are `going` already. `rates`: how
    /// fast each grows, in bytes per second.
    pub fn order(&self, going: &BTreeSet<ProcessId>, rates: impl Fn(ProcessId) -> f64) -> Vec<&Member> {
        let mut order: Vec<_> = self
            .members
            .iter()
            .filter(|member| !self.stays(member))
            .filter(|member| member.least > Bytes::ZERO && !going.contains(&member.process.id))
            .collect();
        order.sort_by(|a, b| self.strike.compare(a, b, &rates));
        order
    }

    /// Whether processes end for it: if those that stay hold too much alone, that would not help.
    pub fn ends(&self) -> bool {
        self.least() > self.ends_above && self.kept() <= self.ends_above
    }

    /// The processes to end now, in the order of the rule, so that no more have to end when they have ended and those that are
    /// `going` already. `rates`: how fast each grows, in bytes per second.
    pub fn strikes(&self, going: &BTreeSet<ProcessId>, rates: impl Fn(ProcessId) -> f64) -> Vec<ProcessId> {
        let left = self.without(going);
        if !self.ends() || left <= self.ends_above {
            return vec![];
        }
        let order = self.order(going, rates);
        let mut chosen =
            if self.strike == Strike::All { order } else { fewest(order, left, self.ends_above) };
        // A process in doubt keeps its place, and waits until the doubt is over.
        chosen.retain(|member| member.guard == Verdict::Within);
        chosen.into_iter().map(|member| member.process.id).collect()
    }

    /// Its figures, for a record.
    pub fn figures(&self) -> SumFigures {
        let (rule, group, (_, limit)) = (self.rule, self.key.clone(), self.limit);
        SumFigures { rule, group, total: self.least(), limit, members: self.members.len() }
    }
}

impl SumRule {
    /// The sum above which processes end, if its limit is `limit`; the highest number if none ever does.
    pub fn ends_above(&self, limit: Bytes) -> Bytes {
        match self.rule.action {
            Action::Terminate => limit,
            Action::Warn | Action::Stop => Bytes::MAX,
            // `0`: no size ends it.
            Action::Throttle => match self.rule.hard_ceiling {
                Some(times) if times > 0.0 => limit.times(times).max(limit),
                _ => Bytes::MAX,
            },
        }
    }
}

/// The first of `order` that bring what is `left` down to `limit`, without those that it does not take: if the newest is
/// small and the next one is enough, only that one.
fn fewest(order: Vec<&Member>, mut left: Bytes, limit: Bytes) -> Vec<&Member> {
    let mut chosen = Vec::new();
    for member in order {
        if left <= limit {
            break;
        }
        left = left.saturating_sub(member.least);
        chosen.push(member);
    }
    let mut by_size = chosen.clone();
    by_size.sort_by_key(|member| (member.least, member.process.id));
    for member in by_size {
        if left + member.least <= limit {
            left = left + member.least;
            chosen.retain(|one| one.process.id != member.process.id);
        }
    }
    chosen
}

impl Strike {
    fn compare(self, a: &Member, b: &Member, rates: impl Fn(ProcessId) -> f64) -> std::cmp::Ordering {
        let newest = |member: &Member| (Reverse(member.process.id.start), Reverse(member.process.id.pid));
        let largest = |member: &Member| (Reverse(member.least), newest(member));
        match self {
            Self::Newest => newest(a).cmp(&newest(b)),
            Self::Growing => {
                let rate = |member: &Member| rates(member.process.id);
                rate(b).total_cmp(&rate(a)).then_with(|| largest(a).cmp(&largest(b)))
            }
            Self::Largest | Self::All => largest(a).cmp(&largest(b)),
        }
    }
}

fn total(amounts: impl Iterator<Item = Bytes>) -> Bytes {
    amounts.sum()
}

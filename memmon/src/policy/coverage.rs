//! The processes that each rule decides about: for administrators, who can see whether a rule matches the processes that
//! they meant.

use std::collections::BTreeSet;

use super::{LimitRule, Matched, Rules};
use crate::model::{Per, Process, RuleName};

/// The processes that a rule is about.
#[derive(Clone, Debug)]
pub struct Coverage<'a> {
    /// The rule.
    pub rule: RuleName,
    /// The kind of group that its sum is taken over; `None` for a rule about single processes.
    pub per: Option<Per>,
    /// The processes that it certainly matches and no rule of its kind before it does.
    pub decides: Vec<&'a Process>,
    /// Number of processes that it matches after one before it did.
    pub too_late: usize,
    /// The rules that came first for those.
    pub earlier: BTreeSet<RuleName>,
    /// Number of processes of which it is not certain whether it matches them.
    pub unclear: usize,
}

/// The coverage of each rule among `processes`: first the rules about single processes, then those about sums.
pub fn coverage<'a>(rules: &Rules, processes: &'a [Process]) -> Vec<Coverage<'a>> {
    let single = rules.rules.iter().map(|rule| (None, rule));
    let sums = rules.sums.iter().map(|sum| (Some(sum.per), &sum.rule));
    let all: Vec<(Option<Per>, &LimitRule)> = single.chain(sums).collect();
    let mut found: Vec<_> = all
        .iter()
        .map(|(per, rule)| Coverage {
            rule: rule.name,
            per: *per,
            decides: Vec::new(),
            too_late: 0,
            earlier: BTreeSet::new(),
            unclear: 0,
        })
        .collect();
    for process in processes {
        // Rules of different kinds do not compete.
        let mut first: Vec<(Option<Per>, RuleName)> = Vec::new();
        for ((per, rule), covered) in all.iter().zip(&mut found) {
            match rule.matcher.matches(process) {
                Matched::No(_) => {}
                Matched::Withheld(_) | Matched::Unknown(_) => covered.unclear += 1,
                Matched::Yes => match first.iter().find(|(kind, _)| kind == per) {
                    Some((_, earlier)) => {
                        covered.too_late += 1;
                        covered.earlier.insert(*earlier);
                    }
                    None => {
                        first.push((*per, rule.name));
                        covered.decides.push(process);
                    }
                },
            }
        }
    }
    found
}

//! Finds the rule that decides about a process: the first one that matches it, or `[thresholds]` if no rule matches.
//!
//! Whether a rule matches may depend on something that could not be read. Then the rules up to the first one that certainly
//! matches are candidates. If they do not agree, that is a doubt; what the process's owner keeps from being read counts against
//! them, so that the harshest candidate decides.

use super::{LimitRule, Matched, RuleLimit, Rules, rules::share};
use crate::model::{Bytes, Limit, Process, RuleName, SystemMemory};

/// A rule that decides about a process, or may do so. `None` stands for `[thresholds]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Candidate<'a> {
    pub(super) rule: Option<&'a LimitRule>,
    pub(super) matched: Matched,
}

impl Rules {
    /// The limit under `rule`, and its kind; `None` for a rule without a limit.
    pub fn limit_under(&self, rule: Option<&LimitRule>, memory: &SystemMemory) -> Option<(Limit, Bytes)> {
        match rule.map(|rule| rule.limit) {
            None | Some(RuleLimit::Thresholds) => Some(self.limit(memory)),
            Some(RuleLimit::None) => None,
            Some(RuleLimit::Own { percent, bytes }) => {
                let percent = percent.filter(|_| memory.total > Bytes::ZERO);
                let percent = percent.map(|percent| (Limit::Percent, share(percent, memory.total)));
                let own = percent.into_iter().chain(bytes.map(|bytes| (Limit::Gb, bytes)));
                // If the total of the machine is unknown, a share of it cannot be exceeded.
                own.min_by_key(|(_, limit)| *limit).or_else(|| Some(self.limit(memory)))
            }
        }
    }

    /// The smallest limit that any process could have: what has no more is within its limit, whatever it is.
    pub fn least_limit(&self, memory: &SystemMemory) -> Bytes {
        let (_, thresholds) = self.limit(memory);
        let limits = self.rules.iter().filter_map(|rule| self.limit_under(Some(rule), memory));
        limits.map(|(_, limit)| limit).fold(thresholds, Ord::min)
    }

    /// The limit of `process`, the lowest if it is in doubt which one it is; [`Bytes::MAX`] without one.
    pub fn limit_of(&self, process: &Process, memory: &SystemMemory) -> Bytes {
        let limits = self
            .candidates(process)
            .into_iter()
            .map(|candidate| self.limit_under(candidate.rule, memory).map_or(Bytes::MAX, |(_, limit)| limit));
        limits.min().unwrap_or(Bytes::MAX)
    }

    /// The first rule that certainly matches `process`; `None` stands for `[thresholds]`.
    pub fn decisive(&self, process: &Process) -> Option<&LimitRule> {
        self.candidates(process).pop().and_then(|candidate| candidate.rule)
    }

    /// The rule that prefers `process` as the machine's victim, and its place among the rules.
    pub(super) fn preferred(&self, process: &Process) -> Option<(usize, RuleName)> {
        let rule = self.decisive(process).filter(|rule| rule.prefer)?;
        Some((self.rules.iter().position(|other| other.name == rule.name)?, rule.name))
    }

    /// The rule called `name`.
    pub fn named(&self, name: RuleName) -> Option<&LimitRule> {
        let sums = self.sums.iter().map(|sum| &sum.rule);
        self.rules.iter().chain(sums).find(|rule| rule.name == name)
    }

    /// The rules that may decide about `process`, in their order. The last one decides unless one before it does.
    pub(super) fn candidates<'a>(&'a self, process: &Process) -> Vec<Candidate<'a>> {
        let mut candidates = Vec::new();
        for rule in self.rules.iter().map(Some).chain([None]) {
            let matched = rule.map_or(Matched::Yes, |rule| rule.matcher.matches(process));
            let decides = matched == Matched::Yes;
            if !matches!(matched, Matched::No(_)) {
                candidates.push(Candidate { rule, matched });
            }
            if decides {
                break;
            }
        }
        candidates
    }

    /// Looks closely at a process by `look`, which takes the limit for which the figures must be exact: first for its facts,
    /// then, if it may be over its limit, for its memory.
    ///
    /// # Errors
    /// Those of `look`.
    pub fn confirm<E>(
        &self,
        memory: &SystemMemory,
        look: impl Fn(Bytes) -> Result<Process, E>,
    ) -> Result<Process, E> {
        if self.rules.is_empty() {
            return look(self.limit(memory).1);
        }
        let mut process = look(Bytes::MAX)?;
        for _ in 0..LOOKS {
            let limit = self.limit_of(&process, memory);
            if process.rss.saturating_add(process.error) <= limit {
                break;
            }
            process = look(limit)?;
            // Its names may have changed in between.
            if self.limit_of(&process, memory) == limit {
                break;
            }
        }
        Ok(process)
    }
}

/// Number of looks at a process whose names change all the time.
const LOOKS: usize = 3;

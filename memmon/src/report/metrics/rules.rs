//! Figures by `[[rule]]`. The label is the rule's name, so that there are as many series as the configuration has rules; a user or
//! a unit is no label, because users could create series without bound, and anyone who may read the metrics would learn
//! which users work on the machine: `memmon status --json` has the sums one by one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

use super::catalog::{Catalog, gauge};
use crate::model::{Bytes, RuleName, SumFigures};

type ByRule<M> = Family<[(&'static str, String); 1], M>;

/// The figures by rule.
pub(super) struct RuleFigures {
    terminations: ByRule<Counter>,
    would_terminate: ByRule<Counter>,
    held_back: ByRule<Counter>,
    sums: ByRule<Gauge>,
    sums_over: ByRule<Gauge>,
    sum: ByRule<Gauge>,
    sum_limit: ByRule<Gauge>,
    sum_processes: ByRule<Gauge>,
    /// The rules that have figures.
    known: Mutex<BTreeSet<RuleName>>,
}

fn label(rule: RuleName) -> [(&'static str, String); 1] {
    [("rule", rule.as_str().to_owned())]
}

impl RuleFigures {
    pub(super) fn new(all: &mut Catalog) -> Self {
        Self {
            terminations: all.add("rule_terminations", "Victims that ended, by rule"),
            would_terminate: all.add("rule_would_terminate", "Processes that a dry run left alone, by rule"),
            held_back: all
                .add("rule_held_back", "Terminations of repeat offenders that were delayed, by rule"),
            sums: all.add("rule_sums", "Groups of processes that a rule limits together"),
            sums_over: all.add("rule_sums_over", "Those of them that may exceed their limit"),
            sum: all.bytes(
                "rule_sum",
                "What the group nearest to its limit holds at most",
                ByRule::default(),
            ),
            sum_limit: all.bytes("rule_sum_limit", "What each group may hold together", ByRule::default()),
            sum_processes: all.add("rule_sum_processes", "Processes of the group nearest to its limit"),
            known: Mutex::default(),
        }
    }

    pub(super) fn terminated(&self, rule: RuleName) {
        self.terminations.get_or_create(&label(rule)).inc();
    }

    pub(super) fn would_terminate(&self, rule: RuleName) {
        self.would_terminate.get_or_create(&label(rule)).inc();
    }

    pub(super) fn held_back(&self, rule: RuleName) {
        self.held_back.get_or_create(&label(rule)).inc();
    }

    /// Has the counters of each of `rules` begin at 0, and takes away the figures of rules that are in force no more.
    pub(super) fn in_force(&self, rules: impl Iterator<Item = RuleName>) {
        let rules: BTreeSet<_> = rules.collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in rules.difference(&known) {
            for counter in [&self.terminations, &self.would_terminate, &self.held_back] {
                drop(counter.get_or_create(&label(*rule)));
            }
        }
        for rule in known.difference(&rules) {
            for counter in [&self.terminations, &self.would_terminate, &self.held_back] {
                counter.remove(&label(*rule));
            }
            for gauge in [&self.sums, &self.sums_over, &self.sum, &self.sum_limit, &self.sum_processes] {
                gauge.remove(&label(*rule));
            }
        }
        *known = rules;
    }

    /// Notes the sums: the limit of each rule for sums, and all sums, the one with the largest share of its limit first.
    pub(super) fn sums(&self, limits: &[(RuleName, Bytes)], sums: &[&SumFigures]) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (rule, limit) in limits {
            let of_rule: Vec<_> = sums.iter().filter(|sum| sum.rule == *rule).collect();
            let over = of_rule.iter().filter(|sum| sum.total > sum.limit).count();
            let (total, members) = of_rule.first().map_or((Bytes::ZERO, 0), |sum| (sum.total, sum.members));
            let label = label(*rule);
            self.sums.get_or_create(&label).set(count(of_rule.len()));
            self.sums_over.get_or_create(&label).set(count(over));
            self.sum.get_or_create(&label).set(gauge(total));
            self.sum_limit.get_or_create(&label).set(gauge(*limit));
            self.sum_processes.get_or_create(&label).set(count(members));
        }
    }
}

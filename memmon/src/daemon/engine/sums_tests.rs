//! Sums on a captured /proc: the looks right before a signal. No signal is sent.

use std::collections::BTreeSet;

use super::Engine;
use super::state::case::Case;
use super::tests::{Recorder, engine_with, sized, small_machine};
use crate::daemon::clock::Now;
use crate::enforce::Check;
use crate::model::{GroupKey, Per, Pid, ProcessId, RuleName, SumFigures};

const FIRST: u32 = 4_000_010;
const MEMBERS: u32 = 20;

/// The processes of user 1000 may hold half a gigabyte, or all of them end.
const ALL: &str = "thresholds = { ram_gb_threshold = 100, ram_percent_threshold = 100 }
    settings.dry_run = true
    whitelist = { pids = [], names = [], users = [] }
    [[rule]]
    name = 'together'
    uids = ['1000']
    not = { names = ['database'] }
    per = 'user'
    gb = 0.5
    strike = 'all'";

/// Makes a process a victim because of its sum.
fn strike(engine: &mut Engine<'_>, pid: u32, now: Now) -> ProcessId {
    let id = engine.sources.confirm(Pid(pid), None, crate::model::Bytes::MAX).unwrap().id;
    let group = engine.groups().into_iter().next().unwrap();
    assert_eq!(group.id.1.per(), Per::User);
    let (rule, group, limit, members): (RuleName, GroupKey, _, _) =
        (group.id.0, group.id.1, group.limit, group.members.len());
    engine.sums.strike(id, SumFigures { rule, group, total: limit, limit, members }, now.instant());
    id
}

#[test]
fn a_sum_that_has_shrunk_right_before_the_first_signal_ends_nobody_although_all_were_to_end() {
    let (tree, recorder, now) = (small_machine(MEMBERS), Recorder::default(), Now::read());
    let all_have = |mib| (FIRST..).take(MEMBERS as usize).for_each(|pid| sized(&tree, pid, mib));
    all_have(30);
    let mut engine = engine_with(ALL, &tree, &recorder, now);
    engine.look_at_sums(now);
    let victims: BTreeSet<_> = (0..3).map(|number| strike(&mut engine, FIRST + number, now)).collect();
    let mut check = |victim| {
        let check = engine.look_again_in_sum(victim, now).check;
        (matches!(check, Check::StillOver(_)), matches!(check, Check::Within { .. }))
    };
    assert!(victims.iter().all(|victim| check(*victim) == (true, false)));
    all_have(5);
    assert!(victims.iter().all(|victim| check(*victim) == (false, true)));
    // The first one was sent its signal while all held too much, and has ended as others have: the rest follows.
    let first = victims.first().copied().unwrap();
    engine.terminations.sent_term(first, Case::default());
    let last = victims.last().copied().unwrap();
    assert!(matches!(engine.look_again_in_sum(last, now).check, Check::StillOver(_)));
}

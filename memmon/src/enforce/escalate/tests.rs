//! The usual paths through the state machine, one by one; properties.rs has what holds on every path.

use super::*;
use crate::{
    enforce::{testing::process, warrant::Evidence},
    model::{Doubt, Limit, Pid, Protection, StartTime},
};

pub(super) const GRACE: Duration = Duration::from_secs(5);
const LINGERING: Duration = Duration::from_secs(10);
pub(super) const TIMING: EscalationTiming =
    EscalationTiming { grace: GRACE, lingering: LINGERING, reclaim: true };
const LIMIT: Bytes = Bytes(100);

pub(super) fn breach(rss: u64) -> Breach {
    Breach { rule: Limit::Gb, limit: LIMIT, rss: Bytes(rss), percent: 1.0, by: None }
}

pub(super) fn victim() -> ProcessId {
    process(4242, 7).id
}

pub(super) fn still_over(rss: u64) -> Event {
    Event::Checked(Check::StillOver(Evidence { process: victim(), breach: breach(rss) }))
}

pub(super) fn within(rss: u64) -> Event {
    Event::Checked(Check::Within { rss: Bytes(rss), limit: LIMIT })
}

pub(super) fn unconfirmed(why: Unconfirmed) -> Event {
    Event::Checked(Check::Unconfirmed(why))
}

pub(super) fn another_process() -> Unconfirmed {
    Unconfirmed::AnotherProcess { pid: Pid(4242), expected: StartTime(7), found: StartTime(9) }
}

/// One victim and a clock.
struct Case {
    state: State,
    now: Instant,
}

impl Case {
    fn new() -> Self {
        let (state, effects) = State::start_termination(victim(), breach(150), Course::default());
        assert!(matches!(effects[..], [Effect::Open]));
        Self { state, now: Instant::now() }
    }

    /// A victim in its grace period.
    fn in_grace() -> Self {
        let mut case = Self::new();
        assert_eq!(case.after(Event::Opened(Ok(()))), "[Check]");
        assert_eq!(case.after(still_over(160)), "[Send(Term)]");
        assert_eq!(case.after(Event::Sent(Ok(()))), "[Report(Terminating { rss: 160 })]");
        case
    }

    fn killed() -> Self {
        let mut case = Self::in_grace();
        case.now += GRACE;
        assert_eq!(case.after(Event::Tick), "[Check]");
        assert_eq!(case.after(still_over(500)), "[Send(Kill)]");
        assert_eq!(case.after(Event::Sent(Ok(()))), "[Reclaim, Report(GraceOver { rss: 500, grace: 5s })]");
        case
    }

    fn run(&mut self, event: Event) -> Effects {
        let (state, effects) = escalate(self.state, event, self.now, &TIMING);
        self.state = state;
        effects
    }

    /// The effects as a short text, for comparison.
    fn after(&mut self, event: Event) -> String {
        let short = |effect: &Effect| match effect {
            Effect::Send(warrant) => {
                assert_eq!(warrant.process(), victim());
                format!("Send({:?})", warrant.signal())
            }
            Effect::Report(Outcome::Terminating { breach, .. }) => {
                format!("Report(Terminating {{ rss: {} }})", breach.rss.0)
            }
            Effect::Report(Outcome::GraceOver { rss, grace, urgency, .. }) => {
                let early = urgency.map(|urgency| format!(", {urgency:?}")).unwrap_or_default();
                format!("Report(GraceOver {{ rss: {}, grace: {grace:?}{early} }})", rss.0)
            }
            Effect::Report(Outcome::Spared { rss, sent, .. }) => {
                let after_term = sent.is_some();
                format!("Report(Spared {{ rss: {}, after_term: {after_term} }})", rss.0)
            }
            Effect::Report(Outcome::LetGo { sent }) => {
                let after_term = sent.is_some();
                format!("Report(LetGo {{ after_term: {after_term} }})")
            }
            Effect::Report(Outcome::Gone(record)) => format!("Report(Gone {{ cause: {:?} }})", record.cause),
            other => format!("{other:?}"),
        };
        let effects: Vec<_> = self.run(event).iter().map(short).collect();
        format!("[{}]", effects.join(", "))
    }

    fn is_over_without_deadline(&self) -> bool {
        self.state.is_over() && self.state.deadline().is_none()
    }
}

#[test]
fn a_hog_that_exits_within_its_grace_period_is_recorded() {
    let mut case = Case::in_grace();
    assert_eq!(case.state.phase(), Phase::Grace { since: case.now, until: case.now + GRACE });
    case.now += Duration::from_secs(2);
    assert_eq!(case.after(Event::Seen(Bytes(170))), "[]");
    let [Effect::Report(Outcome::Gone(record))] = &case.run(Event::Exited)[..] else { panic!("not gone") };
    assert_eq!(
        *record,
        Record {
            breach: breach(150),
            rss_at_term: Some(Bytes(160)),
            rss_at_kill: None,
            peak: Bytes(170),
            signal_to_exit: Duration::from_secs(2),
            signal_to_memory: Duration::from_secs(2),
            cause: Cause::Term,
            ..record.clone()
        }
    );
    assert!(case.is_over_without_deadline());
}

#[test]
fn a_hog_that_ignores_sigterm_is_killed_exactly_after_its_grace_period() {
    let mut case = Case::in_grace();
    case.now += GRACE - Duration::from_millis(1);
    assert_eq!(case.after(Event::Tick), "[]");

    let mut case = Case::killed();
    assert_eq!(case.after(Event::Reclaimed(Ok(Some(Bytes(25))))), "[]");
    case.now += Duration::from_millis(30);
    let [Effect::Report(Outcome::Gone(record))] = &case.run(Event::Exited)[..] else { panic!("not gone") };
    assert_eq!(
        *record,
        Record {
            breach: breach(150),
            rss_at_term: Some(Bytes(160)),
            rss_at_kill: Some(Bytes(500)),
            peak: Bytes(500),
            overshoot: Some(Bytes(160).saturating_sub(breach(150).limit)),
            signal_to_exit: GRACE + Duration::from_millis(30),
            signal_to_memory: GRACE,
            cause: Cause::Kill,
            reclaimed: true,
            rss_after_reclaim: Some(Bytes(25)),
            ..record.clone()
        }
    );
}

/// The call also succeeds for a process whose memory is shared, and frees nothing of it.
#[test]
fn memory_that_stayed_or_was_not_seen_to_go_is_not_reclaimed() {
    for left in [Some(Bytes(26)), Some(Bytes(500)), None] {
        let mut case = Case::killed();
        case.run(Event::Reclaimed(Ok(left)));
        case.now += Duration::from_millis(30);
        let [Effect::Report(Outcome::Gone(record))] = &case.run(Event::Exited)[..] else {
            panic!("not gone")
        };
        assert_eq!((record.reclaimed, record.rss_after_reclaim), (false, left));
        assert_eq!(record.signal_to_memory, record.signal_to_exit, "{left:?}");
    }
}

#[test]
fn an_urgent_victim_is_checked_and_killed_without_further_grace() {
    let mut case = Case::in_grace();
    case.now += Duration::from_secs(1);
    assert_eq!(case.after(Event::Urgent(Urgency::Ceiling)), "[Check]");
    assert_eq!(case.after(still_over(900)), "[Send(Kill)]");
    assert_eq!(
        case.after(Event::Sent(Ok(()))),
        "[Reclaim, Report(GraceOver { rss: 900, grace: 1s, Ceiling })]"
    );
}

#[test]
fn a_victim_that_shrank_is_spared_before_either_signal() {
    let mut case = Case::new();
    case.run(Event::Opened(Ok(())));
    assert_eq!(case.after(within(90)), "[Report(Spared { rss: 90, after_term: false })]");
    assert!(case.is_over_without_deadline());

    let mut case = Case::in_grace();
    case.now += GRACE;
    case.run(Event::Tick);
    assert_eq!(case.after(within(90)), "[Report(Spared { rss: 90, after_term: true })]");
    assert!(case.is_over_without_deadline());
}

#[test]
fn any_other_result_of_a_check_prevents_the_signal() {
    let outcomes: [(Event, Outcome); 4] = [
        (Event::Checked(Check::Protected(Protection::Root)), Outcome::NowProtected(Protection::Root)),
        (Event::Checked(Check::Unsure(Doubt::CgroupUnreadable)), Outcome::Unsure(Doubt::CgroupUnreadable)),
        (unconfirmed(another_process()), Outcome::Unconfirmed(another_process())),
        (
            Event::Checked(Check::StillOver(Evidence { process: process(4242, 9).id, breach: breach(200) })),
            Outcome::Unconfirmed(another_process()),
        ),
    ];
    for (event, outcome) in outcomes {
        let mut case = Case::new();
        case.run(Event::Opened(Ok(())));
        let effects = case.run(event);
        assert!(matches!(&effects[..], [Effect::Report(reported)] if *reported == outcome), "{effects:?}");
        assert!(case.is_over_without_deadline());
    }
}

#[test]
fn a_doubt_after_sigterm_is_checked_until_it_is_resolved() {
    let unsure = || Event::Checked(Check::Unsure(Doubt::CgroupUnreadable));
    let unreadable = || unconfirmed(Unconfirmed::Unreadable { file: "statm", error: String::new() });
    for doubt in [unsure, unreadable] {
        let in_doubt = || {
            let mut case = Case::in_grace();
            case.now += GRACE;
            case.run(Event::Tick);
            assert!(matches!(
                case.run(doubt())[..],
                [Effect::Report(Outcome::Unsure(_) | Outcome::Unconfirmed(_))]
            ));
            for pause in [100, 200, 400, 800, 1600, 3200, 6400, 6400] {
                let deadline = case.now + Duration::from_millis(pause);
                assert_eq!(case.state.deadline(), Some(deadline));
                assert_eq!(case.after(Event::Urgent(Urgency::Ceiling)), "[]");
                case.now = deadline;
                assert_eq!(case.after(Event::Tick), "[Check]");
                assert_eq!(case.after(doubt()), "[]", "it is reported once");
            }
            case.now += Duration::from_secs(7);
            assert_eq!(case.after(Event::Tick), "[Check]");
            case
        };
        assert_eq!(in_doubt().after(still_over(200)), "[Send(Kill)]");
        assert_eq!(in_doubt().after(within(90)), "[Report(Spared { rss: 90, after_term: true })]");
        assert_eq!(in_doubt().after(Event::Exited), "[Report(Gone { cause: Term })]");
        assert_eq!(in_doubt().after(Event::CalledOff), "[Report(LetGo { after_term: true })]");
        let mut protected = in_doubt();
        protected.run(Event::Checked(Check::Protected(Protection::Root)));
        assert!(protected.is_over_without_deadline());
    }
}

#[test]
fn freed_memory_may_mean_an_exit_that_is_not_seen_yet() {
    for sign in [|| within(0), || unconfirmed(Unconfirmed::Gone)] {
        let mut case = Case::in_grace();
        case.now += GRACE;
        case.run(Event::Tick);
        assert_eq!(case.after(sign()), "[]");
        assert_eq!(case.after(Event::Exited), "[Report(Gone { cause: Term })]");

        let mut case = Case::in_grace();
        case.now += GRACE;
        case.run(Event::Tick);
        case.run(sign());
        case.now += LINGERING;
        assert_eq!(case.after(Event::Tick), "[Check]");
        assert_eq!(case.after(still_over(200)), "[Send(Kill)]", "it is checked again");

        let mut case = Case::new();
        case.run(Event::Opened(Ok(())));
        case.run(sign());
        case.now += LINGERING;
        case.run(Event::Tick);
        assert!(matches!(case.run(sign())[..], [Effect::Report(_)]), "it is not waited for twice");
        assert!(case.is_over_without_deadline());
    }
}

/// To free a terabyte takes a minute, and a debugger keeps a thread for as long as it likes.
#[test]
fn a_victim_without_memory_is_waited_for_and_not_called_spared() {
    for sign in [|| within(0), || unconfirmed(Unconfirmed::Gone)] {
        let mut case = Case::in_grace();
        case.now += GRACE;
        case.run(Event::Tick);
        for pause in [10, 20, 40, 80, 160, 320, 640, 640] {
            assert_eq!(case.after(sign()), "[]");
            let deadline = case.now + Duration::from_secs(pause);
            assert_eq!(case.state.deadline(), Some(deadline));
            case.now = deadline;
            assert_eq!(case.after(Event::Tick), "[Check]");
        }
        case.run(sign());
        assert_eq!(case.after(Event::Exited), "[Report(Gone { cause: Term })]");
    }
}

#[test]
fn a_refused_signal_is_reported_once_and_remembered_until_the_rules_change() {
    let blocked = || {
        let mut case = Case::new();
        case.run(Event::Opened(Ok(())));
        case.run(still_over(160));
        let effects = case.run(Event::Sent(Err(Errno::EPERM)));
        (case, effects)
    };
    let (mut case, effects) = blocked();
    assert!(matches!(
        effects[..],
        [Effect::Report(Outcome::SignalFailed { signal: Signal::Term, error: Errno::EPERM })]
    ));
    assert_eq!(case.state.phase(), Phase::OutOfReach);
    case.now += GRACE * 1000;
    assert_eq!(case.after(Event::Tick), "[]");
    assert_eq!(case.after(Event::Seen(Bytes(900))), "[]");
    assert_eq!(case.after(Event::RulesChanged), "[]");
    assert!(case.is_over_without_deadline());
    assert_eq!(blocked().0.after(Event::Exited), "[Report(Gone { cause: Itself })]");
}

#[test]
fn a_termination_is_cancelled_unless_sigkill_was_sent() {
    let mut case = Case::in_grace();
    assert_eq!(case.after(Event::CalledOff), "[Report(LetGo { after_term: true })]");
    assert!(case.is_over_without_deadline());

    // It seemed to be exiting before either signal.
    let mut case = Case::new();
    case.run(Event::Opened(Ok(())));
    case.run(within(0));
    assert_eq!(case.after(Event::CalledOff), "[Report(LetGo { after_term: false })]");
    assert!(case.is_over_without_deadline());

    let mut case = Case::killed();
    assert_eq!(case.after(Event::CalledOff), "[]");
    assert_eq!(case.after(Event::Exited), "[Report(Gone { cause: Kill })]");
}

#[test]
fn a_victim_that_ends_before_the_signal_is_gone() {
    let mut case = Case::new();
    assert_eq!(case.after(Event::Opened(Err(Errno::ESRCH))), "[Report(Gone { cause: Itself })]");
    let mut case = Case::new();
    case.run(Event::Opened(Ok(())));
    case.run(still_over(160));
    assert_eq!(case.after(Event::Sent(Err(Errno::ESRCH))), "[Report(Gone { cause: Itself })]");
    let mut case = Case::in_grace();
    case.now += GRACE;
    case.run(Event::Tick);
    assert_eq!(case.after(unconfirmed(another_process())), "[Report(Gone { cause: Term })]");
}

#[test]
fn a_lack_of_descriptors_is_reported_once_and_retried() {
    let mut case = Case::new();
    assert!(case.after(Event::Opened(Err(Errno::EMFILE))).starts_with("[Report(OutOfReach"));
    assert_eq!(case.state.phase(), Phase::Unopened, "a sum waits for it");
    for pause in [10, 20, 40, 80, 160, 320, 640, 640] {
        let deadline = case.now + Duration::from_millis(pause);
        assert_eq!(case.state.deadline(), Some(deadline));
        case.now = deadline;
        assert_eq!(case.after(Event::Tick), "[Open]");
        assert_eq!(case.after(Event::Opened(Err(Errno::EMFILE))), "[]");
    }
    case.now += LINGERING * 64;
    case.run(Event::Tick);
    assert!(
        case.after(Event::Opened(Err(Errno::ENOMEM))).starts_with("[Report(OutOfReach"),
        "another error is reported"
    );
    case.now += LINGERING * 64;
    case.run(Event::Tick);
    assert_eq!(case.after(Event::Opened(Ok(()))), "[Check]");
}

#[test]
fn a_victim_that_may_not_be_opened_is_tried_again_at_long_intervals() {
    let mut case = Case::new();
    assert!(case.after(Event::Opened(Err(Errno::EPERM))).starts_with("[Report(OutOfReach"));
    for pause in [10, 20, 40, 80, 160, 320, 640, 640] {
        let deadline = case.now + Duration::from_secs(pause);
        assert_eq!(case.state.deadline(), Some(deadline));
        case.now = deadline;
        assert_eq!(case.after(Event::Tick), "[Open]");
        assert_eq!(case.after(Event::Opened(Err(Errno::EPERM))), "[]");
    }
}

#[test]
fn a_victim_that_hangs_in_the_kernel_is_reported_at_growing_intervals() {
    let mut case = Case::killed();
    let (killed, mut reports) = (case.now, Vec::new());
    for _ in 0..4 * 3600 {
        case.now += Duration::from_secs(1);
        for effect in case.run(Event::Tick) {
            let Effect::Report(Outcome::Lingers { since }) = effect else { panic!("{effect:?}") };
            assert_eq!(since, case.now - killed);
            reports.push(since.as_secs());
        }
    }
    assert_eq!(reports[..8], [10, 30, 70, 150, 310, 630, 1270, 1910]);
    assert_eq!(case.after(Event::Exited), "[Report(Gone { cause: Kill })]");
}

#[test]
fn no_grace_period_is_too_long_for_the_clock() {
    let mut case = Case::new();
    let timing = EscalationTiming { grace: Duration::MAX, ..TIMING };
    for event in [Event::Opened(Ok(())), still_over(150), Event::Sent(Ok(()))] {
        (case.state, _) = escalate(case.state, event, case.now, &timing);
    }
    assert!(case.state.deadline() > Some(case.now + GRACE));
}

#[test]
fn the_signal_of_the_rule_is_the_first_one_and_sigkill_stays_the_last() {
    for signal in Signal::FIRST {
        let course = Course { signal, grace: Some(Duration::from_secs(1)) };
        let (state, _) = State::start_termination(victim(), breach(150), course);
        let mut case = Case { state, now: Instant::now() };
        case.after(Event::Opened(Ok(())));
        assert_eq!(case.after(still_over(160)), format!("[Send({signal:?})]"));
        let effects = case.run(Event::Sent(Ok(())));
        assert!(
            matches!(&effects[..], [Effect::Report(Outcome::Terminating { signal: sent, .. })] if *sent == signal)
        );
        case.now += Duration::from_secs(1);
        case.after(Event::Tick);
        assert_eq!(case.after(still_over(170)), "[Send(Kill)]");
        let effects = case.run(Event::Sent(Ok(())));
        assert!(
            matches!(effects.last(), Some(Effect::Report(Outcome::GraceOver { first, .. })) if *first == signal)
        );
        let [Effect::Report(Outcome::Gone(record))] = &case.run(Event::Exited)[..] else {
            panic!("not gone")
        };
        assert_eq!((record.signal, record.cause), (Some(signal), Cause::Kill));
    }
}

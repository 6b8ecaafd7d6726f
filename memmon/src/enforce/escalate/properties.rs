//! Properties that hold on every path through the state machine, for any events in any order.

use proptest::prelude::*;

use super::{
    tests::{GRACE, TIMING, another_process, breach, still_over, unconfirmed, victim, within},
    *,
};
use crate::{
    enforce::{testing::process, warrant::Evidence},
    model::{Doubt, Protection},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_signal_without_its_reasons(turns in prop::collection::vec((turn(), 0..4000_u64), 0..40)) {
        let mut world = World::new();
        let (mut opened, mut term, mut killed, mut urgent, mut called_off) = (false, None, false, false, false);
        let mut sent = Vec::new();

        for (turn, milliseconds) in turns {
            world.now += Duration::from_millis(milliseconds);
            let (awaited, event) = (world.awaits, turn.event(world.awaits));
            let mut fresh_evidence = false;
            match (awaited, &event) {
                (Awaits::Opening, Event::Opened(Ok(()))) => opened = true,
                (Awaits::Check, Event::Checked(Check::StillOver(evidence))) => {
                    fresh_evidence = evidence.process == victim();
                }
                (Awaits::Signal(Signal::Term), Event::Sent(Ok(()))) => term = Some(world.now),
                (Awaits::Signal(Signal::Kill), Event::Sent(Ok(()))) => killed = true,
                (_, Event::Urgent(_)) => urgent = true,
                (_, Event::CalledOff) => called_off = true,
                _ => {}
            }
            for effect in world.run(event) {
                match effect {
                    Effect::Check => prop_assert!(opened, "a check before its pidfd was open"),
                    Effect::Send(warrant) => {
                        prop_assert!(opened && fresh_evidence, "a signal without a fresh check");
                        prop_assert!(!called_off, "a signal after the termination was cancelled");
                        prop_assert_eq!(warrant.process(), victim());
                        if warrant.signal() == Signal::Kill {
                            prop_assert!(term.is_some(), "SIGKILL before SIGTERM was sent");
                            let over = term.is_some_and(|sent| world.now >= sent + GRACE);
                            prop_assert!(over || urgent, "SIGKILL before the end of the grace period");
                        }
                        sent.push(warrant.signal());
                    }
                    Effect::Reclaim | Effect::Report(Outcome::Lingers { .. }) => prop_assert!(killed),
                    Effect::Open | Effect::Report(_) => {}
                }
            }
        }
        prop_assert!([&[][..], &[Signal::Term], &[Signal::Term, Signal::Kill]].contains(&&sent[..]), "{:?}", sent);
    }

    #[test]
    fn every_path_ends(turns in prop::collection::vec((turn(), 0..4000_u64), 0..40)) {
        let mut world = World::new();
        let (mut gone, mut refused) = (0, 0);
        for (turn, milliseconds) in turns {
            world.now += Duration::from_millis(milliseconds);
            let was_over = world.state.is_over();
            let event = turn.event(world.awaits);
            let exit = matches!(event, Event::Exited);
            let effects = world.run(event);
            prop_assert!(!was_over || effects.is_empty(), "effects after the end: {effects:?}");
            for effect in effects {
                gone += usize::from(matches!(effect, Effect::Report(Outcome::Gone(_))));
                refused += usize::from(matches!(effect, Effect::Report(Outcome::SignalFailed { .. })));
            }
            let state = world.state;
            prop_assert!(!exit || was_over || (state.is_over() && gone == 1), "an exit ends it and is reported");
            let waits = world.awaits != Awaits::Nothing
                || state.deadline().is_some()
                || state.phase() == Phase::OutOfReach;
            prop_assert!(state.is_over() || waits, "stuck: {state:?}");
        }
        prop_assert!(gone <= 1 && refused <= 1);
    }

    /// From any state, a victim that stays over its limit, and that signals reach, is killed.
    #[test]
    fn no_hog_lives_for_ever(turns in prop::collection::vec((turn(), 0..4000_u64), 0..12)) {
        let mut world = World::new();
        for (turn, milliseconds) in turns {
            world.now += Duration::from_millis(milliseconds);
            let event = turn.event(world.awaits);
            world.run(event);
        }
        for _ in 0..20 {
            let ended = world.state.is_over() || matches!(world.state.phase(), Phase::Killed { .. });
            if ended || matches!(world.state.stage, Stage::Refused) {
                return Ok(());
            }
            world.now = world.state.deadline().unwrap_or(world.now).max(world.now);
            let event = Turn::Awaited.event(world.awaits);
            world.run(event);
        }
        prop_assert!(false, "still at {:?}", world.state);
    }
}

/// One victim, a clock, and the effect that is not answered yet.
struct World {
    state: State,
    now: Instant,
    awaits: Awaits,
}

impl World {
    fn new() -> Self {
        let (state, _) = State::start_termination(victim(), breach(150), Course::default());
        Self { state, now: Instant::now(), awaits: Awaits::Opening }
    }

    fn run(&mut self, event: Event) -> Effects {
        let answers = matches!(
            (self.awaits, &event),
            (Awaits::Opening, Event::Opened(_))
                | (Awaits::Check, Event::Checked(_))
                | (Awaits::Signal(_), Event::Sent(_))
        );
        if answers {
            self.awaits = Awaits::Nothing;
        }
        let (state, effects) = escalate(self.state, event, self.now, &TIMING);
        self.state = state;
        for effect in &effects {
            self.awaits = match effect {
                Effect::Open => Awaits::Opening,
                Effect::Check => Awaits::Check,
                Effect::Send(warrant) => Awaits::Signal(warrant.signal()),
                Effect::Reclaim | Effect::Report(_) => continue,
            };
        }
        effects
    }
}

/// The pending answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Awaits {
    Opening,
    Check,
    Signal(Signal),
    Nothing,
}

/// An event that may happen next: mostly the awaited one, because the relevant paths are long.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Awaited,
    Opened(Option<Errno>),
    StillOver(u64, bool),
    Within(u64),
    Protected,
    Unsure,
    Unconfirmed(Option<bool>),
    Sent(Option<Errno>),
    Reclaimed(bool),
    Exited,
    Seen(u64),
    Tick,
    Urgent,
    RulesChanged,
    CalledOff,
}

fn turn() -> impl Strategy<Value = Turn> {
    let error = || {
        prop::option::of(prop::sample::select(vec![Errno::EPERM, Errno::ESRCH, Errno::EMFILE, Errno::EINVAL]))
    };
    prop_oneof![
        12 => Just(Turn::Awaited),
        1 => error().prop_map(Turn::Opened),
        1 => (0..900_u64, any::<bool>()).prop_map(|(rss, same)| Turn::StillOver(rss, same)),
        1 => (0..99_u64).prop_map(Turn::Within),
        1 => Just(Turn::Protected),
        1 => Just(Turn::Unsure),
        1 => any::<Option<bool>>().prop_map(Turn::Unconfirmed),
        1 => error().prop_map(Turn::Sent),
        1 => any::<bool>().prop_map(Turn::Reclaimed),
        1 => Just(Turn::Exited),
        1 => (0..900_u64).prop_map(Turn::Seen),
        4 => Just(Turn::Tick),
        1 => Just(Turn::Urgent),
        1 => Just(Turn::RulesChanged),
        1 => Just(Turn::CalledOff),
    ]
}

impl Turn {
    fn event(self, awaits: Awaits) -> Event {
        match self {
            Self::Awaited => match awaits {
                Awaits::Opening => Event::Opened(Ok(())),
                Awaits::Check => still_over(200),
                Awaits::Signal(_) => Event::Sent(Ok(())),
                Awaits::Nothing => Event::Tick,
            },
            Self::Opened(error) => Event::Opened(error.map_or(Ok(()), Err)),
            Self::StillOver(rss, true) => still_over(rss),
            Self::StillOver(rss, false) => {
                let evidence = Evidence { process: process(4242, 9).id, breach: breach(rss) };
                Event::Checked(Check::StillOver(evidence))
            }
            Self::Within(rss) => within(rss),
            Self::Protected => Event::Checked(Check::Protected(Protection::Root)),
            Self::Unsure => Event::Checked(Check::Unsure(Doubt::CgroupUnreadable)),
            Self::Unconfirmed(Some(true)) => unconfirmed(Unconfirmed::Gone),
            Self::Unconfirmed(Some(false)) => unconfirmed(another_process()),
            Self::Unconfirmed(None) => {
                unconfirmed(Unconfirmed::Unreadable { file: "stat", error: String::new() })
            }
            Self::Sent(error) => Event::Sent(error.map_or(Ok(()), Err)),
            Self::Reclaimed(done) => Event::Reclaimed(if done { Ok(None) } else { Err(Errno::ESRCH) }),
            Self::Exited => Event::Exited,
            Self::Seen(rss) => Event::Seen(Bytes(rss)),
            Self::Tick => Event::Tick,
            Self::Urgent => Event::Urgent(crate::model::Urgency::Reserve),
            Self::RulesChanged => Event::RulesChanged,
            Self::CalledOff => Event::CalledOff,
        }
    }
}

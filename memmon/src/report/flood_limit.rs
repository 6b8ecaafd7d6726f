//! Floods: the lines a minute that one user's processes cause are bounded for each kind of event. The others are counted,
//! and the count is written. No kind is exempt: the reader of a log decides what is important in it, and 300 terminations a
//! minute hide everything else. The journal, whose size is bounded by itself, still gets each termination, and the metrics
//! count them all.

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    time::{Duration, Instant},
};

use super::event::{Event, Level};
use crate::model::Uid;

/// The time in which so many lines are allowed.
const WINDOW: Duration = Duration::from_secs(60);

/// Users and kinds that are counted apart at once: a user may own thousands of subordinate uids (subuid(5)).
const CAPACITY: usize = 64;

/// The lines of the last minute, by user and kind.
pub(super) struct FloodLimit {
    /// Lines for each user and kind; `None`: no bound.
    most: Option<u32>,
    windows: HashMap<Key, Window>,
}

/// No user: the event has none, or there are too many of them at once.
type Key = (Option<Uid>, Discriminant<Event>);

struct Window {
    since: Instant,
    written: u32,
    held_back: u64,
    severity: Level,
    last: String,
}

impl FloodLimit {
    /// At most `most` lines a minute for each user and kind.
    pub(super) fn new(most: Option<u32>) -> Self {
        Self { most, windows: HashMap::new() }
    }

    /// Whether `event`, whose line is `text`, is too many; it is counted then.
    pub(super) fn holds_back(&mut self, event: &Event, text: &str, now: Instant) -> bool {
        let Some(most) = self.most.filter(|_| event.spec().is_flood_limited) else { return false };
        self.windows.retain(|_, window| window.held_back > 0 || !window.is_over(now));
        let mut key = (event.subject().map(|subject| subject.uid), discriminant(event));
        if self.windows.len() >= CAPACITY && !self.windows.contains_key(&key) {
            key.0 = None;
        }
        let window = self.windows.entry(key).or_insert_with(|| Window::new(event.level(), now));
        if window.written < most && !window.is_over(now) {
            window.written += 1;
            return false;
        }
        window.held_back += 1;
        if window.last != text {
            text.clone_into(&mut window.last);
        }
        true
    }

    /// The time at which [`FloodLimit::due`] returns something next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let counted = self.windows.values().filter(|window| window.held_back > 0);
        counted.map(|window| window.since + WINDOW).min()
    }

    /// The counts of the windows that are over by `now`.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Event> {
        self.counts(|window| window.is_over(now))
    }

    /// All counts, for the end.
    pub(super) fn all(&mut self) -> Vec<Event> {
        self.counts(|_| true)
    }

    fn counts(&mut self, ready: impl Fn(&Window) -> bool) -> Vec<Event> {
        let over = self.windows.extract_if(|_, window| ready(window));
        over.filter(|(_, window)| window.held_back > 0).map(|((uid, _), window)| window.count(uid)).collect()
    }
}

impl Window {
    const fn new(severity: Level, since: Instant) -> Self {
        Self { since, written: 0, held_back: 0, severity, last: String::new() }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }

    fn count(self, uid: Option<Uid>) -> Event {
        let Self { severity, held_back: times, last: text, .. } = self;
        Event::LeftOut { severity, about: uid, times, text }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Bytes;
    use crate::report::samples;

    /// An event of one of three kinds about a process of this user.
    fn event(kind: u8, uid: u32) -> Event {
        let mut subject = samples::chrome();
        subject.uid = Uid(uid);
        match kind % 3 {
            0 => Event::Killing {
                subject,
                breach: samples::BREACH,
                signal: crate::model::Signal::Term,
                dry_run: false,
                sum: None,
            },
            1 => Event::LetGo { subject, after_term: true, signal: Some(crate::model::Signal::Term) },
            _ => Event::OutOfReach { subject, error: String::new() },
        }
    }

    fn count(event: &Event) -> u64 {
        let Event::LeftOut { times, .. } = event else { panic!("{event:?}") };
        *times
    }

    #[test]
    fn a_flood_is_some_lines_and_a_count() {
        let (mut limit, start) = (FloodLimit::new(Some(3)), Instant::now());
        let mut held_back = |kind, uid, text: &str, now| limit.holds_back(&event(kind, uid), text, now);
        for i in 0..10 {
            assert_eq!(held_back(0, 1000, &format!("line {i}"), start), i >= 3);
        }
        assert!(!held_back(1, 1000, "another kind", start) && !held_back(0, 1001, "another user", start));
        assert_eq!(limit.next_due(), Some(start + WINDOW));
        assert!(limit.due(start + WINDOW / 2).is_empty());
        let left_out = Event::LeftOut {
            severity: Level::Warning,
            about: Some(Uid(1000)),
            times: 7,
            text: "line 9".to_owned(),
        };
        assert_eq!(limit.due(start + WINDOW), [left_out]);
        assert_eq!(limit.next_due(), None);
        assert!(!limit.holds_back(&event(0, 1000), "", start + WINDOW), "another minute");
    }

    /// Any user can fill and empty a tmpfs, and none of the events of the machine is about a process.
    #[test]
    fn a_shortage_that_comes_and_goes_is_bounded() {
        let memory = crate::model::SystemMemory { total: Bytes(100), available: Bytes(50) };
        let (mut limit, now) = (FloodLimit::new(Some(3)), Instant::now());
        let back = Event::MemoryBack { memory, lasted: Duration::ZERO };
        let written = (0..100).filter(|_| !limit.holds_back(&back, "", now)).count();
        assert_eq!(written, 3);
        for event in samples::samples() {
            let is_of_machine =
                matches!(event, Event::MemoryLow { .. } | Event::NoCulprit { .. } | Event::MemoryBack { .. });
            assert!(!is_of_machine || event.spec().is_flood_limited, "{event:?}");
        }
    }

    #[test]
    fn no_bound_holds_nothing_back_and_scans_are_never_counted() {
        let (mut off, mut one, now) = (FloodLimit::new(None), FloodLimit::new(Some(1)), Instant::now());
        for _ in 0..100 {
            assert!(!off.holds_back(&event(0, 1000), "", now));
            assert!(!one.holds_back(&Event::ScanComplete { scanned: 1, killed: 0 }, "", now));
        }
    }

    proptest! {
        /// Whatever the users do and however many uids they have, a minute has a bounded number of lines, counts included,
        /// memory stays bounded, and each event is either written or counted.
        #[test]
        fn a_minute_has_a_bounded_number_of_lines_and_nothing_is_lost(
            events in prop::collection::vec((0_u8..3, 0_u32..100, 0_u64..3000), 1..400),
            most in 1_u32..5,
        ) {
            let (mut limit, start) = (FloodLimit::new(Some(most)), Instant::now());
            let (mut now, mut lines, mut counted) = (start, Vec::new(), 0);
            for (kind, uid, pause) in &events {
                now += Duration::from_millis(*pause);
                for left_out in limit.due(now) {
                    counted += count(&left_out);
                    lines.push(now);
                }
                if !limit.holds_back(&event(*kind, *uid), "", now) {
                    lines.push(now);
                    counted += 1;
                }
                prop_assert!(limit.windows.len() <= CAPACITY + 3);
            }
            counted += limit.all().iter().map(count).sum::<u64>();
            prop_assert_eq!(counted, events.len() as u64);
            // Two windows may touch one minute, each with its lines and its count.
            let bound = 2 * (CAPACITY + 3) * (most as usize + 1);
            for (i, first) in lines.iter().enumerate() {
                let within = lines[i..].iter().take_while(|line| **line - *first < WINDOW).count();
                prop_assert!(within <= bound, "{within} lines");
            }
        }

        /// One user's kind of event alone: the bound is what was configured.
        #[test]
        fn one_kind_of_one_user_has_its_lines_and_a_count(
            pauses in prop::collection::vec(0_u64..1500, 1..300),
            most in 1_u32..30,
        ) {
            let (mut limit, mut now) = (FloodLimit::new(Some(most)), Instant::now());
            let mut lines = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                lines.extend(limit.due(now).iter().map(|_| now));
                if !limit.holds_back(&event(0, 1000), "", now) {
                    lines.push(now);
                }
            }
            for (i, first) in lines.iter().enumerate() {
                let within = lines[i..].iter().take_while(|line| **line - *first < WINDOW).count();
                prop_assert!(within <= 2 * (most as usize + 1), "{within} lines");
            }
        }
    }
}

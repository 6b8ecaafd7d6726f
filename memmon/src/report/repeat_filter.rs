//! Floods: a warning that comes again word for word is counted instead of written, whatever stands in between.

use std::time::{Duration, Instant};

use super::event::{Event, Level};

/// Time for which a warning is held back before its count is reported.
const WINDOW: Duration = Duration::from_secs(600);

/// Different warnings that are remembered at once.
const CAPACITY: usize = 64;

/// The warnings that were written lately.
#[derive(Default)]
pub(super) struct RepeatFilter {
    recent: Vec<Recent>,
}

struct Recent {
    text: String,
    severity: Level,
    since: Instant,
    times: u64,
}

impl RepeatFilter {
    /// Whether `event`, which says `text`, was written less than the window ago; it is counted then.
    pub(super) fn holds_back(&mut self, event: &Event, text: &str, now: Instant) -> bool {
        if !event.spec().is_folded {
            return false;
        }
        if let Some(known) = self.recent.iter_mut().find(|known| known.text == text) {
            known.times += 1;
            return true;
        }
        if self.recent.len() >= CAPACITY {
            // One that did not come again has nothing to report. Are all being counted, the new one is just written.
            let idle = self.recent.iter().position(|known| known.times == 0);
            let Some(idle) = idle else { return false };
            self.recent.remove(idle);
        }
        self.recent.push(Recent { text: text.to_owned(), severity: event.level(), since: now, times: 0 });
        false
    }

    /// The time at which [`RepeatFilter::due`] has something to report next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let counted = self.recent.iter().filter(|known| known.times > 0);
        counted.map(|known| known.since + WINDOW).min()
    }

    /// The counts whose window is over by `now`. Warnings that did not come again are forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Event> {
        let over = |known: &Recent| now.saturating_duration_since(known.since) >= WINDOW;
        self.recent.retain(|known| known.times > 0 || !over(known));
        self.recent.iter_mut().filter(|known| over(known)).filter_map(|known| known.emit(now)).collect()
    }

    /// All counts at once, for the end.
    pub(super) fn all(&mut self, now: Instant) -> Vec<Event> {
        self.recent.iter_mut().filter_map(|known| known.emit(now)).collect()
    }
}

impl Recent {
    fn emit(&mut self, now: Instant) -> Option<Event> {
        let times = std::mem::take(&mut self.times);
        self.since = now;
        (times > 0).then(|| Event::Repeated { severity: self.severity, times, text: self.text.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(what: &str) -> Event {
        Event::Degraded { what: what.to_owned() }
    }

    fn repeated(times: u64, text: &str) -> Event {
        Event::Repeated { severity: Level::Warning, times, text: text.to_owned() }
    }

    #[test]
    fn a_flood_is_one_line_and_a_count() {
        let mut fold = RepeatFilter::default();
        let start = Instant::now();
        assert!(!fold.holds_back(&warning("a"), "a", start));
        assert_eq!(fold.next_due(), None, "nothing was held back yet");
        for _ in 0..500 {
            assert!(fold.holds_back(&warning("a"), "a", start));
            let scan = Event::ScanComplete { scanned: 1, killed: 0 };
            assert!(!fold.holds_back(&scan, "Scan complete", start), "a scan line is never folded");
        }
        assert!(!fold.holds_back(&warning("b"), "b", start));
        assert!(fold.due(start + WINDOW / 2).is_empty());
        assert_eq!(fold.next_due(), Some(start + WINDOW));
        assert_eq!(fold.due(start + WINDOW), [repeated(500, "a")]);
        assert!(fold.holds_back(&warning("a"), "a", start + WINDOW), "the window goes on");
        assert!(
            !fold.holds_back(&warning("b"), "b", start + WINDOW),
            "b did not come again and was forgotten"
        );
        assert_eq!(fold.all(start + WINDOW), [repeated(1, "a")]);
        assert!(fold.all(start + WINDOW).is_empty(), "reported once");
    }

    #[test]
    fn ever_new_warnings_cost_bounded_memory() {
        let mut fold = RepeatFilter::default();
        let now = Instant::now();
        for i in 0..10 * CAPACITY {
            assert!(!fold.holds_back(&warning(""), &i.to_string(), now));
        }
        assert_eq!(fold.recent.len(), CAPACITY);
        for _ in 0..2 {
            for i in 0..CAPACITY {
                fold.holds_back(&warning(""), &i.to_string(), now);
            }
        }
        assert_eq!(fold.recent.len(), CAPACITY);
        let counted: u64 = fold.recent.iter().map(|known| known.times).sum();
        assert_eq!(counted, CAPACITY as u64, "the second round was held back");
        assert!(!fold.holds_back(&warning(""), "new", now), "no room: written, not counted");
    }
}

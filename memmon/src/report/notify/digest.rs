//! The waiting notices of a channel, and the time to send them: several together, not too often, and again if they could
//! not be sent. Time is an argument.

use std::time::{Duration, Instant};

/// Notices that come within this time after the first are sent with it.
const GATHER: Duration = Duration::from_secs(1);
/// Notices that are kept word for word; more are counted.
const MOST_LINES: usize = 100;
/// The same for each of many users, of whose notices only the text is kept.
const MOST_LINES_OF_OWNER: usize = 20;
/// After an attempt that failed: the first pause, doubled each time up to the last.
const PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1800));

/// An event as text, as fields and as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) line: String,
    pub(super) fields: Vec<(String, String)>,
    pub(super) object: String,
}

/// The waiting notices of one channel.
#[derive(Debug)]
pub(super) struct Digest {
    interval: Duration,
    has_text_only: bool,
    notices: Vec<Notice>,
    more: u64,
    since: Option<Instant>,
    sent: Option<Instant>,
    failed: Option<(Instant, Duration)>,
}

impl Digest {
    /// Nothing waits; messages are at least `interval` apart.
    pub(super) const fn new(interval: Duration) -> Self {
        Self {
            interval,
            has_text_only: false,
            notices: Vec::new(),
            more: 0,
            since: None,
            sent: None,
            failed: None,
        }
    }

    /// The same, for one of many users: it keeps less.
    pub(super) fn of_lines(interval: Duration) -> Self {
        Self { has_text_only: true, ..Self::new(interval) }
    }

    pub(super) fn add(&mut self, mut notice: Notice, now: Instant) {
        let most = if self.has_text_only { MOST_LINES_OF_OWNER } else { MOST_LINES };
        if self.has_text_only {
            notice = Notice { line: notice.line, fields: Vec::new(), object: String::new() };
        }
        if self.notices.len() < most {
            self.notices.push(notice);
        } else {
            self.more += 1;
        }
        self.since.get_or_insert(now);
    }

    /// The time to send the waiting notices; `None` if there are none.
    pub(super) fn due(&self) -> Option<Instant> {
        let gathered = self.since? + GATHER;
        let spaced = self.sent.map_or(gathered, |sent| sent + self.interval);
        let retried = self.failed.map_or(gathered, |(at, pause)| at + pause);
        Some(gathered.max(spaced).max(retried))
    }

    /// The waiting notices, word for word as far as they were kept.
    pub(super) fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Number of notices that wait beyond those.
    pub(super) const fn more(&self) -> u64 {
        self.more
    }

    pub(super) const fn count(&self) -> u64 {
        self.notices.len() as u64 + self.more
    }

    /// All that waited was sent.
    pub(super) fn was_sent(&mut self, now: Instant) {
        let has_text_only = self.has_text_only;
        *self = Self { sent: Some(now), has_text_only, ..Self::new(self.interval) };
    }

    /// Whether nothing waits, and the next message need not wait either.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.count() == 0 && self.sent.is_none_or(|sent| sent + self.interval <= now)
    }

    /// The waiting notices are to be sent in another way, which is tried at once; messages are at least `interval` apart.
    pub(super) const fn follow(&mut self, interval: Duration) {
        self.interval = interval;
        self.failed = None;
    }

    /// Nothing of it was: it goes on waiting.
    pub(super) fn has_failed(&mut self, now: Instant) {
        let pause = self.failed.map_or(PAUSE.0, |(_, pause)| (pause * 2).min(PAUSE.1));
        self.failed = Some((now, pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(line: &str) -> Notice {
        Notice { line: line.to_owned(), fields: vec![], object: String::new() }
    }

    #[test]
    fn a_storm_is_one_message_now_and_one_per_interval() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        let mut digest = Digest::new(minute);
        assert_eq!(digest.due(), None);
        let mut messages = Vec::new();
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            for _ in 0..5 {
                digest.add(notice("x"), now);
            }
            if digest.due().is_some_and(|due| due <= now) {
                messages.push((second, digest.count(), digest.notices().len()));
                digest.was_sent(now);
            }
        }
        assert_eq!(messages, [(1, 10, 10), (61, 300, 100), (121, 300, 100), (181, 300, 100)]);
    }

    #[test]
    fn notices_that_could_not_be_sent_wait_ever_longer_and_are_never_dropped() {
        let mut now = Instant::now();
        let mut digest = Digest::new(Duration::from_secs(60));
        digest.add(notice("first"), now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            digest.has_failed(now);
            let due = digest.due().unwrap();
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1800, 1800]);
        digest.add(notice("second"), now);
        assert_eq!(
            digest.notices().iter().map(|notice| &*notice.line).collect::<Vec<_>>(),
            ["first", "second"]
        );
        digest.was_sent(now);
        assert_eq!((digest.due(), digest.count()), (None, 0));
        digest.add(notice("third"), now);
        assert_eq!(digest.due(), Some(now + Duration::from_secs(60)));
    }
}

//! What a child says, line by line, kept whole so that no order of waiting loses any of it.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use super::PATIENCE;

/// The lines so far. A clone is another handle on the same lines.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Said>, Condvar)>);

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Collects all that `reader` gives, on a thread that ends with it.
    pub fn of(reader: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        thread::spawn({
            let lines = lines.clone();
            move || {
                let push = |line| lines.change(|said| said.lines.push(line));
                BufReader::new(reader).lines().map_while(Result::ok).for_each(push);
                lines.change(|said| said.ended = true);
            }
        });
        lines
    }

    /// The first line of all that `matches`, which may have been said long ago; `what` it is, for the failure.
    pub fn wait_for(&self, who: &str, what: &str, matches: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut said = self.said();
        loop {
            if let Some(line) = said.lines.iter().find(|line| matches(line)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if said.ended || left.is_zero() {
                let state = if said.ended { "ended" } else { "is silent" };
                panic!("{who} {state} without {what}; it said:\n{}", said.lines.join("\n"));
            }
            (said, _) = self.0.1.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// All of them so far.
    pub fn so_far(&self) -> Vec<String> {
        self.said().lines.clone()
    }

    /// All of them, once nobody holds the other end any more.
    pub fn to_the_end(&self) -> Vec<String> {
        let ended = self.0.1.wait_while(self.said(), |said| !said.ended);
        ended.unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said());
        self.0.1.notify_all();
    }
}

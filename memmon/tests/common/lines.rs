//! A child's output by lines. All lines are kept, so that tests may wait for them in any order.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use super::PATIENCE;

/// The lines so far. A clone is another handle on the same lines.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Output>, Condvar)>);

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Collects the lines of `reader`, on a thread that ends with it.
    pub fn of(reader: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        thread::spawn({
            let lines = lines.clone();
            move || {
                let push = |line| lines.change(|output| output.lines.push(line));
                BufReader::new(reader).lines().map_while(Result::ok).for_each(push);
                lines.change(|output| output.ended = true);
            }
        });
        lines
    }

    /// Waits for a line that `matches`. Earlier lines count, too. `name` and `what` are for the failure message.
    pub fn wait_for(&self, name: &str, what: &str, matches: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut output = self.output();
        loop {
            if let Some(line) = output.lines.iter().find(|line| matches(line)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if output.ended || left.is_zero() {
                let state = if output.ended { "ended" } else { "timed out" };
                panic!("{name} {state} without {what}; output:\n{}", output.lines.join("\n"));
            }
            (output, _) = self.0.1.wait_timeout(output, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// All lines so far.
    pub fn so_far(&self) -> Vec<String> {
        self.output().lines.clone()
    }

    /// All lines, after the writer closed its end.
    pub fn to_the_end(&self) -> Vec<String> {
        let ended = self.0.1.wait_while(self.output(), |output| !output.ended);
        ended.unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Output)) {
        change(&mut self.output());
        self.0.1.notify_all();
    }
}

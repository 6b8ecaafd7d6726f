//! The progress of a command with several steps: `step 2 of 4: build the BPF half`.

/// Counts the steps that are done and those that are left.
#[derive(Debug)]
pub(crate) struct Progress {
    done: usize,
    /// Steps of the caller, which come last.
    last: usize,
}

impl Progress {
    /// The progress at the start: the caller's `last` steps follow all other steps.
    pub(crate) const fn before(last: usize) -> Self {
        Self { done: 0, last }
    }

    /// Prints that a step begins; including it, `left` steps are left before the caller's: exactly or, if more may turn out
    /// to be needed, at least.
    pub(crate) fn begin(&mut self, left: usize, exactly: bool, purpose: &str) {
        println!("{}", self.line(left, exactly, purpose));
        self.done += 1;
    }

    /// Prints that one of the caller's own steps begins.
    pub(crate) fn begin_last(&mut self, purpose: &str) {
        println!("{}", self.line(0, true, purpose));
        self.done += 1;
        self.last = self.last.saturating_sub(1);
    }

    fn line(&self, left: usize, exactly: bool, purpose: &str) -> String {
        let of = self.done + left + self.last;
        format!("\nstep {} of {of}{}: {purpose}", self.done + 1, if exactly { "" } else { " or more" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_over_all_rounds() {
        let mut progress = Progress::before(2);
        assert_eq!(progress.line(3, false, "update"), "\nstep 1 of 5 or more: update");
        progress.begin(3, false, "update");
        assert_eq!(progress.line(2, true, "install"), "\nstep 2 of 5: install");
        progress.begin(2, true, "install");
        progress.begin(1, true, "linker");
        assert_eq!(progress.line(0, true, "BPF half"), "\nstep 4 of 5: BPF half");
        progress.begin_last("BPF half");
        assert_eq!(progress.line(0, true, "memmon"), "\nstep 5 of 5: memmon");
    }
}

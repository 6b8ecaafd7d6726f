//! No signal without a warrant, and no warrant without evidence that was gathered for it.
//!
//! A [`Warrant`] is the only thing that a pidfd can send, apart from SIGCONT right after it. Only this module creates it, from
//! [`Evidence`], which is the result of judging a freshly confirmed process again. Neither can be copied, and each step
//! consumes the one before: one look, one warrant, one signal.

use crate::model::{Breach, Bytes, Doubt, Pid, Process, ProcessId, Protection, Signal, Unconfirmed, Verdict};

/// Permission to send one signal to one process, once.
#[derive(Debug)]
#[must_use = "it is good for one signal now, and for none later"]
pub struct Warrant {
    signal: Signal,
    evidence: Evidence,
}

impl Warrant {
    pub(super) const fn new(signal: Signal, evidence: Evidence) -> Self {
        Self { signal, evidence }
    }

    /// The signal that it permits.
    pub const fn signal(&self) -> Signal {
        self.signal
    }

    /// The process that it permits to signal.
    pub const fn process(&self) -> ProcessId {
        self.evidence.process
    }
}

/// Evidence that a process is still the same one and still over its limit, and that nothing protects it.
#[derive(Debug)]
pub struct Evidence {
    pub(super) process: ProcessId,
    pub(super) breach: Breach,
}

/// Result of a fresh look at a victim.
#[derive(Debug)]
pub enum Check {
    /// It may be signalled.
    StillOver(Evidence),
    /// It is within its limits.
    Within {
        /// Its resident memory.
        rss: Bytes,
        /// Its limit.
        limit: Bytes,
    },
    /// A rule protects it.
    Protected(Protection),
    /// A rule that might protect it could not be checked.
    Unsure(Doubt),
    /// It could not be confirmed.
    Unconfirmed(Unconfirmed),
}

impl Check {
    /// The check's result for the victim `id`, from `process`, which was just read from /proc, and from policy's
    /// `verdict` on it under `limit`. Processes that memmon never touches are checked once more here.
    pub fn judged(id: ProcessId, process: &Process, verdict: Verdict, limit: Bytes) -> Self {
        if process.id != id {
            return Self::Unconfirmed(Unconfirmed::AnotherProcess {
                pid: id.pid,
                expected: id.start,
                found: process.id.start,
            });
        }
        match verdict {
            Verdict::Terminate(_) | Verdict::Stop(_) if id.pid == Pid::INIT => {
                Self::Protected(Protection::Init)
            }
            Verdict::Terminate(_) | Verdict::Stop(_) if id.pid.0 == std::process::id() => {
                Self::Protected(Protection::Memmon)
            }
            Verdict::Terminate(_) | Verdict::Stop(_) if process.kernel_thread => {
                Self::Protected(Protection::KernelThread)
            }
            // Of a victim that began to end above its hard ceiling, only the limit decides from then on.
            Verdict::Terminate(breach) | Verdict::Stop(breach) => {
                Self::StillOver(Evidence { process: id, breach })
            }
            // It is over the limit of a rule that only warns: for a termination that is within.
            Verdict::Within | Verdict::Inherits(_) | Verdict::Uncharged(_) | Verdict::Warn(_) => {
                Self::Within { rss: process.charged(), limit }
            }
            Verdict::Protected(protection) => Self::Protected(protection),
            Verdict::Unsure(doubt) => Self::Unsure(doubt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{enforce::testing::process, model::Limit};

    const BREACH: Breach =
        Breach { rule: Limit::Gb, limit: Bytes(5), rss: Bytes(10), percent: 1.0, by: None };

    #[test]
    fn only_a_terminate_verdict_on_the_same_process_is_evidence() {
        let victim = process(4242, 7);
        let check = |id, process, verdict| Check::judged(id, process, verdict, Bytes(5));
        let terminate = || Verdict::Terminate(BREACH);

        assert!(matches!(check(victim.id, &victim, terminate()), Check::StillOver(_)));
        let within = check(victim.id, &victim, Verdict::Within);
        assert!(matches!(within, Check::Within { rss, limit: Bytes(5) } if rss == victim.rss));
        assert!(matches!(
            check(process(4242, 8).id, &victim, terminate()),
            Check::Unconfirmed(Unconfirmed::AnotherProcess { .. })
        ));
    }

    #[test]
    fn init_kernel_threads_and_memmon_are_protected_for_any_verdict() {
        let kernel_thread = Process { kernel_thread: true, ..process(2, 1) };
        for (process, by) in [
            (process(1, 1), Protection::Init),
            (kernel_thread, Protection::KernelThread),
            (process(std::process::id(), 1), Protection::Memmon),
        ] {
            let check = Check::judged(process.id, &process, Verdict::Terminate(BREACH), Bytes(5));
            assert!(matches!(check, Check::Protected(protection) if protection == by));
        }
    }
}

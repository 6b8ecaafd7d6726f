//! Terminates processes, in steps, and looks at the process again before each step.
//!
//! [`escalate()`] decides the next step for one victim and does nothing; [`Victims`] keeps all victims with their
//! pidfds; the daemon executes the orders and passes the results back:
//!
//! ```text
//! let mut orders = VecDeque::from(victims.start_termination(process, breach, Course::default(), now));  // or victims.wake(now): see Victims
//! while let Some(Order { process, effect }) = orders.pop_front() {
//!     let id = process.id;
//!     let event = match effect {
//!         Effect::Open => victims.open(id),
//!         Effect::Check => Event::Checked(match procfs.confirm(id.pid, Some(id.start), …) {
//!             Ok(found) => Check::judged(id, &found, policy::judge(&rules, &found, &memory), limit),
//!             Err(why) => Check::Unconfirmed(why),
//!         }),
//!         Effect::Send(warrant) => victims.send(warrant),
//!         Effect::Reclaim => { victims.reclaim(id, &reaper); continue }   // the reaper's callback has the result
//!         Effect::Report(outcome) => { report(&process, outcome); continue }
//!     };
//!     orders.extend(victims.handle(id, event, Instant::now()));
//! }
//! ```

mod backoff;
mod cgroup;
mod effect;
mod escalate;
mod pause;
mod pidfd;
mod reaper;
mod victims;
mod warrant;

pub use backoff::{BackoffPolicy, Delay, RepeatOffenders, Waiting, is_short, is_urgent, urgent_above};
pub use cgroup::{CGROUPS, MemoryCgroup};
pub use effect::{Effect, Effects, Event, Outcome};
pub use escalate::{Course, EscalationTiming, Phase, State, escalate};
pub use nix::errno::Errno;
pub use pidfd::{OpenedProcess, Pidfd};
pub use reaper::Reaper;
pub use victims::{Order, Victims};
pub use warrant::{Check, Evidence, Warrant};

#[cfg(test)]
pub(crate) mod testing {
    use crate::model::{Bytes, Fact, Names, Pid, Process, ProcessId, StartTime, Uid};

    /// A process without special properties.
    pub(crate) fn process(pid: u32, start: u64) -> Process {
        Process {
            id: ProcessId { pid: Pid(pid), start: StartTime(start) },
            parent: Pid::INIT,
            rss: Bytes(10),
            error: Bytes::ZERO,
            real_uid: Uid(1000),
            effective_uid: Uid(1000),
            names: Names { comm: "hog".into(), exe: Fact::Absent, argv0: Fact::Absent, script: None },
            cgroup: Fact::Absent,
            container: None,
            oom_score_adj: Fact::Known(0),
            kernel_thread: false,
            inherited: Fact::Absent,
            holdings: None,
            launch: crate::model::Launch::default(),
            parts: None,
            facts: crate::model::MatchFacts::default(),
        }
    }
}

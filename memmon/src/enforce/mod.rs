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
//!         Effect::Send(warrant) => victims.send(warrant, || is_stopped(id)),
//!         Effect::Reclaim => { victims.reclaim(id, &reaper); continue }   // the reaper's callback has the result
//!         Effect::Report(outcome) => { report(&process, outcome); continue }
//!     };
//!     orders.extend(victims.handle(id, event, Instant::now()));       // an Effect::Send comes first: its look is fresh now
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
pub use pause::Pause;
pub use pidfd::{OpenedProcess, Pidfd};
pub use reaper::Reaper;
pub use victims::{Order, Victims};
pub use warrant::{Check, Evidence, Warrant};

#[cfg(test)]
pub(crate) use crate::model::testing;

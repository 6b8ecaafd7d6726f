//! A machine that is short of memory: whether it is, which processes made it so, and which one ends first.
//!
//! ```text
//! MachineMemory ─▶ shortage: calm, warn or act, with the reasons
//! Survey ─▶ Baseline, while the machine is well ─▶ growth since then, early or late ─▶ order: the culprits first
//! ```
//!
//! A process that did not grow since the machine was well is never ended: it did not cause the shortage, and the shortage
//! would come back. If the memory went to no process (tmpfs, huge pages, the kernel), no process is ended.

mod baseline;
pub mod blame;
mod candidate;
mod order;
mod pace;
#[cfg(test)]
mod properties;
mod recency;
mod shortage;
mod turn;

pub use baseline::{Baseline, Growth, Moment};
pub use candidate::{Candidate, Candidates, Held, gives_back, most_grown};
pub use order::{Order, Place, Standing, order};
pub use pace::{pause, unforeseen, unseen};
pub use recency::{Lost, Mark, Marks};
pub use shortage::{Levels, MachineLimits, Shortage, binding, swaps_calmly};
pub use turn::{Turn, turn};

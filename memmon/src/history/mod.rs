//! History: terminations, those that a dry run would have made, warnings, and samples of processes, kept for weeks in a database.
//!
//! ```text
//! add(Entry), look(|| samples) ──bounded queue──▶ a thread of its own ──▶ redb: one transaction for what came within a second
//! select(Select), samples(key) ──bounded queue──▶        ◀── History
//! ```
//!
//! Nobody waits for the disk: what finds the queue full, or cannot be written, is counted. The database is opened with the
//! first entry or the first question.

mod recorder;
mod store;
mod summary;

pub use recorder::{Recorder, Trouble};
pub use store::{Bounds, Store, StoreError};

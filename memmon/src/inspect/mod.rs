//! Looks at processes for users, with policy's verdict: the processes over a limit, the processes nearest to it,
//! and one process in detail. Nothing that is found here leads to a signal.

mod details;
mod nearest;
mod onlooker;
mod sums;

pub use details::Details;
pub use nearest::{Basis, near_limit, nearest, of_user};
pub use onlooker::Onlooker;

//! The daemon's status over a Unix socket, in lines of JSON. The daemon never waits for a client.
//!
//! ```text
//! client ──line──▶ server ──PendingRequest──▶ the daemon's loop, at most ten times a second for any number of clients
//!        ◀─line──        ◀─text──
//! ```
//!
//! `wire`, `table`, `mine` and `watched` define the messages (described in docs/status-protocol.md), `server` is the daemon's end,
//! `mine_server` the end for everybody, `client` the other end, and `peer` the check of a client's user.

mod access;
mod client;
mod lines;
mod machine;
mod mine;
mod mine_server;
mod order;
mod peer;
mod rules;
mod server;
mod sharing;
mod sums;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod watched;
mod wire;

pub use access::{Access, AccessPolicy};
pub use client::{Client, ClientError, understood};
pub use machine::{MachineOrder, MachineRow};
pub use mine::Mine;
pub use mine_server::serve_mine;
pub use order::{Done, Order, Target};
pub use rules::{MatcherInForce, RuleInForce, RulesInForce, SumRuleInForce};
pub use server::{PendingRequest, Request, serve};
pub use sharing::{FromElder, Kept, Other, Sharing};
pub use sums::{SumGroup, SumInForce, SumMember, ThrottledCgroup};
pub use table::{Row, Table, VerdictKind, why};
pub use text::Text;
pub use watched::{
    DryRunDay, DryRunProgram, GrowingProcess, Growth, OverLimit, StoppedProcess, Victim, Waiting,
};
pub use wire::{
    Body, Configuration, Counts, Dropped, MapUsage, Query, Refusal, Scan, Source, Status, Thresholds, answer,
};

/// Path at which a root memmon listens.
pub const SOCKET: &str = "/run/memmon/memmon.sock";

/// Name of the socket beside it at which every user may ask about that user's own processes.
pub const MINE_SOCKET: &str = "mine.sock";

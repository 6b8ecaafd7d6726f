//! The daemon's status over a Unix socket, in lines of JSON. The daemon never waits for a client.
//!
//! ```text
//! client ──line──▶ server ──Request──▶ the daemon's loop, at most ten times a second for any number of clients
//!        ◀─line──        ◀─text──
//! ```
//!
//! `wire` and `watched` define the messages (described in docs/status-protocol.md), `server` is the daemon's end, `client`
//! the other end, and `peer` the check of a client's user.

mod client;
mod peer;
mod rules;
mod server;
#[cfg(test)]
mod tests;
mod watched;
mod wire;

pub use client::{Client, ClientError, understood};
pub use rules::{MatcherInForce, RulesInForce};
pub use server::{AccessPolicy, Request, serve};
pub use watched::{Climber, DryRunDay, DryRunProgram, Growth, OverLimit, Waiting};
pub use wire::{
    Body, Configuration, Counts, Dropped, MapUsage, Query, Row, Scan, Source, Status, Table, Text,
    Thresholds, VerdictKind, Victim, answer, why,
};

/// Path at which a root memmon listens.
pub const SOCKET: &str = "/run/memmon/memmon.sock";

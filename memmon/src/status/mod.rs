//! What the daemon is at, for those who ask: a Unix socket, lines of JSON, and nobody who is waited for.
//!
//! ```text
//! client ──line──▶ server ──Request──▶ the daemon's loop, at most ten times a second, whoever and however many ask
//!        ◀─line──        ◀─text──
//! ```
//!
//! `wire` and `watched` have the messages (docs/status-protocol.md describes them), `server` the daemon's end of them, `client` the
//! other one, `place` the socket in the file system and `peer` who may use it.

mod client;
mod peer;
mod server;
mod socket_file;
#[cfg(test)]
mod tests;
mod watched;
mod wire;

pub use client::{Client, ClientError, understood};
pub use server::{AccessPolicy, Request, serve};
pub use socket_file::SocketFile;
pub use watched::{Climber, Growth, Waiting};
pub use wire::{
    Body, Configuration, Counts, Dropped, MapUsage, Query, Row, Scan, Source, Status, Table, Text,
    Thresholds, VerdictKind, Victim, answer, why,
};

/// Where a root memmon listens.
pub const SOCKET: &str = "/run/memmon/memmon.sock";

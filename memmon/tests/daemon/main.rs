//! The daemon as a whole, with real processes: what it terminates, what it spares, and what it reports.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on says why and fails")]

mod cgroups;
mod charged;
mod claims;
#[path = "../common/mod.rs"]
mod common;
mod common_itself;
#[cfg(feature = "ebpf")]
mod crowds;
mod desktop;
mod enable;
mod enforce;
mod exemptions;
mod families;
mod forks;
mod frozen;
#[cfg(feature = "ebpf")]
mod gears;
mod given_back;
mod history;
mod journal;
mod kubernetes;
mod late_names;
mod life;
mod limits;
mod log;
mod machine;
#[cfg(feature = "mail")]
mod mail;
mod metrics;
mod mine;
mod namespaces;
mod operators;
#[cfg(feature = "ebpf")]
#[expect(unsafe_code, reason = "a mount that only the daemon sees is made between fork and exec")]
mod pin;
mod postgres;
mod prefork;
mod priority;
mod real;
#[cfg(feature = "ebpf")]
mod recheck;
mod reload;
mod replay;
mod rights;
mod rules;
mod shortage;
mod spares;
mod status;
mod stop;
mod sums;
mod sums_in_cgroups;
mod terminal;
mod terminates;
mod throttle;
mod top;
mod traced;
#[cfg(feature = "ebpf")]
mod wake;

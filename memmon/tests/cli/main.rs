//! Tests that need no daemon: of the commands, the build script, and the dashboard.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod build_script;
mod commands;
mod dashboard;

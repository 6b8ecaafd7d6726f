//! The `memmon` command.

fn main() {}

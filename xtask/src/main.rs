//! Everything that builds, runs, tests and measures memmon.

fn main() {}

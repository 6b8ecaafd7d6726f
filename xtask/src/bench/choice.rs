//! The sections of BENCHMARKS.md that can be measured alone, by their names on the command line.

use clap::ValueEnum;

/// A section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Section {
    /// Cost of a page fault with memmon attached
    Fault,
    /// Cost of a task switch with memmon attached
    Switch,
    /// CPU time of one whole scan
    Scan,
    /// CPU time while nothing happens
    Idle,
    /// Memory, descriptors, start-up time
    Memory,
    /// Time from a crossing of the limit to SIGTERM
    Crossing,
    /// Small machines that become short of memory
    Shortage,
    /// A real build with memmon attached
    Build,
}

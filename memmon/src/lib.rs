//! memmon watches every process's resident memory from inside the kernel and terminates those that exceed a limit.
//!
//! The data flow, and which module may import which, is described in ARCHITECTURE.md:
//!
//! ```text
//! kernel ──map, ring──▶ observe ──Snapshot──▶ policy ──Verdicts──▶ enforce ──Outcomes──▶ report
//!                         ▲                                           │
//!                         └────────── re-measure before a signal ◀────┘            daemon runs the event loop
//! ```

pub mod cli;
pub mod config;
pub mod daemon;
pub mod enforce;
pub mod files;
pub mod history;
pub mod inspect;
pub mod model;
pub mod observe;
pub mod policy;
pub mod report;
pub mod socket;
pub mod status;

//! The daemon's relation to its host: one instance per machine, the supervisor, timers, and its own memory.

pub(super) mod claim;
pub(super) mod fd_ready;
pub(super) mod instance;
pub(super) mod memory_trim;
pub(super) mod oom_hardening;
pub(super) mod pressure;
pub(super) mod priority;
pub(super) mod supervisor;
pub(super) mod timer;

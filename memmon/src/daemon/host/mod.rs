//! The daemon's relation to its host: one instance per machine, the supervisor, timers, and its own memory.

pub(in crate::daemon) mod claim;
pub(in crate::daemon) mod fd_ready;
pub(in crate::daemon) mod instance;
pub(in crate::daemon) mod memory_trim;
pub(in crate::daemon) mod oom_hardening;
pub(in crate::daemon) mod pressure;
pub(in crate::daemon) mod priority;
pub(in crate::daemon) mod supervisor;
pub(in crate::daemon) mod timer;

//! What the daemon asks of the machine that it runs on: one instance, a supervisor, timers, and memory that stays.

pub(in crate::daemon) mod fd_ready;
pub(in crate::daemon) mod instance;
pub(in crate::daemon) mod memory_trim;
pub(in crate::daemon) mod oom_hardening;
pub(in crate::daemon) mod supervisor;
pub(in crate::daemon) mod timer;

//! The engine: takes a reading from a survey or a wake to a verdict, and a verdict to a termination.

pub(in crate::daemon) mod backoff;
pub(in crate::daemon) mod case;
pub(in crate::daemon) mod doubt;
pub(in crate::daemon) mod forked;
pub(in crate::daemon) mod growth;
pub(in crate::daemon) mod lazy_free;
pub(in crate::daemon) mod outlived;
pub(in crate::daemon) mod over_limit;
pub(in crate::daemon) mod recheck;
pub(in crate::daemon) mod report_once;
pub(in crate::daemon) mod scan;
mod subject;
pub(in crate::daemon) mod terminate;
mod uncharged;
pub(in crate::daemon) mod wake;

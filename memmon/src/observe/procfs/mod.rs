//! /proc, read by hand where memmon reads it for every process, and with care where it decides over one.
//!
//! [`ProcRoot`] is the door: `survey` is the cheap pass that shows which processes must be looked at, `confirm` looks at one
//! process closely. The root is injectable, so tests run on captured trees.

mod accuracy;
mod blocking_pool;
mod called;
mod cgroup;
mod cgroup_memory;
mod command_line;
mod confirm;
mod directory;
mod elders;
mod environment;
mod exe_file;
mod failure;
mod freezer;
mod inherited;
mod kcmp;
mod last_command_line;
mod launch;
mod lazy_free;
mod left_behind;
mod long_cgroup;
mod look;
mod lookups;
mod machine;
mod mapped_alone;
mod memory_back;
mod mounts;
mod parse;
mod parts;
mod pod_container;
mod root;
mod script;
mod services;
mod session;
mod shared_memory;
mod shared_objects;
mod smaps;
mod survey;
mod waiting;
mod writers;

#[cfg(test)]
mod live;
#[cfg(test)]
pub(crate) mod testing;

pub use accuracy::Accuracy;
pub use blocking_pool::{WorkerPriority, add_worker, set_worker_priority};
pub use cgroup_memory::{Hierarchy, LimitedCgroup};
pub use left_behind::Stays;
pub use mapped_alone::ReadMappings;
pub use memory_back::OwnCgroup;
pub use root::ProcRoot;
pub use waiting::Waiting;

use root::{beginning, ended, head, mountinfo, numbered, pages, piece, whole, with_path};

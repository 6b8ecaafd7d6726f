//! A kernel map that cannot exist: replaces `kernel_map` if memmon is built without its BPF half.

use std::{collections::HashMap, io, os::fd::BorrowedFd, time::Instant};

use crate::{
    config,
    daemon::source::SumFigure,
    model::{Bytes, Gear, Inherited, KernelSum, Per, Pid, ProcessId, Reading},
    observe::{
        decode::KernelEvent,
        procfs::ReadMappings,
        support::{Facts, Support},
    },
    report::MapFigures,
    status::{Dropped, MapUsage},
};

/// No value of this type exists.
pub(crate) enum Kernel {}

impl Kernel {
    pub(crate) fn attach(_: &Facts, _: &Support, _: &config::Kernel, _: bool) -> Result<Self, &'static str> {
        Err("memmon was built without its BPF half")
    }

    pub(crate) const fn is_second(_: &&'static str) -> bool {
        false
    }
}

/// Defines methods that nobody can call, as there is no value to call them on.
macro_rules! cannot_be_called {
    ($(fn $name:ident($receiver:ty $(, $parameter:ty)*) $(-> $result:ty)?;)*) => {
        impl Kernel {
            $(pub(crate) fn $name(self: $receiver $(, _: $parameter)*) $(-> $result)? {
                match *self {}
            })*
        }
    };
}

cannot_be_called! {
    fn gears(&Self, &config::Kernel, &Support) -> String;
    fn gear(&Self) -> Gear;
    fn file_mappings(&Self) -> Option<ReadMappings>;
    fn set_limit(&mut Self, Bytes);
    fn asks_who_is_near(&Self, Instant) -> bool;
    fn shift(&mut Self, bool, Instant) -> Option<io::Result<Gear>>;
    fn no_mappings(&Self) -> Option<String>;
    fn unpinned(&Self) -> Option<String>;
    fn readings(&mut Self) -> io::Result<Vec<Reading>>;
    fn overflowed(&mut Self) -> io::Result<bool>;
    fn fill(&Self) -> MapUsage;
    fn lost(&Self) -> Dropped;
    fn figures(&Self) -> Option<MapFigures>;
    fn reading(&Self, Pid) -> Option<Reading>;
    fn forked_with(&Self, ProcessId) -> Option<Bytes>;
    fn inherited(&Self, ProcessId) -> Option<Inherited>;
    fn remove(&mut Self, Pid) -> io::Result<()>;
    fn reseed(&mut Self) -> io::Result<()>;
    fn error(&Self) -> Bytes;
    fn wake_fd(&Self) -> BorrowedFd<'_>;
    fn event(&mut Self) -> Option<KernelEvent>;
    fn event_but_crossing(&mut Self) -> Option<KernelEvent>;
    fn lost_events(&mut Self) -> bool;
    fn set_default_level(&mut Self, Option<Bytes>) -> io::Result<()>;
    fn set_level(&mut Self, ProcessId, Option<Bytes>) -> io::Result<Option<Bytes>>;
    fn moved(&mut Self) -> Vec<Pid>;
    fn keep_sums(&mut Self, Option<Bytes>, Option<Bytes>) -> io::Result<()>;
    fn repair_sums(&mut Self) -> io::Result<()>;
    fn has_whole_sums(&Self) -> bool;
    fn recount_sums(&mut Self) -> io::Result<()>;
    fn sum_over(&Self, Per, &mut dyn Iterator<Item = Pid>) -> Option<(KernelSum, SumFigure)>;
    fn set_sum_levels(&mut Self, &HashMap<KernelSum, Bytes>) -> io::Result<()>;
    fn set_sum_near(&mut Self, bool) -> io::Result<()>;
    fn log_fd(&Self) -> BorrowedFd<'_>;
    fn forward_log(&mut Self);
}

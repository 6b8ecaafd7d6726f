//! A kernel map that cannot exist: replaces `kernel_map` if memmon is built without its BPF half.

use std::{collections::HashMap, io, os::fd::BorrowedFd, time::Instant};

use crate::{
    config,
    daemon::source::SumFigure,
    model::{Bytes, Gear, Inherited, KernelSum, Per, Pid, ProcessId, Reading},
    observe::{
        decode::KernelEvent,
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

    pub(crate) fn gears(&self, _: &config::Kernel, _: &Support) -> String {
        match *self {}
    }

    pub(crate) const fn gear(&self) -> Gear {
        match *self {}
    }

    pub(crate) fn set_limit(&mut self, _: Bytes) {
        match *self {}
    }

    pub(crate) fn asks_who_is_near(&self, _: Instant) -> bool {
        match *self {}
    }

    pub(crate) fn shift(&mut self, _: bool, _: Instant) -> Option<io::Result<Gear>> {
        match *self {}
    }

    pub(crate) fn unpinned(&self) -> Option<String> {
        match *self {}
    }

    pub(crate) fn readings(&mut self) -> io::Result<Vec<Reading>> {
        match *self {}
    }

    pub(crate) fn overflowed(&mut self) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn fill(&self) -> MapUsage {
        match *self {}
    }

    pub(crate) fn lost(&self) -> Dropped {
        match *self {}
    }

    pub(crate) fn figures(&self) -> Option<MapFigures> {
        match *self {}
    }

    pub(crate) fn reading(&self, _: Pid) -> Option<Reading> {
        match *self {}
    }

    pub(crate) fn forked_with(&self, _: ProcessId) -> Option<Bytes> {
        match *self {}
    }

    pub(crate) fn inherited(&self, _: ProcessId) -> Option<Inherited> {
        match *self {}
    }

    pub(crate) fn remove(&mut self, _: Pid) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn reseed(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) const fn error(&self) -> Bytes {
        match *self {}
    }

    pub(crate) fn wake_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub(crate) fn event(&mut self) -> Option<KernelEvent> {
        match *self {}
    }

    pub(crate) fn event_but_crossing(&mut self) -> Option<KernelEvent> {
        match *self {}
    }

    pub(crate) fn lost_events(&mut self) -> bool {
        match *self {}
    }

    pub(crate) fn set_default_level(&mut self, _: Option<Bytes>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn set_level(&mut self, _: ProcessId, _: Option<Bytes>) -> io::Result<Option<Bytes>> {
        match *self {}
    }

    pub(crate) fn moved(&mut self) -> Vec<Pid> {
        match *self {}
    }

    pub(crate) fn keep_sums(&mut self, _: Option<Bytes>, _: Option<Bytes>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn repair_sums(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) const fn has_whole_sums(&self) -> bool {
        match *self {}
    }

    pub(crate) fn recount_sums(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn sum_over(
        &self,
        _: Per,
        _: &mut dyn Iterator<Item = Pid>,
    ) -> Option<(KernelSum, SumFigure)> {
        match *self {}
    }

    pub(crate) fn set_sum_levels(&mut self, _: &HashMap<KernelSum, Bytes>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn set_sum_near(&mut self, _: bool) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn log_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub(crate) fn forward_log(&mut self) {
        match *self {}
    }
}

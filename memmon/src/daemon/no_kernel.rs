//! In place of `kernel` where memmon was built without its BPF half: a kernel map that cannot exist.

use std::{io, os::fd::BorrowedFd};

use crate::{
    model::{Bytes, Pid, ProcessId, Reading},
    observe::{
        decode::Happening,
        support::{Facts, Support},
    },
    report::MapFigures,
    status::{Fill, Lost},
};

/// No value of this type exists.
pub(super) enum Kernel {}

impl Kernel {
    pub(super) fn attach(_: &Facts, _: &Support, _: Option<u32>, _: bool) -> Result<Self, &'static str> {
        Err("memmon was built without its BPF half")
    }

    pub(super) const fn is_second(_: &&'static str) -> bool {
        false
    }

    pub(super) fn unpinned(&self) -> Option<String> {
        match *self {}
    }

    pub(super) fn readings(&mut self) -> io::Result<Vec<Reading>> {
        match *self {}
    }

    pub(super) fn overflowed(&mut self) -> io::Result<bool> {
        match *self {}
    }

    pub(super) fn fill(&self) -> Fill {
        match *self {}
    }

    pub(super) fn lost(&self) -> Lost {
        match *self {}
    }

    pub(super) fn figures(&self) -> Option<MapFigures> {
        match *self {}
    }

    pub(super) fn reading(&self, _: Pid) -> Option<Reading> {
        match *self {}
    }

    pub(super) fn remove(&mut self, _: Pid) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn reseed(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub(super) const fn error(&self) -> Bytes {
        match *self {}
    }

    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub(super) fn happening(&mut self) -> Option<Happening> {
        match *self {}
    }

    pub(super) fn lost_events(&mut self) -> bool {
        match *self {}
    }

    pub(super) fn set_default_level(&mut self, _: Option<Bytes>) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn set_level(&mut self, _: ProcessId, _: Option<Bytes>) -> io::Result<Option<Bytes>> {
        match *self {}
    }

    pub(super) fn log_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub(super) fn forward_log(&mut self) {
        match *self {}
    }
}

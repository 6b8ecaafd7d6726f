//! In place of `kernel` where memmon was built without its BPF half: a kernel map that cannot exist.

use std::{io, os::fd::BorrowedFd};

use crate::{
    model::{Pid, Reading},
    observe::support::{Facts, Support},
    report::MapFigures,
};

/// No value of this type exists.
pub(super) enum Kernel {}

impl Kernel {
    pub(super) fn attach(_: &Facts, _: &Support, _: Option<u32>, _: bool) -> Result<Self, &'static str> {
        Err("memmon was built without its BPF half")
    }

    pub(super) fn readings(&mut self) -> io::Result<Vec<Reading>> {
        match *self {}
    }

    pub(super) fn overflowed(&mut self) -> io::Result<bool> {
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

    pub(super) fn log_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }

    pub(super) fn forward_log(&mut self) {
        match *self {}
    }
}

//! The machine at one time, and the memory of one process from sample to sample. Each sample has its time.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    model::{Bytes, Uid},
    status::{Status, SumInForce, Table},
};

/// The machine at one time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Seconds since a fixed time.
    pub(super) at: f64,
    /// The processes.
    pub(super) table: Table,
    /// The daemon's state; `None` if top itself read /proc.
    pub(super) status: Option<Box<Status>>,
    /// Memory that processes hold together under rules with `per`, the largest share of a limit first; empty without a
    /// daemon.
    pub(super) sums: Vec<SumInForce>,
    /// The source in place of the daemon; `None` if there is a daemon.
    pub(super) alone: Option<Alone>,
    /// The users' names, escaped.
    pub(super) users: BTreeMap<Uid, String>,
}

/// A look of top's own.
#[derive(Clone, Debug)]
pub(super) struct Alone {
    /// The reason why the daemon did not answer.
    pub(super) why: &'static str,
    /// The configuration that is used instead of the daemon's, safe to show.
    pub(super) rules_from: String,
}

/// Number of samples in a track.
const POINTS: usize = 32;
/// Growth is measured over this many seconds, or over two samples that are further apart.
const WINDOW: f64 = 10.0;

/// Resident memory of one process by sample: seconds and bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    points: VecDeque<(f64, Bytes)>,
}

impl Track {
    pub(super) fn add(&mut self, at: f64, rss: Bytes) {
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back((at, rss));
    }

    /// Bytes per second over the last [`WINDOW`]; `None` for a single sample. A change within the counters' error is no
    /// growth.
    pub(super) fn growth(&self, error: Bytes) -> Option<f64> {
        let (now, last) = self.points.back()?;
        let recent = |(at, _): &&(f64, Bytes)| now - at <= WINDOW;
        let first = self.points.iter().find(recent).filter(|(at, _)| at < now);
        let (then, first) = first.or_else(|| self.points.iter().rev().nth(1))?;
        let grown = last.0 as f64 - first.0 as f64;
        let seconds = now - then;
        if seconds <= 0.0 {
            None
        } else if grown.abs() <= error.0 as f64 {
            Some(0.0)
        } else {
            Some(grown / seconds)
        }
    }

    /// The last `count` figures.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = Bytes> {
        self.points.iter().skip(self.points.len().saturating_sub(count)).map(|(_, rss)| *rss)
    }
}

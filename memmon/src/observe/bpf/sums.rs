//! The sums that the kernel side keeps: which are kept, how much they are, and where they wake memmon.

use std::{collections::HashMap as Levels, io};

use aya::maps::{Array, HashMap, MapData, MapError};
use memmon_common::{Counters, NEVER, Sum, SumConfig, SumKey, SumLevel, sum_kind};

use super::plain::{Plain, as_io, ignore_missing};
use crate::model::KernelSum;

/// The maps of sums, and what memmon wrote into them.
pub(super) struct Sums {
    sums: HashMap<MapData, Plain<SumKey>, Plain<Sum>>,
    levels: HashMap<MapData, Plain<SumKey>, Plain<SumLevel>>,
    config: Array<MapData, Plain<SumConfig>>,
    current: SumConfig,
    epoch: u32,
    set: Levels<KernelSum, u64>,
    /// Processes and sums for which there was no room when the sums were counted last.
    refused: u64,
}

/// The sums that are kept: the level in pages of each kind, for sums without a level of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptSums {
    /// The level for sums of users, if they are kept.
    pub users: Option<u64>,
    /// The level for sums of cgroups.
    pub cgroups: Option<u64>,
    /// Pages that each process may have more than the table has it.
    pub slack_pages: u64,
}

impl KeptSums {
    pub(super) fn kinds(self) -> u32 {
        let bit = |level: Option<u64>, kind: u32| u32::from(level.is_some()) << kind;
        bit(self.users, sum_kind::USER) | bit(self.cgroups, sum_kind::CGROUP)
    }
}

impl Sums {
    pub(super) fn new(
        sums: HashMap<MapData, Plain<SumKey>, Plain<Sum>>,
        levels: HashMap<MapData, Plain<SumKey>, Plain<SumLevel>>,
        config: Array<MapData, Plain<SumConfig>>,
    ) -> Self {
        let current = SumConfig::default();
        Self { sums, levels, config, current, epoch: 0, set: Levels::new(), refused: 0 }
    }

    /// The kinds that are kept, as bits.
    pub(super) fn kinds(&self) -> u32 {
        u32::try_from(self.current.in_force & u64::from(u32::MAX)).unwrap_or_default()
    }

    /// Sets the levels of all sums without one of their own.
    pub(super) fn set_defaults(&mut self, kept: &KeptSums) -> io::Result<()> {
        let (users, cgroups) = (kept.users.unwrap_or(NEVER), kept.cgroups.unwrap_or(NEVER));
        let before = self.current;
        let levels = (before.user_wake_at, before.cgroup_wake_at, before.slack_pages);
        if levels == (users, cgroups, kept.slack_pages) {
            return Ok(());
        }
        let generation = before.generation + 1;
        // Two writes, as for the level of processes.
        self.write(SumConfig {
            user_wake_at: users,
            cgroup_wake_at: cgroups,
            default_generation: generation,
            slack_pages: kept.slack_pages,
            ..before
        })?;
        self.write(SumConfig { generation, ..self.current })
    }

    /// Begins another epoch, in which no process has been counted yet. The counters are as they are before that.
    pub(super) fn begin(&mut self, kinds: u32, counters: &Counters) -> io::Result<()> {
        self.epoch = if self.epoch >= u32::MAX - 1 { 1 } else { self.epoch + 1 };
        let in_force = u64::from(self.epoch) << 32 | u64::from(kinds);
        self.write(SumConfig { in_force, ..self.current })?;
        let old: Vec<_> = self.sums.keys().filter_map(Result::ok).collect();
        for key in old.into_iter().filter(|Plain(key)| key.epoch != self.epoch) {
            ignore_missing(self.sums.remove(&key))?;
        }
        self.refused = refused(counters);
        if kinds == 0 { self.set_levels(Levels::new()) } else { Ok(()) }
    }

    /// Whether each process, and each sum, had room in this epoch.
    pub(super) const fn is_whole(&self, counters: &Counters) -> bool {
        refused(counters) == self.refused
    }

    pub(super) fn get(&self, sum: KernelSum) -> io::Result<Option<Sum>> {
        match self.sums.get(&Plain(key(sum, self.epoch)), 0) {
            Ok(Plain(found)) => Ok(Some(found)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(as_io(error)),
        }
    }

    pub(super) fn set_levels(&mut self, levels: Levels<KernelSum, u64>) -> io::Result<()> {
        if levels == self.set {
            return Ok(());
        }
        let generation = self.current.generation + 1;
        let unset: Vec<_> = self.set.keys().filter(|sum| !levels.contains_key(sum)).copied().collect();
        for sum in unset {
            ignore_missing(self.levels.remove(&Plain(key(sum, 0))))?;
            self.set.remove(&sum);
        }
        for (sum, wake_at) in levels {
            if self.set.get(&sum) != Some(&wake_at) {
                let level = SumLevel { wake_at, generation };
                self.levels.insert(Plain(key(sum, 0)), Plain(level), 0).map_err(as_io)?;
                self.set.insert(sum, wake_at);
            }
        }
        self.write(SumConfig { generation, ..self.current })
    }

    fn write(&mut self, config: SumConfig) -> io::Result<()> {
        self.config.set(0, Plain(config), 0).map_err(as_io)?;
        self.current = config;
        Ok(())
    }
}

const fn refused(counters: &Counters) -> u64 {
    counters.insert_full + counters.insert_failed + counters.sums_full
}

const fn key(sum: KernelSum, epoch: u32) -> SumKey {
    let (kind, id) = match sum {
        KernelSum::User(uid) => (sum_kind::USER, uid.0 as u64),
        KernelSum::Cgroup(id) => (sum_kind::CGROUP, id),
    };
    SumKey { id, kind, epoch }
}

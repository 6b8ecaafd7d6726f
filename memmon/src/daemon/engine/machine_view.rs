//! The machine's memory for queries: the order in which processes would end now, and the reasons.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::source::WatchedMemory;
use crate::model::{Bytes, Culprit, Group, Process, Verdict};
use crate::policy::machine::{Place, Shortage, Standing};
use crate::status::{MachineOrder, MachineRow, Text, why};

impl Engine<'_> {
    /// The order now; `None` without `[machine]`, before the first scan, or if the machine cannot be read. It is computed
    /// as if memmon acted now, and nothing follows from it.
    pub(crate) fn machine_order(&mut self, now: Now) -> Option<MachineOrder> {
        let limits = self.settings.current().machine?;
        let WatchedMemory { memory: machine, cgroup, .. } = self.sources.machine_memory().ok()?;
        let pressure_full = machine.pressure.map(|pressure| pressure.full);
        let machine = self.machine.judged(machine, now.instant());
        let readings = self.sources.readings().ok()?;
        let choice = self.choose(readings, &machine, now)?;
        let shortage = match limits.shortage(&machine) {
            Shortage::Calm => "calm",
            Shortage::Warn(_) => "warn",
            Shortage::Act(_) => "act",
        };
        let total = machine.memory.total;
        let process = |place: &Place| Some(row(choice.process(place)?, place));
        Some(MachineOrder {
            cgroup: cgroup.as_ref().map(Text::from),
            memory: machine.memory,
            swap_total_bytes: machine.swap_total,
            swap_free_bytes: machine.swap_free,
            pressure_full,
            shortage: shortage.into(),
            warn_below_bytes: limits.warn.available(total),
            act_below_bytes: limits.act.available(total),
            well_seconds_ago: choice.within.as_secs_f64(),
            lost_bytes: choice.order.lost,
            grown_bytes: choice.order.grown,
            rows: choice.order.places.iter().filter_map(process).collect(),
        })
    }
}

fn row(process: &Process, place: &Place) -> MachineRow {
    let (standing, why) = match &place.standing {
        Standing::Ends { culprit, preferred: None } => ("ends", part_of(culprit, place.growth)),
        Standing::Ends { preferred: Some(rule), .. } => ("ends", format!("rule {rule} prefers it")),
        Standing::Idle => ("idle", "it has hardly grown".to_owned()),
        Standing::NotTheCause => (
            "not_the_cause",
            "too small a part of what is missing, or it works with what it held before".to_owned(),
        ),
        Standing::Exempt => ("exempt", "a rule exempts it, or only warns".to_owned()),
        Standing::Protected { protection } => ("protected", why(&Verdict::Protected(protection.clone()))),
        Standing::Unsure { doubt } => ("unsure", why(&Verdict::Unsure(doubt.clone()))),
    };
    MachineRow {
        id: process.id,
        comm: Text::from(&process.names.comm),
        uid: process.real_uid,
        gives_back_bytes: place.gives_back,
        growth_bytes: place.growth,
        standing: standing.into(),
        why: Text::harmless(&why),
    }
}

/// The group that a process which ends is a part of.
fn part_of(culprit: &Culprit, growth: Bytes) -> String {
    let Culprit { group, growth: of_all, processes } = culprit;
    let group = match group {
        Group::Process { .. } => return format!("it alone grew by {growth}"),
        Group::Unit { unit } => format!("unit {unit}"),
        Group::Session { leader } => format!("session {leader}"),
        Group::User { uid } => format!("uid {uid}"),
    };
    format!("one of {processes} of {group} that grew by {of_all}")
}

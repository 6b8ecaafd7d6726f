//! `memmon explain --machine`: the order in which processes would end if the machine was short of memory, from the daemon.

use std::io::{self, Write};

use crate::{
    config::Users,
    model::{Bytes, units::Span},
    status::{MachineOrder, MachineRow},
};

/// Number of processes that fit on a screen; `--json` has all.
const ROWS: usize = 20;

/// Writes the order: for people, or as one JSON object. `None`: the daemon has no `[machine]`, or no scan was made yet.
///
/// # Errors
/// Those of writing.
pub(in crate::cli) fn write(
    order: Option<&MachineOrder>,
    json: bool,
    users: &dyn Users,
    out: &mut dyn Write,
) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", serde_json::to_string_pretty(&order)?);
    }
    let Some(order) = order else {
        return writeln!(
            out,
            "memmon does not act for the machine as a whole: its configuration has no [machine]."
        );
    };
    let MachineOrder { cgroup, memory, swap_total_bytes, swap_free_bytes, pressure_full, shortage, .. } =
        order;
    let state = match shortage.to_string().as_str() {
        "act" => "short of memory: memmon ends processes",
        "warn" => "low on memory",
        _ => "not short of memory",
    };
    writeln!(out, "The machine is {state}.")?;
    writeln!(
        out,
        "  available  {} of {}; memmon warns below {}, and acts below {}",
        memory.available, memory.total, order.warn_below_bytes, order.act_below_bytes
    )?;
    if let Some(cgroup) = cgroup {
        writeln!(out, "  limit      these are the figures of cgroup {cgroup}, which all processes are in")?;
    }
    if *swap_total_bytes > Bytes::ZERO {
        writeln!(out, "  swap       {swap_free_bytes} of {swap_total_bytes} free")?;
    }
    if let Some(full) = pressure_full {
        writeln!(out, "  pressure   all processes wait for memory {full:.1}% of the time")?;
    }
    writeln!(
        out,
        "  since      it was well {} ago: {} less available, these processes grew by {}",
        Span::from_seconds(order.well_seconds_ago),
        order.lost_bytes,
        order.grown_bytes
    )?;
    if order.rows.is_empty() {
        return writeln!(out, "\nNo process has grown since, so none would end.");
    }
    let ending = order.rows.iter().filter(|row| row.ends()).count();
    match ending {
        0 => writeln!(out, "\nNone of these would end:")?,
        _ => writeln!(out, "\n{ending} would end, in this order, until there is enough memory:")?,
    }
    writeln!(
        out,
        "  {:>3} {:>8} {:<16} {:<10} {:>11} {:>9}  why",
        "", "PID", "NAME", "USER", "GIVES BACK", "GROWTH"
    )?;
    for (place, row) in order.rows.iter().take(ROWS).enumerate() {
        let MachineRow { id, comm, uid, gives_back_bytes, growth_bytes, why, .. } = row;
        let place = if row.ends() { format!("{}.", place + 1) } else { "-".to_owned() };
        let user = users.shown(*uid);
        // A size does not pad itself.
        let (back, growth) = (gives_back_bytes.to_string(), growth_bytes.to_string());
        writeln!(
            out,
            "  {place:>3} {:>8} {:<16} {user:<10} {back:>11} {growth:>9}  {why}",
            id.pid.0,
            comm.to_string()
        )?;
    }
    match order.rows.len().saturating_sub(ROWS) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more (--json has all)"),
    }
}

impl MachineRow {
    fn ends(&self) -> bool {
        self.standing.to_string() == "ends"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FakeUsers, HostileUsers};
    use crate::model::{Pid, ProcessId, StartTime, SystemMemory, Uid};

    fn row(pid: u32, mib: u64, standing: &str, why: &str) -> MachineRow {
        let bytes = Bytes(mib * Bytes::MIB);
        MachineRow {
            id: ProcessId { pid: Pid(pid), start: StartTime(7) },
            comm: "worker".into(),
            uid: Uid(1000),
            gives_back_bytes: bytes,
            growth_bytes: if standing == "idle" { Bytes::ZERO } else { bytes },
            standing: standing.into(),
            why: why.into(),
        }
    }

    fn printed(order: Option<&MachineOrder>, json: bool) -> String {
        let mut out = Vec::new();
        write(order, json, &FakeUsers(&[("alice", 1000)]), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_order_and_its_reasons() {
        let order = MachineOrder {
            cgroup: None,
            memory: SystemMemory { total: Bytes(Bytes::GIB), available: Bytes(40 * Bytes::MIB) },
            swap_total_bytes: Bytes(512 * Bytes::MIB),
            swap_free_bytes: Bytes(5 * Bytes::MIB),
            pressure_full: Some(12.5),
            shortage: "act".into(),
            warn_below_bytes: Bytes(102 * Bytes::MIB),
            act_below_bytes: Bytes(51 * Bytes::MIB),
            well_seconds_ago: 34.0,
            lost_bytes: Bytes(600 * Bytes::MIB),
            grown_bytes: Bytes(190 * Bytes::MIB),
            rows: vec![
                row(4242, 100, "ends", "one of 2 of unit session-2.scope that grew by 190MB"),
                row(4241, 90, "ends", "one of 2 of unit session-2.scope that grew by 190MB"),
                row(90, 200, "idle", "it has hardly grown"),
            ],
        };
        insta::assert_snapshot!(printed(Some(&order), false), @"
        The machine is short of memory: memmon ends processes.
          available  40.0MB of 1.00GB; memmon warns below 102.0MB, and acts below 51.0MB
          swap       5.0MB of 0.50GB free
          pressure   all processes wait for memory 12.5% of the time
          since      it was well 34s ago: 0.59GB less available, these processes grew by 0.19GB

        2 would end, in this order, until there is enough memory:
                   PID NAME             USER        GIVES BACK    GROWTH  why
           1.     4242 worker           alice          100.0MB   100.0MB  one of 2 of unit session-2.scope that grew by 190MB
           2.     4241 worker           alice           90.0MB    90.0MB  one of 2 of unit session-2.scope that grew by 190MB
            -       90 worker           alice           0.20GB        0B  it has hardly grown
        ");
        let none = MachineOrder { rows: vec![], shortage: "calm".into(), ..order.clone() };
        assert!(printed(Some(&none), false).contains("\nNo process has grown since, so none would end."));
        let within = MachineOrder { cgroup: Some("/box".into()), ..order.clone() };
        let limit = "  limit      these are the figures of cgroup /box, which all processes are in\n";
        assert!(printed(Some(&within), false).contains(limit));
        assert!(printed(None, false).contains("no [machine]"));
        assert_eq!(printed(None, true), "null\n");
        let read: MachineOrder = serde_json::from_str(&printed(Some(&order), true)).unwrap();
        assert_eq!(read, order);
        let mut out = Vec::new();
        write(Some(&order), false, &HostileUsers, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains(r" \u{1b}]0;\u{202e} "));
    }
}

//! The processes nearest to their limit, with policy's current verdict on each, for display.

use std::{cmp::Reverse, io};

use super::onlooker::Onlooker;
use crate::{
    model::{Bytes, Process, ProcessId, Reading, Survey, SystemMemory, Uid, Verdict},
    observe::procfs::Accuracy,
    policy::{self, Rules},
    status::{Row, Table},
};

/// Maximum number of rows; each costs a close look.
const MOST: usize = 200;

/// The same for one user's own processes.
const MOST_OF_USER: usize = 50;

/// Input for a table.
#[derive(Debug)]
pub struct Basis {
    /// The rules to judge by.
    pub rules: Rules,
    /// The accuracy of statm.
    pub accuracy: Accuracy,
    /// The machine's memory and its processes; if none, they are read from /proc.
    pub survey: Option<(SystemMemory, Vec<Reading>)>,
}

/// Looks closely at the largest processes. This takes about a tenth of a millisecond for each, so it must not run in the
/// event loop.
///
/// # Errors
/// /proc, or its meminfo, cannot be read.
pub fn nearest(basis: Basis) -> io::Result<Table> {
    let Basis { rules, accuracy, survey } = basis;
    let onlooker = Onlooker::new(rules, accuracy)?;
    let Onlooker { proc, accuracy, rules } = &onlooker;
    let (memory, mut readings) = match survey {
        Some(survey) => survey,
        None => {
            let Survey { memory, readings } = proc.survey(accuracy)?;
            (memory, readings)
        }
    };
    let (_, limit) = rules.limit(&memory);
    let processes = readings.len();
    readings.sort_unstable_by_key(|reading| (Reverse(reading.rss), reading.pid));
    let is_over = |reading: &&Reading| reading.rss > limit;
    // Processes over the limit that get no row.
    let mut over = readings.iter().skip(MOST).filter(is_over).count();
    readings.truncate(MOST);
    let mut rows = Vec::with_capacity(readings.len());
    for reading in &readings {
        match onlooker.process(reading.pid, reading.start, &memory) {
            Ok(process) => {
                over += usize::from(process.rss > rules.limit_of(&process, &memory));
                rows.push(Row { sharing: onlooker.sharing(&process), ..onlooker.row(&process, &memory) });
            }
            // One that ended meanwhile, or that only borrows another process's memory, is over no limit.
            Err(error) => over += usize::from(error.is_transient() && is_over(&reading)),
        }
    }
    rows.sort_by_key(|row| Reverse(row.rss_bytes));
    Ok(Table { memory, limit_bytes: limit, processes, over, rows })
}

/// The number of the user's own processes, and the largest of them, the largest first. This must not run in the event loop,
/// either. Nothing in a row is about a process of somebody else, so that it shows no memory that both share.
///
/// # Errors
/// /proc cannot be read.
pub fn of_user(basis: Basis, uid: Uid) -> io::Result<(usize, Vec<Row>)> {
    let onlooker = Onlooker::new(basis.rules, basis.accuracy)?;
    let memory = onlooker.memory()?;
    let pids = onlooker.proc.pids_of(uid)?;
    let mut readings = onlooker.proc.readings(&pids, &onlooker.accuracy);
    readings.sort_unstable_by_key(|reading| (Reverse(reading.rss), reading.pid));
    let looked_at = readings.iter().take(MOST_OF_USER);
    let looked_at = looked_at.filter_map(|reading| onlooker.process(reading.pid, None, &memory).ok());
    // A process may change its user, and a pid its process.
    let mut rows: Vec<_> = looked_at
        .filter(|process| process.real_uid == uid)
        .map(|process| onlooker.row(&process, &memory))
        .collect();
    rows.sort_by_key(|row| Reverse(row.rss_bytes));
    Ok((readings.len(), rows))
}

/// Those of `readings` whose processes are above a quarter of their own limit, with policy's verdict, and all facts that it
/// would need if their limit was so low. `wants`: whether to look at one, by its memory and the smallest limit.
///
/// # Errors
/// /proc cannot be read.
pub fn near_limit(
    basis: Basis,
    readings: &[Reading],
    mut wants: impl FnMut(ProcessId, Bytes, Bytes) -> bool,
) -> io::Result<Vec<(Process, SystemMemory, Verdict)>> {
    let Onlooker { proc, accuracy, rules } = Onlooker::new(basis.rules, basis.accuracy)?;
    let memory = proc.memory()?;
    let quarter = |limit: Bytes| Bytes(limit.0 / 4);
    let least = rules.least_limit(&memory);
    let near = readings.iter().filter_map(|reading| {
        let pid = reading.pid;
        let start = reading.start.or_else(|| proc.start(pid))?;
        if !wants(ProcessId { pid, start }, reading.rss, least) {
            return None;
        }
        let process = proc.confirm(pid, Some(start), quarter(least), &accuracy).ok()?;
        if process.rss < quarter(rules.limit_of(&process, &memory)) {
            return None;
        }
        let verdict = policy::judge(&rules, &process, &memory);
        Some((process, memory, verdict))
    });
    Ok(near.collect())
}

impl Onlooker {
    /// The row of a process, without the memory that it shares.
    fn row(&self, process: &Process, memory: &SystemMemory) -> Row {
        let verdict = policy::judge(&self.rules, process, memory);
        let rule = self.rules.decisive(process).map(|rule| rule.name);
        Row::new(process, self.proc.parts(process.id.pid).ok(), &verdict)
            .limited(rule, self.rules.limit_of(process, memory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::procfs::ProcRoot;
    use crate::{
        model::{Measure, Pid},
        policy::{Limits, Scope, Whitelist},
        status::VerdictKind,
    };

    fn rules() -> Rules {
        Rules {
            limits: Limits::new(100.0, Bytes(1)).unwrap(),
            measure: Measure::Rss,
            whitelist: Whitelist::default(),
            scope: Scope::default(),
            honour_oom_score_adj: true,
            own_pid: Pid(std::process::id()),
            rules: vec![],
            sums: vec![],
            exemptions: vec![],
        }
    }

    #[test]
    fn this_machine_has_a_largest_process_and_this_one_is_memmon() {
        let table = nearest(Basis { rules: rules(), accuracy: Accuracy::StatmExact, survey: None }).unwrap();
        assert!(table.rows.len() <= MOST && table.rows.len() <= table.processes);
        assert!(table.rows.is_sorted_by_key(|row| Reverse(row.rss_bytes)));
        assert!(
            table.over >= table.rows.len() && !table.rows.is_empty(),
            "every process has more than a byte"
        );
        let proc = ProcRoot::real().unwrap();
        let own = proc.survey(&Accuracy::StatmExact).unwrap().readings;
        let own: Vec<_> = own.into_iter().filter(|one| one.pid == rules().own_pid).collect();
        let survey = Some((table.memory, own));
        let table = nearest(Basis { rules: rules(), accuracy: Accuracy::StatmExact, survey }).unwrap();
        let [row] = &table.rows[..] else { panic!("{table:?}") };
        assert_eq!((row.id.pid, row.verdict), (rules().own_pid, VerdictKind::Protected));
        // The other tests of this process go on meanwhile, so the two figures are of different times.
        assert!(row.parts.unwrap().anon > Bytes::ZERO && row.rss_bytes > Bytes::ZERO, "{row:?}");
    }
}

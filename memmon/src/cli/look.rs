//! The commands that only look: `memmon check` and `memmon explain`, with what they need of the machine.

use std::{io::Write, path::Path};

use anyhow::{Context as _, bail};
use jiff::Zoned;

use super::{arguments::Explain, check, exit::Exit, explain, machine};
use crate::{
    config::{self, Loaded, NameService, Users as _},
    model::{Pid, Process, Snapshot},
    policy::NamePatterns,
    status::{Body, Client, Query, SOCKET, Text},
};

/// `memmon check`, with those who are over the limit right now.
pub(super) fn check(asked: &check::Args, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Exit> {
    let machine = check::Machine {
        preflight: &machine::preflight,
        running: &machine::running,
        awaits_enable: machine::awaits_enable(asked.path.as_deref()),
    };
    Ok(check::check(asked, &NameService, &Zoned::now(), &machine, out, err)?)
}

/// `memmon explain`, of every process that is meant.
pub(super) fn explain(asked: &Explain, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Loaded { mut settings, origin, .. } = config::load(asked.config.as_deref(), &NameService)?;
    settings.follow(&Zoned::now());
    let rules = settings.rules;
    let (proc, accuracy) = machine::open(rules.measure)?;
    let memory = proc.memory()?;
    let (_, limit) = rules.limit(&memory);
    let confirm = |pid| proc.confirm(pid, None, limit, &accuracy);
    let processes: Vec<Process> = match asked.whom.parse() {
        Ok(pid) => {
            let process = confirm(Pid(pid)).with_context(|| format!("pid {pid} cannot be explained"))?;
            vec![process]
        }
        Err(_) => {
            let wanted = NamePatterns::new([asked.whom.as_str()])?;
            let named = |process: &Process| wanted.find_in(&process.names).is_some();
            proc.pids()?.into_iter().filter_map(|pid| confirm(pid).ok()).filter(named).collect()
        }
    };
    if processes.is_empty() {
        let globs = config::globs(&asked.whom).unwrap_or_default();
        let globs = globs.iter().map(|glob| format!("{glob:?}")).collect::<Vec<_>>().join(", ");
        let hint = if globs.is_empty() {
            String::new()
        } else {
            format!("; as globs, not as a regular expression: {globs}")
        };
        bail!("no process has the comm, the executable or the argv[0] {:?}{hint}", asked.whom);
    }
    let user_name = |uid| NameService.name(uid);
    let known = known(origin.as_deref());
    let text = explain::explain(&rules, &Snapshot { memory, processes }, asked.json, &user_name, &known)?;
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Exit::Ok)
}

/// What the daemon knows, if one runs by this very file, and whoever asks may ask it.
fn known(file: Option<&Path>) -> explain::Known {
    let Ok(mut client) = Client::connect(Path::new(SOCKET)) else { return explain::Known::default() };
    let file = file.map(Text::path);
    match (client.get(Query::Status), client.get(Query::Processes)) {
        (Ok(Body::Status(status)), Ok(Body::Processes(table))) if status.config.file == file => {
            let growths = table.rows.iter().map(|row| (row.id, row.growth));
            explain::Known { held_back: status.held_back, growths: growths.collect() }
        }
        _ => explain::Known::default(),
    }
}

//! The commands that only look: `memmon check` and `memmon explain`, with what they need of the machine.

use std::{io::Write, path::Path};

use anyhow::{Context as _, bail};
use jiff::Zoned;

use super::{arguments::Explain, check, exit::Exit, explain, machine, rules_used::RulesUsed};
use crate::{
    config::{self, NameService, Users as _},
    model::{Pid, Process, Snapshot},
    policy::NamePatterns,
    status::{Body, Client, ClientError, Query, SOCKET, Status, Table},
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

/// `memmon explain --machine`, by the daemon, which alone knows what has grown.
fn explain_machine(json: bool, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let mut client = Client::connect(Path::new(SOCKET))?;
    let Body::Machine(order) = client.get(Query::Machine)? else {
        bail!("the daemon answers what was not asked");
    };
    explain::machine::write(order.as_deref(), json, &NameService, out)?;
    out.flush()?;
    Ok(Exit::Ok)
}

/// `memmon explain`, of every process that is meant.
pub(super) fn explain(asked: &Explain, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Some(target) = &asked.target else { return explain_machine(asked.json, out) };
    let daemon = daemon();
    let used = match (&asked.config, &daemon) {
        (Some(file), _) => RulesUsed::of_file(Some(file), None)?,
        (None, Ok((status, _))) => match RulesUsed::of_daemon(status) {
            Some(used) => used,
            None => RulesUsed::of_file(None, Some("no daemon of this version"))?,
        },
        (None, Err(error)) => RulesUsed::of_file(None, Some(error.in_brief()))?,
    };
    let onlooker = machine::onlooker(used.rules.clone())?;
    let memory = onlooker.memory()?;
    let processes: Vec<Process> = match target.parse() {
        Ok(pid) => {
            let process = onlooker.process(Pid(pid), None, &memory);
            vec![process.with_context(|| format!("pid {pid} cannot be explained"))?]
        }
        Err(_) => onlooker.named(&NamePatterns::new([target.as_str()])?, &memory)?,
    };
    if processes.is_empty() {
        let globs = config::globs(target).unwrap_or_default();
        let globs = globs.iter().map(|glob| format!("{glob:?}")).collect::<Vec<_>>().join(", ");
        let hint = if globs.is_empty() {
            String::new()
        } else {
            format!("; as globs, not as a regular expression: {globs}")
        };
        bail!("no process has the comm, the executable or the argv[0] {target:?}{hint}");
    }
    let user_name = |uid| NameService.name(uid);
    let mut known = known(used.clone(), daemon.ok());
    known.details = explain::details(&onlooker, &processes);
    let ids = processes.iter().map(|process| process.id).collect();
    known.sums = onlooker.sums(Some(&ids), &memory)?;
    let text =
        explain::explain(onlooker.rules(), &Snapshot { memory, processes }, asked.json, &user_name, &known)?;
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Exit::Ok)
}

/// The daemon's status and its table.
fn daemon() -> Result<(Box<Status>, Table), ClientError> {
    let mut client = Client::connect(Path::new(SOCKET))?;
    match (client.get(Query::Status)?, client.get(Query::Processes)?) {
        (Body::Status(status), Body::Processes(table)) => Ok((status, table)),
        _ => Err(ClientError::Garbage("it answers what was not asked".to_owned())),
    }
}

/// What the daemon knows, if it runs by the configuration that is used.
fn known(used: RulesUsed, daemon: Option<(Box<Status>, Table)>) -> explain::Known {
    let RulesUsed { file, source: rules_from, .. } = used;
    match daemon {
        Some((status, table)) if status.config.file == file => {
            let growths = table.rows.iter().map(|row| (row.id, row.growth)).collect();
            explain::Known { rules_from, held_back: status.held_back, growths, ..explain::Known::default() }
        }
        _ => explain::Known { rules_from, ..explain::Known::default() },
    }
}

//! The commands that only look: `memmon check` and `memmon explain`, with what they need of the machine.

use std::{io::Write, path::Path};

use anyhow::{Context as _, bail};
use jiff::Zoned;

use super::{
    arguments::Explain,
    check,
    exit::{Exit, WrongCommandLine},
    explain, machine,
    rules_used::RulesUsed,
};
use crate::{
    config::{self, NameService, Users as _},
    model::{Escaped, Pid, Process, RuleName, Snapshot, Uid},
    policy::{Matcher, NamePatterns, Rules, UnitPatterns},
    report::ContainerFiles,
    status::{Body, Client, ClientError, Query, SOCKET, Status, Table},
};

/// `memmon check`, with the processes that are over the limit right now.
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
        return Err(ClientError::other_query().into());
    };
    explain::machine::write(order.as_deref(), json, &NameService, out)?;
    Ok(Exit::Ok)
}

/// `memmon explain`, of every process that the arguments name.
pub(super) fn explain(asked: &Explain, out: &mut dyn Write) -> anyhow::Result<Exit> {
    if asked.machine {
        return explain_machine(asked.json, out);
    }
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
    let mut known = known(used, daemon.ok());
    let Some(target) = &asked.target else {
        let group = group(asked, onlooker.rules())?;
        let found = explain::groups::find(&onlooker, &group)?;
        let text =
            explain::groups::explain(onlooker.rules(), &group, &found, &known, asked.json, &NameService)?;
        out.write_all(text.as_bytes())?;
        return Ok(Exit::Ok);
    };
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
    known.details = explain::details(&onlooker, &processes);
    known.containers = explain::containers(&ContainerFiles::default(), &processes);
    let ids = processes.iter().map(|process| process.id).collect();
    known.sums = onlooker.sums(Some(&ids), &memory)?;
    let text = explain::explain(
        onlooker.rules(),
        &Snapshot { memory, processes },
        asked.json,
        &NameService,
        &known,
    )?;
    out.write_all(text.as_bytes())?;
    Ok(Exit::Ok)
}

/// The processes that `--user`, `--unit` or `--rule` means.
fn group(asked: &Explain, rules: &Rules) -> anyhow::Result<explain::groups::Asked> {
    let Explain { user, unit, rule, .. } = asked;
    match (user, unit, rule) {
        (Some(name), _, _) => {
            let uid = match name.parse() {
                Ok(uid) => Uid(uid),
                Err(_) => NameService.uid(name)?.with_context(|| format!("no user has the name {name:?}"))?,
            };
            let matcher = Matcher { uids: Some([uid..=uid].into_iter().collect()), ..Matcher::default() };
            let what = NameService.name(uid).map(|name| format!("user {} ({uid})", Escaped(name.as_bytes())));
            let what = what.unwrap_or_else(|| format!("user {uid}"));
            Ok(explain::groups::Asked { what, matcher, rule: None })
        }
        (_, Some(unit), _) => {
            let units = UnitPatterns::new([unit.as_str()])
                .map_err(|error| WrongCommandLine(format!("--unit cannot be used: {error}")))?;
            let matcher = Matcher { units: Some(units), ..Matcher::default() };
            Ok(explain::groups::Asked {
                what: format!("unit {}", Escaped(unit.as_bytes())),
                matcher,
                rule: None,
            })
        }
        (_, _, Some(name)) => {
            let found = RuleName::new(name).and_then(|name| rules.named(name));
            let Some(found) = found else {
                let all = rules.rules.iter().chain(rules.sums.iter().map(|sum| &sum.rule));
                let all: Vec<_> = all.map(|rule| rule.name.to_string()).collect();
                let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
                bail!("no rule has the name {name:?}; there are {all}");
            };
            let (what, matcher) = (format!("rule {}", found.name), found.matcher.clone());
            Ok(explain::groups::Asked { what, matcher, rule: Some(found.name) })
        }
        (None, None, None) => bail!("nothing was asked for"),
    }
}

/// The daemon's status and its table.
fn daemon() -> Result<(Box<Status>, Table), ClientError> {
    let mut client = Client::connect(Path::new(SOCKET))?;
    match (client.get(Query::Status)?, client.get(Query::Processes)?) {
        (Body::Status(status), Body::Processes(table)) => Ok((status, table)),
        _ => Err(ClientError::other_query()),
    }
}

/// The daemon's facts, if it runs by the configuration that is used.
fn known(used: RulesUsed, daemon: Option<(Box<Status>, Table)>) -> explain::Known {
    let RulesUsed { file, source: rules_from, .. } = used;
    match daemon {
        Some((status, table)) if status.config.file == file => {
            let growths = table.rows.iter().map(|row| (row.id, row.growth)).collect();
            let Status { held_back, throttled, .. } = *status;
            explain::Known { rules_from, held_back, throttled, growths, ..explain::Known::default() }
        }
        _ => explain::Known { rules_from, ..explain::Known::default() },
    }
}

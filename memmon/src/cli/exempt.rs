//! `memmon exempt`: has the daemon leave processes alone for a time, and shows and ends such exemptions.

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::ArgGroup;
use serde_json::json;

use super::{
    exit::{Exit, WrongCommandLine},
    times,
};
use crate::{
    config::Users,
    model::{Exempt, Exemption, Phrase, Pid, Uid},
    status::{Body, Client, ClientError, Done, Order, Query, RulesInForce, SOCKET, Target},
};

/// Leave processes alone for a time, at any memory usage, and also if the machine is short of memory
///
/// An exemption ends by itself after at most 7 days; it survives a restart of memmon, and is never that of another process
/// that gets the same pid. It needs root or, with `status.exempt = true`, the group in `status.group`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = ArgGroup::new("of").args(["pid", "user", "unit", "job", "list", "end"]).required(true))]
pub(super) struct Args {
    /// The process
    #[arg(value_name = "PID")]
    pid: Option<u32>,
    /// The processes of a user, by name or uid
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The processes of a systemd unit; of a user's manager: user@1000.service/app-x.scope
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// The processes of a Slurm job
    #[arg(long, value_name = "NUMBER")]
    job: Option<u64>,
    /// For how long: 2h, 90m, 1d
    #[arg(long = "for", value_name = "TIME", value_parser = times::duration, conflicts_with_all = ["list", "end"])]
    lasting: Option<Duration>,
    /// The reason, which every record of it shows
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["list", "end"])]
    why: Option<String>,
    /// Show the exemptions that have not ended
    #[arg(long)]
    list: bool,
    /// Print JSON
    #[arg(long, requires = "list")]
    json: bool,
    /// End an exemption before its time, by its number
    #[arg(long, value_name = "NUMBER")]
    end: Option<u32>,
    /// The socket of the daemon
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// Carries it out, and shows the outcome.
///
/// # Errors
/// There is no daemon, it refuses, or the arguments make no sense.
pub(super) fn run(asked: &Args, users: &dyn Users, out: &mut dyn Write) -> anyhow::Result<Exit> {
    if asked.list {
        return list(asked, users, out);
    }
    let order = match asked.end {
        Some(id) => Order::EndExemption { id },
        None => exempt(asked, users)?,
    };
    let (done, heading) = match Client::connect(&asked.socket)?.order(&order)? {
        Body::Exempted(done) => (done, ""),
        Body::ExemptionEnded(done) => (done, "ended: "),
        _ => return Err(ClientError::other_query().into()),
    };
    let Done { exemption, not_stored } = done;
    writeln!(out, "{heading}{}", shown(&exemption, users))?;
    if let Some(error) = not_stored {
        bail!("this is in force, but would not survive a restart of memmon: {error}");
    }
    Ok(Exit::Ok)
}

fn exempt(asked: &Args, users: &dyn Users) -> anyhow::Result<Order> {
    let Args { pid, user, unit, job, lasting, why, .. } = asked;
    let wrong = |what: &str| WrongCommandLine(what.to_owned());
    let seconds = lasting.ok_or_else(|| wrong("--for is missing: for how long?"))?.as_secs();
    let why =
        why.as_ref().ok_or_else(|| wrong("--why is missing: memmon shows the reason in every record"))?;
    let phrase = |option: &str, text: &str| {
        Phrase::try_from(text.to_owned())
            .map_err(|error| WrongCommandLine(format!("{option} cannot be used: {error}")))
    };
    let why = phrase("--why", why)?;
    let of = match (pid, user, unit, job) {
        (Some(pid), ..) => Target::Pid(Pid(*pid)),
        (_, Some(user), ..) => Target::User(uid(user, users)?),
        (_, _, Some(unit), _) => Target::Unit(phrase("--unit", unit)?),
        (_, _, _, Some(job)) => Target::Job(*job),
        // The command line requires one of them.
        (None, None, None, None) => bail!("no process is named"),
    };
    Ok(Order::Exempt { of, seconds, why })
}

/// A user by name or uid.
pub(super) fn uid(user: &str, users: &dyn Users) -> anyhow::Result<Uid> {
    if let Ok(uid) = user.parse() {
        return Ok(Uid(uid));
    }
    users.uid(user)?.with_context(|| format!("there is no user {user:?} on this machine"))
}

fn list(asked: &Args, users: &dyn Users, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let Body::Status(status) = Client::connect(&asked.socket)?.get(Query::Status)? else {
        return Err(ClientError::other_query().into());
    };
    let Some(RulesInForce { exemptions, .. }) = status.config.rules else {
        bail!("the answer is not from a memmon of this version, as it has no exemptions");
    };
    if asked.json {
        writeln!(out, "{:#}", json!(exemptions))?;
    } else if exemptions.is_empty() {
        writeln!(out, "There are no exemptions.")?;
    }
    for exemption in exemptions.iter().filter(|_| !asked.json) {
        writeln!(out, "{}", shown(exemption, users))?;
    }
    Ok(Exit::Ok)
}

/// An exemption in one line.
pub(super) fn shown(exemption: &Exemption, users: &dyn Users) -> String {
    let Exemption { id, of, until, by, why } = exemption;
    let of = match of {
        Exempt::User(uid) => format!("User={}", users.shown(*uid)),
        Exempt::Process(_) | Exempt::Unit(_) | Exempt::Job(_) => of.to_string(),
    };
    format!("exemption {id}: {of}, until {until}, by {}, because {:?}", users.shown(*by), why.as_str())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        config::{FakeUsers, HostileUsers},
        model::UnixTime,
    };

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn order(line: &str) -> Result<Order, String> {
        let words = shlex(line);
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        exempt(&line.args, &FakeUsers(&[("john", 1000)])).map_err(|error| format!("{error:#}"))
    }

    /// Words, in which `_` stands for a blank.
    fn shlex(line: &str) -> Vec<String> {
        line.split(' ').map(|word| word.replace('_', " ")).collect()
    }

    #[test]
    fn a_command_line_is_one_order() {
        let why = Phrase::try_from("year end".to_owned()).unwrap();
        for (line, of, seconds) in [
            ("x 7 --for 2h --why year_end", Target::Pid(Pid(7)), 7200),
            ("x --user john --for 90m --why year_end", Target::User(Uid(1000)), 5400),
            ("x --user 7 --for 1d --why year_end", Target::User(Uid(7)), 86_400),
            ("x --job 7 --for 30s --why year_end", Target::Job(7), 30),
        ] {
            assert_eq!(order(line), Ok(Order::Exempt { of, seconds, why: why.clone() }), "{line}");
        }
        for (line, error) in [
            ("x --for 2h --why a", "required"),
            ("x 7 --user john --for 2h --why a", "cannot be used with"),
            ("x 7 --list", "cannot be used with"),
            ("x 7 --why a", "--for is missing"),
            ("x 7 --for 2h", "--why is missing"),
            ("x 7 --for soon --why a", "invalid value"),
            ("x 7 --for=-2h --why a", "invalid value"),
            ("x --user mallory --for 2h --why a", "no user"),
            ("x 7 --for 2h --why \u{1b}[2J", "control characters"),
        ] {
            let found = order(line).unwrap_err();
            assert!(found.contains(error), "{line}: {found}");
        }
    }

    #[test]
    fn a_terminal_obeys_no_name_of_a_user() {
        let why = Phrase::try_from("year end".to_owned()).unwrap();
        let of = Exempt::User(Uid(7));
        let shown = shown(&Exemption { id: 1, of, until: UnixTime(9), by: Uid(8), why }, &HostileUsers);
        let name = r"\u{1b}]0;\u{202e}";
        assert!(
            shown.contains(&format!("User={name},")) && shown.contains(&format!("by {name},")),
            "{shown}"
        );
    }
}

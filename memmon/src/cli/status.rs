//! `memmon status`: the daemon's state, on one screen, or as the object that it sends.

mod mine;
mod screen;

use std::{io::Write, path::PathBuf};

use jiff::tz::TimeZone;
use serde_json::Value;

use self::screen::render;
use super::exit::Exit;
use crate::{
    config::Users,
    status::{Body, Client, ClientError, MINE_SOCKET, Query, SOCKET, understood},
};

/// Show the daemon's state: source, limits, last scan, current and recent terminations
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Show your own processes instead, which every user may ask for
    #[arg(long)]
    mine: bool,
    /// Print the daemon's own JSON object
    #[arg(long)]
    json: bool,
    /// The socket of the daemon
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

/// Asks, and prints the answer.
///
/// # Errors
/// There is no answer: [`ClientError`], with a remedy.
pub(super) fn run(asked: &Args, users: &dyn Users, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let line = if asked.mine {
        Client::connect(&asked.socket.with_file_name(MINE_SOCKET)).and_then(|mut client| client.mine())
    } else {
        Client::connect(&asked.socket).and_then(|mut client| client.line(Query::Status))
    };
    let line = line.map_err(|error| advised(&error))?;
    // An answer that the daemon refuses is an error with `--json`, too.
    let text = match understood(&line)? {
        Body::Mine(_) if asked.mine && asked.json => object(&line, "mine")?,
        Body::Mine(mine) if asked.mine => mine::render(&mine, users),
        Body::Status(_) if !asked.mine && asked.json => object(&line, "status")?,
        Body::Status(status) if !asked.mine => render(&status, users, &TimeZone::system()),
        _ => return Err(ClientError::other_query().into()),
    };
    out.write_all(text.as_bytes())?;
    Ok(Exit::Ok)
}

/// The object alone, without its envelope.
fn object(line: &str, key: &str) -> anyhow::Result<String> {
    let envelope: Value = serde_json::from_str(line)?;
    let status = envelope.get(key).unwrap_or(&Value::Null);
    Ok(serde_json::to_string_pretty(status)? + "\n")
}

/// An error, and what to do.
fn advised(error: &ClientError) -> anyhow::Error {
    let help = match error {
        ClientError::NoDaemon(_) => {
            ", look at the machine without it (memmon top), or try it out (memmon run --dry-run, as root)"
        }
        _ => "",
    };
    anyhow::anyhow!("{error}{help}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FakeUsers;

    #[test]
    fn without_a_daemon_it_advises() {
        let args = Args { mine: false, json: false, socket: PathBuf::from("/nonexistent/memmon.sock") };
        let error = run(&args, &FakeUsers(&[]), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("no memmon answers at /nonexistent/memmon.sock; start it"), "{error}");
        assert_eq!(Exit::after(&anyhow::anyhow!(error)), Exit::Failure);
    }
}

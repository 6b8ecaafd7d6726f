//! The command line: what was asked for, and the exit code that answers.

mod arguments;
mod causes;
mod check;
mod doctor;
mod enable;
mod exempt;
mod exit;
mod explain;
mod history;
mod look;
mod machine;
mod matches;
mod over;
mod replay;
mod rules_used;
mod status;
mod times;
mod top;
mod unit;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};
use jiff::Zoned;

use arguments::{Arguments, Command};
use exit::Exit;

use crate::config::NameService;

/// Runs the command that this process was started with, and turns its end into an exit code.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version are no mistakes; printing fails only without a reader.
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::BadConfig } else { Exit::Ok }.into();
        }
    };
    let (out, err) = (&mut io::stdout().lock(), &mut io::stderr());
    let ended = match arguments.command {
        Command::Run(options) => crate::daemon::run(&options.into()).map(|()| Exit::Ok),
        Command::Check(asked) => look::check(&asked, out, err),
        Command::Explain(asked) => look::explain(&asked, out),
        Command::Doctor { json } => doctor::run(json, out),
        Command::Enable(asked) => enable::enable(&asked, out),
        Command::Disable(asked) => enable::disable(&asked, out),
        Command::Exempt(asked) => exempt::run(&asked, &NameService, out),
        Command::History(asked) => history::run(&asked, &NameService, &Zoned::now(), out),
        Command::Replay(asked) => replay::run(&asked, &NameService, &Zoned::now(), out),
        Command::Status(asked) => status::run(&asked, &NameService, out),
        Command::Top(asked) => top::run(&asked),
    };
    match ended.and_then(|exit| Ok(out.flush().map(|()| exit)?)) {
        Ok(exit) => exit,
        // `memmon explain … | head` is no failure.
        Err(error) if is_broken_pipe(&error) => Exit::Ok,
        Err(error) => {
            let _ = writeln!(err, "memmon: {}", causes::whole(&error));
            Exit::after(&error)
        }
    }
    .into()
}

/// The command line as a thing to look at: manuals and completions are made from it.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.into_iter().any(|kind| kind == io::ErrorKind::BrokenPipe)
}

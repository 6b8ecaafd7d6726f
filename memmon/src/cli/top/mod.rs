//! `memmon top`: the processes nearest to their limit, live. Three parts, and one loop here that connects them:
//!
//! ```text
//! feed ──Sample──▶ update(Model, Message) ──Model──▶ view ──cells──▶ terminal
//!      ◀─Command──                         keys ◀──────────────────────┘
//! ```

mod feed;
mod figures;
mod groups;
mod layout;
mod model;
mod overlay;
mod sample;
mod sort;
#[cfg(test)]
mod tests;
mod update;
mod view;

use std::{
    env,
    io::{self, IsTerminal as _},
    mem,
    os::fd::AsFd as _,
    path::PathBuf,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use self::{
    feed::Feed,
    model::Model,
    update::{Command, Message, update},
    view::{Looks, view},
};
use super::exit::Exit;
use crate::{model::ProcessId, status::SOCKET};

/// Watch the processes nearest their limit, live: memory, growth, time left, verdict and why
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Seconds between two updates
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// The socket of the daemon; without a daemon, top reads /proc itself
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    /// The configuration to use if there is no daemon
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    if (0.2..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("expected 0.2 to 3600 seconds".to_owned())
    }
}

/// Maximum time for which a key waits for a sample, and a sample for a key.
const TURN_MS: u8 = 50;

/// Shows the screen until `q`.
///
/// # Errors
/// There is no terminal, or it is gone.
pub(super) fn run(asked: &Args) -> anyhow::Result<Exit> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("top needs a terminal: for programs there is `memmon status --json`");
    }
    // Before there is a second thread, which would take the signals.
    let ends = ends().context("cannot listen for signals")?;
    let (reported, messages) = mpsc::channel();
    let (ask, asked_for) = mpsc::channel();
    let feed = Feed::new(asked.socket.clone(), asked.config.clone());
    let interval = asked.interval;
    thread::Builder::new()
        .name("memmon-feed".into())
        .spawn(move || feed.run(interval, &asked_for, &reported))
        .context("no thread to look with")?;
    let mut terminal = ratatui::try_init().context("cannot set the terminal up")?;
    let ended = turn(&mut terminal, &messages, &ask, &ends);
    // The terminal is restored in any case. If it is gone, ratatui would print that to it, here and when `terminal` is dropped,
    // and a print that fails aborts the program.
    if ratatui::try_restore().is_err() {
        mem::forget(terminal);
    }
    ended.map(|()| Exit::Ok)
}

fn turn(
    terminal: &mut ratatui::DefaultTerminal,
    messages: &mpsc::Receiver<Message>,
    ask: &mpsc::Sender<ProcessId>,
    ends: &SignalFd,
) -> anyhow::Result<()> {
    let looks = looks();
    let size = terminal.size().context("the terminal has no size")?;
    let (mut model, _) = update(Model::default(), Message::Size(size.width, size.height));
    let mut stale = true;
    loop {
        if stale {
            terminal.draw(|frame| view(&model, looks, frame)).context("the terminal is gone")?;
        }
        let mut news: Vec<_> = messages.try_iter().collect();
        if ended(ends).context("cannot wait for the terminal")? {
            return Ok(());
        }
        // All keys: poll does not report keys that crossterm has read already.
        while event::poll(Duration::ZERO).context("the terminal is gone")? {
            match event::read().context("the terminal is gone")? {
                Event::Key(key) if key.kind != KeyEventKind::Release => news.push(Message::Key(key)),
                Event::Resize(columns, rows) => news.push(Message::Size(columns, rows)),
                _ => {}
            }
        }
        stale = !news.is_empty();
        for message in news {
            let command;
            (model, command) = update(model, message);
            match command {
                Some(Command::Quit) => return Ok(()),
                // Without its feed top still shows the last sample.
                Some(Command::Explain(process)) => drop(ask.send(process)),
                None => {}
            }
        }
    }
}

/// Waits for a key, with a timeout. Returns true if a signal asks top to end, or the terminal has hung up: at end of file
/// crossterm would read for ever.
fn ended(ends: &SignalFd) -> nix::Result<bool> {
    let keys = io::stdin();
    let mut fds =
        [PollFd::new(keys.as_fd(), PollFlags::POLLIN), PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(TURN_MS)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error),
    }
    // No flags if the kernel set one that nix does not know, which top does not ask for.
    let [keys, ends] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
    let hung_up = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    Ok(!ends.is_empty() || keys.intersects(hung_up))
}

/// Readable at a signal that would otherwise end top without restoring the terminal.
fn ends() -> nix::Result<SignalFd> {
    let mask = SigSet::from_iter([Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT]);
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// The looks for this terminal, from the environment: NO_COLOR (no-color.org) and the locale.
fn looks() -> Looks {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    let unicode = locale.is_some_and(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    });
    Looks { colour: !set("NO_COLOR") && env::var("TERM").as_deref() != Ok("dumb"), unicode }
}

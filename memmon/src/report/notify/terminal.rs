//! A line on the terminal of a process that is near its limit or is terminated, so that its user learns why it ended.
//!
//! It is as with write(1): the terminal must belong to the user of the process, and the group `tty` must be allowed to write
//! to it (mesg(1)). A terminal that is held (Ctrl-S) or gone never delays memmon.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    model::{Action, Limit, NotifyUser, SumFigures},
    report::event::{Event, Subject},
};

/// Lines that may wait for the thread.
const QUEUE: usize = 64;

/// Lines that a terminal gets within a minute: enough for a few processes, and too few to be a nuisance.
const LINES_PER_MINUTE: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);

/// `S_IWGRP`: what `mesg y` sets.
const GROUP_MAY_WRITE: u32 = 0o020;

/// The thread that writes to terminals. It ends when this is dropped.
pub(super) struct Terminals {
    queue: SyncSender<Line>,
}

/// A line, and the terminal of the user that it is for.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    terminal: String,
    uid: u32,
    text: String,
}

impl Terminals {
    pub(super) fn start() -> io::Result<Self> {
        let (queue, lines) = mpsc::sync_channel(QUEUE);
        thread::Builder::new().name("memmon-terminal".to_owned()).spawn(move || serve(&lines))?;
        Ok(Self { queue })
    }

    /// Hands over what the event's user should know. Never waits: the log has every event.
    pub(super) fn offer(&self, event: &Event) {
        if let Some(line) = line(event) {
            let _ = self.queue.try_send(line);
        }
    }
}

fn serve(lines: &Receiver<Line>) {
    let mut written: HashMap<String, (Instant, u32)> = HashMap::new();
    for line in lines {
        let now = Instant::now();
        written.retain(|_, (since, _)| now.saturating_duration_since(*since) < MINUTE);
        let (_, count) = written.entry(line.terminal.clone()).or_insert((now, 0));
        *count += 1;
        if *count <= LINES_PER_MINUTE {
            // The user has logged out, does not want messages, or has stopped the output.
            let _ = write(&Path::new("/dev").join(&line.terminal), line.uid, &line.text);
        }
    }
}

/// The line for the user of a process, and its destination.
fn line(event: &Event) -> Option<Line> {
    let subject = event.subject()?;
    let Subject { id, name, uid, notify_user, .. } = subject;
    // In a container the same name is another terminal.
    let is_here = subject.workload.as_ref().is_none_or(|workload| workload.container.is_none());
    let terminal = subject.launched.as_ref()?.terminal.clone().filter(|_| is_here)?;
    let is_wanted = match event {
        Event::Approaching { .. } => notify_user.is_none_or(NotifyUser::is_before),
        Event::OverRule { .. } => notify_user.is_some_and(NotifyUser::is_before),
        _ => notify_user.is_none_or(NotifyUser::is_after),
    };
    if !is_wanted {
        return None;
    }
    let process = format!("your process {} ({name})", id.pid);
    let text = match event {
        Event::Approaching { rss, limit, action, .. } => {
            let follows = if *action == Action::Stop { "stopped" } else { "terminated" };
            format!("{process} has {rss} of memory. It is {follows} if it exceeds its limit of {limit}")
        }
        Event::OverRule { breach, .. } => {
            format!("{process} has {} of memory, which is more than {}", breach.rss, breach.limit)
        }
        Event::Killing { breach, signal, dry_run: false, sum, .. } => {
            let why = match sum {
                None if breach.rule == Limit::Machine => "and the machine is short of memory".to_owned(),
                None => format!("its limit is {}", breach.limit),
                Some(SumFigures { total, limit, members, .. }) => {
                    format!("and {members} processes together have {total}, their limit is {limit}")
                }
            };
            format!("{process} has {} of memory, {why}. It is asked to exit ({signal})", breach.rss)
        }
        Event::Stopped { breach, already: false, dry_run: false, .. } if breach.rule == Limit::Machine => {
            format!(
                "{process} is stopped: the machine is short of memory, and it writes files that are in memory. \
                 Remove them, then continue it: kill -CONT {}",
                id.pid
            )
        }
        Event::Stopped { breach, already: false, dry_run: false, .. } => format!(
            "{process} is stopped: it has {} of memory, its limit is {}. To continue it: kill -CONT {}",
            breach.rss, breach.limit, id.pid
        ),
        Event::GraceOver { rss, .. } => format!("{process} did not exit. It is killed, with {rss} of memory"),
        Event::Spared { rss, .. } => format!("{process} has {rss} of memory now, and may go on"),
        _ => return None,
    };
    Some(Line { terminal, uid: uid.0, text: format!("\r\nmemmon: {text}.\r\n") })
}

fn write(device: &Path, uid: u32, text: &str) -> io::Result<()> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
    let mut terminal = OpenOptions::new().write(true).custom_flags(flags).open(device)?;
    let found = terminal.metadata()?;
    let is_wanted = found.file_type().is_char_device()
        && terminal.is_terminal()
        && found.uid() == uid
        && found.mode() & GROUP_MAY_WRITE != 0;
    if !is_wanted {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    terminal.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Name, Workload},
        report::samples,
    };

    #[test]
    fn the_user_is_shown_what_happens_to_the_process_and_nothing_else() {
        let text = |event: &Event| line(event).map(|line| line.text);
        let killing = |dry_run| Event::Killing {
            subject: samples::chrome(),
            breach: samples::BREACH,
            signal: crate::model::Signal::Term,
            dry_run,
            sum: None,
        };
        assert_eq!(
            text(&killing(false)).unwrap(),
            "\r\nmemmon: your process 12345 (chrome) has 3.50GB of memory, its limit is 2.00GB. It is asked to exit (SIGTERM).\r\n"
        );
        assert_eq!(text(&killing(true)), None);
        let stopped = |already, dry_run| {
            let (subject, breach) = (samples::chrome(), samples::BREACH);
            Event::Stopped { subject, breach, times: 1, already, dry_run }
        };
        assert_eq!(
            text(&stopped(false, false)).unwrap(),
            "\r\nmemmon: your process 12345 (chrome) is stopped: it has 3.50GB of memory, its limit is 2.00GB. To continue it: kill -CONT 12345.\r\n"
        );
        assert_eq!((text(&stopped(true, false)), text(&stopped(false, true))), (None, None));
        let breach = crate::model::Breach { rule: Limit::Machine, ..samples::BREACH };
        let for_machine = Event::Killing {
            subject: samples::chrome(),
            breach,
            signal: crate::model::Signal::Term,
            dry_run: false,
            sum: None,
        };
        assert!(
            text(&for_machine).unwrap().contains("has 3.50GB of memory, and the machine is short of memory.")
        );
        for event in samples::samples() {
            let Some(line) = line(&event) else { continue };
            assert_eq!((line.terminal.as_str(), line.uid), ("pts/3", 1000));
            assert!(line.text.trim().chars().all(|letter| !letter.is_control()), "{line:?}");
        }
    }

    #[test]
    fn the_users_rule_decides_when_there_is_a_line() {
        let has_line = |when| {
            let subject = || Subject { notify_user: when, ..samples::chrome() };
            let breach = samples::BREACH;
            let (rss, limit) = (breach.rss, breach.limit);
            let events = [
                Event::Approaching {
                    subject: subject(),
                    rss,
                    limit,
                    action: Action::Terminate,
                    growth: None,
                    time_to_limit: None,
                },
                Event::OverRule { subject: subject(), breach },
                Event::Killing {
                    subject: subject(),
                    breach,
                    signal: crate::model::Signal::Term,
                    dry_run: false,
                    sum: None,
                },
            ];
            events.map(|event| line(&event).is_some())
        };
        assert_eq!(has_line(None), [true, false, true]);
        assert_eq!(has_line(Some(NotifyUser::Before)), [true, true, false]);
        assert_eq!(has_line(Some(NotifyUser::After)), [false, false, true]);
        assert_eq!(has_line(Some(NotifyUser::Both)), [true, true, true]);
        assert_eq!(has_line(Some(NotifyUser::Never)), [false, false, false]);
    }

    #[test]
    fn no_name_reaches_a_terminal_unescaped() {
        let subject =
            crate::report::event::Subject { name: Name::new(*b"\x1b]0;x\x07\n"), ..samples::chrome() };
        let text = line(&Event::Killing {
            subject,
            breach: samples::BREACH,
            signal: crate::model::Signal::Term,
            dry_run: false,
            sum: None,
        })
        .unwrap()
        .text;
        assert!(text.trim().chars().all(|letter| !letter.is_control()), "{text:?}");
    }

    #[test]
    fn a_process_in_a_container_has_no_terminal_here() {
        let workload = Workload::of(&Name::from("/lxc.payload.web"));
        let subject = crate::report::event::Subject { workload, ..samples::chrome() };
        assert_eq!(
            line(&Event::Killing {
                subject,
                breach: samples::BREACH,
                signal: crate::model::Signal::Term,
                dry_run: false,
                sum: None
            }),
            None
        );
    }

    #[test]
    fn only_a_terminal_is_written_to() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let uid = file.as_file().metadata().unwrap().uid();
        assert!(write(file.path(), uid, "text").is_err());
        assert!(write(Path::new("/dev/null"), 0, "text").is_err());
        assert_eq!(file.as_file().metadata().unwrap().len(), 0);
    }
}

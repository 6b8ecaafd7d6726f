//! The source of top's samples: the daemon or, if none answers, /proc. It has a thread of its own, so that keys never
//! wait for it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Zoned;

use super::model::{Message, Sample};
use crate::{
    cli::explain,
    config::{self, NameService, Settings, Users as _},
    daemon::{Basis, nearest},
    model::{Escaped, Pid, ProcessId, Snapshot, Uid},
    observe::{
        procfs::{Accuracy, ProcRoot},
        support::{self, Facts},
    },
    policy::Rules,
    status::{Body, Client, ClientError, Query, Status, Table},
};

/// Takes samples, and explains processes.
pub(super) struct Feed {
    socket: PathBuf,
    config: Option<PathBuf>,
    accuracy: Accuracy,
    began: Instant,
    client: Option<Client>,
    /// The daemon's last status, which has its configuration file and its pid.
    status: Option<Box<Status>>,
    users: BTreeMap<Uid, String>,
    settings: Option<Settings>,
}

impl Feed {
    pub(super) fn new(socket: PathBuf, config: Option<PathBuf>) -> Self {
        Self {
            socket,
            config,
            accuracy: support::assess(&Facts::gather()).accuracy(),
            began: Instant::now(),
            client: None,
            status: None,
            users: BTreeMap::new(),
            settings: None,
        }
    }

    /// Sends a sample at each `interval`, and an explanation for each requested process, until the receiver is gone.
    pub(super) fn run(mut self, interval: Duration, asked: &Receiver<ProcessId>, told: &Sender<Message>) {
        let mut due = Instant::now();
        loop {
            let message = match asked.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(process) => {
                    let text = self.explain(process);
                    Message::Explained(process, text.unwrap_or_else(|error| shown(&error)))
                }
                Err(RecvTimeoutError::Timeout) => {
                    let sample = self.sample();
                    // Counted from the end of the sample, so that slow samples do not follow each other at once.
                    due = Instant::now() + interval;
                    match sample {
                        Ok(sample) => Message::Sample(Box::new(sample)),
                        Err(error) => Message::Trouble(shown(&error)),
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if told.send(message).is_err() {
                return;
            }
        }
    }

    fn sample(&mut self) -> anyhow::Result<Sample> {
        let (table, alone) = match self.ask() {
            Ok(table) => (table, None),
            Err(error) => {
                (self.client, self.status) = (None, None);
                let why = match error {
                    ClientError::NoDaemon(_) => "no daemon",
                    ClientError::NotForYou(_) => "the daemon is not for you",
                    ClientError::Refused(_) => "the daemon is busy",
                    ClientError::Garbage(_) => "no daemon of this version",
                    ClientError::Broken(_) => "the daemon does not answer",
                };
                (self.look()?, Some(why.to_owned()))
            }
        };
        let uids: Vec<_> = table.rows.iter().map(|row| row.uid).collect();
        for uid in uids {
            self.users.entry(uid).or_insert_with(|| {
                let name = NameService.name(uid);
                name.map_or_else(|| uid.to_string(), |name| Escaped(name.as_bytes()).to_string())
            });
        }
        Ok(Sample {
            at: self.began.elapsed().as_secs_f64(),
            table,
            status: self.status.clone(),
            alone,
            users: self.users.clone(),
        })
    }

    /// The daemon's table, and its status with it.
    fn ask(&mut self) -> Result<Table, ClientError> {
        // Connects again, if the daemon was restarted or has dropped its oldest clients.
        if let Some(client) = self.client.take()
            && let Ok(table) = self.ask_through(client)
        {
            return Ok(table);
        }
        self.ask_through(Client::connect(&self.socket)?)
    }

    fn ask_through(&mut self, mut client: Client) -> Result<Table, ClientError> {
        let other = || ClientError::Garbage("it answers what was not asked".to_owned());
        let Body::Processes(table) = client.get(Query::Processes)? else { return Err(other()) };
        let Body::Status(status) = client.get(Query::Status)? else { return Err(other()) };
        self.status = Some(status);
        self.client = Some(client);
        Ok(table)
    }

    /// A sample without a daemon, by the rules that one would have.
    fn look(&mut self) -> anyhow::Result<Table> {
        let settings = match &mut self.settings {
            Some(settings) => settings,
            None => self.settings.insert(config::load(self.config.as_deref(), &NameService)?.settings),
        };
        settings.follow(&Zoned::now());
        let rules = settings.rules.clone();
        nearest(Basis { rules, accuracy: self.accuracy, survey: None }).context("/proc cannot be read")
    }

    /// The output of `memmon explain`, by the current content of the daemon's configuration file.
    fn explain(&self, process: ProcessId) -> anyhow::Result<String> {
        let file = self.status.as_ref().and_then(|status| status.config.file.as_ref());
        let file = file.map(|file| PathBuf::from(file.as_str()));
        let mut rules = rules(file.as_deref().or(self.config.as_deref()))?;
        if let Some(status) = &self.status {
            rules.own_pid = status.pid;
        }
        let proc = ProcRoot::real()?.onlooking().measuring(rules.measure);
        let memory = proc.memory()?;
        let (_, limit) = rules.limit(&memory);
        let Pid(pid) = process.pid;
        let process = proc
            .confirm(process.pid, Some(process.start), limit, &self.accuracy)
            .with_context(|| format!("pid {pid} cannot be explained"))?;
        let snapshot = Snapshot { memory, processes: vec![process] };
        let held_back = self.status.as_ref().map(|status| status.held_back.clone()).unwrap_or_default();
        // The table already shows its growth.
        let known = explain::Known { held_back, ..explain::Known::default() };
        Ok(explain::explain(&rules, &snapshot, false, &|uid| NameService.name(uid), &known)?)
    }
}

fn rules(file: Option<&Path>) -> anyhow::Result<Rules> {
    let mut settings = config::load(file, &NameService)?.settings;
    settings.follow(&Zoned::now());
    Ok(settings.rules)
}

/// The text of an error, which may contain text from a file: lines are kept, control characters are not.
fn shown(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().map(|line| Escaped(line.as_bytes()).to_string()).collect::<Vec<_>>().join("\n")
}

//! The source of top's samples: the daemon or, if none answers, /proc. It has a thread of its own, so that keys never
//! wait for it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    sample::{Alone, Sample},
    update::Message,
};
use crate::{
    cli::{explain, rules_used::RulesUsed},
    config::{NameService, Users as _},
    inspect::{Basis, Onlooker, nearest},
    model::{Escaped, ProcessId, Snapshot, Uid},
    observe::{
        procfs::Accuracy,
        support::{self, Facts},
    },
    policy::Rules,
    report::ContainerFiles,
    status::{Body, Client, ClientError, Query, Status, Table},
};

/// Takes samples, and explains processes.
pub(super) struct Feed {
    socket: PathBuf,
    config: Option<PathBuf>,
    accuracy: Accuracy,
    began: Instant,
    client: Option<Client>,
    /// The daemon's last status, which has its rules.
    status: Option<Box<Status>>,
    users: BTreeMap<Uid, String>,
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
        }
    }

    /// Sends a sample at each `interval`, and an explanation for each requested process, until the receiver is gone.
    pub(super) fn run(mut self, interval: Duration, asked: &Receiver<ProcessId>, reported: &Sender<Message>) {
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
            if reported.send(message).is_err() {
                return;
            }
        }
    }

    fn sample(&mut self) -> anyhow::Result<Sample> {
        let (table, alone) = match self.ask() {
            Ok(table) => (table, None),
            Err(error) => {
                (self.client, self.status) = (None, None);
                let used = self.own_rules()?;
                let alone = Alone { why: error.in_brief(), rules_from: used.source.clone() };
                (self.look(used.rules)?, Some(alone))
            }
        };
        let sums = self.status.as_ref().map(|status| status.sums.clone()).unwrap_or_default();
        let of_sums = sums.iter().filter_map(|sum| sum.group.uid);
        let uids: Vec<_> = table.rows.iter().map(|row| row.uid).chain(of_sums).collect();
        for uid in uids {
            self.users.entry(uid).or_insert_with(|| NameService.shown(uid));
        }
        Ok(Sample {
            at: self.began.elapsed().as_secs_f64(),
            table,
            sums,
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
        let Body::Processes(table) = client.get(Query::Processes)? else {
            return Err(ClientError::other_query());
        };
        let Body::Status(status) = client.get(Query::Status)? else { return Err(ClientError::other_query()) };
        self.status = Some(status);
        self.client = Some(client);
        Ok(table)
    }

    /// The rules without a daemon: those that one would have.
    fn own_rules(&self) -> anyhow::Result<RulesUsed> {
        RulesUsed::of_file(self.config.as_deref(), None)
    }

    /// A sample without a daemon.
    fn look(&self, rules: Rules) -> anyhow::Result<Table> {
        nearest(Basis { rules, accuracy: self.accuracy, survey: None }).context("/proc cannot be read")
    }

    /// The output of `memmon explain`, by the rules that the table was judged by.
    fn explain(&self, process: ProcessId) -> anyhow::Result<String> {
        let RulesUsed { rules, source, .. } = match self.status.as_deref().and_then(RulesUsed::of_daemon) {
            Some(used) => used,
            None => self.own_rules()?,
        };
        let onlooker = Onlooker::new(rules, self.accuracy)?.in_detail();
        let memory = onlooker.memory()?;
        let found = onlooker.process(process.pid, Some(process.start), &memory);
        let processes = vec![found.with_context(|| format!("pid {process} cannot be explained"))?];
        let details = explain::details(&onlooker, &processes);
        let containers = explain::containers(&ContainerFiles::default(), &processes);
        let snapshot = Snapshot { memory, processes };
        let held_back = self.status.as_ref().map(|status| status.held_back.clone()).unwrap_or_default();
        // The table already shows its growth.
        let known = explain::Known {
            rules_from: source,
            held_back,
            details,
            containers,
            ..explain::Known::default()
        };
        Ok(explain::explain(onlooker.rules(), &snapshot, false, &NameService, &known)?)
    }
}

/// The text of an error, which may contain text from a file: lines are kept, control characters are not.
fn shown(error: &anyhow::Error) -> String {
    let text = crate::cli::causes::whole(error);
    text.lines().map(|line| Escaped(line.as_bytes()).to_string()).collect::<Vec<_>>().join("\n")
}

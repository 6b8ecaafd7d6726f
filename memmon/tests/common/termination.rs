//! Executes the orders of `enforce` as the daemon does, and records the results.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    fs,
    os::fd::AsFd,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use memmon::{
    enforce::{Check, Course, Effect, Errno, EscalationTiming, Event, Order, Outcome, Reaper, Victims},
    model::{
        Breach, Bytes, Fact, Limit, Names, Pid, Process, ProcessId, Record, Signal, StartTime, Uid,
        Unconfirmed, Verdict,
    },
};
use nix::poll::{PollFd, PollFlags, ppoll};

/// The limit of every process here.
pub const LIMIT: Bytes = Bytes(20 * Bytes::MIB);

/// The victims, with the reported outcomes and the sent signals.
pub struct Driver {
    pub victims: Victims,
    reaper: Reaper,
    pub reclaimed: Receiver<(ProcessId, Result<(), Errno>)>,
    pub freed: Vec<Result<(), Errno>>,
    pub reported: Vec<(Pid, Outcome)>,
    pub sent: Vec<(Pid, Signal, Result<(), Errno>)>,
    /// Whether a stopped process is continued after its first signal.
    pub continues: bool,
}

impl Driver {
    pub fn new(grace: Duration) -> Self {
        let timing = EscalationTiming { grace, lingering: Duration::from_secs(2), reclaim: true };
        let (done, reclaimed) = channel();
        let reaper = Reaper::start(move |id, outcome| {
            let _ = done.send((id, outcome));
        })
        .unwrap();
        let victims = Victims::new(timing).unwrap();
        Self { victims, reaper, reclaimed, freed: vec![], reported: vec![], sent: vec![], continues: true }
    }

    /// Starts the termination of the process that has `pid` now, and executes the orders.
    pub fn start_termination(&mut self, pid: u32) -> ProcessId {
        let process = confirm(pid).unwrap();
        let id = process.id;
        let breach = breach(&process);
        let orders = self.victims.start_termination(process, breach, Course::default(), Instant::now());
        self.execute(orders);
        id
    }

    pub fn execute(&mut self, orders: Vec<Order>) {
        let mut orders = VecDeque::from(orders);
        while let Some(Order { process, effect }) = orders.pop_front() {
            let id = process.id;
            let event = match effect {
                Effect::Open => self.victims.open(id),
                Effect::Check => look_again(id),
                Effect::Send(warrant) => {
                    let signal = warrant.signal();
                    let event = self.victims.send(warrant, || self.continues && is_stopped(id.pid.0));
                    let Event::Sent(outcome) = event else { panic!("{event:?}") };
                    self.sent.push((id.pid, signal, outcome));
                    event
                }
                Effect::Reclaim => {
                    self.victims.reclaim(id, &self.reaper);
                    continue;
                }
                Effect::Report(outcome) => {
                    self.reported.push((id.pid, outcome));
                    continue;
                }
            };
            orders.extend(self.victims.handle(id, event, Instant::now()));
        }
    }

    /// Waits for the next exit, deadline or reclaimed memory, and executes the orders.
    pub fn step(&mut self) {
        let wait = self.victims.next_deadline().map_or(Duration::from_secs(5), |deadline| {
            deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(5))
        });
        ppoll(&mut [PollFd::new(self.victims.as_fd(), PollFlags::POLLIN)], Some(wait.into()), None).unwrap();
        let orders = self.victims.wake(Instant::now()).unwrap();
        self.execute(orders);
        while let Ok((id, outcome)) = self.reclaimed.try_recv() {
            self.freed.push(outcome);
            let orders = self.victims.handle(id, Event::Reclaimed(outcome.map(|()| None)), Instant::now());
            self.execute(orders);
        }
    }

    /// Continues until no termination is in progress.
    pub fn finish(&mut self) {
        let begun = Instant::now();
        while self.victims.in_flight() > 0 {
            assert!(begun.elapsed() < super::PATIENCE, "{:?}", self.victims);
            self.step();
        }
    }

    pub fn signals(&self) -> Vec<Signal> {
        self.sent.iter().map(|(_, signal, _)| *signal).collect()
    }

    /// The record of the only victim's end.
    pub fn record(&self) -> &Record {
        match self.reported.last() {
            Some((_, Outcome::Gone(record))) => record,
            other => panic!("not gone: {other:?}"),
        }
    }
}

/// Executes [`Effect::Check`] as the daemon does: confirms and judges. The facts come from /proc; the only rule is a
/// limit.
pub fn look_again(id: ProcessId) -> Event {
    Event::Checked(match confirm(id.pid.0) {
        Some(found) => {
            let over = found.rss > LIMIT;
            let verdict = if over { Verdict::Terminate(breach(&found)) } else { Verdict::Within };
            Check::judged(id, &found, verdict, LIMIT)
        }
        None => Check::Unconfirmed(Unconfirmed::Gone),
    })
}

fn is_stopped(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
}

pub fn breach(process: &Process) -> Breach {
    Breach { rule: Limit::Gb, limit: LIMIT, rss: process.rss, percent: 0.1, by: None }
}

/// The facts that matter here: the process's identity, and its RSS, from a living thread if the leader has exited.
pub fn confirm(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let start = stat.rsplit(") ").next()?.split(' ').nth(19)?.parse().ok()?;
    let resident = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        kib.trim().strip_suffix(" kB")?.parse().ok()
    };
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let rss = threads.filter_map(|thread| resident(thread.ok()?)).max().unwrap_or(0);
    Some(Process {
        id: ProcessId { pid: Pid(pid), start: StartTime(start) },
        parent: Pid::INIT,
        rss: Bytes::from_kib(rss),
        error: Bytes::ZERO,
        real_uid: Uid(1000),
        effective_uid: Uid(1000),
        names: Names { comm: "hog".into(), exe: Fact::Absent, argv0: Fact::Absent, script: None },
        cgroup: Fact::Absent,
        container: None,
        oom_score_adj: Fact::Known(0),
        kernel_thread: false,
        inherited: Fact::Absent,
        holdings: None,
        launch: Default::default(),
        parts: None,
        facts: memmon::model::MatchFacts::default(),
    })
}

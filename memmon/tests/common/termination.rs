//! Carries out what `enforce` orders, as the daemon does it, and keeps what came of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    fs,
    os::fd::AsFd,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use memmon::{
    enforce::{Check, Effect, Errno, EscalationTiming, Event, Order, Outcome, Reaper, Victims},
    model::{
        Breach, Bytes, Fact, Limit, Names, Pid, Process, ProcessId, Record, Signal, StartTime, Uid,
        Unconfirmed, Verdict,
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Over this a process is over its limit here.
pub const LIMIT: Bytes = Bytes(20 * Bytes::MIB);

/// The victims, and what was told of them and sent to them.
pub struct Court {
    pub victims: Victims,
    reaper: Reaper,
    pub reclaimed: Receiver<(ProcessId, Result<(), Errno>)>,
    pub freed: Vec<Result<(), Errno>>,
    pub told: Vec<(Pid, Outcome)>,
    pub sent: Vec<(Pid, Signal, Result<(), Errno>)>,
}

impl Court {
    pub fn new(grace: Duration) -> Self {
        let patience = EscalationTiming { grace, lingering: Duration::from_secs(2), reclaim: true };
        let (done, reclaimed) = channel();
        let reaper = Reaper::start(move |whom, outcome| {
            let _ = done.send((whom, outcome));
        })
        .unwrap();
        let victims = Victims::new(patience).unwrap();
        Self { victims, reaper, reclaimed, freed: vec![], told: vec![], sent: vec![] }
    }

    /// Condemns what has `pid` now and carries out what that orders.
    pub fn start_termination(&mut self, pid: u32) -> ProcessId {
        let process = confirm(pid).unwrap();
        let whom = process.id;
        let breach = breach(&process);
        let orders = self.victims.start_termination(process, breach, Instant::now());
        self.carry_out(orders);
        whom
    }

    pub fn carry_out(&mut self, orders: Vec<Order>) {
        let mut orders = VecDeque::from(orders);
        while let Some(Order { process, effect }) = orders.pop_front() {
            let whom = process.id;
            let event = match effect {
                Effect::Open => self.victims.open(whom),
                Effect::Check => look_again(whom),
                Effect::Send(warrant) => {
                    let signal = warrant.signal();
                    let event = self.victims.send(warrant);
                    let Event::Sent(outcome) = event else { panic!("{event:?}") };
                    self.sent.push((whom.pid, signal, outcome));
                    event
                }
                Effect::Reclaim => {
                    self.victims.reclaim(whom, &self.reaper);
                    continue;
                }
                Effect::Tell(outcome) => {
                    self.told.push((whom.pid, outcome));
                    continue;
                }
            };
            orders.extend(self.victims.handle(whom, event, Instant::now()));
        }
    }

    /// Waits for the next exit, deadline or reclaimed memory, and carries on.
    pub fn turn(&mut self) {
        let wait = self.victims.next_deadline().map_or(Duration::from_secs(5), |deadline| {
            deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(5))
        });
        poll(
            &mut [PollFd::from_borrowed_fd(self.victims.as_fd(), PollFlags::IN)],
            Some(&Timespec::try_from(wait).unwrap()),
        )
        .unwrap();
        let orders = self.victims.wake(Instant::now()).unwrap();
        self.carry_out(orders);
        while let Ok((whom, outcome)) = self.reclaimed.try_recv() {
            self.freed.push(outcome);
            let orders = self.victims.handle(whom, Event::Reclaimed(outcome), Instant::now());
            self.carry_out(orders);
        }
    }

    /// Carries on until nobody is in hand.
    pub fn finish(&mut self) {
        let begun = Instant::now();
        while self.victims.in_flight() > 0 {
            assert!(begun.elapsed() < super::PATIENCE, "{:?}", self.victims);
            self.turn();
        }
    }

    pub fn signals(&self) -> Vec<Signal> {
        self.sent.iter().map(|(_, signal, _)| *signal).collect()
    }

    /// What was told of the end of the only victim.
    pub fn record(&self) -> &Record {
        match self.told.last() {
            Some((_, Outcome::Gone(record))) => record,
            other => panic!("not gone: {other:?}"),
        }
    }
}

/// What the daemon does on [`Effect::Check`]: confirm and judge. The facts are the real ones of /proc, the rule a
/// limit and nothing else.
pub fn look_again(whom: ProcessId) -> Event {
    Event::Checked(match confirm(whom.pid.0) {
        Some(found) => {
            let over = found.rss > LIMIT;
            let verdict = if over { Verdict::Terminate(breach(&found)) } else { Verdict::Within };
            Check::judged(whom, &found, verdict, LIMIT)
        }
        None => Check::Unconfirmed(Unconfirmed::Gone),
    })
}

pub fn breach(process: &Process) -> Breach {
    Breach { rule: Limit::Gb, limit: LIMIT, rss: process.rss, percent: 0.1 }
}

/// What of a process matters here: who it is and its RSS, of a thread that lives where the leader has exited.
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
        names: Names { comm: "hog".into(), exe: Fact::Absent, argv0: Fact::Absent },
        cgroup: Fact::Absent,
        oom_score_adj: Fact::Known(0),
        kernel_thread: false,
    })
}

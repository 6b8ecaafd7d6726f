//! All victims at once: who they are, how far each has come, and their pidfds.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Instant,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
};

use super::{
    Effect, Effects, EscalationTiming, Event, Evidence, OpenedProcess, Phase, Pidfd, Reaper, State, Warrant,
    escalate,
};
use crate::model::{Breach, Crossed, Process, ProcessId};

/// The processes that are being terminated. One waits for none of the others.
///
/// The daemon calls [`Victims::wake`] when this is readable (as a descriptor: some victim has ended) and when
/// [`Victims::next_deadline`] has come, and carries out the orders that it gets from any call here.
#[derive(Debug)]
pub struct Victims {
    table: BTreeMap<ProcessId, Victim>,
    patience: EscalationTiming,
    /// An epoll instance with every victim's pidfd in it.
    exits: OwnedFd,
    /// Names the victims in `exits`: two of them may have had the same pid.
    next_ticket: u64,
}

#[derive(Debug)]
struct Victim {
    process: Arc<Process>,
    state: State,
    pidfd: Option<Arc<Pidfd>>,
    ticket: u64,
}

/// Something to be done for one victim.
#[derive(Debug)]
pub struct Order {
    /// The victim, as it was when it was condemned.
    pub process: Arc<Process>,
    /// What.
    pub effect: Effect,
}

impl Victims {
    /// No victims.
    ///
    /// # Errors
    /// Those of epoll_create(2): descriptors or memory are short.
    pub fn new(patience: EscalationTiming) -> Result<Self, Errno> {
        let exits = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { table: BTreeMap::new(), patience, exits, next_ticket: 0 })
    }

    /// Has `process` terminated. One that is in hand already only has its peak noted.
    pub fn start_termination(&mut self, process: Process, breach: Breach, now: Instant) -> Vec<Order> {
        let whom = process.id;
        if self.table.contains_key(&whom) {
            return self.handle(whom, Event::Seen(breach.rss), now);
        }
        let (state, effects) = State::start_termination(whom, breach);
        self.take(process, state, effects, None)
    }

    /// Has a process terminated that was opened as `held` before `evidence` was gathered: SIGTERM is next, without
    /// another look.
    pub fn start_opened(
        &mut self,
        held: OpenedProcess,
        process: Process,
        evidence: Evidence,
        crossed: Option<Crossed>,
        now: Instant,
    ) -> Vec<Order> {
        let whom = process.id;
        if self.table.contains_key(&whom) || held.pid() != whom.pid || evidence.whom != whom {
            return self.handle(whom, Event::Seen(process.rss), now);
        }
        let breach = evidence.breach;
        let (state, effects) = State::start_opened(evidence, crossed);
        match self.register(held.pidfd(), self.next_ticket + 1) {
            Ok(()) => self.take(process, state, effects, Some(Arc::new(held.into_pidfd()))),
            // Its exit could not be waited for: the long way tries that again.
            Err(_) => self.start_termination(process, breach, now),
        }
    }

    fn take(
        &mut self,
        process: Process,
        state: State,
        effects: Effects,
        pidfd: Option<Arc<Pidfd>>,
    ) -> Vec<Order> {
        self.next_ticket += 1;
        let process = Arc::new(process);
        let victim = Victim { process: Arc::clone(&process), state, pidfd, ticket: self.next_ticket };
        self.table.insert(process.id, victim);
        orders(&process, effects)
    }

    /// Has an exit make this readable: one message per exit, which stays readable until it is forgotten.
    fn register(&self, pidfd: &Pidfd, ticket: u64) -> Result<(), Errno> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::add(&self.exits, pidfd, epoll::EventData::new_u64(ticket), flags)
    }

    /// What follows for a victim from an event. Nothing, if it is in hand no more.
    pub fn handle(&mut self, whom: ProcessId, event: Event, now: Instant) -> Vec<Order> {
        let Some(victim) = self.table.get_mut(&whom) else { return vec![] };
        let (state, effects) = escalate(victim.state, event, now, &self.patience);
        victim.state = state;
        let process = Arc::clone(&victim.process);
        if state.is_over() {
            self.forget(whom);
        }
        orders(&process, effects)
    }

    /// What follows from the exits so far and from the time. Exits come first, so that nobody looks in /proc for a
    /// process that is known to be gone.
    ///
    /// # Errors
    /// Those of epoll_wait(2), none of which can happen here; deadlines are not handled then.
    pub fn wake(&mut self, now: Instant) -> Result<Vec<Order>, Errno> {
        let mut woken = Vec::new();
        for whom in self.exited()? {
            woken.extend(self.handle(whom, Event::Exited, now));
        }
        let due = |victim: &Victim| victim.state.deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<_> =
            self.table.iter().filter(|(_, victim)| due(victim)).map(|(whom, _)| *whom).collect();
        for whom in due {
            woken.extend(self.handle(whom, Event::Tick, now));
        }
        Ok(woken)
    }

    /// Puts another configuration into force: graces that run keep their end, what could not be done is tried anew.
    pub fn rules_changed(&mut self, patience: EscalationTiming, now: Instant) -> Vec<Order> {
        self.patience = patience;
        let all: Vec<_> = self.table.keys().copied().collect();
        all.into_iter().flat_map(|whom| self.handle(whom, Event::RulesChanged, now)).collect()
    }

    /// Lets everybody go who can be let go: no signal is sent any more.
    pub fn call_off(&mut self, now: Instant) -> Vec<Order> {
        let all: Vec<_> = self.table.keys().copied().collect();
        all.into_iter().flat_map(|whom| self.handle(whom, Event::CalledOff, now)).collect()
    }

    /// When to call [`Victims::wake`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.table.values().filter_map(|victim| victim.state.deadline()).min()
    }

    /// Carries out [`Effect::Open`].
    pub fn open(&mut self, whom: ProcessId) -> Event {
        let Some(ticket) = self.table.get(&whom).map(|victim| victim.ticket) else {
            return Event::Opened(Err(Errno::SRCH));
        };
        let opened = Pidfd::open(whom.pid).and_then(|pidfd| {
            self.register(&pidfd, ticket)?;
            Ok(pidfd)
        });
        Event::Opened(opened.map(|pidfd| {
            if let Some(victim) = self.table.get_mut(&whom) {
                victim.pidfd = Some(Arc::new(pidfd));
            }
        }))
    }

    /// Carries out [`Effect::Send`].
    pub fn send(&self, warrant: Warrant) -> Event {
        let pidfd = self.table.get(&warrant.whom()).and_then(|victim| victim.pidfd.as_ref());
        Event::Sent(pidfd.map_or(Err(Errno::SRCH), |pidfd| pidfd.send(warrant)))
    }

    /// Carries out [`Effect::Reclaim`]; the reaper answers.
    pub fn reclaim(&self, whom: ProcessId, reaper: &Reaper) {
        if let Some(pidfd) = self.table.get(&whom).and_then(|victim| victim.pidfd.as_ref()) {
            reaper.reclaim(whom, Arc::clone(pidfd));
        }
    }

    /// How many are on their way: not those who only wait for other rules, as a signal was refused.
    pub fn in_flight(&self) -> usize {
        self.table.values().filter(|victim| !victim.state.is_refused()).count()
    }

    /// Whether this one is in hand.
    pub fn contains(&self, whom: ProcessId) -> bool {
        self.table.contains_key(&whom)
    }

    /// All that are in hand, in the order of their pids.
    pub fn iter(&self) -> impl Iterator<Item = (&Process, Phase)> {
        self.table.values().map(|victim| (&*victim.process, victim.state.phase()))
    }

    fn exited(&self) -> Result<Vec<ProcessId>, Errno> {
        let mut exited = Vec::new();
        let mut ready = Vec::with_capacity(16);
        loop {
            match epoll::wait(&self.exits, spare_capacity(&mut ready), Some(&Timespec::default())) {
                Ok(0) => return Ok(exited),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            }
            for event in ready.drain(..) {
                let mut table = self.table.iter();
                exited.extend(table.find(|(_, one)| one.ticket == event.data.u64()).map(|(whom, _)| *whom));
            }
        }
    }

    fn forget(&mut self, whom: ProcessId) {
        if let Some(pidfd) = self.table.remove(&whom).and_then(|victim| victim.pidfd) {
            // The reaper may hold it a while longer. It is in there since it was opened, so this cannot fail.
            let _ = epoll::delete(&self.exits, &pidfd);
        }
    }
}

impl AsFd for Victims {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.exits.as_fd()
    }
}

fn orders(process: &Arc<Process>, effects: Effects) -> Vec<Order> {
    effects.into_iter().map(|effect| Order { process: Arc::clone(process), effect }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        enforce::{Check, Outcome, testing::process},
        model::{Bytes, Limit, Signal, Verdict},
    };

    const GRACE: Duration = Duration::from_secs(5);
    const BREACH: Breach = Breach { rule: Limit::Gb, limit: Bytes(5), rss: Bytes(10), percent: 1.0 };

    fn victims() -> Victims {
        Victims::new(EscalationTiming { grace: GRACE, lingering: GRACE, reclaim: true }).unwrap()
    }

    /// Sends SIGTERM, as far as the table knows: no descriptor is opened, no signal sent.
    fn ask(victims: &mut Victims, pid: u32, now: Instant) {
        let victim = process(pid, 1);
        let whom = victim.id;
        let over = Check::judged(whom, &victim, Verdict::Terminate(BREACH), BREACH.limit);
        assert!(matches!(
            victims.start_termination(victim, BREACH, now)[..],
            [Order { effect: Effect::Open, .. }]
        ));
        victims.handle(whom, Event::Opened(Ok(())), now);
        let orders = victims.handle(whom, Event::Checked(over), now);
        let [Order { effect: Effect::Send(warrant), .. }] = &orders[..] else { panic!("{orders:?}") };
        assert_eq!((warrant.whom(), warrant.signal()), (whom, Signal::Term));
        victims.handle(whom, Event::Sent(Ok(())), now);
    }

    #[test]
    fn each_has_a_grace_of_its_own() {
        let (mut victims, start) = (victims(), Instant::now());
        assert_eq!(victims.next_deadline(), None);
        for (pid, after) in [(4243, 1), (4241, 0), (4242, 2)] {
            ask(&mut victims, pid, start + Duration::from_secs(after));
        }
        assert_eq!(victims.next_deadline(), Some(start + GRACE));
        let looked_at = |orders: Vec<Order>| {
            let check = |order: &Order| matches!(order.effect, Effect::Check);
            assert!(orders.iter().all(check), "{orders:?}");
            orders.iter().map(|order| order.process.id.pid.0).collect::<Vec<_>>()
        };
        assert_eq!(looked_at(victims.wake(start + GRACE).unwrap()), [4241]);
        assert_eq!(looked_at(victims.wake(start + GRACE + Duration::from_secs(2)).unwrap()), [4242, 4243]);
        assert_eq!(victims.next_deadline(), None, "all are being looked at");
    }

    #[test]
    fn a_second_verdict_on_the_same_process_changes_nothing() {
        let (mut victims, now) = (victims(), Instant::now());
        ask(&mut victims, 4242, now);
        assert!(victims.start_termination(process(4242, 1), BREACH, now).is_empty());
        assert_eq!(victims.in_flight(), 1);
        assert_eq!(
            victims.iter().map(|(_, phase)| phase).collect::<Vec<_>>(),
            [Phase::Grace { since: now, until: now + GRACE }]
        );
        assert!(
            !victims.start_termination(process(4242, 2), BREACH, now).is_empty(),
            "another process with its pid"
        );
        assert_eq!(victims.in_flight(), 2);
    }

    #[test]
    fn nobody_waits_for_one_who_may_not_be_signalled() {
        let (mut victims, now) = (victims(), Instant::now());
        ask(&mut victims, 4242, now);
        let whom = process(4242, 1).id;
        let over = Check::judged(whom, &process(4242, 1), Verdict::Terminate(BREACH), BREACH.limit);
        victims.handle(whom, Event::Tick, now + GRACE);
        victims.handle(whom, Event::Checked(over), now + GRACE);
        assert_eq!(victims.in_flight(), 1);
        victims.handle(whom, Event::Sent(Err(Errno::PERM)), now + GRACE);
        assert_eq!((victims.in_flight(), victims.contains(whom)), (0, true), "it is not condemned anew");
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let (mut victims, now) = (victims(), Instant::now());
        ask(&mut victims, 4242, now);
        let whom = process(4242, 1).id;
        let orders = victims.handle(whom, Event::Exited, now);
        assert!(matches!(&orders[..], [Order { effect: Effect::Tell(Outcome::Gone(_)), .. }]), "{orders:?}");
        assert!(!victims.contains(whom));
        assert!(victims.handle(whom, Event::Exited, now).is_empty());
    }

    #[test]
    fn a_process_that_does_not_exist_is_told_and_forgotten() {
        let (mut victims, now) = (victims(), Instant::now());
        let whom = process(u32::MAX, 1).id;
        victims.start_termination(process(u32::MAX, 1), BREACH, now);
        let opened = victims.open(whom);
        assert!(matches!(opened, Event::Opened(Err(Errno::SRCH))));
        victims.handle(whom, opened, now);
        assert_eq!(victims.in_flight(), 0);
    }
}

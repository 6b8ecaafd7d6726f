//! All victims, with their states and pidfds.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::Arc,
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        resource::{Resource, getrlimit},
    },
};

use super::{
    Course, Effect, Effects, EscalationTiming, Event, Evidence, OpenedProcess, Phase, Pidfd, Reaper, State,
    Warrant, escalate,
};
use crate::model::{Breach, Crossed, Process, ProcessId};

/// Descriptors that victims leave free: without one no victim could be looked at again, and none would get SIGKILL.
const SPARE: u64 = 16;

/// The processes that are being terminated, independently of each other.
///
/// The daemon calls [`Victims::wake`] when this is readable (as a descriptor: a victim has ended) and at
/// [`Victims::next_deadline`], and executes the orders that any call here returns.
#[derive(Debug)]
pub struct Victims {
    table: BTreeMap<ProcessId, Victim>,
    timing: EscalationTiming,
    /// An epoll instance that contains every victim's pidfd.
    exits: Epoll,
    /// Identifies a victim in `exits`, because two victims may have had the same pid.
    next_ticket: u64,
}

#[derive(Debug)]
struct Victim {
    process: Arc<Process>,
    state: State,
    pidfd: Option<Arc<Pidfd>>,
    ticket: u64,
}

/// An effect to execute for one victim.
#[derive(Debug)]
pub struct Order {
    /// The victim, as it was when its termination began.
    pub process: Arc<Process>,
    /// The effect.
    pub effect: Effect,
}

impl Victims {
    /// An empty set.
    ///
    /// # Errors
    /// Those of epoll_create(2): there are no descriptors or no memory left.
    pub fn new(timing: EscalationTiming) -> Result<Self, Errno> {
        let exits = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { table: BTreeMap::new(), timing, exits, next_ticket: 0 })
    }

    /// Starts the termination of `process`, with the first signal and the grace of `course`. For a process that is already a
    /// victim, only its peak is noted.
    pub fn start_termination(
        &mut self,
        process: Process,
        breach: Breach,
        course: Course,
        now: Instant,
    ) -> Vec<Order> {
        let id = process.id;
        if self.table.contains_key(&id) {
            return self.handle(id, Event::Seen(breach.rss), now);
        }
        let (state, effects) = State::start_termination(id, breach, course);
        self.take(process, state, effects, None)
    }

    /// Starts the termination of a process that was opened as `held` before `evidence` was gathered: the first signal is next,
    /// without another look.
    pub fn start_opened(
        &mut self,
        held: OpenedProcess,
        process: Process,
        evidence: Evidence,
        crossed: Option<Crossed>,
        course: Course,
        now: Instant,
    ) -> Vec<Order> {
        let id = process.id;
        if self.table.contains_key(&id) || held.pid() != id.pid || evidence.process != id {
            return self.handle(id, Event::Seen(process.rss), now);
        }
        let breach = evidence.breach;
        let (state, effects) = State::start_opened(evidence, crossed, course);
        match self.register(held.pidfd(), self.next_ticket + 1) {
            Ok(()) => self.take(process, state, effects, Some(Arc::new(held.into_pidfd()))),
            // Its exit cannot be waited for; the normal start opens it again.
            Err(_) => self.start_termination(process, breach, course, now),
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

    /// Registers a pidfd so that its process's exit makes this readable, once per exit. `EMFILE` if another victim is left for
    /// which the last descriptors are needed.
    fn register(&self, pidfd: &Pidfd, ticket: u64) -> Result<(), Errno> {
        // The kernel gives the lowest free number, so that all below it are in use.
        let number = pidfd.as_fd().as_raw_fd().unsigned_abs();
        let has_another = || self.table.values().any(|victim| victim.pidfd.is_some());
        if getrlimit(Resource::RLIMIT_NOFILE)?.0 <= u64::from(number) + SPARE && has_another() {
            return Err(Errno::EMFILE);
        }
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT;
        self.exits.add(pidfd, EpollEvent::new(flags, ticket))
    }

    /// The orders that follow from an event for a victim. There are none if it is no longer a victim.
    pub fn handle(&mut self, id: ProcessId, event: Event, now: Instant) -> Vec<Order> {
        let Some(victim) = self.table.get_mut(&id) else { return vec![] };
        let (state, effects) = escalate(victim.state, event, now, &self.timing);
        victim.state = state;
        let process = Arc::clone(&victim.process);
        if state.is_over() {
            self.forget(id);
        }
        orders(&process, effects)
    }

    /// The orders that follow from the exits so far, and from the time. Exits come first, so that memmon does not look
    /// in /proc for a process that is known to be gone.
    ///
    /// # Errors
    /// Those of epoll_wait(2), none of which can occur here; deadlines are not handled then.
    pub fn wake(&mut self, now: Instant) -> Result<Vec<Order>, Errno> {
        let mut woken = Vec::new();
        for id in self.exited()? {
            woken.extend(self.handle(id, Event::Exited, now));
        }
        let due = |victim: &Victim| victim.state.deadline().is_some_and(|deadline| deadline <= now);
        let due: Vec<_> = self.table.iter().filter(|(_, victim)| due(victim)).map(|(id, _)| *id).collect();
        for id in due {
            woken.extend(self.handle(id, Event::Tick, now));
        }
        Ok(woken)
    }

    /// Applies another configuration: current grace periods keep their end, and failed steps are tried again.
    pub fn rules_changed(&mut self, timing: EscalationTiming, now: Instant) -> Vec<Order> {
        self.timing = timing;
        let all: Vec<_> = self.table.keys().copied().collect();
        all.into_iter().flat_map(|id| self.handle(id, Event::RulesChanged, now)).collect()
    }

    /// Cancels every termination that can be cancelled: no further signal is sent.
    pub fn call_off(&mut self, now: Instant) -> Vec<Order> {
        let all: Vec<_> = self.table.keys().copied().collect();
        all.into_iter().flat_map(|id| self.handle(id, Event::CalledOff, now)).collect()
    }

    /// The latest time for the next call of [`Victims::wake`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.table.values().filter_map(|victim| victim.state.deadline()).min()
    }

    /// Executes [`Effect::Open`].
    pub fn open(&mut self, id: ProcessId) -> Event {
        let Some(ticket) = self.table.get(&id).map(|victim| victim.ticket) else {
            return Event::Opened(Err(Errno::ESRCH));
        };
        let opened = Pidfd::open(id.pid).and_then(|pidfd| {
            self.register(&pidfd, ticket)?;
            Ok(pidfd)
        });
        Event::Opened(opened.map(|pidfd| {
            if let Some(victim) = self.table.get_mut(&id) {
                victim.pidfd = Some(Arc::new(pidfd));
            }
        }))
    }

    /// Executes [`Effect::Send`]. A victim that `is_stopped` after its first signal is continued, so that it can handle it.
    pub fn send(&self, warrant: Warrant, is_stopped: impl FnOnce() -> bool) -> Event {
        let pidfd = self.table.get(&warrant.process()).and_then(|victim| victim.pidfd.as_ref());
        let send = |pidfd: &Arc<Pidfd>| pidfd.send_and_continue(warrant, is_stopped);
        Event::Sent(pidfd.map_or(Err(Errno::ESRCH), send))
    }

    /// Executes [`Effect::Reclaim`]; the reaper's callback gets the result.
    pub fn reclaim(&self, id: ProcessId, reaper: &Reaper) {
        if let Some(pidfd) = self.table.get(&id).and_then(|victim| victim.pidfd.as_ref()) {
            reaper.reclaim(id, Arc::clone(pidfd));
        }
    }

    /// Number of terminations in progress, without victims whose signal was refused and that only wait for other rules.
    pub fn in_flight(&self) -> usize {
        self.table.values().filter(|victim| !victim.state.is_refused()).count()
    }

    /// Whether this process is a victim.
    pub fn contains(&self, id: ProcessId) -> bool {
        self.table.contains_key(&id)
    }

    /// A victim as it was when its termination began.
    pub fn process(&self, id: ProcessId) -> Option<&Process> {
        self.table.get(&id).map(|victim| &*victim.process)
    }

    /// All victims, in the order of their pids.
    pub fn iter(&self) -> impl Iterator<Item = (&Process, Phase)> {
        self.table.values().map(|victim| (&*victim.process, victim.state.phase()))
    }

    fn exited(&self) -> Result<Vec<ProcessId>, Errno> {
        let mut exited = Vec::new();
        let mut ready = [EpollEvent::empty(); 16];
        loop {
            let count = match self.exits.wait(&mut ready, EpollTimeout::ZERO) {
                Ok(0) => return Ok(exited),
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error),
            };
            for event in ready.iter().take(count) {
                let mut table = self.table.iter();
                exited.extend(table.find(|(_, one)| one.ticket == event.data()).map(|(id, _)| *id));
            }
        }
    }

    fn forget(&mut self, id: ProcessId) {
        if let Some(pidfd) = self.table.remove(&id).and_then(|victim| victim.pidfd) {
            // The reaper may keep it open longer. It was registered when it was opened, so this cannot fail.
            let _ = self.exits.delete(&pidfd);
        }
    }
}

impl AsFd for Victims {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.exits.0.as_fd()
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
    const BREACH: Breach =
        Breach { rule: Limit::Gb, limit: Bytes(5), rss: Bytes(10), percent: 1.0, by: None };

    fn victims() -> Victims {
        Victims::new(EscalationTiming { grace: GRACE, lingering: GRACE, reclaim: true }).unwrap()
    }

    /// Takes a victim to its grace period, without opening a descriptor or sending a signal.
    fn start_grace(victims: &mut Victims, pid: u32, now: Instant) {
        let victim = process(pid, 1);
        let id = victim.id;
        let over = Check::judged(id, &victim, Verdict::Terminate(BREACH), BREACH.limit);
        assert!(matches!(
            victims.start_termination(victim, BREACH, Course::default(), now)[..],
            [Order { effect: Effect::Open, .. }]
        ));
        victims.handle(id, Event::Opened(Ok(())), now);
        let orders = victims.handle(id, Event::Checked(over), now);
        let [Order { effect: Effect::Send(warrant), .. }] = &orders[..] else { panic!("{orders:?}") };
        assert_eq!((warrant.process(), warrant.signal()), (id, Signal::Term));
        victims.handle(id, Event::Sent(Ok(())), now);
    }

    #[test]
    fn each_victim_has_its_own_grace_period() {
        let (mut victims, start) = (victims(), Instant::now());
        assert_eq!(victims.next_deadline(), None);
        for (pid, after) in [(4243, 1), (4241, 0), (4242, 2)] {
            start_grace(&mut victims, pid, start + Duration::from_secs(after));
        }
        assert_eq!(victims.next_deadline(), Some(start + GRACE));
        let checked = |orders: Vec<Order>| {
            let check = |order: &Order| matches!(order.effect, Effect::Check);
            assert!(orders.iter().all(check), "{orders:?}");
            orders.iter().map(|order| order.process.id.pid.0).collect::<Vec<_>>()
        };
        assert_eq!(checked(victims.wake(start + GRACE).unwrap()), [4241]);
        assert_eq!(checked(victims.wake(start + GRACE + Duration::from_secs(2)).unwrap()), [4242, 4243]);
        assert_eq!(victims.next_deadline(), None, "all are being checked");
    }

    #[test]
    fn a_second_verdict_on_the_same_process_changes_nothing() {
        let (mut victims, now) = (victims(), Instant::now());
        start_grace(&mut victims, 4242, now);
        assert!(victims.start_termination(process(4242, 1), BREACH, Course::default(), now).is_empty());
        assert_eq!(victims.in_flight(), 1);
        assert_eq!(
            victims.iter().map(|(_, phase)| phase).collect::<Vec<_>>(),
            [Phase::Grace { since: now, until: now + GRACE }]
        );
        assert!(
            !victims.start_termination(process(4242, 2), BREACH, Course::default(), now).is_empty(),
            "another process with the same pid"
        );
        assert_eq!(victims.in_flight(), 2);
    }

    #[test]
    fn a_victim_that_may_not_be_signalled_is_not_in_flight() {
        let (mut victims, now) = (victims(), Instant::now());
        start_grace(&mut victims, 4242, now);
        let id = process(4242, 1).id;
        let over = Check::judged(id, &process(4242, 1), Verdict::Terminate(BREACH), BREACH.limit);
        victims.handle(id, Event::Tick, now + GRACE);
        victims.handle(id, Event::Checked(over), now + GRACE);
        assert_eq!(victims.in_flight(), 1);
        victims.handle(id, Event::Sent(Err(Errno::EPERM)), now + GRACE);
        assert_eq!(
            (victims.in_flight(), victims.contains(id)),
            (0, true),
            "its termination does not start again"
        );
    }

    #[test]
    fn an_exited_victim_is_forgotten() {
        let (mut victims, now) = (victims(), Instant::now());
        start_grace(&mut victims, 4242, now);
        let id = process(4242, 1).id;
        let orders = victims.handle(id, Event::Exited, now);
        assert!(
            matches!(&orders[..], [Order { effect: Effect::Report(Outcome::Gone(_)), .. }]),
            "{orders:?}"
        );
        assert!(!victims.contains(id));
        assert!(victims.handle(id, Event::Exited, now).is_empty());
    }

    #[test]
    fn a_process_that_does_not_exist_is_forgotten() {
        let (mut victims, now) = (victims(), Instant::now());
        let id = process(u32::MAX, 1).id;
        victims.start_termination(process(u32::MAX, 1), BREACH, Course::default(), now);
        let opened = victims.open(id);
        assert!(matches!(opened, Event::Opened(Err(Errno::ESRCH))));
        victims.handle(id, opened, now);
        assert_eq!(victims.in_flight(), 0);
    }
}

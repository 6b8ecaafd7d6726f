//! Terminations of real hogs, performed as in the daemon: by the orders of `enforce`, one after the other.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::common::{
    TestUser, eventually,
    hog::Hog,
    is_dead,
    termination::{Driver, LIMIT, breach, confirm, look_again},
};
use memmon::{
    enforce::{Effect, Errno, Event, Order, Outcome, Phase},
    model::{Bytes, Cause, Pid, Signal, Unconfirmed},
};

const GRACE: Duration = Duration::from_millis(400);

fn hog(script: &str) -> Hog {
    let hog = Hog::start(script);
    hog.begun(script.split_whitespace().next_back().unwrap_or_default());
    hog
}

#[test]
fn a_hog_that_handles_sigterm_saves_and_leaves_within_its_grace() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("saved");
    let mut hog = hog(&format!("save-on-term {} anon 40M hold", file.display()));
    let mut driver = Driver::new(Duration::from_secs(10));
    driver.start_termination(hog.pid());
    driver.finish();

    assert_eq!(driver.signals(), [Signal::Term]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "saved");
    assert!(hog.ended(Duration::from_secs(1)).success(), "it did not exit by itself");
    let record = driver.record();
    assert_eq!((record.cause, record.rss_at_kill, record.reclaimed), (Cause::Term, None, false));
    assert!(record.rss_at_term >= Some(Bytes(40 * Bytes::MIB)), "{record:?}");
    assert!(record.signal_to_exit < Duration::from_secs(5), "{record:?}");
}

#[test]
fn one_that_ignores_sigterm_is_killed_after_its_grace() {
    let mut hog = hog("ignore-term anon 40M hold");
    let mut driver = Driver::new(GRACE);
    let begun = Instant::now();
    driver.start_termination(hog.pid());
    assert!(matches!(driver.victims.iter().next(), Some((_, Phase::Grace { .. }))));
    driver.finish();

    assert!(begun.elapsed() >= GRACE);
    assert_eq!(driver.signals(), [Signal::Term, Signal::Kill]);
    assert_eq!(hog.ended_by(Duration::from_secs(1)), Some(libc::SIGKILL));
    let record = driver.record();
    assert_eq!(record.cause, Cause::Kill);
    assert!(record.signal_to_exit >= GRACE, "{record:?}");
    assert!(record.rss_at_kill >= Some(Bytes(40 * Bytes::MIB)), "{record:?}");
}

#[test]
fn memory_is_reclaimed_from_a_killed_hog() {
    let mut hog = hog("ignore-term anon 200M hold");
    let mut driver = Driver::new(Duration::ZERO);
    driver.start_termination(hog.pid());
    driver.finish();
    assert_eq!(hog.ended_by(Duration::from_secs(1)), Some(libc::SIGKILL));
    // The result may come after the exit.
    let late = || driver.reclaimed.recv_timeout(Duration::from_secs(5)).unwrap().1;
    let outcome = driver.freed.pop().unwrap_or_else(late);
    assert!(matches!(outcome, Ok(()) | Err(Errno::ESRCH)), "{outcome:?}");
}

#[test]
fn a_stopped_hog_dies_too() {
    let mut hog = hog("anon 40M stop");
    eventually("the stop", || hog.state() == 'T');
    let mut driver = Driver::new(GRACE);
    driver.continues = false;
    driver.start_termination(hog.pid());
    driver.step();
    assert_eq!(driver.signals(), [Signal::Term, Signal::Kill], "SIGTERM stays pending in a stopped process");
    driver.finish();
    assert_eq!(hog.ended_by(Duration::from_secs(1)), Some(libc::SIGKILL));
    assert_eq!(driver.record().cause, Cause::Kill);
}

#[test]
fn a_stopped_hog_is_continued_to_handle_its_first_signal() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("saved");
    let mut hog = hog(&format!("save-on-term {} anon 40M stop", file.display()));
    eventually("the stop", || hog.state() == 'T');
    let mut driver = Driver::new(Duration::from_secs(10));
    driver.start_termination(hog.pid());
    driver.finish();
    assert_eq!(driver.signals(), [Signal::Term]);
    assert!(hog.ended(Duration::from_secs(1)).success(), "it did not exit by itself");
    assert_eq!(fs::read_to_string(&file).unwrap(), "saved");
}

#[test]
fn one_whose_leader_has_exited_dies_as_a_whole() {
    let mut hog = hog("ignore-term leader-exits anon 40M hold");
    let mut driver = Driver::new(GRACE);
    driver.start_termination(hog.pid());
    assert!(!is_dead(hog.pid()), "the zombie of the leader is not its exit");
    driver.finish();
    assert_eq!(driver.signals(), [Signal::Term, Signal::Kill]);
    assert_eq!(hog.ended_by(Duration::from_secs(1)), Some(libc::SIGKILL));
}

#[test]
fn an_exit_is_noticed_at_once() {
    let mut hog = hog("ignore-term anon 40M hold");
    let mut driver = Driver::new(Duration::from_secs(30));
    driver.start_termination(hog.pid());
    hog.release();
    eventually("the exit", || is_dead(hog.pid()));
    let dead = Instant::now();
    driver.step();
    // A turn of the loop that does not notice the exit takes 5 s, and the grace period 30.
    assert!(dead.elapsed() < Duration::from_secs(4), "{:?}", dead.elapsed());
    assert_eq!(driver.record().cause, Cause::Term);
    assert_eq!(driver.victims.in_flight(), 0);
    drop(hog);
}

#[test]
fn one_that_frees_its_memory_within_the_grace_is_spared() {
    let hog = Hog::start("anon 40M wait-term free hold");
    hog.begun("wait-term");
    let mut driver = Driver::new(GRACE);
    driver.start_termination(hog.pid());
    hog.begun("hold");
    driver.finish();
    assert_eq!(driver.signals(), [Signal::Term]);
    let [(_, Outcome::Terminating { .. }), (_, Outcome::Spared { rss, limit: LIMIT, sent: Some(_) })] =
        &driver.reported[..]
    else {
        panic!("{:?}", driver.reported)
    };
    assert!(*rss < LIMIT);
    assert!(hog.is_alive());
}

#[test]
fn victims_do_not_wait_for_each_other() {
    let mut hogs: Vec<Hog> = (0..4).map(|_| hog("ignore-term anon 25M hold")).collect();
    let grace = Duration::from_secs(2);
    let mut driver = Driver::new(grace);
    let begun = Instant::now();
    for hog in &hogs {
        driver.start_termination(hog.pid());
    }
    driver.finish();
    assert!(begun.elapsed() < 3 * grace, "{:?} for four graces of {grace:?}", begun.elapsed());
    for hog in &mut hogs {
        assert_eq!(hog.ended_by(Duration::from_secs(1)), Some(libc::SIGKILL));
    }
}

#[test]
fn a_child_of_a_hog_is_left_alone() {
    let mut hog = hog("fork anon 5M hold end anon 40M hold");
    let child = hog.child("fork");
    let mut driver = Driver::new(Duration::from_secs(10));
    driver.start_termination(hog.pid());
    driver.finish();
    assert_eq!(driver.sent.iter().map(|(pid, ..)| pid.0).collect::<Vec<_>>(), [hog.pid()]);
    assert_eq!(hog.ended_by(Duration::from_secs(1)), Some(libc::SIGTERM));
    eventually("the end of the child, which is the hog's own doing", || is_dead(child));
}

/// Starts hogs until one has `pid`: its former owner must be reaped.
fn hog_with_pid(pid: u32, script: &str) -> Hog {
    let begun = Instant::now();
    while begun.elapsed() < crate::common::PATIENCE {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let hog = Hog::start(script);
        if hog.pid() == pid {
            return hog;
        }
    }
    panic!("pid {pid} was not assigned again")
}

#[test]
#[ignore = "kernel: needs root"]
fn a_signal_never_reaches_a_later_process_with_the_pid() {
    crate::common::require_root();
    let script = "anon 40M hold";
    let first = hog(script);
    let pid = first.pid();
    let mut driver = Driver::new(GRACE);
    let process = confirm(pid).unwrap();
    let (victim, breach) = (process.id, breach(&process));
    // Up to the warrant, which is not executed yet.
    driver.victims.start_termination(process, breach, memmon::enforce::Course::default(), Instant::now());
    let opened = driver.victims.open(victim);
    driver.victims.handle(victim, opened, Instant::now());
    let mut orders = driver.victims.handle(victim, look_again(victim), Instant::now());
    let Some(Order { effect: Effect::Send(warrant), .. }) = orders.pop() else { panic!("{orders:?}") };

    drop(first); // killed and reaped: the pid is free
    let second = hog_with_pid(pid, script);
    second.begun("hold");
    let sent = driver.victims.send(warrant, || false);
    assert!(matches!(sent, Event::Sent(Err(Errno::ESRCH))), "{sent:?}");
    let orders = driver.victims.handle(victim, sent, Instant::now());
    driver.execute(orders);
    assert_eq!(driver.record().cause, Cause::Itself);
    assert!(second.is_alive());
}

#[test]
#[ignore = "kernel: needs root"]
fn a_pid_that_was_used_again_before_it_was_opened_shows_by_its_start() {
    crate::common::require_root();
    let first = hog("anon 40M hold");
    let pid = first.pid();
    let suspect = confirm(pid).unwrap();
    drop(first);
    let second = hog_with_pid(pid, "anon 50M hold");
    second.begun("hold");

    let mut driver = Driver::new(GRACE);
    let (victim, breach) = (suspect.id, breach(&suspect));
    let orders =
        driver.victims.start_termination(suspect, breach, memmon::enforce::Course::default(), Instant::now());
    driver.execute(orders);
    assert!(driver.sent.is_empty());
    let [(_, Outcome::Unconfirmed(Unconfirmed::AnotherProcess { expected, .. }))] = driver.reported[..]
    else {
        panic!("{:?}", driver.reported)
    };
    assert_eq!(expected, victim.start);
    assert_eq!(driver.victims.in_flight(), 0);
    assert!(second.is_alive());
}

#[test]
#[ignore = "kernel: needs root"]
fn a_signal_without_the_right_to_send_it_is_reported_once() {
    let (owner, stranger) = (TestUser::claim(), TestUser::claim());
    let hog = owner.hog("anon 40M hold");
    hog.begun("hold");
    let pid = hog.pid();
    let reported = thread::spawn(move || {
        become_user(stranger.uid);
        let mut driver = Driver::new(GRACE);
        driver.start_termination(pid);
        for _ in 0..3 {
            driver.start_termination(pid); // by the scans that follow
            driver.execute(vec![]);
        }
        assert!(matches!(driver.victims.iter().next(), Some((_, Phase::OutOfReach))));
        (driver.sent, driver.reported)
    });
    let (sent, reported) = reported.join().unwrap();
    assert_eq!(sent, [(Pid(pid), Signal::Term, Err(Errno::EPERM))]);
    assert_eq!(reported, [(Pid(pid), Outcome::SignalFailed { signal: Signal::Term, error: Errno::EPERM })]);
    assert!(hog.is_alive());
}

/// Changes this thread alone: to the kernel credentials are a thread's own, it is the C library that spreads them.
#[expect(unsafe_code, reason = "the library's setresuid would change every thread of the test")]
fn become_user(uid: u32) {
    // SAFETY: three integers.
    let changed = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    assert_eq!(changed, 0);
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert!(uids.split_whitespace().all(|one| one == uid.to_string()), "{uids}");
}

//! Victims that a debugger holds: this test, which traces them.

use std::{fs, thread, time::Duration};

use nix::{
    sys::{
        ptrace::{Options, detach, seize},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    log::{SOURCES, config},
};

/// Time after SIGTERM in which memmon looks at it twice, and one time more.
const LOOKS: Duration = Duration::from_secs(8);

/// A thread that has ended stays until its debugger has waited for it, and with it the process, which has no memory any more.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_victim_whose_memory_is_back_is_terminated_and_not_spared() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("threads 4 15M hold");
        hog.begun("hold");
        let threads = fs::read_dir(format!("/proc/{}/task", hog.pid())).unwrap();
        let threads =
            threads.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<u32>().unwrap());
        let last = Pid::from_raw(threads.max().unwrap().cast_signed());
        seize(last, Options::empty()).unwrap();
        let daemon = Daemon::start(&config(&user, &[("termination.grace", "1")]), &["--source", source]);
        daemon.reported("killing", hog.pid());
        thread::sleep(LOOKS);
        for kind in ["spared", "grace_over", "terminated"] {
            assert!(daemon.about(kind, hog.pid()).is_empty(), "{kind}");
        }
        waitpid(last, Some(WaitPidFlag::__WALL)).unwrap();
        let (signal, record) = daemon.terminated(&mut hog);
        assert_eq!((signal, &record["cause"]), (Some(libc::SIGTERM), &"term".into()), "{record:#}");
        assert!(record["signal_to_exit_seconds"].as_f64().unwrap() > 7.0, "{record:#}");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_victim_that_a_debugger_holds_at_its_exit_is_reported_as_such() {
    let user = TestUser::claim();
    let mut hog = user.hog("anon 60M shmem 20M hold");
    hog.begun("hold");
    let pid = Pid::from_raw(hog.pid().cast_signed());
    seize(pid, Options::PTRACE_O_TRACEEXIT).unwrap();
    let daemon = Daemon::start(&config(&user, &[("termination.grace", "0.1")]), &["--source", "proc"]);
    let lingers = daemon.reported("lingers", hog.pid());
    assert_eq!(lingers["state"], "t", "{lingers:#}");
    assert!(lingers["message"].as_str().unwrap().contains("A debugger holds it"), "{lingers:#}");
    waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
    detach(pid, None).unwrap();
    daemon.terminated(&mut hog);
    daemon.stop();
}

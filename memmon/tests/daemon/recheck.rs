//! Processes that hang, or cannot be read, while memmon looks at them: memmon sends no signal while there is a doubt,
//! forgets none of them, and a doubt that the process's owner can cause has an end.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    log::{EBPF, RARELY, SOON, SOURCES, config},
};
use nix::{sys::stat::Mode, unistd::mkfifo};

const WHITELIST: (&str, &str) = ("whitelist.names", "[\"nobody\"]");

/// Puts `file` in place of a file of a process in /proc, in the daemon's mounts only.
fn mount(daemon: &Daemon, file: &Path, over: &str) {
    assert!(daemon.beside("mount").arg("--bind").arg(file).arg(over).status().unwrap().success());
}

fn unmount(daemon: &Daemon, over: &str) {
    assert!(daemon.beside("umount").args(["--lazy", over]).status().unwrap().success());
}

/// A pipe in place of a process's command line, in the daemon's mounts only. Without a writer, a reader waits, as for a process
/// with a locked address space.
struct Hang<'a> {
    daemon: &'a Daemon,
    fifo: PathBuf,
    cmdline: String,
}

impl<'a> Hang<'a> {
    fn begin(daemon: &'a Daemon, pid: u32) -> Self {
        let (fifo, cmdline) = (daemon.dir().join(format!("{pid}.fifo")), format!("/proc/{pid}/cmdline"));
        mkfifo(&fifo, Mode::S_IRUSR).unwrap();
        mount(daemon, &fifo, &cmdline);
        Self { daemon, fifo, cmdline }
    }

    fn end(self) {
        unmount(self.daemon, &self.cmdline);
        release(&self.fifo);
    }
}

/// Lets readers continue that wait for a writer.
fn release(fifo: &Path) {
    // It fails if there is no reader.
    drop(OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(fifo));
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_hangs_at_its_crossing_holds_up_no_other_and_is_not_spared_for_it() {
    let user = TestUser::claim();
    let mut hog = user.hog("wait-term anon 40M hold");
    hog.begun("wait-term");
    let daemon = Daemon::start(&config(&user, &[RARELY, WHITELIST]), EBPF);
    daemon.event("scan_complete");
    let before = daemon.scans();
    let hang = Hang::begin(&daemon, hog.pid());
    hog.term();
    let doubt = daemon.reported("unsure", hog.pid());
    assert_eq!(doubt["doubt"]["name_unreadable"], "argv0", "{doubt:#}");
    assert!(hog.is_alive() && daemon.about("killing", hog.pid()).is_empty());
    daemon.terminated(&mut user.hog("anon 40M hold"));
    // The process still hangs: its owner can cause that, so the doubt ends after some time.
    let (signal, record) = daemon.terminated(&mut hog);
    assert_eq!(signal, Some(libc::SIGTERM));
    assert!(record["rss_at_crossing_bytes"].is_u64(), "its crossing is recorded: {record:#}");
    let [ended] = &daemon.about("doubt_ended", hog.pid())[..] else { panic!("it is reported once") };
    assert!(ended["lasted_seconds"].as_f64().unwrap() >= 1.5, "{ended:#}");
    assert_eq!(daemon.scans(), before, "no scan was needed");
    assert_eq!(daemon.about("unsure", hog.pid()).len(), 1, "reported once");
    release(&hang.fifo);
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_hangs_for_a_moment_is_looked_at_again() {
    let user = TestUser::claim();
    let mut hog = user.hog("wait-term anon 40M hold");
    hog.begun("wait-term");
    let daemon = Daemon::start(&config(&user, &[RARELY, WHITELIST]), EBPF);
    daemon.event("scan_complete");
    let hang = Hang::begin(&daemon, hog.pid());
    hog.term();
    daemon.reported("unsure", hog.pid());
    hang.end();
    assert_eq!(daemon.terminated(&mut hog).0, Some(libc::SIGTERM));
    assert_eq!(daemon.about("unsure", hog.pid()).len(), 1, "reported once");
    daemon.stop();
}

/// Its pages are counted before SIGKILL, which takes long for a large process: by then it may be one that is protected.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_victim_that_is_protected_since_the_look_at_its_name_is_not_killed() {
    let user = TestUser::claim();
    let mut hog = user.hog("ignore-term anon 40M hold rename spared work");
    hog.begun("hold");
    let changes = [RARELY, ("whitelist.names", "[\"spared\"]"), ("termination.grace", "2")];
    let daemon = Daemon::start(&config(&user, &changes), EBPF);
    daemon.reported("killing", hog.pid());
    let (fifo, pages) = (daemon.dir().join("pages"), format!("/proc/{}/smaps_rollup", hog.pid()));
    mkfifo(&fifo, Mode::S_IRUSR).unwrap();
    mount(&daemon, &fifo, &pages);
    // Waits until memmon counts them.
    let mut writer = OpenOptions::new().write(true).open(&fifo).unwrap();
    hog.release();
    hog.ready("rename spared");
    writer.write_all(b"Rss: 45000 kB\nLazyFree: 0 kB\n").unwrap();
    drop(writer);
    daemon.reported("now_protected", hog.pid());
    assert!(hog.is_alive());
    unmount(&daemon, &pages);
    daemon.stop();
}

/// The look at shared memory takes longer than the scan.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn one_scan_waits_for_an_answer_about_shared_memory() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hogs = ["shmem 40M hold", "shmem 20M anon 20M hold"].map(|script| user.hog(script));
        hogs.iter().for_each(|hog| hog.begun("hold"));
        let mut look = Daemon::start(&config(&user, &[]), &["--once", "--dry-run", "--source", source]);
        assert!(look.ended(SOON).success(), "{:?}", look.lines());
        for hog in &hogs {
            assert_eq!(look.about("killing", hog.pid()).len(), 1, "{source}: {:?}", look.last_words());
        }
        let mut once = Daemon::start(&config(&user, &[]), &["--once", "--source", source]);
        assert!(once.ended(SOON).success(), "{:?}", once.lines());
        for hog in &mut hogs {
            assert_eq!(hog.ended_by(SOON), Some(libc::SIGTERM), "{source}: {:?}", once.last_words());
        }
        let last = once.last_words().pop().unwrap();
        assert!(last.contains("\"one scan was asked for\""), "{last}");
    }
}

/// Without CAP_SYS_PTRACE the executable's name stays unknown, as with a process that made itself not dumpable.
#[test]
#[ignore = "kernel: needs root"]
fn a_process_whose_executable_cannot_be_read_is_not_spared_for_it() {
    let user = TestUser::claim();
    let mut hog = user.hog("anon 40M hold");
    hog.begun("hold");
    let launcher = ["setpriv", "--bounding-set", "-sys_ptrace"];
    let arguments = ["--once", "--source", "proc"];
    let mut once = Daemon::spawn_by(&launcher, &config(&user, &[WHITELIST]), &arguments);
    assert!(once.ended(SOON).success(), "{:?}", once.lines());
    assert_eq!(hog.ended_by(SOON), Some(libc::SIGTERM));
    assert!(once.about("unsure", hog.pid()).is_empty());
    // The readable names protect the process as usual.
    let hog = user.hog("rename spared anon 40M hold");
    hog.begun("hold");
    let spared = ("whitelist.names", "[\"spared\"]");
    let mut once = Daemon::spawn_by(&launcher, &config(&user, &[spared]), &arguments);
    assert!(once.ended(SOON).success(), "{:?}", once.lines());
    assert!(hog.is_alive());
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_cannot_be_read_at_its_crossing_is_reported_and_looked_at_again() {
    let user = TestUser::claim();
    let mut hog = user.hog("wait-term anon 40M hold");
    hog.begun("wait-term");
    let daemon = Daemon::start(&config(&user, &[RARELY]), EBPF);
    daemon.event("scan_complete");
    let before = daemon.scans();
    let (nothing, status) = (daemon.dir().join("nothing"), format!("/proc/{}/status", hog.pid()));
    fs::write(&nothing, "").unwrap();
    mount(&daemon, &nothing, &status);
    hog.term();
    let reported = daemon.reported("unconfirmed", hog.pid());
    assert_eq!(
        (&reported["why"]["cause"], &reported["why"]["file"]),
        (&"unreadable".into(), &"status".into())
    );
    assert!(hog.is_alive());
    unmount(&daemon, &status);
    assert_eq!(daemon.terminated(&mut hog).0, Some(libc::SIGTERM));
    assert_eq!(daemon.scans(), before, "no scan was needed");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_hangs_holds_up_no_end() {
    let user = TestUser::claim();
    let hog = user.hog("wait-term anon 40M hold");
    hog.begun("wait-term");
    let daemon = Daemon::start(&config(&user, &[RARELY, WHITELIST]), EBPF);
    daemon.event("scan_complete");
    Hang::begin(&daemon, hog.pid());
    hog.term();
    daemon.reported("unsure", hog.pid());
    assert!(hog.is_alive());
    // Within a second.
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_victim_that_hangs_when_its_grace_is_over_is_not_let_go_for_that() {
    let user = TestUser::claim();
    let mut hog = user.hog("ignore-term anon 40M hold");
    hog.begun("hold");
    let changes = [RARELY, WHITELIST, ("termination.grace", "3")];
    let daemon = Daemon::start(&config(&user, &changes), EBPF);
    daemon.reported("killing", hog.pid());
    let hang = Hang::begin(&daemon, hog.pid());
    daemon.reported("unsure", hog.pid());
    assert!(hog.is_alive() && daemon.about("grace_over", hog.pid()).is_empty());
    // The process still hangs.
    assert_eq!(daemon.terminated(&mut hog).0, Some(libc::SIGKILL));
    assert_eq!(daemon.about("killing", hog.pid()).len(), 1, "it had its SIGTERM");
    assert_eq!(daemon.about("doubt_ended", hog.pid()).len(), 1);
    release(&hang.fifo);
    daemon.stop();
}

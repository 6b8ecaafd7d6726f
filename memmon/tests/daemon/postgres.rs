//! A real PostgreSQL whose backends read the same table: none of them is ended for the buffers that all share, and one that
//! takes too much work memory is ended alone.
#![expect(unsafe_code, reason = "a mount that only the server sees is made between fork and exec")]

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    log::{SOURCES, config},
    processes_of,
};
use crate::real::{Group, rss};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
    unistd::{Gid, Pid, Uid, setgid, setgroups, setuid},
};

/// A cluster of its own, which ends with the test.
struct Cluster<'a> {
    user: &'a TestUser,
    folder: tempfile::TempDir,
    server: Child,
    group: Group,
}

/// The limit of these tests.
const LIMIT: u64 = 64 << 20;

/// No SIGKILL: the server takes one for a crash, and ends every session.
const LIMIT_OF_64_MIB: [(&str, &str); 4] = [
    ("thresholds.ram_gb_threshold", "0.0625"),
    ("termination.grace", "10"),
    ("termination.hard_ceiling", "0"),
    ("termination.reserve_percent", "0"),
];

/// The folder of PostgreSQL's programs.
fn programs() -> PathBuf {
    PathBuf::from(std::env::var_os("MEMMON_POSTGRES").unwrap())
}

impl<'a> Cluster<'a> {
    /// With 128 MB of shared buffers, and a table of 80 MB that has an index.
    fn start(user: &'a TestUser) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let data = folder.path().join("data");
        let mut init = Self::program(user, "initdb", folder.path());
        init.args(["--auth=trust", "--username=test", "--no-sync", "--pgdata"]).arg(&data);
        assert!(init.stdout(Stdio::null()).status().unwrap().success(), "initdb");
        let (mut server, group) = (Self::program(user, "postgres", folder.path()), Group::new("postgres"));
        let entry = group.entry();
        // SAFETY: write(2) alone, nothing is allocated.
        unsafe { server.pre_exec(move || (&entry).write_all(b"0")) };
        server.arg("-D").arg(&data).arg("-k").arg(folder.path());
        for setting in ["listen_addresses=", "shared_buffers=128MB", "fsync=off", "autovacuum=off", "jit=off"]
        {
            server.args(["-c", setting]);
        }
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let cluster = Self { user, folder, server, group };
        eventually("the server", || cluster.query("select 1").is_some());
        let table = "create table t as select g, repeat('x', 1000) as v from generate_series(1, 75000) g; \
                     create index on t (g); analyze t; checkpoint";
        cluster.query(table).unwrap();
        cluster
    }

    /// One of PostgreSQL's programs as the user, whose name it finds in an /etc/passwd of its own.
    fn program(user: &TestUser, name: &str, folder: &Path) -> Command {
        let mut command = Command::new(programs().join(name));
        command.current_dir(folder).env("LC_ALL", "C").stdin(Stdio::null());
        let (passwd, uid) = (folder.join("passwd"), user.uid);
        fs::write(&passwd, format!("test:x:{uid}:{uid}::/:/bin/sh\n")).unwrap();
        let become_user = move || {
            let none = None::<&str>;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            mount(Some(&passwd), "/etc/passwd", none, MsFlags::MS_BIND, none)?;
            setgroups(&[])?;
            setgid(Gid::from_raw(uid))?;
            Ok(setuid(Uid::from_raw(uid))?)
        };
        // SAFETY: system calls only; paths are copied to the stack, nothing is allocated.
        unsafe { command.pre_exec(become_user) };
        command
    }

    fn psql(&self) -> Command {
        let mut psql = Self::program(self.user, "psql", self.folder.path());
        psql.arg("-h")
            .arg(self.folder.path())
            .args(["-U", "test", "-qAtX", "-v", "ON_ERROR_STOP=1", "postgres"]);
        psql.stderr(Stdio::null());
        psql
    }

    /// The result of a query of its own session; `None` if it fails.
    fn query(&self, text: &str) -> Option<String> {
        let output = self.psql().args(["-c", text]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    /// A session that has read the whole table, and waits. Returns it with its backend's pid.
    fn reader(&self) -> (Child, u32) {
        let mut session = self.psql().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let text = "set enable_seqscan=off; set enable_bitmapscan=off; set max_parallel_workers_per_gather=0;\n\
                    select sum(length(v)) from t where g > 0;\nselect pg_backend_pid();\n";
        let mut input = session.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        session.stdin = Some(input);
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(session.stdout.take().unwrap()));
        assert_eq!(lines.next().unwrap().unwrap(), "75000000");
        let pid = lines.next().unwrap().unwrap().parse().unwrap();
        (session, pid)
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        // Immediate shutdown: the server ends its children.
        let _ = nix::sys::signal::kill(Pid::from_raw(self.server.id().cast_signed()), Signal::SIGQUIT);
        let _ = self.server.wait();
    }
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and MEMMON_POSTGRES: the folder of a PostgreSQL server's programs"]
fn backends_share_their_buffers_and_only_one_with_memory_of_its_own_is_ended() {
    for source in SOURCES {
        let user = TestUser::claim();
        let cluster = Cluster::start(&user);
        let mut readers: Vec<_> = (0..4).map(|_| cluster.reader()).collect();
        for (_, pid) in &readers {
            assert!(rss(*pid) > LIMIT, "backend {pid} has only {} resident", rss(*pid));
        }
        let daemon = Daemon::start(&config(&user, &LIMIT_OF_64_MIB), &["--source", source]);
        // The eldest of the four; the others share their buffers with it, and were forked as it was.
        let reported = daemon.reported("uncharged", readers[0].1);
        assert!(reported["charged_bytes"].as_u64().unwrap() < 16 << 20, "{reported}");
        daemon.scanned();
        assert!(daemon.every("killing").is_empty(), "{source}");

        // One backend sorts in memory.
        let (session, greedy) = &mut readers[0];
        let sort = "set work_mem='400MB'; select count(*) from (select g from generate_series(1, 4000000) g order by -g) s;\n";
        session.stdin.as_mut().unwrap().write_all(sort.as_bytes()).unwrap();
        let record = daemon.reported("terminated", *greedy);
        assert_eq!(record["cause"], "term", "SIGTERM is enough for a backend: {record}");
        daemon.scanned();
        assert_eq!(daemon.every("killing").len(), 1, "{source}");
        // The cluster has not crashed: it would have ended all sessions.
        assert_eq!(cluster.query("select count(*) from t").as_deref(), Some("75000"));
        for (session, pid) in &mut readers[1..] {
            assert!(session.try_wait().unwrap().is_none() && rss(*pid) > LIMIT, "{source}");
        }
        daemon.stop();
        for (mut session, _) in readers {
            let _ = session.kill();
            let _ = session.wait();
        }
        drop(cluster);
        eventually("the cluster's end", || processes_of(user.uid).is_empty());
    }
}

/// Asserts that a backend that sorts in memory, and the only one that has touched the shared buffers, give back what they are
/// charged with.
#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_POSTGRES"]
fn backends_give_back_what_they_are_charged_with() {
    let user = TestUser::claim();
    let cluster = Cluster::start(&user);
    let end = |mut session: Child| {
        let _ = session.kill();
        let _ = session.wait();
    };
    // It has loaded the table, and is the only one that has read it.
    let (session, pid) = cluster.reader();
    let daemon = Daemon::start(&config(&user, &LIMIT_OF_64_MIB), &["--source", SOURCES[0]]);
    daemon.reported("uncharged", pid);
    daemon.scanned();
    assert!(daemon.every("killing").is_empty());
    daemon.stop();
    cluster.group.row("PostgreSQL 15: the only reader of a table", "left alone", pid, || end(session));
    let readers: Vec<_> = (0..4).map(|_| cluster.reader()).collect();
    for (at, (session, pid)) in readers.into_iter().enumerate() {
        let what = format!("PostgreSQL 15: one of {} readers of a table", 4 - at);
        cluster.group.row(&what, "left alone", pid, || end(session));
    }

    let (mut session, pid) = cluster.reader();
    // Nothing is printed, because the reader is gone.
    let sort = "set work_mem='400MB'; begin; declare c cursor for select g from generate_series(1, 1500000) g order by -g; \
                move 1 in c;\n";
    session.stdin.as_mut().unwrap().write_all(sort.as_bytes()).unwrap();
    let mut last = 0;
    eventually("a sort that is done", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = crate::common::status_field(pid, "RssAnon:").unwrap_or_default();
        let now =
            now.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() << 10;
        now > LIMIT && std::mem::replace(&mut last, now) == now
    });
    cluster.group.row("PostgreSQL 15: a reader that sorts in memory", "SIGTERM", pid, || {
        let daemon = Daemon::start(&config(&user, &LIMIT_OF_64_MIB), &["--source", SOURCES[0]]);
        daemon.reported("terminated", pid);
        assert_eq!(daemon.every("killing").len(), 1);
        daemon.stop();
    });
    end(session);
    assert_eq!(
        cluster.query("select count(*) from t").as_deref(),
        Some("75000"),
        "the cluster has not crashed"
    );
    drop(cluster);
    eventually("the cluster's end", || processes_of(user.uid).is_empty());
}

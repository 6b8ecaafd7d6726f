//! A real server whose workers are forked from a large parent (gunicorn with `--preload`): the workers live for as long as they
//! only read what they inherited, and the one that grows is ended alone, without a request that fails afterwards.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use crate::{
    common::{TestUser, eventually, processes_of},
    real::{Software, folder, python, watch},
};

/// Every worker has read the 80 MiB of its parent; `/grow` makes one take 90 MiB of its own.
const APPLICATION: &str = "
import os
data = bytearray(b'x') * (80 << 20)
own = None
def application(environ, start):
    global own
    sum(data[::4096])
    if environ['PATH_INFO'] == '/grow':
        own = bytearray(b'y') * (90 << 20)
    start('200 OK', [])
    return [str(os.getpid()).encode()]
";

/// Asks the server, and returns the pid of the worker that answered, or none if the connection was closed without an answer.
fn ask(socket: &Path, path: &str) -> Option<u32> {
    let mut stream = UnixStream::connect(socket).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.0 200"), "{answer}");
    body.parse().ok()
}

#[test]
#[ignore = "kernel: needs root, kernel BTF, real software and MEMMON_REAL"]
fn a_worker_of_a_prefork_server_is_ended_for_its_own_memory_only() {
    let (user, folder) = (TestUser::claim(), folder());
    fs::write(folder.path().join("application.py"), APPLICATION).unwrap();
    let socket = folder.path().join("socket");
    let mut command = python("from gunicorn.app.wsgiapp import run; run()");
    command.args(["--preload", "--workers", "3", "--worker-tmp-dir", "/dev/shm", "--log-level", "critical"]);
    command.arg("--bind").arg(format!("unix:{}", socket.display()));
    command.arg("--chdir").arg(folder.path()).arg("application");
    let mut server = Software::start(&user, "gunicorn", &mut command);
    let parent = server.pid();
    let mut workers = BTreeSet::new();
    eventually("three workers that have read their parent's memory", || {
        workers.extend(ask(&socket, "/"));
        workers.len() == 3
    });
    workers.iter().for_each(|worker| server.settled(*worker));

    // The parent holds what all share, and is protected.
    let daemon = watch(&user, Some(parent));
    daemon.scanned();
    assert!(daemon.every("killing").is_empty());
    daemon.stop();

    let greedy = ask(&socket, "/grow").unwrap();
    server.row("gunicorn: worker with 90 MiB of its own", "SIGTERM", greedy, || {
        let daemon = watch(&user, Some(parent));
        daemon.reported("terminated", greedy);
        daemon.scanned();
        let struck: Vec<_> = daemon.every("killing").iter().map(|event| event["pid"].clone()).collect();
        assert_eq!(struck, [greedy]);
        daemon.stop();
    });
    workers.remove(&greedy);
    let mut answered = BTreeSet::new();
    eventually("the other workers answer, and a new one", || {
        answered.extend(ask(&socket, "/"));
        answered.is_superset(&workers) && answered.len() == 3
    });
    drop(server);
    eventually("the end of all", || processes_of(user.uid).is_empty());
}

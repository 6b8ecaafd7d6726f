//! Tests of the server with misbehaving clients, and with a daemon that only counts its queries.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    server::CLIENTS,
    wire::{self, Asked, Refusal, request},
    *,
};
use crate::{
    model::{Bytes, Pid, SystemMemory, Uid},
    socket::SocketFile,
};

const MEMORY: SystemMemory = SystemMemory { total: Bytes(16), available: Bytes(4) };

fn table(rows: usize) -> Table {
    let row = Row {
        id: crate::model::ProcessId { pid: Pid(7), start: crate::model::StartTime(9) },
        comm: "h\u{1b}og".into(),
        uid: Uid(1000),
        rss_bytes: Bytes(5),
        error_bytes: Bytes::ZERO,
        parts: None,
        charged_bytes: None,
        sharing: Sharing::default(),
        verdict: VerdictKind::Within,
        why: Text::default(),
        phase: None,
        growth: Growth::default(),
        rule: None,
        limit_bytes: None,
        unit: None,
    };
    Table { memory: MEMORY, limit_bytes: Bytes(9), processes: 1, over: 0, rows: vec![row; rows] }
}

/// A server at a temporary path, until this is dropped.
struct Served {
    directory: tempfile::TempDir,
    asked: Arc<AtomicUsize>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Served {
    /// Answers with a table of this many rows, to the daemon's user `own` and to root. Each answer takes `time`.
    fn start(rows: usize, own: Uid, time: Duration) -> Self {
        Self::start_server(
            time,
            move |listener, asks| async move {
                serve(listener, AccessPolicy::new(Access::default()), own, asks).await
            },
            move |_| answer(&Body::Processes(table(rows))),
        )
    }

    /// The socket for everybody, whose answers repeat the question to the daemon.
    fn mine(time: Duration) -> Self {
        Self::start_server(time, serve_mine, |ask| format!("{ask:?}\n"))
    }

    fn start_server<F: Future<Output = std::io::Result<()>> + Send + 'static>(
        time: Duration,
        serve: impl FnOnce(UnixListener, mpsc::Sender<PendingRequest>) -> F + Send + 'static,
        line: impl Fn(&Request) -> String + Send + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (place, listener) = SocketFile::take(&directory.path().join("sock")).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let count = Arc::clone(&asked);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let (asks, mut asked) = mpsc::channel::<PendingRequest>(1);
                tokio::spawn(serve(listener, asks));
                let answers = async {
                    while let Some(ask) = asked.recv().await {
                        count.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(time).await;
                        let _ = ask.answer.send(line(&ask.request));
                    }
                };
                tokio::select! { () = answers => {}, _ = stopped => {} }
            });
            drop(place);
        });
        Self { directory, asked, stop: Some(stop), thread: Some(thread) }
    }

    fn own(rows: usize) -> Self {
        Self::start(rows, Uid(nix::unistd::geteuid().as_raw()), Duration::ZERO)
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The answer to `bytes`, up to the end of the connection.
    fn talk(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The connection may be closed while writing.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut printed = Vec::new();
        let _ = stream.read_to_end(&mut printed);
        String::from_utf8(printed).unwrap()
    }

    fn serves(&self) {
        let body = Client::connect(&self.socket()).unwrap().get(Query::Processes).unwrap();
        assert!(matches!(body, Body::Processes(_)), "{body:?}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

#[test]
fn requests_are_versioned_lines_and_nothing_else() {
    let asked = |line: &str| request(line.as_bytes()).map_err(|refusal| refusal.code.to_string());
    let code = |line: &str| -> Result<Query, String> {
        match asked(line)? {
            Asked::Query(query) => Ok(query),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code(r#"{"v":1,"get":"status"}"#), Ok(Query::Status));
    assert_eq!(code(r#" { "get" : "processes" , "v" : 1 , "new": [] } "#), Ok(Query::Processes));
    for get in [Query::Status, Query::Processes] {
        assert_eq!(code(&get.request()), Ok(get));
    }
    for (line, refused) in [
        ("", "garbage"),
        ("status", "garbage"),
        ("[1]", "garbage"),
        (r#"{"get":"status"}"#, "garbage"),
        (r#"{"v":"1","get":"status"}"#, "garbage"),
        ("\u{0}\u{1b}[2J", "garbage"),
        (r#"{"v":2,"get":"status"}"#, "version"),
        (r#"{"v":1,"get":"passwords"}"#, "unknown"),
        (r#"{"v":1}"#, "garbage"),
        (r#"{"v":1,"get":"status","do":"end_exemption","id":1}"#, "garbage"),
        (r#"{"v":1,"do":"exempt","seconds":1,"why":"x"}"#, "garbage"),
        (r#"{"v":1,"do":"exempt","pid":1,"seconds":-1,"why":"x"}"#, "garbage"),
        (r#"{"v":1,"do":"exempt","pid":1,"seconds":1,"why":"x\u001b"}"#, "garbage"),
    ] {
        assert_eq!(code(line).unwrap_err(), refused, "{line}");
    }
    let why = crate::model::Phrase::try_from("a \\ \"batch\"".to_owned()).unwrap();
    let select = crate::model::Select { job: Some(7), would: true, ..crate::model::Select::default() };
    assert_eq!(asked(&wire::history(&select)), Ok(Asked::History(select)));
    assert_eq!(asked(r#"{"v":1,"get":"history","job":"x"}"#), Err("garbage".to_owned()));
    for order in [
        Order::Exempt { of: Target::Pid(Pid(7)), seconds: 9, why: why.clone() },
        Order::Exempt { of: Target::Unit(why.clone()), seconds: 9, why },
        Order::EndExemption { id: 3 },
    ] {
        assert_eq!(asked(&wire::order(&order)), Ok(Asked::Order(order)));
    }
    assert!(request(&[0xff, 0xfe]).is_err());
}

#[test]
fn an_answer_is_read_as_it_was_written_and_shows_no_control_character() {
    let written = answer(&Body::Processes(table(2)));
    assert!(written.ends_with('\n') && written.matches('\n').count() == 1);
    assert!(written.starts_with(r#"{"v":1,"processes":{"memory":{"total_bytes":16,"#), "{written}");
    let Body::Processes(read) = understood(&written).unwrap() else { panic!("{written}") };
    assert_eq!(read, table(2));
    assert_eq!(read.rows[0].comm.as_str(), r"h\u{1b}og", "escaped once");
    // Any program may answer.
    let hostile = written.replace(r"h\\u{1b}og", r"\u001b[2J\u202e");
    let Body::Processes(read) = understood(&hostile).unwrap() else { panic!("{hostile}") };
    assert_eq!(read.rows[0].comm.as_str(), r"\u{1b}[2J\u{202e}");
}

#[test]
fn a_line_that_is_no_answer_is_a_clear_error() {
    let refused = Refusal { code: "busy".into(), message: "try again".into() };
    let error = understood(&answer(&Body::Error(refused))).unwrap_err();
    assert_eq!(error.to_string(), "memmon refuses the query: try again");
    for line in ["", "HTTP/1.1 400 Bad PendingRequest", "{}", r#"{"v":1,"status":{}}"#] {
        assert!(matches!(understood(line), Err(ClientError::Garbage(_))), "{line}");
    }
    let nowhere = Client::connect(Path::new("/nonexistent/memmon.sock")).unwrap_err();
    assert!(matches!(nowhere, ClientError::NoDaemon(_)), "{nowhere}");
}

#[test]
fn garbage_is_answered_once_and_the_door_shut() {
    let served = Served::own(1);
    for garbage in ["nonsense\n{\"v\":1,\"get\":\"status\"}\n", "\n\n\n", "{\"v\":3,\"get\":\"status\"}\n"] {
        let printed = served.talk(garbage.as_bytes());
        assert_eq!(printed.lines().count(), 1, "{printed}");
        assert!(printed.starts_with(r#"{"v":1,"error":{"code":""#), "{printed}");
    }
    let printed = served.talk(&vec![b'x'; 1 << 20]);
    assert!(printed.is_empty() || printed.contains("no request is that long"), "{printed}");
    assert_eq!(served.talk(b"{\"v\":1,\"get\":\"stat"), "", "half a line is no request");
    assert_eq!(served.asked(), 0, "the daemon was not asked for any of it");
    served.serves();
}

#[test]
fn a_flood_of_questions_is_asked_a_few_times() {
    let served = Served::own(1);
    let (begun, questions) = (Instant::now(), Query::Status.request() + "\n");
    let mut streams: Vec<_> = (0..8).map(|_| served.connect()).collect();
    for stream in &mut streams {
        stream.write_all(questions.repeat(2000).as_bytes()).unwrap();
    }
    let mut answers = 0;
    for stream in streams {
        for _ in 0..5 {
            let mut line = String::new();
            BufReader::with_capacity(1, &stream).read_line(&mut line).unwrap();
            answers += 1;
        }
    }
    assert_eq!(answers, 40);
    // Five answers to each at 50 ms between them, each answer good for 100 ms.
    let most = begun.elapsed().as_millis() / 100 + 1;
    assert!((1..=most).contains(&(served.asked() as u128)), "asked {} times, not {most}", served.asked());
    assert!(begun.elapsed() >= Duration::from_millis(200), "each is slowed down");
    served.serves();
}

#[test]
fn a_daemon_for_which_answers_are_work_has_most_of_its_time_for_itself() {
    let time = Duration::from_millis(200);
    let served = Served::start(1, Uid(nix::unistd::geteuid().as_raw()), time);
    let begun = Instant::now();
    let mut client = Client::connect(&served.socket()).unwrap();
    while begun.elapsed() < 10 * time || served.asked() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "asked {} times", served.asked());
        client.line(Query::Status).unwrap();
    }
    let most = begun.elapsed().div_duration_f64(5 * time).ceil();
    assert!(served.asked() as f64 <= most, "asked {} times, not {most}", served.asked());
}

#[test]
fn a_late_answer_is_there_for_the_next_look() {
    let served = Served::start(1, Uid(nix::unistd::geteuid().as_raw()), Duration::from_secs(6));
    let ask = || Client::connect(&served.socket()).unwrap().line(Query::Processes).unwrap();
    assert!(ask().contains(r#""code":"busy""#));
    assert!(ask().contains(r#""processes":{"#));
    assert_eq!(served.asked(), 1);
}

#[test]
fn an_order_shows_in_the_next_answer() {
    let served = Served::start(1, Uid(nix::unistd::geteuid().as_raw()), Duration::from_millis(300));
    let client = || Client::connect(&served.socket()).unwrap();
    client().line(Query::Status).unwrap();
    client().order(&Order::EndExemption { id: 1 }).unwrap();
    assert_eq!(served.asked(), 2);
    // The answer from before would still do otherwise, for four times as long as it took.
    client().line(Query::Status).unwrap();
    assert_eq!(served.asked(), 3);
}

#[test]
fn slow_readers_and_the_silent_hold_up_nobody() {
    // Answers larger than a socket's buffers, so that the server waits for a client that does not read.
    let served = Served::own(4000);
    let mut slow: Vec<_> = (0..CLIENTS - 2).map(|_| served.connect()).collect();
    for stream in &mut slow {
        stream.write_all((Query::Processes.request() + "\n").as_bytes()).unwrap();
    }
    let _half_open = served.connect();
    served.serves();
    served.serves();
    assert!(served.asked() <= 20, "made once for all of them, not {} times", served.asked());
}

#[test]
fn of_a_hundred_clients_the_last_ones_are_served() {
    let served = Served::own(1);
    let mut answered = Vec::new();
    let streams: Vec<_> = (0..100).map(|_| served.connect()).collect();
    // The last client is admitted once it is answered.
    for mut stream in streams.iter().rev() {
        let _ = stream.write_all((Query::Processes.request() + "\n").as_bytes());
        let mut line = String::new();
        let read = BufReader::new(stream).read_line(&mut line);
        answered.push(read.is_ok() && line.ends_with('\n'));
    }
    let (newest, oldest) = answered.split_at(CLIENTS);
    assert!(newest.iter().all(|answered| *answered), "{answered:?}");
    assert!(oldest.iter().all(|answered| !answered), "{answered:?}");
    served.serves();
    drop(streams);
    served.serves();
}

/// Whatever a client asks for, the question that reaches the daemon is about the user that the kernel names.
#[test]
fn a_user_is_answered_about_itself_and_nothing_else() {
    let served = Served::mine(Duration::ZERO);
    let own = Uid(nix::unistd::geteuid().as_raw());
    let printed = served.talk((wire::mine() + "\n").as_bytes());
    assert_eq!(printed, format!("{:?}\n", Request::Mine(own)));
    let select = crate::model::Select { user: Some(Uid(own.0 + 1)), job: Some(7), ..Default::default() };
    let printed = served.talk((wire::history(&select) + "\n").as_bytes());
    let asked = crate::model::Select { user: Some(own), ..select };
    assert_eq!(printed, format!("{:?}\n", Request::History(asked)));
    let count = served.asked();
    for query in [Query::Status, Query::Processes, Query::Machine] {
        let printed = served.talk((query.request() + "\n").as_bytes());
        assert!(printed.contains(r#""code":"forbidden""#), "{printed}");
    }
    let order = wire::order(&Order::EndExemption { id: 1 });
    assert!(served.talk((order + "\n").as_bytes()).contains(r#""code":"forbidden""#));
    assert!(served.talk(&vec![b'x'; 1 << 20]).lines().count() <= 1);
    assert_eq!(served.asked(), count, "the daemon was asked for none of it");
}

#[test]
fn one_user_has_two_connections_and_an_answer_a_second() {
    let served = Served::mine(Duration::ZERO);
    let question = wire::mine() + "\n";
    let mut two = [served.connect(), served.connect()];
    let begun = Instant::now();
    for stream in &mut two {
        stream.write_all(question.repeat(100).as_bytes()).unwrap();
    }
    let third = served.talk(question.as_bytes());
    assert!(third.contains(r#""code":"busy""#), "{third}");
    for stream in &two {
        let mut line = String::new();
        BufReader::with_capacity(1, stream).read_line(&mut line).unwrap();
        assert!(line.starts_with("Mine("), "{line}");
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "the second answer waits");
    let (asked, most) = (served.asked() as f64, begun.elapsed().as_secs_f64() + 1.0);
    assert!((2.0..=most).contains(&asked), "asked {asked} times, not {most}");
    // A place is free again when a connection ends.
    drop(two);
    let begun = Instant::now();
    while !served.talk(question.as_bytes()).starts_with("Mine(") {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

/// The daemon is asked one question at a time, also if the client that asked has left meanwhile.
#[test]
fn users_wait_for_each_other_and_the_daemon_has_most_of_its_time_for_itself() {
    let time = Duration::from_millis(500);
    let served = Served::mine(time);
    let begun = Instant::now();
    for _ in 0..6 {
        let mut stream = served.connect();
        let _ = stream.write_all((wire::mine() + "\n").as_bytes());
        thread::sleep(Duration::from_millis(300));
    }
    let most = begun.elapsed().div_duration_f64(5 * time).ceil();
    assert!(served.asked() as f64 <= most, "asked {} times, not {most}", served.asked());
    assert!(served.asked() >= 1);
}

#[test]
fn a_stranger_is_refused_and_reported_why() {
    let own = nix::unistd::geteuid();
    if own.is_root() {
        // Root may always ask: the stranger needs a uid of its own, see the daemon's tests.
        Served::start(1, Uid(1), Duration::ZERO).serves();
        return;
    }
    let served = Served::start(1, Uid(own.as_raw() + 1), Duration::ZERO);
    let printed = served.talk((Query::Status.request() + "\n").as_bytes());
    assert!(printed.contains(r#""code":"refused""#), "{printed}");
    assert_eq!(served.asked(), 0);
}

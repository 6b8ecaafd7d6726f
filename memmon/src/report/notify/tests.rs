//! The channels together with the reporter, and mail with a real SMTP server.

use std::sync::Arc;

use super::{
    digest::Notice,
    message::{LONGEST_SUBJECT, Message, Remark, brief},
    *,
};
use crate::{
    model::Uid,
    report::{Console, Outputs, Reporter, samples},
};

const LIMIT: Duration = Duration::from_secs(30);

fn terminated() -> Event {
    let found = samples::samples().into_iter().find(|event| matches!(event, Event::Terminated { .. }));
    found.unwrap()
}

#[test]
fn people_are_woken_for_few_events_only() {
    let kinds: Vec<_> = samples::samples()
        .iter()
        .filter(|event| event.spec().is_notified)
        .map(|event| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    let expected = [
        "throttled", "throttled", "not_throttled", "not_throttled", "not_throttled", "not_throttled",
        "held_back", "terminated", "terminated", "terminated", "terminated", "terminated", "terminated",
        "stopped", "stopped", "stopped", "stopped", "out_of_reach", "signal_failed", "lingers", "lingers",
        "lingers", "lingers", "lingers", "reload_failed", "no_culprit", "terminated",
    ];
    assert_eq!(kinds, expected);
}

/// A channel that keeps what it gets, after it has failed a while.
struct Kept(Arc<Mutex<Vec<(String, String, u64)>>>, u32);

impl Channel for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    fn deliver(&mut self, message: &Message<'_>) -> Result<Option<Remark>, String> {
        if self.1 > 0 {
            self.1 -= 1;
            return Err("down".to_owned());
        }
        self.0.lock().unwrap().push((message.subject.clone(), message.body.clone(), message.count));
        Ok(None)
    }
}

fn reporter() -> (Reporter, Machine, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let machine = Machine {
        zone: || jiff::tz::TimeZone::UTC,
        user_name: |_| Some("john".to_owned()),
        journal: folder.path().join("journal"),
        syslog: folder.path().join("syslog"),
        ..Machine::default()
    };
    let outputs = Outputs { console: Console::Off, machine: machine.clone(), ..Outputs::default() };
    (Reporter::start(outputs).unwrap(), machine, folder)
}

#[test]
fn a_message_names_the_rule_and_the_sum() {
    let sum = samples::sum();
    let Event::Terminated { subject, mut record, given_back, .. } = terminated() else { unreachable!() };
    record.breach.by = Some(sum.rule);
    let event = Event::Terminated { subject, record, given_back, sum: Some(sum) };
    let (reporter, machine, _folder) = reporter();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let mut notifiers = Notifiers::default();
    let channel = Box::new(Kept(Arc::clone(&kept), 0));
    notifiers.channel(channel, Duration::from_secs(3600), &machine, &reporter.sender()).unwrap();
    notifiers.offer(Timestamp::UNIX_EPOCH, &event, |_| panic!("there is room"));
    assert_eq!(notifiers.finish(LIMIT), []);
    let kept = kept.lock().unwrap();
    let [(_, body, 1)] = &kept[..] else { panic!("{kept:?}") };
    assert!(
        body.contains(", Rule=students") && body.contains(", Sum=user john, 20 processes with 3.00GB"),
        "{body}"
    );
    assert!(reporter.finish(LIMIT));
}

#[test]
fn a_subject_ends_with_a_word() {
    let subject = |text: &str| brief(&format!("2025-10-03 10:15:31 - INFO - {text}\n    more"));
    assert_eq!(subject("Terminated: PID=1 - 2"), "Terminated: PID=1 - 2");
    let cut = subject(&"Unit=app.service, ".repeat(20));
    assert_eq!(cut, format!("{}Unit=app.service...", "Unit=app.service, ".repeat(5)));
    // A word that ends where there is no more room, one letter more, and one that never ends.
    let fits = "a".repeat(LONGEST_SUBJECT - 3);
    assert_eq!(subject(&format!("{fits} bcde")), format!("{fits}..."));
    assert_eq!(subject(&format!("x {fits} bcde")), "x...");
    assert_eq!(subject(&"é".repeat(500)).chars().count(), LONGEST_SUBJECT);
}

#[test]
fn waiting_notices_are_sent_at_the_end_in_one_message() {
    let (reporter, machine, _folder) = reporter();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let hour = Duration::from_secs(3600);
    let mut notifiers = Notifiers::default();
    notifiers.channel(Box::new(Kept(Arc::clone(&kept), 0)), hour, &machine, &reporter.sender()).unwrap();
    for _ in 0..3 {
        notifiers.offer(Timestamp::UNIX_EPOCH, &terminated(), |_| panic!("there is room"));
        notifiers.offer(Timestamp::UNIX_EPOCH, &Event::Overflow { lost: 1 }, |_| panic!("nobody asked"));
    }
    assert_eq!(notifiers.finish(LIMIT), []);
    let kept = kept.lock().unwrap();
    let [(subject, body, 3)] = &kept[..] else { panic!("{kept:?}") };
    assert!(subject.starts_with("memmon on ") && subject.ends_with(": 3 events"), "{subject}");
    let [_, launched, ..] = body.lines().collect::<Vec<_>>()[..] else { panic!("{body}") };
    assert_eq!((body.lines().count(), launched), (6, samples::LAUNCHED));
    assert!(
        body.starts_with("1970-01-01 00:00:00 - INFO - Terminated: PID=12345, Name=chrome, User=john"),
        "{body}"
    );
    assert!(reporter.finish(LIMIT));
}

#[test]
fn a_channel_that_hangs_delays_no_other_and_the_notices_that_it_misses_are_counted() {
    struct Hangs(mpsc::Sender<()>, Receiver<()>);
    impl Channel for Hangs {
        fn name(&self) -> &'static str {
            "hangs"
        }

        fn deliver(&mut self, _: &Message<'_>) -> Result<Option<Remark>, String> {
            let _ = self.0.send(());
            let _ = self.1.recv();
            Ok(None)
        }
    }
    let (reporter, machine, _folder) = reporter();
    let (enter, entered) = mpsc::channel();
    let (release, hanging) = mpsc::channel();
    let mut notifiers = Notifiers::default();
    let hangs = Box::new(Hangs(enter, hanging));
    notifiers.channel(hangs, Duration::ZERO, &machine, &reporter.sender()).unwrap();
    notifiers.offer(Timestamp::UNIX_EPOCH, &terminated(), |_| {});
    entered.recv_timeout(LIMIT).unwrap();
    let lost = std::cell::Cell::new(0);
    let begun = Instant::now();
    for _ in 0..QUEUE + 10 {
        notifiers.offer(Timestamp::UNIX_EPOCH, &terminated(), |_| lost.set(lost.get() + 1));
    }
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert!((9..=10).contains(&lost.get()), "{}", lost.get());
    let waits = 1 + QUEUE as u64 + 10 - lost.get();
    assert_eq!(notifiers.finish(Duration::from_millis(50)), [("hangs", waits)]);
    drop(release);
    assert!(reporter.finish(LIMIT));
}

#[test]
fn notices_that_could_not_be_sent_are_reported_counted_and_kept() {
    let (reporter, machine, _folder) = reporter();
    let interval = Duration::ZERO;
    let mut digest = Digest::new(interval);
    digest.add(
        Notice { line: "2025 - INFO - it happened".to_owned(), fields: vec![], object: String::new() },
        Instant::now(),
    );
    let kept = Arc::new(Mutex::new(Vec::new()));
    let channel = Box::new(Kept(Arc::clone(&kept), 2));
    let (successor, waiting) = (Arc::default(), Arc::new(AtomicU64::new(1)));
    let digests = BTreeMap::from([(Audience::Everybody, digest)]);
    let sender = reporter.sender();
    let mut run = Run { channel, interval, digests, successor, waiting, machine, sender };
    let count = |run: &Run| run.digests[&Audience::Everybody].count();
    for _ in 0..3 {
        assert_eq!(count(&run), 1);
        run.send(|_| true, "again");
    }
    assert_eq!((count(&run), run.waiting.load(Ordering::Relaxed)), (0, 0));
    assert_eq!(kept.lock().unwrap().len(), 1);
    assert!(kept.lock().unwrap()[0].0.ends_with(": it happened"));
    let text = reporter.metrics().openmetrics();
    assert!(text.contains(r#"memmon_notifications_total{channel="kept",outcome="failed"} 2"#), "{text}");
    assert!(text.contains(r#"memmon_notifications_total{channel="kept",outcome="sent"} 1"#), "{text}");
    assert!(reporter.finish(LIMIT));
}

/// A channel that sends each event to the owner of its process, and keeps what it sends.
struct ToOwners(Arc<Mutex<Letters>>);
type Letters = Vec<(Option<Uid>, String)>;

impl Channel for ToOwners {
    fn name(&self) -> &'static str {
        "owners"
    }

    fn audience(&self, event: &Event) -> Option<Audience> {
        event.subject().map(|subject| Audience::Owner(subject.uid))
    }

    fn deliver(&mut self, message: &Message<'_>) -> Result<Option<Remark>, String> {
        self.0.lock().unwrap().push((message.owner, message.body.clone()));
        Ok(None)
    }
}

fn about(uid: u32) -> Event {
    let mut event = terminated();
    let Event::Terminated { subject, .. } = &mut event else { panic!("{event:?}") };
    (subject.uid, subject.id.pid) = (Uid(uid), crate::model::Pid(uid));
    event
}

#[test]
fn each_user_gets_one_message_an_interval_about_their_own_processes_alone() {
    let (reporter, machine, _folder) = reporter();
    let (kept, hour) = (Arc::new(Mutex::new(Vec::new())), Duration::from_secs(3600));
    let mut run = Run {
        channel: Box::new(ToOwners(Arc::clone(&kept))),
        interval: hour,
        digests: BTreeMap::new(),
        successor: Arc::default(),
        waiting: Arc::default(),
        machine,
        sender: reporter.sender(),
    };
    let mut now = Instant::now();
    let mut pass = |run: &mut Run, events: &[Event], later: Duration| {
        run.waiting.fetch_add(events.len() as u64, Ordering::Relaxed);
        events.iter().for_each(|event| run.add(&(Timestamp::UNIX_EPOCH, Box::new(event.clone())), now));
        now += later;
        run.send(|digest| digest.due().is_some_and(|due| due <= now), "again");
        (std::mem::take(&mut *kept.lock().unwrap()), run.waiting.load(Ordering::Relaxed))
    };
    let minute = Duration::from_secs(60);
    let storm: Vec<_> =
        (0..100).map(|turn| about(1000 + turn % 2)).chain([Event::Overflow { lost: 1 }]).collect();
    let (sent, waiting) = pass(&mut run, &storm, minute);
    assert_eq!(
        (sent.iter().map(|(owner, _)| owner.unwrap().0).collect::<Vec<_>>(), waiting),
        (vec![1000, 1001], 0)
    );
    for (owner, body) in &sent {
        let own = format!("Terminated: PID={}, ", owner.unwrap());
        assert_eq!(body.matches("Terminated: PID=").count(), body.matches(&own).count(), "{body}");
        assert!(body.matches(&own).count() >= 10 && body.contains("which are in the log"), "{body}");
    }
    // Within the hour the first user waits, and a third one does not wait for that.
    let (sent, waiting) = pass(&mut run, &[about(1000), about(1002)], minute);
    assert_eq!(
        (sent.iter().map(|(owner, _)| owner.unwrap().0).collect::<Vec<_>>(), waiting),
        (vec![1002], 1)
    );
    let (sent, waiting) = pass(&mut run, &[], hour);
    assert_eq!((sent.len(), waiting), (1, 0));

    // Users without end do not use memory without end, and what is lost is counted.
    let crowd: Vec<_> = (2000..4000).map(about).collect();
    let (sent, waiting) = pass(&mut run, &crowd, minute);
    assert!((200..=256).contains(&sent.len()) && waiting == 0, "{} {waiting}", sent.len());
    let text = reporter.metrics().openmetrics();
    let lost = 2000 - sent.len();
    let line = format!(r#"memmon_notifications_total{{channel="owners",outcome="lost"}} {lost}"#);
    assert!(text.contains(&line), "{text}");
    assert!(reporter.finish(LIMIT));
}

#[test]
fn notices_that_a_wrong_configuration_could_not_send_are_sent_by_the_fixed_one() {
    let (reporter, machine, _folder) = reporter();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let mut notifiers = Notifiers::default();
    let mut follow = |failures| {
        let channel = Box::new(Kept(Arc::clone(&kept), failures));
        notifiers.channel(channel, Duration::ZERO, &machine, &reporter.sender()).unwrap();
        notifiers.offer(Timestamp::UNIX_EPOCH, &terminated(), |_| panic!("there is room"));
    };
    let eventually = |what: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(20), "not in time");
            thread::sleep(Duration::from_millis(5));
        }
    };
    follow(u32::MAX);
    let failed = r#"memmon_notifications_total{channel="kept",outcome="failed"} 1"#;
    eventually(&|| reporter.metrics().openmetrics().contains(failed));
    // The next attempt by the first would come in half a minute.
    follow(0);
    eventually(&|| kept.lock().unwrap().iter().map(|(_, _, count)| count).sum::<u64>() == 2);
    assert_eq!(notifiers.workers.len(), 1);
    assert_eq!(notifiers.finish(LIMIT), []);
    assert!(reporter.finish(LIMIT));
}

#[test]
fn notices_that_the_last_attempt_does_not_send_are_counted_as_lost() {
    let (reporter, machine, _folder) = reporter();
    let mut notifiers = Notifiers::default();
    let channel = Box::new(Kept(Arc::default(), u32::MAX));
    notifiers.channel(channel, Duration::ZERO, &machine, &reporter.sender()).unwrap();
    notifiers.offer(Timestamp::UNIX_EPOCH, &terminated(), |_| panic!("there is room"));
    assert_eq!(notifiers.finish(LIMIT), [("kept", 1)]);
    let text = reporter.metrics().openmetrics();
    assert!(text.contains(r#"memmon_notifications_total{channel="kept",outcome="lost"} 1"#), "{text}");
    assert!(reporter.finish(LIMIT));
}

#[cfg(feature = "mail")]
mod smtp {
    use std::{
        fs,
        io::{BufRead as _, BufReader},
        os::unix::fs::PermissionsExt as _,
        process::{Child, Command, Stdio},
    };

    use super::{
        super::{mail::Post, owners::Owners},
        *,
    };
    use crate::{model::Mail, report::event::Level};

    /// aiosmtpd.
    const SERVER: &str = include_str!("../../../tests/common/smtpd.py");

    struct Server {
        child: Child,
        lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
        port: u16,
    }

    impl Server {
        fn start(stalls: u32, tls: &str, auth: &str) -> Self {
            let python = std::env::var_os("MEMMON_SMTPD_PYTHON").unwrap();
            let mut child = Command::new(python)
                .args(["-c", SERVER, &stalls.to_string(), tls, auth, "0"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let port = lines.next().unwrap().unwrap().parse().unwrap();
            Self { child, lines, port }
        }

        fn line(&mut self) -> String {
            self.lines.next().unwrap().unwrap()
        }

        fn post(&self) -> Post {
            let mail = Mail {
                to: vec!["admin@example.com".to_owned(), "Bob <bob@example.com>".to_owned()],
                from: Some("monitor@example.com".to_owned()),
                host: "127.0.0.1".to_owned(),
                port: self.port,
                starttls: false,
                auth_file: None,
            };
            Post { mail, patience: LIMIT }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn message() -> Message<'static> {
        let body = "2025 - WARNING - Grüße\n.\nend\n".to_owned();
        Message {
            subject: "memmon on h: x\r\nBcc: evil@example.com".to_owned(),
            body,
            count: 1,
            owner: None,
            fields: &[],
            events: String::new(),
        }
    }

    #[test]
    #[ignore = "needs MEMMON_SMTPD_PYTHON: `cargo xtask setup --for-tests`"]
    fn mail_arrives_as_by_v1s_recipe() {
        let mut server = Server::start(0, "plain", "open");
        assert_eq!(server.post().deliver(&message()), Ok(None));
        for to in ["admin", "bob"] {
            let line = server.line();
            let envelope = format!("('monitor@example.com', ['{to}@example.com'], None, False, ");
            assert!(line.starts_with(&envelope), "{line}");
            assert!(!line.contains(r"\r\nBcc:") && line.contains("Subject: "), "{line}");
            assert!(line.contains("Message-ID: <") && line.contains("Date: "), "{line}");
            assert!(line.contains(r"To: admin@example.com, Bob <bob@example.com>\r\n"), "{line}");
        }
    }

    #[test]
    #[ignore = "needs MEMMON_SMTPD_PYTHON: `cargo xtask setup --for-tests`"]
    fn a_refused_recipient_is_reported_and_does_not_affect_the_others() {
        let mut server = Server::start(0, "plain", "open");
        let mut post = server.post();
        for dead in ["dead@example.com", "busy@example.com"] {
            post.mail.to.insert(0, dead.to_owned());
        }
        let Ok(Some((Level::Warning, printed))) = post.deliver(&message()) else {
            panic!("it was not printed")
        };
        let (busy, dead) = printed.split_once("; ").unwrap();
        assert!(busy.starts_with("a notification did not reach busy@example.com: "), "{printed}");
        assert!(
            busy.contains("450") && dead.starts_with("dead@example.com: ") && dead.contains("550"),
            "{printed}"
        );
        assert!(dead.contains(r"no \u{1b}[2J"), "{printed}");
        for to in ["admin", "bob"] {
            assert!(server.line().contains(&format!("['{to}@example.com']")));
        }
        // A message that reached no recipient is sent again.
        post.mail.to.truncate(2);
        let error = post.deliver(&message()).unwrap_err();
        assert!(error.contains("busy@example.com: ") && error.contains("; dead@example.com: "), "{error}");
    }

    #[test]
    #[ignore = "needs MEMMON_SMTPD_PYTHON: `cargo xtask setup --for-tests`"]
    fn an_owner_gets_a_letter_of_their_own_and_one_without_a_mailbox_is_not_tried_again() {
        let mut server = Server::start(0, "plain", "open");
        let mail = Mail {
            to: vec!["%u@example.com".to_owned(), "Boss <boss+%u@example.com>".to_owned()],
            ..server.post().mail
        };
        let mut owners =
            Owners::new(mail.clone(), |uid| Some(["john", "dead", "busy"][uid.0 as usize].to_owned()));
        let to =
            |uid: u32| Message { owner: Some(Uid(uid)), subject: "memmon on h: x".to_owned(), ..message() };
        assert_eq!(owners.deliver(&to(0)), Ok(None));
        for address in ["john", "boss+john"] {
            let line = server.line();
            assert!(line.contains(&format!("['{address}@example.com']")), "{line}");
            assert!(line.contains("This is about processes of the user john on "), "{line}");
        }
        let mut alone = Owners::new(Mail { to: vec!["%u@example.com".to_owned()], ..mail }, |uid| {
            Some(["john", "dead", "busy"][uid.0 as usize].to_owned())
        });
        let Ok(Some((Level::Warning, printed))) = alone.deliver(&to(1)) else { panic!("it is tried again") };
        assert!(printed.starts_with("a notification did not reach dead@example.com: "), "{printed}");
        assert!(alone.deliver(&to(2)).unwrap_err().contains("busy@example.com: "));
    }

    #[test]
    #[ignore = "needs MEMMON_SMTPD_PYTHON: `cargo xtask setup --for-tests`"]
    fn a_server_that_stalls_after_data_loses_nothing() {
        let mut server = Server::start(1, "plain", "open");
        let mut post = server.post();
        post.mail.to.truncate(1);
        post.patience = Duration::from_secs(2);
        let begun = Instant::now();
        let error = post.deliver(&message()).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
        assert_eq!(server.line(), "stalled");
        post.patience = LIMIT;
        assert_eq!(post.deliver(&message()), Ok(None));
        assert!(server.line().contains("monitor@example.com"));
    }

    #[test]
    #[ignore = "needs MEMMON_SMTPD_PYTHON: `cargo xtask setup --for-tests`"]
    fn a_password_is_taken_from_a_file_that_nobody_else_reads() {
        let mut server = Server::start(0, "plain", "auth");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("smtp");
        let mut post = server.post();
        post.mail.auth_file = Some(file.clone());
        fs::write(&file, "alice\nsecret\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(post.deliver(&message()).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(post.deliver(&message()), Ok(None));
        assert!(server.line().contains(", True, False, "));
        fs::write(&file, "alice\nwrong\n").unwrap();
        let error = post.deliver(&message()).unwrap_err();
        assert!(error.contains("535") && !error.contains("wrong"), "{error}");
    }

    #[test]
    #[ignore = "needs openssl and MEMMON_SMTPD_PYTHON: `cargo xtask setup --for-tests`"]
    fn starttls_is_demanded_and_a_certificate_is_checked() {
        let server = Server::start(0, "plain", "open");
        let mut post = server.post();
        post.mail.starttls = true;
        assert!(post.deliver(&message()).unwrap_err().to_lowercase().contains("starttls"));

        let folder = tempfile::tempdir().unwrap();
        let pem = folder.path().join("pem");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"])
            .args([
                "-keyout".as_ref(),
                pem.as_os_str(),
                "-out".as_ref(),
                folder.path().join("cert").as_os_str(),
            ])
            .output()
            .unwrap();
        assert!(made.status.success());
        let both =
            fs::read_to_string(&pem).unwrap() + &fs::read_to_string(folder.path().join("cert")).unwrap();
        fs::write(&pem, both).unwrap();
        let server = Server::start(0, pem.to_str().unwrap(), "open");
        let mut post = server.post();
        post.mail.starttls = true;
        let error = post.deliver(&message()).unwrap_err();
        assert!(error.to_lowercase().contains("certificate"), "{error}");
    }

    #[test]
    fn a_relay_that_is_not_there_is_reported() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mail = Mail {
            to: vec!["admin@example.com".to_owned()],
            from: None,
            host: "127.0.0.1".to_owned(),
            port,
            starttls: false,
            auth_file: None,
        };
        let error = Post { mail, patience: LIMIT }.deliver(&message()).unwrap_err();
        assert!(error.contains("refused"), "{error}");
    }
}

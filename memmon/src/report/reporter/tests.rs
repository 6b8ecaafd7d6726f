//! Callers, sinks that block or fail, reloads and the end.

use std::{fs, io::Read, os::unix::net::UnixDatagram, path::Path, thread};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::*;
use crate::report::{
    outputs::{Console, Machine},
    samples,
};

/// Nothing in these tests takes that long, however busy the machine.
const LIMIT: Duration = Duration::from_secs(60);

fn machine(folder: &Path) -> Machine {
    Machine {
        clock: || Timestamp::UNIX_EPOCH,
        zone: || TimeZone::UTC,
        user_name: |_| Some("john".to_owned()),
        journal: folder.join("journal"),
        syslog: folder.join("syslog"),
        patience: LIMIT,
        ..Machine::default()
    }
}

fn scan(scanned: usize) -> Event {
    Event::ScanComplete { scanned, killed: 0 }
}

fn read_all(mut reader: io::PipeReader) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_event_that_waits_for_the_next_one_comes_before_it_and_is_never_lost() {
    let (reader, writer) = io::pipe().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let outputs = Outputs {
        console: Console::Writer(Box::new(writer)),
        format: crate::model::LogFormat::Json,
        machine: machine(folder.path()),
        ..Outputs::default()
    };
    let reporter = Reporter::start(outputs).unwrap();
    reporter.emit_with_next(scan(0));
    // Of another thread, which is not held up by it.
    reporter.sender().emit(scan(1));
    reporter.emit_with_next(scan(2));
    reporter.emit(scan(3));
    reporter.emit_with_next(scan(4));
    assert!(reporter.finish(LIMIT));
    let scanned = |line: &str| serde_json::from_str::<Value>(line).unwrap()["scanned"].as_u64().unwrap();
    let written: Vec<_> = read_all(reader).lines().map(scanned).collect();
    let mut in_order = written.clone();
    in_order.retain(|number| *number != 1);
    assert_eq!((written.len(), in_order), (5, vec![0, 2, 3, 4]));
}

#[test]
fn a_blocked_sink_delays_neither_callers_nor_other_sinks_and_every_lost_line_is_counted() {
    const EMITTED: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let log = folder.path().join("log");
    let outputs = Outputs {
        console: Console::Writer(Box::new(writer)),
        file: Some(log.clone()),
        format: crate::model::LogFormat::Json,
        machine: Machine { queue: 64, patience: Duration::from_millis(20), ..machine(folder.path()) },
        ..Outputs::default()
    };
    let reporter = Reporter::start(outputs).unwrap();
    let sender = reporter.sender();
    let (reported, all_emitted) = mpsc::channel();
    thread::spawn(move || {
        (0..EMITTED).for_each(|i| sender.emit(scan(i)));
        reported.send(()).unwrap();
    });
    all_emitted.recv_timeout(LIMIT).expect("a caller must not wait for a pipe that nobody reads");
    // The rest of them reaches the file although nothing reads from the pipe.
    let start = Instant::now();
    let mut last = 0;
    let in_file = || fs::read_to_string(&log).unwrap_or_default();
    while !in_file().contains("\"sink\":\"console\"") || !in_file().contains("the last") {
        assert!(start.elapsed() < LIMIT, "{}", in_file());
        reporter.emit(Event::Stopping { reason: "the last".to_owned() });
        last += 1;
        thread::sleep(Duration::from_millis(10));
    }

    let reading = thread::spawn(move || read_all(reader));
    assert!(reporter.finish(LIMIT));
    let (mut written, mut overflow, mut begun, mut lost, mut open, mut others) = (Vec::new(), 0, 0, 0, 0, 0);
    let in_file = in_file();
    for line in in_file.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let count = |key: &str| event[key].as_u64().unwrap();
        match event["event"].as_str().unwrap() {
            "scan_complete" => written.push(count("scanned")),
            "stopping" => others += 1,
            "overflow" => overflow += count("lost"),
            "sink_trouble" if event["error"].is_null() => {
                lost += count("lost");
                open = 0;
            }
            "sink_trouble" => {
                begun += 1;
                open = count("lost");
            }
            other => panic!("{other}"),
        }
    }
    assert!(written.is_sorted());
    assert_eq!((written.len() + others) as u64 + overflow, (EMITTED + last) as u64);
    let on_console = reading.join().unwrap().lines().count();
    let offered = in_file.lines().count() - begun;
    assert_eq!(on_console as u64 + lost + open, offered as u64, "of the console's lines, too");
    assert!(on_console >= 64 && lost + open > 0);
}

#[test]
fn a_sink_that_hangs_does_not_hold_the_exit() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let console = Console::Writer(Box::new(writer));
    let reporter =
        Reporter::start(Outputs { console, machine: machine(folder.path()), ..Outputs::default() }).unwrap();
    // Far more than a pipe holds.
    (0..1000).for_each(|_| reporter.emit(Event::Stopping { reason: "x".repeat(1000) }));
    let start = Instant::now();
    assert!(!reporter.finish(Duration::from_millis(50)), "not all can have been written");
    assert!(start.elapsed() < LIMIT / 2);
    drop(reader);
}

/// The line of a kill has the uid, what follows is not held, neither is a reload, and later lines have the name.
#[test]
fn a_name_service_that_hangs_holds_no_lines() {
    static HANGS: Mutex<()> = Mutex::new(());
    let hangs = HANGS.lock().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let user_name = |_| {
        drop(HANGS.lock());
        Some("john".to_owned())
    };
    let outputs = |file| Outputs {
        console: Console::Off,
        file: Some(folder.path().join(file)),
        machine: Machine { user_name, ..machine(folder.path()) },
        ..Outputs::default()
    };
    let killing = || Event::Killing {
        subject: samples::chrome(),
        breach: samples::BREACH,
        signal: crate::model::Signal::Term,
        dry_run: false,
        sum: None,
    };
    let until = |file, text: &str| {
        let start = Instant::now();
        while !fs::read_to_string(folder.path().join(file)).is_ok_and(|found| found.contains(text)) {
            assert!(start.elapsed() < LIMIT, "{text}");
            thread::sleep(Duration::from_millis(1));
        }
    };
    let reporter = Reporter::start(outputs("old")).unwrap();
    reporter.emit(killing());
    reporter.emit(scan(1));
    until("old", "Name=chrome, User=1000, RAM=3.50GB");
    until("old", "Scanned: 1");
    reporter.replace(outputs("new"));
    let start = Instant::now();
    (0..20).for_each(|_| reporter.emit(killing()));
    reporter.emit(scan(2));
    until("new", "Scanned: 2");
    // Each line would wait for a second.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    drop(hangs);
    let start = Instant::now();
    while !fs::read_to_string(folder.path().join("new")).unwrap().contains("User=john") {
        assert!(start.elapsed() < LIMIT);
        reporter.emit(killing());
        thread::sleep(Duration::from_millis(10));
    }
    assert!(reporter.finish(LIMIT));
}

#[test]
fn each_sink_gets_each_event_and_hears_of_the_trouble_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let machine = machine(folder.path());
    let journald = UnixDatagram::bind(&machine.journal).unwrap();
    journald.set_read_timeout(Some(LIMIT)).unwrap();
    let logged = || {
        let mut buffer = [0; 4096];
        let length = journald.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).lines().next().unwrap().to_owned()
    };
    let (reader, writer) = io::pipe().unwrap();
    let file = folder.path().join("later/log");
    let outputs = Outputs {
        console: Console::Writer(Box::new(writer)),
        file: Some(file.clone()),
        system_log: true,
        machine,
        ..Outputs::default()
    };
    let reporter = Reporter::start(outputs).unwrap();
    reporter.emit(scan(1));
    assert_eq!(logged(), "MESSAGE=Scan complete. Scanned: 1, Killed: 0");
    let trouble = logged();
    assert!(trouble.starts_with("MESSAGE=Cannot write to the log file: "), "{trouble}");
    assert!(trouble.ends_with("later/log: No such file or directory (os error 2). Lost so far: 1"));
    reporter.emit(scan(2));
    assert_eq!(logged(), "MESSAGE=Scan complete. Scanned: 2, Killed: 0", "trouble is reported once");
    fs::create_dir(folder.path().join("later")).unwrap();
    reporter.reopen();
    reporter.emit(Event::Killing {
        subject: samples::chrome(),
        breach: samples::BREACH,
        signal: crate::model::Signal::Term,
        dry_run: false,
        sum: None,
    });
    // More than one line: in the form with a length.
    assert_eq!(logged(), "MESSAGE");
    assert_eq!(logged(), "MESSAGE=Writing to the log file again. Lost: 2");
    assert!(reporter.finish(LIMIT));

    let killing = "1970-01-01 00:00:00 - WARNING - Killing process: PID=12345, Name=chrome, User=john, \
                   RAM=3.50GB (21.88%)";
    let again = "1970-01-01 00:00:00 - WARNING - Writing to the log file again. Lost: 2";
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{killing}\n{}\n{again}\n", samples::LAUNCHED));
    let console = read_all(reader);
    let lines: Vec<_> = console.lines().collect();
    assert_eq!(lines.len(), 6, "{console}");
    assert_eq!(lines[3..], [killing, samples::LAUNCHED, again]);
}

#[test]
fn too_many_terminations_are_counted_in_the_file_and_whole_in_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let (machine, log) = (machine(folder.path()), folder.path().join("log"));
    let journald = UnixDatagram::bind(&machine.journal).unwrap();
    journald.set_nonblocking(true).unwrap();
    let outputs = Outputs {
        console: Console::Off,
        file: Some(log.clone()),
        system_log: true,
        level: Level::Error,
        lines_per_minute: Some(2),
        machine,
        ..Outputs::default()
    };
    let reporter = Reporter::start(outputs).unwrap();
    for _ in 0..5 {
        let (subject, breach) = (samples::chrome(), samples::BREACH);
        reporter.emit(Event::Killing {
            subject,
            breach,
            signal: crate::model::Signal::Term,
            dry_run: false,
            sum: None,
        });
    }
    assert!(reporter.finish(LIMIT));
    let text = fs::read_to_string(&log).unwrap();
    let killing = "Killing process: PID=12345, Name=chrome, User=john, RAM=3.50GB (21.88%)";
    let lines = text.lines().map(|line| line.rsplit_once(" - ").map_or(line, |(_, text)| text));
    let lines: Vec<_> = lines.collect();
    let left_out = format!("Left out 3 more lines like this of the last minute, User=john: {killing}");
    let launched = samples::LAUNCHED;
    assert_eq!(lines, [killing, launched, killing, launched, &left_out], "at the level of errors, too");
    let mut buffer = [0; 4096];
    let mut entries = Vec::new();
    while let Ok(length) = journald.recv(&mut buffer) {
        entries.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    let is_killing = |entry: &&String| entry.contains(killing) && entry.contains("MEMMON_EVENT=killing\n");
    assert_eq!(entries.iter().filter(is_killing).count(), 5, "{entries:#?}");
}

#[test]
fn a_reload_changes_sinks_format_and_level_but_not_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let outputs = |file: &Path, format, level| Outputs {
        console: Console::Off,
        file: Some(file.to_owned()),
        format,
        level,
        system_log: false,
        machine: machine(folder.path()),
        ..Outputs::default()
    };
    let reporter = Reporter::start(outputs(&old, crate::model::LogFormat::Text, Level::Info)).unwrap();
    let sender = reporter.sender();
    let warning = || Event::Degraded { what: "no BTF".to_owned() };
    for _ in 0..5 {
        sender.emit(warning());
    }
    // The writer must have come to the last of these before it is replaced.
    sender.emit(scan(1));
    let start = Instant::now();
    while !fs::read_to_string(&old).is_ok_and(|text| text.contains("Scan complete")) {
        assert!(start.elapsed() < LIMIT);
        thread::sleep(Duration::from_millis(1));
    }
    reporter.replace(outputs(&new, crate::model::LogFormat::Json, Level::Warning));
    sender.emit(scan(2));
    sender.emit(warning());
    assert!(reporter.finish(LIMIT));
    let stamp = "1970-01-01 00:00:00 -";
    assert_eq!(
        fs::read_to_string(&old).unwrap(),
        format!(
            "{stamp} WARNING - Degraded: no BTF\n\
             {stamp} INFO - Scan complete. Scanned: 1, Killed: 0\n\
             {stamp} WARNING - Repeated 4 times: Degraded: no BTF\n"
        )
    );
    let new = fs::read_to_string(&new).unwrap();
    assert_eq!(new.lines().count(), 1, "the level holds at the door: {new}");
    assert_eq!(serde_json::from_str::<Value>(&new).unwrap()["what"], "no BTF");
}

#[test]
fn telling_after_the_end_is_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let machine = machine(folder.path());
    let reporter = Reporter::start(Outputs { console: Console::Off, machine, ..Outputs::default() }).unwrap();
    let sender = reporter.sender();
    assert!(reporter.finish(LIMIT));
    sender.emit(scan(1));
}

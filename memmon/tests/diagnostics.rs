//! Messages that libraries send through `tracing` and `log` arrive as events. A test of its own: both have one global
//! receiver.
#![expect(clippy::unwrap_used, reason = "a helper of a test may panic as the test may")]

use std::{
    io::{self, Read},
    time::Duration,
};

use memmon::{
    model::{Breach, Bytes, Limit, Name, Pid, ProcessId, StartTime, Uid},
    report::{Console, Event, Level, Machine, Outputs, Reporter, Subject, install_diagnostics},
};

fn outputs(level: Level) -> (io::PipeReader, Outputs) {
    let (reader, writer) = io::pipe().unwrap();
    let machine = Machine {
        // A library that logs while it serves the writer.
        user_name: |_| {
            tracing::error!("printed on the writer thread");
            log::error!("printed on the writer thread");
            None
        },
        ..Machine::default()
    };
    (reader, Outputs { console: Console::Writer(Box::new(writer)), level, machine, ..Outputs::default() })
}

/// The lines without their time.
fn lines(mut reader: io::PipeReader) -> Vec<String> {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text.lines().map(|line| line.split_once(" - ").unwrap().1.to_owned()).collect()
}

#[test]
fn warnings_of_libraries_are_reported_and_the_reporter_never_reports_itself() {
    let (first, quiet) = outputs(Level::Info);
    let (second, verbose) = outputs(Level::Debug);
    let reporter = Reporter::start(quiet).unwrap();
    install_diagnostics(reporter.sender()).unwrap();
    install_diagnostics(reporter.sender()).expect_err("there is one receiver");

    tracing::warn!(pages = 3, file = "x\n", "the map is {}", "full");
    log::error!(target: "memmon_bpf", "lost\u{1b}[2J an entry");
    tracing::info!("everyday life of a library");
    log::debug!("more of it");
    assert!(tracing::debug_span!("a trace").is_disabled(), "a span costs nothing");
    tracing::warn!("{}", "long ".repeat(10_000));
    reporter.emit(Event::Killing {
        subject: Subject {
            id: ProcessId { pid: Pid(7), start: StartTime(1) },
            name: Name::from("hog"),
            uid: Uid(4_000_000_000),
            exe: None,
            cgroup: None,
            workload: None,
            launched: None,
            notify_user: None,
        },
        breach: Breach { rule: Limit::Gb, limit: Bytes(1), rss: Bytes(2), percent: 1.0, by: None },
        signal: memmon::model::Signal::Term,
        dry_run: true,
        sum: None,
    });
    // Whichever of the two pipes a line goes to: their order holds.
    reporter.replace(verbose);
    tracing::info!("everyday life of a library");
    log::debug!("more of it");
    tracing::trace!("too much of it");
    for pid in 0..150 {
        let outer = tracing::debug_span!("scan", processes = tracing::field::Empty).entered();
        drop(tracing::debug_span!("confirm", pid).entered());
        outer.record("processes", 3);
    }
    assert!(reporter.finish(Duration::from_secs(60)));

    let reported = [lines(first), lines(second)].concat();
    let starts = [
        r#"WARNING - diagnostics: the map is full, pages=3, file="x\n""#,
        r"ERROR - memmon_bpf: lost\u{1b}[2J an entry",
        "WARNING - diagnostics: long long ",
        "WARNING - [DRY RUN] Killing process: PID=7, Name=hog, User=4000000000, RAM=0.00GB (1.00%)",
        "INFO - diagnostics: everyday life of a library",
        "DEBUG - diagnostics: more of it",
    ];
    let (reported, traces) = reported.split_at(starts.len());
    assert_eq!(traces.len(), 300, "no limit holds them back: {traces:#?}");
    for (line, (start, end)) in traces.iter().zip([
        ("DEBUG - diagnostics: scan > confirm took ", ", pid=0"),
        ("DEBUG - diagnostics: scan took ", ", processes=3"),
    ]) {
        assert!(line.starts_with(start) && line.ends_with(end), "{line}");
    }
    for (line, start) in reported.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    assert!(reported[2].len() < 9000 && reported[2].ends_with('…'), "cut");
}

//! One of each event, for the tests of texts and sinks.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::event::{DryRunCounts, DryRunProgram, Event, Launched, Level, Sink, Subject, SumPart, SumThen};
use crate::model::{
    Action, Breach, Bytes, Cause, Culprit, Doubt, Elsewhere, Exempt, Exemption, ExemptionEnd, ExitStatus,
    FreeAndShared, GivenBack, Group, GroupKey, Inside, KeptObject, KeptWhy, LeftBehind, Limit, MachineMemory,
    MemoryFiles, MemoryWriter, Name, NameField, Parts, Phrase, Pid, Pressure, ProcessId, Protection, Reason,
    Record, RuleName, Signal, StartTime, SumFigures, SystemMemory, ThrottleEnd, Uid, Uncharged, Unconfirmed,
    UnixTime, Urgency, WhyNot, Workload,
};

/// v1's victim.
pub(super) fn chrome() -> Subject {
    Subject {
        id: ProcessId { pid: Pid(12345), start: StartTime(987_654) },
        name: Name::from("chrome"),
        uid: Uid(1000),
        exe: Some(Name::from("/opt/google/chrome/chrome")),
        cgroup: Some(Name::from("/user.slice/user-1000.slice/session-2.scope")),
        workload: Some(Workload { unit: Some(Name::from("session-2.scope")), ..Workload::default() }),
        launched: Some(Launched {
            command_line: Some(Name::from("/opt/google/chrome/chrome --type=renderer \"a\", b")),
            parent: Pid(4321),
            parent_comm: Some(Name::from("bash")),
            session: Some(Pid(4000)),
            terminal: Some("pts/3".to_owned()),
            init: None,
            inside: Inside::default(),
            slurm_job_id: None,
            started: Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC),
        }),
        notify_user: None,
    }
}

/// The line below one about [`chrome`].
pub(super) const LAUNCHED: &str = r#"    Started=1970-01-01 00:00:00, Parent=4321, Parent name=bash, Session=4000, TTY=pts/3, Unit=session-2.scope, Command="/opt/google/chrome/chrome --type=renderer \"a\", b""#;

/// v1's figures: 3.5 GB of 16.
pub(super) const BREACH: Breach = Breach {
    rule: Limit::Gb,
    limit: Bytes(2 * Bytes::GIB),
    rss: Bytes(7 * Bytes::GIB / 2),
    percent: 21.875,
    by: None,
};

/// v1's user.
pub(super) fn user(uid: Uid) -> String {
    if uid == Uid(1000) { "john".to_owned() } else { uid.to_string() }
}

/// Twenty processes of v1's user.
pub(super) fn sum() -> SumFigures {
    SumFigures {
        rule: RuleName::new("students").unwrap_or_else(|| unreachable!()),
        group: GroupKey::User { uid: Uid(1000) },
        total: Bytes(3 * Bytes::GIB),
        limit: BREACH.limit,
        members: 20,
    }
}

fn exemption(of: Exempt) -> Exemption {
    let why =
        Phrase::try_from("the year's report, \"ticket 7\"".to_owned()).unwrap_or_else(|_| unreachable!());
    Exemption { id: 3, of, until: UnixTime(7200), by: Uid::ROOT, why }
}

fn sum_over(then: SumThen) -> Event {
    let part =
        |pid, mib: u64| SumPart { pid: Pid(pid), comm: Name::from("cc1plus"), bytes: Bytes(mib << 20) };
    Event::SumOver { sum: sum(), then, protected: Bytes(5 << 29), largest: vec![part(7, 700)] }
}

/// The sum of a unit, of 3 GB.
fn sum_of_unit() -> SumFigures {
    SumFigures { group: GroupKey::Unit { unit: "build.service".into() }, members: 3, ..sum() }
}

fn throttled(before: Option<Bytes>, times: u32, dry_run: bool) -> Event {
    let (sum, throttled) = (sum_of_unit(), "/system.slice/build.service".into());
    Event::Throttled { high: sum.limit, sum, throttled_cgroup: throttled, before, times, dry_run }
}

fn not_throttled(why: WhyNot) -> Event {
    Event::NotThrottled { sum: sum_of_unit(), why }
}

fn throttle_ended(high: Option<Bytes>, why: ThrottleEnd) -> Event {
    let (SumFigures { rule, group, .. }, throttled) = (sum_of_unit(), "/system.slice/build.service".into());
    Event::ThrottleEnded { rule, group, throttled_cgroup: throttled, high, why }
}

/// At least one event of each kind, and each way that a kind is worded.
pub(super) fn samples() -> Vec<Event> {
    let gib = |count: u64| Bytes(count * Bytes::GIB);
    let subject = chrome;
    let record = |cause, reclaimed: bool| Record {
        breach: BREACH,
        signal: (cause != Cause::Itself).then_some(Signal::Term),
        rss_at_crossing: reclaimed.then_some(BREACH.limit),
        crossing_to_signal: reclaimed.then_some(Duration::from_micros(173)),
        rss_at_term: (cause != Cause::Itself).then_some(BREACH.rss),
        rss_at_kill: (cause == Cause::Kill).then(|| gib(4)),
        peak: gib(4),
        overshoot: (cause != Cause::Itself).then(|| BREACH.rss.saturating_sub(BREACH.limit)),
        signal_to_exit: Duration::from_micros(420_123),
        signal_to_memory: Duration::from_micros(if reclaimed { 400_000 } else { 420_123 }),
        urgency: None,
        exit: reclaimed.then_some(ExitStatus { signal: Some(9), code: 0, oom: false }),
        cause,
        reclaimed,
        rss_after_reclaim: reclaimed.then_some(Bytes::ZERO),
    };
    let given_back = |left_behind: Vec<LeftBehind>| {
        let machine = |available, shmem| {
            let free_per_cpu = Some(Bytes(100 * Bytes::MIB));
            Some(FreeAndShared { available: gib(available), free_per_cpu, shmem: gib(shmem) })
        };
        let is_alone = left_behind.is_empty();
        let parts = Parts { anon: gib(2), file: Bytes(12 * Bytes::MIB), shmem: gib(1), swap: Bytes::ZERO };
        Some(Box::new(GivenBack {
            parts: Some(parts),
            expected: gib(2),
            cgroup_before: is_alone.then(|| gib(4)),
            cgroup_after: is_alone.then(|| gib(1)),
            before: machine(5, 3),
            after: machine(7, 3),
            left_behind,
        }))
    };
    let left = |name, segment, certain| LeftBehind {
        name: Name::from(name),
        bytes: gib(1),
        owner: Some(Uid(1000)),
        segment,
        certain,
    };
    let started = |dry_run, config: Option<&str>| Event::Started {
        version: "2.0.0",
        config: config.map(Into::into),
        fragments: vec![],
        source: "ebpf",
        reason: "BTF and CAP_BPF are there".to_owned(),
        dry_run,
        awaits_enable: dry_run,
        limit: gib(2),
        interval: Duration::from_secs(30),
    };
    let stopped = |times, already, dry_run| {
        let breach = Breach { by: RuleName::new("browsers"), ..BREACH };
        Event::Stopped { subject: subject(), breach, times, already, dry_run }
    };
    let protected = |protection| Event::NowProtected { subject: subject(), protection };
    let unsure = |doubt| Event::Unsure { subject: subject(), doubt };
    let unconfirmed = |why| Event::Unconfirmed { pid: Pid(12345), why };
    let lingers = |state: Option<char>, wchan: Option<&str>| Event::Lingers {
        subject: subject(),
        since: Duration::from_secs(10),
        state,
        wchan: wchan.map(Name::from),
        frozen: None,
        rss: state.is_none().then_some(gib(3)),
    };
    let machine = MachineMemory {
        memory: SystemMemory { total: gib(16), available: Bytes(Bytes::GIB / 2) },
        swap_total: gib(8),
        swap_free: Bytes(Bytes::GIB / 2),
        elsewhere: Elsewhere { shmem: gib(1), slab: Bytes(Bytes::GIB / 2), hugetlb: Bytes::ZERO },
        pressure: Some(Pressure { some: 40.0, full: 21.5, ..Pressure::default() }),
    };
    let reasons = [
        Reason::Available { available: machine.memory.available, level: Bytes(4 * Bytes::GIB / 5) },
        Reason::SwapFree { percent: 6.25, level: 10.0 },
        Reason::PressureSome { percent: 40.0, level: 30.0 },
        Reason::PressureFull { percent: 21.5, level: 20.0 },
    ];
    let culprit = |group, dry_run| Event::Culprit {
        subject: subject(),
        culprit: Culprit { group, growth: gib(9), processes: 10 },
        preferred: None,
        gives_back: gib(2),
        growth: gib(1),
        within: Duration::from_secs(34),
        reasons: reasons[..2].to_vec(),
        dry_run,
    };
    let trouble = |error: Option<&str>, lost| Event::SinkTrouble {
        sink: Sink::File,
        error: error.map(str::to_owned),
        lost,
    };
    vec![
        started(false, Some("/etc/memmon/config.toml")),
        started(true, None),
        Event::Degraded { what: "no process_mrelease before Linux 5.15, memory is freed at exit".to_owned() },
        Event::ConfigWarning {
            what: "line 4: root is listed but not protected, as in v1: set protect_root = true to protect it".to_owned(),
        },
        Event::SystemMemory { memory: SystemMemory { total: gib(16), available: Bytes(9_406_219_714) } },
        Event::Killing { subject: subject(), breach: BREACH, signal: Signal::Term, dry_run: false, sum: None },
        Event::Killing { subject: subject(), breach: BREACH, signal: Signal::Term, dry_run: true, sum: None },
        Event::Killing { subject: subject(), breach: BREACH, signal: Signal::Term, dry_run: false, sum: Some(sum()) },
        sum_over(SumThen::Terminate),
        sum_over(SumThen::Warn),
        sum_over(SumThen::Protected),
        sum_over(SumThen::Unsure),
        sum_over(SumThen::Throttle),
        throttled(None, 1, false),
        throttled(Some(gib(8)), 2, false),
        throttled(None, 1, true),
        not_throttled(WhyNot::Outsider { outsider_pid: Pid(812) }),
        not_throttled(WhyNot::Protected {
            protected_pid: Pid(812),
            comm: "sshd".into(),
            protection: Protection::Root,
        }),
        not_throttled(WhyNot::Lower { high: gib(1) }),
        not_throttled(WhyNot::Failed { error: "Permission denied (os error 13)".to_owned() }),
        throttle_ended(None, ThrottleEnd::Calm),
        throttle_ended(Some(gib(8)), ThrottleEnd::Stopping),
        throttle_ended(None, ThrottleEnd::Overridden),
        Event::Approaching {
            subject: subject(),
            rss: BREACH.rss,
            limit: gib(4),
            action: Action::Terminate,
            growth: Some(104_857_600.0),
            time_to_limit: Some(Duration::from_millis(5120)),
        },
        Event::Approaching { subject: subject(), rss: BREACH.rss, limit: gib(4), action: Action::Stop, growth: None, time_to_limit: None },
        Event::OomKilled { pid: Pid(12345), name: "chrome".into(), peak: gib(4) },
        Event::GraceOver { subject: subject(), rss: gib(4), first: Signal::Term, grace: Duration::from_secs(5), urgency: None },
        Event::GraceOver {
            subject: subject(),
            rss: gib(4),
            first: Signal::Term, grace: Duration::from_secs(1),
            urgency: Some(Urgency::Ceiling),
        },
        Event::GraceOver {
            subject: subject(),
            rss: gib(4),
            first: Signal::Term, grace: Duration::from_secs(1),
            urgency: Some(Urgency::Reserve),
        },
        Event::Delayed {
            subject: subject(),
            script: Some(Name::from("/srv/app.py")),
            unit: Some(Name::from("app.service")),
            times: 5,
            wait: Duration::from_secs(60),
            first: true,
            by: Some(sum().rule),
        },
        Event::Uncharged {
            subject: subject(),
            rss: gib(4),
            limit: gib(2),
            uncharged: Uncharged {
                charged: Bytes(14 * Bytes::MIB),
                page_cache: Bytes(56 * Bytes::MIB),
                kept: gib(3),
                largest: Some(KeptObject {
                    name: Name::from("/dev/zero"),
                    bytes: gib(3),
                    why: KeptWhy::Elder { pid: Pid(77) },
                }),
            },
        },
        Event::Terminated { subject: subject(), record: record(Cause::Term, false), given_back: None, sum: None },
        Event::Terminated { subject: subject(), record: record(Cause::Kill, false), given_back: None, sum: None },
        Event::Terminated { subject: subject(), record: record(Cause::Kill, true), given_back: None, sum: None },
        Event::Terminated {
            subject: subject(),
            record: Record {
                reclaimed: false,
                rss_after_reclaim: Some(gib(1)),
                signal_to_memory: Duration::from_micros(420_123),
                ..record(Cause::Kill, true)
            },
            given_back: given_back(vec![]),
            sum: Some(sum()),
        },
        Event::Terminated {
            subject: subject(),
            record: record(Cause::Term, false),
            given_back: given_back(vec![
                left("/dev/shm/x, y", None, true),
                left("/SYSV0000001a", Some(6), true),
            ]),
            sum: None,
        },
        Event::Terminated {
            subject: subject(),
            record: record(Cause::Term, false),
            given_back: given_back(vec![left("/dev/shm/x", None, false)]),
            sum: None,
        },
        Event::Terminated { subject: subject(), record: record(Cause::Itself, false), given_back: None, sum: None },
        Event::Spared { subject: subject(), rss: gib(1), limit: gib(2), after_term: true, signal: Some(Signal::Term), relieved: false },
        Event::Spared { subject: subject(), rss: gib(1), limit: gib(2), after_term: false, signal: None, relieved: false },
        Event::Spared { subject: subject(), rss: gib(1), limit: gib(2), after_term: true, signal: Some(Signal::Term), relieved: true },
        Event::LetGo { subject: subject(), after_term: true, signal: Some(Signal::Term) },
        Event::LetGo { subject: subject(), after_term: false, signal: None },
        protected(Protection::Init),
        protected(Protection::KernelThread),
        protected(Protection::Memmon),
        protected(Protection::OutOfScope),
        protected(Protection::Pid { pid: Pid(12345) }),
        protected(Protection::Name {
            pattern: "chrom*".to_owned(),
            field: NameField::Exe,
            name: Name::from("chrome"),
        }),
        protected(Protection::User { uid: Uid(1000) }),
        protected(Protection::Root),
        protected(Protection::OomScoreAdj),
        unsure(Doubt::NameUnreadable(NameField::Argv0)),
        Event::OverRule {
            subject: subject(),
            breach: Breach { by: crate::model::RuleName::new("browsers"), ..BREACH },
        },
        stopped(1, false, false),
        stopped(3, false, false),
        stopped(0, true, false),
        stopped(1, false, true),
        Event::Stopped {
            subject: subject(),
            breach: Breach { rule: Limit::Machine, limit: Bytes::ZERO, ..BREACH },
            times: 1,
            already: false,
            dry_run: false,
        },
        Event::Continued { subject: subject(), rss: BREACH.rss, limit: BREACH.limit, may_have: gib(4) },
        Event::Continued { subject: subject(), rss: gib(2), limit: Bytes::ZERO, may_have: gib(2) },
        Event::OverButProtected {
            subject: subject(),
            rss: gib(4),
            limit: gib(2),
            protection: Protection::Root,
        },
        Event::OverButProtected {
            subject: subject(),
            rss: gib(4),
            limit: gib(2),
            protection: Protection::Exempt(exemption(Exempt::Job(7))),
        },
        Event::Exempted { exemption: exemption(Exempt::User(Uid(1000))) },
        Event::ExemptionEnded {
            exemption: exemption(Exempt::User(Uid(1000))),
            end: ExemptionEnd::EndedBy(Uid(1000)),
        },
        Event::ExemptionEnded { exemption: exemption(Exempt::Job(7)), end: ExemptionEnd::Expired },
        Event::DryRunDay {
            day: "2025-10-06".to_owned(),
            counts: DryRunCounts { times: 4, stops: 0, throttles: 0 },
            programs: vec![DryRunProgram {
                comm: Name::from("chrome"),
                uid: Uid(1000),
                times: 3,
                largest: gib(4),
            }],
        },
        Event::DryRunDay {
            day: "2025-10-07".to_owned(),
            counts: DryRunCounts { times: 0, stops: 2, throttles: 1 },
            programs: vec![],
        },
        Event::DoubtEnded {
            subject: subject(),
            doubt: Doubt::NameUnreadable(NameField::Argv0),
            lasted: Duration::from_millis(1500),
        },
        unsure(Doubt::CgroupUnreadable),
        unsure(Doubt::OomScoreAdjUnreadable),
        unsure(Doubt::InheritanceUnreadable),
        unsure(Doubt::SharedMemoryUnknown),
        unsure(Doubt::SharedMemoryUnreadable { reason: "Too many open files (os error 24)".to_owned() }),
        unsure(Doubt::WithinError {
            limit: gib(2),
            rss: Bytes(2 * Bytes::GIB + 4096),
            error: Bytes(64 * Bytes::KIB),
        }),
        unconfirmed(Unconfirmed::Gone),
        unconfirmed(Unconfirmed::AnotherProcess {
            pid: Pid(12345),
            expected: StartTime(987_654),
            found: StartTime(999_999),
        }),
        unconfirmed(Unconfirmed::Borrowed { owner: Pid(12000) }),
        unconfirmed(Unconfirmed::Thread { process: Pid(12000) }),
        unconfirmed(Unconfirmed::Unreadable { file: "status", error: "Permission denied".to_owned() }),
        Event::OutOfReach { subject: subject(), error: "EMFILE: Too many open files".to_owned() },
        Event::SignalFailed {
            subject: subject(),
            signal: Signal::Term,
            error: "EPERM: Operation not permitted".to_owned(),
        },
        lingers(Some('D'), Some("rpc_wait_bit_killable")),
        lingers(Some('Z'), None),
        lingers(Some('t'), None),
        lingers(None, None),
        Event::Lingers {
            subject: subject(),
            since: Duration::from_secs(10),
            state: Some('D'),
            wchan: Some(Name::from("__refrigerator")),
            frozen: Some(Name::from("/slurm/job_7")),
            rss: Some(gib(1)),
        },
        Event::Disagreement {
            id: subject().id,
            map: gib(3),
            exact: Bytes(3 * Bytes::GIB + Bytes::MIB),
            error: Bytes(64 * Bytes::KIB),
        },
        Event::MapDefect { missed: 2, stale: 1 },
        Event::ScanComplete { scanned: 245, killed: 1 },
        Event::Scheduled { limit: gib(1), interval: Duration::from_secs(15) },
        Event::Reloaded {
            config: Some("/etc/memmon/config.toml".into()),
            fragments: vec!["/etc/memmon/conf.d/10-\x1b.toml".into()],
            dry_run: false,
        },
        Event::ReloadFailed {
            error: "/etc/memmon/config.toml:3:1: unknown key \"ram_gb_treshold\"\n  did you mean ram_gb_threshold?\n"
                .to_owned(),
        },
        trouble(Some("/var/log/memmon.log: No space left on device (os error 28)"), 1),
        trouble(None, 17),
        Event::Overflow { lost: 99 },
        Event::Repeated { severity: Level::Warning, times: 41, text: "Degraded: the map is full".to_owned() },
        Event::LeftOut {
            severity: Level::Info,
            about: Some(Uid(1000)),
            times: 312,
            text: "Terminated: PID=7, Name=x, User=john".to_owned(),
        },
        Event::Diagnostic { severity: Level::Error, origin: "aya_log".to_owned(), text: "a BPF word".to_owned() },
        Event::MemoryLow { machine, cgroup: None, reasons: reasons.to_vec(), acts: false },
        Event::MemoryLow { machine, cgroup: Some("/box".into()), reasons: reasons[..1].to_vec(), acts: true },
        culprit(Group::Unit { unit: Name::from("session-2.scope") }, false),
        culprit(Group::User { uid: Uid(1000) }, true),
        culprit(Group::Session { leader: Pid(4000) }, false),
        culprit(Group::Process { process: subject().id }, false),
        Event::NoCulprit {
            lost: gib(9),
            grown: gib(1),
            within: Duration::from_secs(34),
            elsewhere: Elsewhere { shmem: gib(8), slab: Bytes(3 * Bytes::MIB), hugetlb: Bytes::ZERO },
            file_systems: vec![MemoryFiles { path: Name::from("/dev/shm"), used: gib(8) }],
            writers: vec![MemoryWriter {
                pid: Pid(4711),
                name: "dd".into(),
                uid: Uid(1000),
                path: Name::from("/dev/shm"),
                used: gib(7),
            }],
        },
        Event::MemoryBack { memory: machine.memory, lasted: Duration::from_millis(900) },
        Event::Killing { subject: subject(), breach: Breach { rule: Limit::Machine, ..BREACH }, signal: Signal::Term, dry_run: false, sum: None },
        Event::Terminated {
            subject: subject(),
            record: Record {
                breach: Breach { rule: Limit::Machine, limit: gib(1), ..BREACH },
                ..record(Cause::Term, false)
            },
            given_back: None,
            sum: None,
        },
        Event::Stopping { reason: "SIGTERM".to_owned() },
    ]
}

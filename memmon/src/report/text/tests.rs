//! Tests of the text of each event, and that no process can write a line of its own.

use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        Container, ContainerNames, Inside, Pid, ProcessId, Signal, SlurmJob, StartTime, SystemMemory,
        Workload,
    },
    report::{
        event::{Launched, Subject},
        samples,
    },
};

fn printed(event: &Event) -> String {
    message(event, &mut samples::user)
}

fn at(time: &str) -> Zoned {
    time.parse::<Timestamp>().unwrap().to_zoned(TimeZone::fixed(jiff::tz::offset(2)))
}

#[test]
fn v1_lines_to_the_letter() {
    let memory = SystemMemory { total: Bytes(16 * Bytes::GIB), available: Bytes(9_406_219_714) };
    for (time, event, expected) in [
        (
            "2025-10-03T08:15:30Z",
            Event::SystemMemory { memory },
            "2025-10-03 10:15:30 - INFO - System Memory: 45.2% used (7.24GB / 16.00GB)",
        ),
        (
            "2025-10-03T08:15:31.999Z",
            Event::Killing {
                subject: samples::chrome(),
                breach: samples::BREACH,
                signal: Signal::Term,
                dry_run: false,
                sum: None,
            },
            "2025-10-03 10:15:31 - WARNING - Killing process: PID=12345, Name=chrome, User=john, \
             RAM=3.50GB (21.88%)",
        ),
        (
            "2025-10-03T08:15:31Z",
            Event::ScanComplete { scanned: 245, killed: 1 },
            "2025-10-03 10:15:31 - INFO - Scan complete. Scanned: 245, Killed: 1",
        ),
    ] {
        assert_eq!(line(&at(time), event.level(), &printed(&event)), expected);
    }
}

#[test]
fn every_event_in_words() {
    let reported: Vec<_> =
        samples::samples().iter().map(|event| format!("{} - {}", event.level(), printed(event))).collect();
    // The time of the samples' exemption is a local one.
    let reported =
        reported.join("\n").replace(&crate::model::UnixTime(7200).to_string(), "1970-01-01 02:00:00");
    insta::assert_snapshot!(reported, @r#"
    INFO - memmon 2.0.0 started. Limit: 2.00GB per process, Interval: 30s, Source: ebpf (BTF and CAP_BPF are there), Config: /etc/memmon/config.toml
    INFO - [DRY RUN] memmon 2.0.0 started. Limit: 2.00GB per process, Interval: 30s, Source: ebpf (BTF and CAP_BPF are there), Config: built-in defaults. It terminates nothing until `memmon enable` is run
    WARNING - Degraded: no process_mrelease before Linux 5.15, memory is freed at exit
    WARNING - Warning about the configuration: line 4: root is listed but not protected, as in v1: set protect_root = true to protect it
    INFO - System Memory: 45.2% used (7.24GB / 16.00GB)
    WARNING - Killing process: PID=12345, Name=chrome, User=john, RAM=3.50GB (21.88%)
    WARNING - [DRY RUN] Killing process: PID=12345, Name=chrome, User=john, RAM=3.50GB (21.88%)
    WARNING - Killing process: PID=12345, Name=chrome, User=john, RAM=3.50GB (21.88%), Sum=user john, 20 processes with 3.00GB
    WARNING - Over the limit together: user john, 20 processes, RAM=3.00GB, Limit=2.00GB, Rule=students. As few of them as it takes are terminated. The largest: 7 cc1plus 0.68GB
    WARNING - Over the limit together: user john, 20 processes, RAM=3.00GB, Limit=2.00GB, Rule=students. Only a warning. The largest: 7 cc1plus 0.68GB
    WARNING - Over the limit together: user john, 20 processes, RAM=3.00GB, Limit=2.00GB, Rule=students. Left alone: those that are protected or cannot be signalled hold 2.50GB, more than the limit alone. The largest: 7 cc1plus 0.68GB
    WARNING - Over the limit together: user john, 20 processes, RAM=3.00GB, Limit=2.00GB, Rule=students. No signal, in doubt: it is not known yet how much of this memory is theirs alone, or whether those that would end are protected. The largest: 7 cc1plus 0.68GB
    WARNING - Over the limit together: user john, 20 processes, RAM=3.00GB, Limit=2.00GB, Rule=students. Its cgroup is to be slowed down. The largest: 7 cc1plus 0.68GB
    WARNING - Slowing down: unit build.service, 3 processes with 3.00GB, Limit=2.00GB, Rule=students, Cgroup=/system.slice/build.service, memory.high=2.00GB, before max
    WARNING - Slowing down: unit build.service, 3 processes with 3.00GB, Limit=2.00GB, Rule=students, Cgroup=/system.slice/build.service, memory.high=2.00GB, before 8.00GB, Times=2 (another one had changed it)
    WARNING - [DRY RUN] Slowing down: unit build.service, 3 processes with 3.00GB, Limit=2.00GB, Rule=students, Cgroup=/system.slice/build.service, memory.high=2.00GB, before max
    WARNING - Not slowed down: unit build.service, 3 processes with 3.00GB, Limit=2.00GB, Rule=students: pid 812 is in the cgroup and does not count in the sum, so that it would be slowed down as well
    WARNING - Not slowed down: unit build.service, 3 processes with 3.00GB, Limit=2.00GB, Rule=students: pid 812 (sshd) is in the cgroup, and protected
    WARNING - Not slowed down: unit build.service, 3 processes with 3.00GB, Limit=2.00GB, Rule=students: another one, or another rule, has set its memory.high to 1.00GB, and the kernel slows it down already
    WARNING - Not slowed down: unit build.service, 3 processes with 3.00GB, Limit=2.00GB, Rule=students: Permission denied (os error 13)
    INFO - Slowed down no longer: unit build.service, Rule=students, Cgroup=/system.slice/build.service, memory.high=max again: it has stayed well below the limit
    INFO - Slowed down no longer: unit build.service, Rule=students, Cgroup=/system.slice/build.service, memory.high=8.00GB again: memmon ends
    INFO - Slowed down no longer: unit build.service, Rule=students, Cgroup=/system.slice/build.service: another one has changed its memory.high, which stays as it is
    WARNING - Near its limit: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=4.00GB, Growth=100.0MB/s, Time to limit=5.12s
    WARNING - Near its limit: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=4.00GB
    WARNING - Killed by the kernel's OOM killer: PID=12345, Name=chrome, Peak=4.00GB. The machine or its cgroup was out of memory. Lower limits would let memmon act earlier
    WARNING - Still running 5s after SIGTERM, sending SIGKILL: PID=12345, Name=chrome, User=john, RAM=4.00GB
    WARNING - Still running 1s after SIGTERM and growing past its ceiling, sending SIGKILL: PID=12345, Name=chrome, User=john, RAM=4.00GB
    WARNING - Still running 1s after SIGTERM and the machine is nearly out of memory, sending SIGKILL: PID=12345, Name=chrome, User=john, RAM=4.00GB
    WARNING - Repeat offender, termination delayed by up to 60s unless memory runs short: PID=12345, Name=chrome, User=john, Script=/srv/app.py, Unit=app.service, Rule=students, Terminated 5 times. Stop or fix the service that restarts it
    INFO - Over the limit by RSS only, left alone: PID=12345, Name=chrome, User=john, RAM=4.00GB, Limit=2.00GB. Its end would give back 14.0MB; page cache stays (56.0MB), and so does shared memory (3.00GB, of it 3.00GB in "/dev/zero": pid 77 maps it as well)
    INFO - Terminated: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1.50GB, gone 420ms after SIGTERM
    INFO - Killed: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1.50GB, gone 420ms after SIGTERM
    INFO - Killed: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1.50GB, SIGTERM 173µs after the crossing, gone 420ms after SIGTERM, memory freed after 400ms
    INFO - Killed: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1.50GB, SIGTERM 173µs after the crossing, gone 420ms after SIGTERM, 1.00GB of its memory freed only at exit, Sum=user john, 20 processes with 3.00GB. It had Anon=2.00GB, File=12.0MB, Shmem=1.00GB, Swap=0B. Expected back: at least 2.00GB, came back: 3.00GB, by its cgroup. 1.00GB of its shared memory did not come back: another process maps it, or it is in a file on a tmpfs or in a System V segment (ipcs -m)
    WARNING - Terminated: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1.50GB, gone 420ms after SIGTERM. It had Anon=2.00GB, File=12.0MB, Shmem=1.00GB, Swap=0B. Expected back: at least 2.00GB, came back: +2.00GB of free memory, +0B of shared memory, give or take what all other processes took and freed meanwhile. Left behind: 1.00GB in the file "/dev/shm/x, y". If no program needs it any more, its owner john or root can remove it. Left behind: 1.00GB in the System V segment 6 (/SYSV0000001a). If no program needs it any more, its owner john or root can remove it with `ipcrm -m 6`
    WARNING - Terminated: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, Overshoot=1.50GB, gone 420ms after SIGTERM. It had Anon=2.00GB, File=12.0MB, Shmem=1.00GB, Swap=0B. Expected back: at least 2.00GB, came back: +2.00GB of free memory, +0B of shared memory, give or take what all other processes took and freed meanwhile. Its shared memory did not come back, and may be what is left in the file /dev/shm/x (1.00GB). If no program needs that any more, its owner john or root can remove it
    INFO - Ended by itself: PID=12345, Name=chrome, User=john, Peak=4.00GB, Limit=2.00GB, no signal was sent
    INFO - Spared, its memory fell below the limit: PID=12345, Name=chrome, User=john, RAM=1.00GB, Limit=2.00GB. SIGTERM was already sent; no SIGKILL will follow
    INFO - Spared, its memory fell below the limit: PID=12345, Name=chrome, User=john, RAM=1.00GB, Limit=2.00GB. No signal was sent
    INFO - Spared, the machine has enough memory or another process comes first: PID=12345, Name=chrome, User=john, RAM=1.00GB. SIGTERM was already sent; no SIGKILL will follow
    INFO - Termination cancelled, dry run is now enabled: PID=12345, Name=chrome, User=john. SIGTERM was already sent; no SIGKILL will follow
    INFO - Termination cancelled, dry run is now enabled: PID=12345, Name=chrome, User=john. No signal was sent
    WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by being PID 1
    WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by being a kernel thread
    WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by being memmon itself
    WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by being outside [scope]
    WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by whitelist.pids entry 12345
    WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by whitelist.names entry "chrom*", which matches its exe chrome
    WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by whitelist.users entry john
    WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by whitelist.protect_root
    WARNING - Protected, no further signal: PID=12345, Name=chrome, User=john, by its oom_score_adj of -1000
    WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. Its argv[0] cannot be read, so whitelist.names cannot be checked; the process is busy, or waits in the kernel, for example for a file server
    WARNING - Over its limit, only a warning: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=2.00GB, Rule=browsers
    WARNING - Stopping process: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=2.00GB, Rule=browsers. To continue it: kill -CONT 12345
    WARNING - Stopping process: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=2.00GB, Rule=browsers, Times=3. To continue it: kill -CONT 12345
    WARNING - Over its limit, and stopped already: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=2.00GB, Rule=browsers. To continue it: kill -CONT 12345
    WARNING - [DRY RUN] Stopping process: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=2.00GB, Rule=browsers. To continue it: kill -CONT 12345
    WARNING - Stopping process: PID=12345, Name=chrome, User=john, Machine short of memory: it writes files that are in memory. Remove them, then continue it: kill -CONT 12345
    INFO - Continued by somebody else: PID=12345, Name=chrome, User=john, RAM=3.50GB, Limit=2.00GB. It is stopped again with more than 4.00GB
    INFO - Continued by somebody else: PID=12345, Name=chrome, User=john, RAM=2.00GB. It is stopped again if it goes on to fill memory with files
    INFO - Over its limit, but protected: PID=12345, Name=chrome, User=john, RAM=4.00GB, Limit=2.00GB, by whitelist.protect_root
    INFO - Would have been terminated, but is exempt until 1970-01-01 02:00:00, by 0, because "the year's report, \"ticket 7\"" (exemption 3): PID=12345, Name=chrome, User=john, RAM=4.00GB, Limit=2.00GB
    WARNING - Exempt from now on: User=john, until 1970-01-01 02:00:00, by 0, because "the year's report, \"ticket 7\"" (exemption 3)
    INFO - Exemption 3 ended by john: User=john
    INFO - Exemption 3 ended, its time is over: Job=7
    INFO - Dry run on 2025-10-06: 4 would have been terminated: chrome (john) 3, up to 4.00GB; others 1
    INFO - Dry run on 2025-10-07: 0 would have been terminated; 2 stopped; 1 slowed down (cgroups)
    WARNING - Doubt ended after 1.5s, judged by what is known: PID=12345, Name=chrome, User=john. Its argv[0] cannot be read, so whitelist.names cannot be checked; the process is busy, or waits in the kernel, for example for a file server
    WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. Its cgroup cannot be read, so scope.cgroups cannot be checked; memmon needs to see /proc/PID/cgroup
    WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. Its oom_score_adj cannot be read; memmon needs to see /proc/PID/oom_score_adj
    WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. The memory that it shares with the process that forked it cannot be read; the process is busy, or memmon needs CAP_SYS_PTRACE
    WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. The lookup of its shared memory is under way
    WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. The lookup of its shared memory failed and is tried again: Too many open files (os error 24)
    WARNING - No signal, in doubt: PID=12345, Name=chrome, User=john. 2147487744B is within the measuring error (64KB) of the limit, 2147483648B
    DEBUG - No signal to PID=12345: it is gone, or hidden from memmon
    INFO - No signal to PID=12345: pid 12345 started at tick 999999 now, not 987654
    DEBUG - No signal to PID=12345: its memory is that of pid 12000, which started it
    DEBUG - No signal to PID=12345: it is a thread of pid 12000
    WARNING - No signal to PID=12345: status: Permission denied
    ERROR - Cannot open the process, so no signal is sent yet: PID=12345, Name=chrome, User=john: EMFILE: Too many open files
    ERROR - Cannot send SIGTERM: PID=12345, Name=chrome, User=john: EPERM: Operation not permitted
    ERROR - Still there 10s after SIGKILL: PID=12345, Name=chrome, User=john, State=D, Waits in=rpc_wait_bit_killable. It waits uninterruptibly inside the kernel: check its disk or network file system
    ERROR - Still there 10s after SIGKILL: PID=12345, Name=chrome, User=john, State=Z. It is dead, but not all of its threads are gone: a debugger may hold one until it ends
    ERROR - Still there 10s after SIGKILL: PID=12345, Name=chrome, User=john, State=t. A debugger holds it: it exits when that lets it go, or ends
    ERROR - Still there 10s after SIGKILL: PID=12345, Name=chrome, User=john, RAM=3.00GB. The kernel has not removed it yet
    ERROR - Still there 10s after SIGKILL: PID=12345, Name=chrome, User=john, RAM=1.00GB, State=D, Waits in=__refrigerator. Its cgroup /slurm/job_7 is frozen; it exits when the cgroup is thawed
    WARNING - Kernel map and /proc disagree: PID=12345, Map=3221225472B, Proc=3222274048B, Expected error=64KB. /proc decides
    WARNING - Repaired inconsistent kernel map (a memmon bug, please report). Processes missing: 2, Stale entries: 1
    INFO - Scan complete. Scanned: 245, Killed: 1
    INFO - Schedule: from now on Limit: 1.00GB per process, Interval: 15s
    INFO - Configuration reloaded: /etc/memmon/config.toml with conf.d/10-\u{1b}.toml
    ERROR - Configuration not reloaded, the old one stays in force: /etc/memmon/config.toml:3:1: unknown key "ram_gb_treshold" / did you mean ram_gb_threshold?
    WARNING - Cannot write to the log file: /var/log/memmon.log: No space left on device (os error 28). Lost so far: 1
    WARNING - Writing to the log file again. Lost: 17
    WARNING - The log could not keep up. Lost: 99
    WARNING - Repeated 41 times: Degraded: the map is full
    INFO - Left out 312 more lines like this of the last minute, User=john: Terminated: PID=7, Name=x, User=john
    ERROR - aya_log: a BPF word
    WARNING - Machine low on memory: 0.50GB of 16.00GB available. Available memory 0.50GB is below 0.80GB, free swap 6.2% is below 10%, processes wait for memory 40.0% of the time, 30% is the level, all processes wait for memory 21.5% of the time, 20% is the level
    WARNING - Machine short of memory: 0.50GB of 16.00GB available within the limit of cgroup /box. Available memory 0.50GB is below 0.80GB
    WARNING - Machine short of memory, ending the culprit: PID=12345, Name=chrome, User=john, Gives back=2.00GB, Growth=1.00GB in 34s, one of 10 processes of unit session-2.scope that grew by 9.00GB. Available memory 0.50GB is below 0.80GB, free swap 6.2% is below 10%
    WARNING - [DRY RUN] Machine short of memory, ending the culprit: PID=12345, Name=chrome, User=john, Gives back=2.00GB, Growth=1.00GB in 34s, one of 10 processes of user john that grew by 9.00GB. Available memory 0.50GB is below 0.80GB, free swap 6.2% is below 10%
    WARNING - Machine short of memory, ending the culprit: PID=12345, Name=chrome, User=john, Gives back=2.00GB, Growth=1.00GB in 34s, one of 10 processes of session 4000 that grew by 9.00GB. Available memory 0.50GB is below 0.80GB, free swap 6.2% is below 10%
    WARNING - Machine short of memory, ending the culprit: PID=12345, Name=chrome, User=john, Gives back=2.00GB, Growth=1.00GB in 34s. Available memory 0.50GB is below 0.80GB, free swap 6.2% is below 10%
    WARNING - Machine short of memory, and no process is ended, because none that may be ended caused it: 9.00GB less available than 34s ago. Growth since: processes 1.00GB, tmpfs and shared memory 8.00GB, kernel 3.0MB, huge pages 0B. Files in memory: /dev/shm 8.00GB. PID=4711, Name=dd, User=john has written 7.00GB to a file in /dev/shm
    INFO - Machine has enough memory again after 900ms: 0.50GB of 16.00GB available
    WARNING - Killing process: PID=12345, Name=chrome, User=john, RAM=3.50GB (21.88%), Machine short of memory
    INFO - Terminated: PID=12345, Name=chrome, User=john, Peak=4.00GB, Machine short of memory, Growth=1.50GB, gone 420ms after SIGTERM
    INFO - memmon stops: SIGTERM
    "#);
}

#[test]
fn a_process_is_named_with_how_it_was_started_where_a_record_begins() {
    let mut subject = samples::chrome();
    let below = |event: &Event| {
        paragraph(event, &mut samples::user).split_once('\n').map(|(_, line)| line.to_owned())
    };
    let killing = |subject| Event::Killing {
        subject,
        breach: samples::BREACH,
        signal: Signal::Term,
        dry_run: true,
        sum: None,
    };
    assert_eq!(below(&killing(subject.clone())).as_deref(), Some(samples::LAUNCHED));
    assert_eq!(
        below(&Event::LetGo { subject: subject.clone(), after_term: true, signal: Some(Signal::Term) }),
        None,
        "it was above"
    );
    assert_eq!(below(&Event::MapDefect { missed: 1, stale: 1 }), None);
    let launched = subject.launched.as_mut().unwrap();
    *launched = Launched {
        command_line: Some(Name::from(&*"é".repeat(1000))),
        parent_comm: None,
        session: None,
        terminal: None,
        inside: Inside { pid: Some(Pid(17)), uid: Some(Uid::ROOT) },
        slurm_job_id: Some(4711),
        ..launched.clone()
    };
    let short = format!(
        "    Started=1970-01-01 00:00:00, Parent=4321, PID inside=17, UID inside=0, Unit=session-2.scope, SLURM_JOB_ID=4711, Command=\"{}…\"",
        "é".repeat(256)
    );
    assert_eq!(below(&killing(subject)), Some(short));
}

#[test]
fn an_error_of_several_lines_keeps_them_in_the_text_format_alone() {
    let error = "a.toml:3:1: unknown key\n  |\n3 | x\u{1b} = 1\n  | ^\n\n".to_owned();
    let event = Event::ReloadFailed { error };
    let head = "Configuration not reloaded, the old one stays in force: a.toml:3:1: unknown key";
    let lines = format!("{head}\n      |\n    3 | x\\u{{1b}} = 1\n      | ^");
    assert_eq!(paragraph(&event, &mut samples::user), lines);
    assert_eq!(printed(&event), format!("{head} / | / 3 | x\\u{{1b}} = 1 / | ^"));
}

#[test]
fn a_name_cannot_pass_for_more_than_a_name() {
    for (name, shown) in [
        (&b"chrome"[..], "chrome"),
        (b"Web Content", "Web Content"),
        (b"kworker/0:1-eve", "kworker/0:1-eve"),
        (b"x, User=root", r#""x, User=root""#),
        (b"a\", b=\"", r#""a\", b=\"""#),
        (b"a\\\", b=\"", r#""a\\\", b=\"""#),
        (b"", r#""""#),
        (b"\n2025-10-03", r"\n2025-10-03"),
        (b"\x1b[2J", r"\u{1b}[2J"),
        (b"trailing ", r#""trailing ""#),
    ] {
        assert_eq!(Field(&Name::new(name)).to_string(), shown);
    }
    let reported = printed(&Event::Delayed {
        subject: samples::chrome(),
        script: Some(Name::from("a, Unit=b")),
        unit: Some(Name::from("x, Terminated 0 times.service")),
        times: 5,
        wait: Duration::from_secs(60),
        first: true,
        by: None,
    });
    assert!(
        reported
            .contains(r#", Script="a, Unit=b", Unit="x, Terminated 0 times.service", Terminated 5 times."#),
        "{reported}"
    );
}

#[test]
fn the_line_below_names_the_job_or_the_container() {
    let with_names = |cgroup: &str, names: ContainerNames| {
        let mut workload = Workload::of(&Name::from(cgroup));
        if let Some(container) = workload.as_mut().and_then(|workload| workload.container.as_mut()) {
            container.names = names;
        }
        let subject = Subject { workload, ..samples::chrome() };
        let text = paragraph(
            &Event::Killing {
                subject,
                breach: samples::BREACH,
                signal: Signal::Term,
                dry_run: false,
                sum: None,
            },
            &mut |_| "john".to_owned(),
        );
        let below = text.lines().nth(1).unwrap().to_owned();
        below.split_once("TTY=pts/3, ").unwrap().1.split(", Command=").next().unwrap().to_owned()
    };
    let line = |cgroup: &str| with_names(cgroup, ContainerNames::default());
    let id = "0123456789abcdef".repeat(4);
    let pod = "11111111-2222-3333-4444-555555555555";
    assert_eq!(
        line("/system.slice/n1_slurmstepd.scope/job_2/step_0/user/task_3"),
        "Job=2, Step=0, Node=n1, Task=3"
    );
    assert_eq!(line(&format!("/machine.slice/libpod-{id}.scope")), "Container=0123456789ab, Runtime=podman");
    assert_eq!(
        line(&format!("/kubepods/burstable/pod{pod}/{id}")),
        format!("Container=0123456789ab, Pod={pod}")
    );
    let [name, pod_name, namespace] = ["web", "shop", "default"].map(|name| Some(Name::from(name)));
    assert_eq!(
        with_names(
            &format!("/kubepods/burstable/pod{pod}/{id}"),
            ContainerNames { name, pod_name, namespace }
        ),
        format!("Container=0123456789ab, Container name=web, Pod={pod}, Pod name=shop, Namespace=default")
    );
    assert_eq!(line("/system.slice/nginx.service"), "Unit=nginx.service");
}

#[test]
fn a_containers_user_is_not_called_by_the_name_of_a_user_of_this_machine() {
    let printed = |cgroup: String, uid| {
        let subject = Subject { workload: Workload::of(&Name::from(&*cgroup)), uid, ..samples::chrome() };
        message(
            &Event::Killing {
                subject,
                breach: samples::BREACH,
                signal: Signal::Term,
                dry_run: false,
                sum: None,
            },
            &mut |_| "john".to_owned(),
        )
    };
    let id = "0123456789abcdef".repeat(4);
    let (container, user) = (format!("/docker/{id}"), crate::model::Uid(1000));
    assert!(printed(container.clone(), user).contains("User=1000,"));
    assert!(printed(container, crate::model::Uid::ROOT).contains("User=john,"));
    let rootless = format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope");
    assert!(printed(rootless, user).contains("User=john,"));
}

proptest! {
    #[test]
    fn whatever_a_process_calls_itself_is_one_visible_line(raw: Vec<u8>, text in ".{0,60}") {
        let mut subject = Subject {
            id: ProcessId { pid: crate::model::Pid(7), start: StartTime(1) },
            name: Name::new(raw.clone()),
            ..samples::chrome()
        };
        let launched = subject.launched.as_mut().unwrap();
        (launched.command_line, launched.parent_comm) = (Some(Name::new(raw.clone())), Some(Name::new(raw.clone())));
        let name = || Some(Name::new(raw.clone()));
        let names = ContainerNames { name: name(), pod_name: name(), namespace: name() };
        let container = Container { id: Name::new(raw.clone()), runtime: None, pod: Some(Name::new(raw.clone())), names };
        let job = SlurmJob { job: 7, step: Some(Name::new(raw.clone())), task: None, node: Some(Name::new(raw)) };
        subject.workload = Some(Workload { unit: None, slurm: Some(job), container: Some(container) });
        for event in [
            Event::Killing { subject: subject.clone(), breach: samples::BREACH, signal: Signal::Term, dry_run: false, sum: None },
            Event::SignalFailed { subject, signal: Signal::Kill, error: text.clone() },
            Event::Diagnostic { severity: Level::Warning, origin: text.clone(), text: format!("{text}\r\n\x1b{text}") },
            Event::ReloadFailed { error: text },
        ] {
            let printed = printed(&event);
            prop_assert!(!printed.contains(char::is_control), "{printed:?}");
            prop_assert!(!printed.contains(['\u{2028}', '\u{202e}', '\u{200b}']), "{printed:?}");
            for (i, line) in paragraph(&event, &mut samples::user).split('\n').enumerate() {
                prop_assert!(!line.contains(char::is_control), "{line:?}");
                prop_assert!(i == 0 || line.starts_with("    "), "it could pass for a record: {line:?}");
            }
        }
    }
}

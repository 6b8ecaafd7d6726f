//! The output for the administrator, on machines of several kinds.

use super::*;
use crate::{
    model::Capabilities,
    observe::support::{
        Namespaces, Probe,
        samples::{ALL_RIGHTS, facts},
    },
};

fn read(facts: &Facts) -> String {
    let support = support::assess(facts);
    render(&diagnose(facts, &support))
}

#[test]
fn all_is_well() {
    insta::assert_snapshot!(read(&facts("6.18.15+deb13-amd64")), @"
    ok  kernel            Linux 6.18.15+deb13-amd64
    ok  bpf(2)            there (unprivileged_bpf_disabled 2, perf_event_paranoid 2)
    ok  BTF               /sys/kernel/btf/vmlinux
    ok  layout            rss_stat at 712, every 40 bytes (as since 6.2); owner at 912
    ok  rights            uid 0, CAP_BPF CAP_PERFMON CAP_SYS_ADMIN CAP_KILL CAP_SYS_PTRACE CAP_SYS_RESOURCE
    ok  pid namespace     the initial one, up to 4194304 pids
    ok  /proc             counts pids as system calls do
    ok  uids              all in sight are mapped
    ok  time namespace    the initial one
    ok  cgroup namespace  the initial one
    ok  bpffs             /sys/fs/bpf
    ok  pidfd             pidfd_open and pidfd_send_signal
    ok  process_mrelease  frees a victim's memory at once
    ok  source ebpf       available
    ok  source proc       available
    ok  source auto       takes ebpf
    ok  counter error     up to 768KB for a process, on 2 CPUs
    ok  gears             two: no program runs at a page fault while no process is near its limit
    ok  sums              those of users, programs and cgroups are noticed by the kernel, others by looks
    ok  throttle          memory.high of cgroups can be set
    ok  statm             an exact sum

    memmon can watch and enforce here.
    ");
}

#[test]
fn an_old_kernel_without_rights_or_type_information() {
    let facts = Facts {
        capabilities: Capabilities(0),
        euid: crate::model::Uid(1000),
        bpf_fs: false,
        ..facts("4.19.0-27-amd64")
    };
    insta::assert_snapshot!(read(&facts), @"
    !   kernel            Linux 4.19 is older than 5.8
                          -> boot Linux 5.8 or later
    ok  bpf(2)            there (unprivileged_bpf_disabled 2, perf_event_paranoid 2)
    !   BTF               the kernel gives no type information: no /sys/kernel/btf/vmlinux
                          -> boot a kernel that is built with CONFIG_DEBUG_INFO_BTF=y
    !   rights            CAP_BPF and CAP_PERFMON missing
                          -> run as root, or with AmbientCapabilities=CAP_BPF CAP_PERFMON
    !   rights            without CAP_KILL only memmon's own user's processes can be signalled
                          -> run as root, or with CAP_KILL
    !   rights            without CAP_SYS_PTRACE other users' executables are not known: their processes are matched by comm and argv[0] only; and another memmon that has a /run of its own is not noticed
                          -> run as root, or with CAP_SYS_PTRACE
    ok  pid namespace     the initial one, up to 4194304 pids
    ok  /proc             counts pids as system calls do
    ok  uids              all in sight are mapped
    ok  time namespace    the initial one
    ok  cgroup namespace  the initial one
    !   bpffs             no bpffs at /sys/fs/bpf: the map cannot be pinned, for bpftool to show it
                          -> mount -t bpf bpf /sys/fs/bpf
    !!  pidfd             the kernel has no pidfd_open
                          -> boot Linux 5.3 or later, which has pidfd_open
    !!  pidfd             the kernel has no pidfd_send_signal
                          -> boot Linux 5.3 or later, which has pidfd_send_signal
    !   process_mrelease  the kernel has no process_mrelease
                          -> boot Linux 5.15 or later, which has process_mrelease
    !   source ebpf       not available, for what is marked above
    ok  source proc       available
    ok  source auto       takes proc
    ok  counter error     up to 4.1MB for each thread of a process
    ok  gears             none without ebpf: no program of memmon runs in the kernel
    ok  sums              noticed by looks
    ok  throttle          memory.high of cgroups can be set
    ok  statm             lags behind: smaps_rollup is read near a limit

    memmon can watch here, but not enforce: see the lines marked !!
    ");
}

#[test]
fn a_container_on_a_kernel_of_the_old_counters() {
    let facts = Facts {
        namespaces: Namespaces { initial_pid: Some(false), ..Namespaces::INITIAL },
        bpf_fs: false,
        lockdown: Lockdown::Integrity,
        process_mrelease: Probe::Refused { error: "Operation not permitted".to_owned() },
        ..facts("6.1.0-56-amd64")
    };
    insta::assert_snapshot!(read(&facts), @"
    ok  kernel            Linux 6.1.0-56-amd64, lockdown=integrity
    ok  bpf(2)            there (unprivileged_bpf_disabled 2, perf_event_paranoid 2)
    ok  BTF               /sys/kernel/btf/vmlinux
    ok  layout            rss_stat at 712, every 8 bytes (as before 6.2); owner at 912
    ok  rights            uid 0, CAP_BPF CAP_PERFMON CAP_SYS_ADMIN CAP_KILL CAP_SYS_PTRACE CAP_SYS_RESOURCE
    !   pid namespace     memmon is not in the initial pid namespace, and the kernel would report the host's pids
                          -> run memmon on the host, or with the host's pid namespace (docker run --pid=host)
    !   pid namespace     memmon sees only the processes of its own pid namespace
                          -> run memmon on the host, or with the host's pid namespace, to watch the whole machine
    ok  /proc             counts pids as system calls do
    ok  uids              all in sight are mapped
    ok  time namespace    the initial one
    ok  cgroup namespace  the initial one
    !   bpffs             no bpffs at /sys/fs/bpf: the map cannot be pinned, for bpftool to show it
                          -> mount -t bpf bpf /sys/fs/bpf
    ok  pidfd             pidfd_open and pidfd_send_signal
    !   process_mrelease  process_mrelease is refused: Operation not permitted
                          -> allow process_mrelease in the seccomp filter or security module (SystemCallFilter= of a unit)
    !   source ebpf       not available, for what is marked above
    ok  source proc       available
    ok  source auto       takes proc
    ok  counter error     up to 4.1MB for each thread of a process
    ok  gears             none without ebpf: no program of memmon runs in the kernel
    ok  sums              noticed by looks
    ok  throttle          memory.high of cgroups can be set
    ok  statm             lags behind: smaps_rollup is read near a limit

    memmon can watch and enforce in its own pid namespace only: see the lines marked !
    ");
}

/// The last line promises no more than memmon can do.
#[test]
fn the_last_line_has_the_reach() {
    let last = |facts: &Facts| {
        let support = support::assess(facts);
        let diagnosis = diagnose(facts, &support);
        (render(&diagnosis).lines().last().unwrap().to_owned(), diagnosis.able, diagnosis.reach)
    };
    let root = facts("6.18.15");
    let (line, ..) = last(&root);
    assert_eq!(line, "memmon can watch and enforce here.");

    let without_kill = Facts { capabilities: Capabilities(ALL_RIGHTS.0 & !(1 << 5)), ..root.clone() };
    let (line, able, reach) = last(&without_kill);
    let expected =
        "memmon can watch here, but terminate only its own user's processes: see the lines marked !";
    assert_eq!((&line[..], able, reach), (expected, true, Some(Reach::OwnUser)));

    let namespaces = Namespaces { initial_pid: Some(false), ..Namespaces::INITIAL };
    let (line, able, reach) = last(&Facts { namespaces, ..root.clone() });
    let expected = "memmon can watch and enforce in its own pid namespace only: see the lines marked !";
    assert_eq!((&line[..], able, reach), (expected, true, Some(Reach::PidNamespace)));

    let namespaces = Namespaces { same_pids: false, ..namespaces };
    let (line, able, reach) = last(&Facts { namespaces, ..root });
    let expected = "memmon can watch here, but not enforce: see the lines marked !!";
    assert_eq!((&line[..], able, reach), (expected, false, None));
}

#[test]
fn programs_read_the_same() {
    let facts = Facts { capabilities: ALL_RIGHTS, btf: Btf::Absent, ..facts("6.18.15") };
    let support = support::assess(&facts);
    let json = serde_json::to_value(diagnose(&facts, &support)).unwrap();
    assert_eq!(json["able"], true);
    assert_eq!(json["source"], "proc");
    assert_eq!(json["layout"], serde_json::Value::Null);
    assert_eq!(json["support"]["ebpf"]["available"], false);
    let checks = json["checks"].as_array().unwrap();
    let btf = checks.iter().find(|check| check["name"] == "BTF").unwrap();
    assert_eq!(btf["mark"], "degraded");
    assert_eq!(btf["remedy"], "boot a kernel that is built with CONFIG_DEBUG_INFO_BTF=y");
    // A line with nothing to do says nothing of it.
    assert!(
        checks
            .iter()
            .all(|check| check["remedy"] != serde_json::Value::Null || check.get("remedy").is_none())
    );
}

/// Each obstacle has a line of its own with a remedy, or the administrator would not learn of it.
#[test]
fn no_obstacle_goes_unsaid() {
    let bare = Facts {
        built_with_ebpf: false,
        capabilities: Capabilities(0),
        btf: Btf::Absent,
        hidepid: Some("2".to_owned()),
        bpf_fs: false,
        namespaces: Namespaces {
            initial_pid: None,
            initial_user: None,
            initial_time: false,
            initial_cgroup: false,
            same_pids: false,
            same_uids: false,
        },
        ..facts("4.19.0")
    };
    for facts in [bare.clone(), Facts { built_with_ebpf: true, bpf: Probe::Missing, ..bare }] {
        let support = support::assess(&facts);
        let diagnosis = diagnose(&facts, &support);
        let remedies: Vec<&String> =
            diagnosis.checks.iter().filter_map(|check| check.remedy.as_ref()).collect();
        let Support {
            ebpf,
            proc,
            enforce,
            cgroup_paths,
            exe_files,
            throttle,
            reclaim,
            degraded,
            statm_exact: _,
            counter_error: _,
            // No limitation: one gear is what memmon always had.
            one_gear: _,
        } = &support;
        let offers = [ebpf, proc, enforce, cgroup_paths, exe_files, throttle, reclaim];
        for obstacle in offers.iter().flat_map(|offer| &offer.obstacles).chain(degraded) {
            assert!(remedies.contains(&&obstacle.remedy()), "{obstacle} has no line");
        }
    }
}

#[test]
fn this_machine_is_examined() {
    let (mut text, mut json) = (Vec::new(), Vec::new());
    let code = run(false, &mut text).unwrap();
    assert_eq!(run(true, &mut json).unwrap(), code);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("source auto") && !text.contains('\u{1b}'), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["able"] == true, code == Exit::Ok);
}

#[test]
fn a_kernel_that_shows_the_mappings_of_one_process_is_known_by_its_types() {
    let of = |release: &str, offsets: FileMappingOffsets| {
        let mut facts = facts(release);
        if let Btf::Read(Ok(layout)) = &mut facts.btf {
            layout.file_mapping = offsets;
        }
        let support = support::assess(&facts);
        let layout = diagnose(&facts, &support).layout.copied();
        mappings(&support, layout.as_ref())
    };
    let some = FileMappingOffsets { vma_vm_file: 8, ..FileMappingOffsets::default() };
    // A distribution's kernel with that change.
    assert!(of("5.14.0-503.el9.x86_64", some).starts_with("the kernel shows"));
    assert!(
        of("6.18.0", FileMappingOffsets::default()).contains("this kernel shows those of one process to no")
    );
    assert_eq!(of("5.2.0", some), "every process is asked for its mappings");
}

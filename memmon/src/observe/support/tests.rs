//! Tables: kernels × capabilities × type information × namespaces, and the expected support.

use super::{
    samples::{ALL_RIGHTS, facts, offsets},
    *,
};
use crate::{model::Capabilities, observe::btf::LayoutError};

const NO_OWNER: LayoutError = LayoutError::NoField { structure: "mm_struct", field: "owner" };

/// The texts of all obstacles to ebpf.
fn obstacles(facts: &Facts) -> Vec<String> {
    let support = assess(facts);
    assert_eq!(support.ebpf.available, support.ebpf.obstacles.is_empty());
    support.ebpf.obstacles.iter().map(ToString::to_string).collect()
}

const KERNELS: [&str; 9] = [
    "4.19.0-27-amd64",
    "5.4.0-200-generic",
    "5.8.0-63-generic",
    "5.10.0-46-cloud-amd64",
    "6.1.0-56-cloud-amd64",
    "6.12.117+deb12-cloud-amd64",
    "6.16.12+deb13-cloud-amd64",
    "6.18.15",
    "7.3.4+deb13-cloud-amd64",
];

#[test]
fn each_kernel_has_its_support() {
    // ebpf, enforce, reclaim, exact statm; the error in pages for a process of ten threads
    let expected = [
        (false, false, false, false, 10_400),
        (false, true, false, false, 10_400),
        (true, true, false, false, 10_400),
        (true, true, false, false, 10_400),
        (true, true, true, false, 10_400),
        (true, true, true, false, 192),
        (true, true, true, false, 192),
        (true, true, true, true, 192),
        (true, true, true, true, 192),
    ];
    for (release, (ebpf, enforce, reclaim, exact, error)) in KERNELS.into_iter().zip(expected) {
        let support = assess(&facts(release));
        assert_eq!(support.ebpf.available, ebpf, "{release}: {:?}", support.ebpf);
        assert!(support.proc.available, "{release}");
        assert_eq!(support.enforce.available, enforce, "{release}");
        assert_eq!(support.reclaim.available, reclaim, "{release}");
        assert_eq!(support.statm_exact, exact, "{release}");
        assert_eq!(support.counter_error.of(10), Bytes(error * 4096), "{release}");
    }
}

#[test]
fn every_missing_requirement_disables_ebpf_on_every_kernel() {
    type Change = fn(&mut Facts);
    let without: [(&str, Change, &str); 17] = [
        (
            "the ebpf feature",
            |facts| facts.built_with_ebpf = false,
            "this memmon was built without BPF programs",
        ),
        ("capabilities", |facts| facts.capabilities = Capabilities(0), "CAP_BPF and CAP_PERFMON missing"),
        ("CAP_BPF", |facts| facts.capabilities = only(&[Capability::PERFMON]), "CAP_BPF missing"),
        ("CAP_PERFMON", |facts| facts.capabilities = only(&[Capability::BPF]), "CAP_PERFMON missing"),
        (
            "BTF",
            |facts| facts.btf = Btf::Absent,
            "the kernel gives no type information: no /sys/kernel/btf/vmlinux",
        ),
        (
            "reading BTF",
            |facts| facts.btf = Btf::Unreadable { error: "Permission denied".to_owned() },
            "/sys/kernel/btf/vmlinux: Permission denied",
        ),
        (
            "a layout",
            |facts| facts.btf = Btf::Read(Err(NO_OWNER)),
            "no `owner` in mm_struct: the kernel was built without CONFIG_MEMCG",
        ),
        (
            "the pid namespace",
            |facts| facts.namespaces.initial_pid = Some(false),
            "memmon is not in the initial pid namespace, and the kernel would report the host's pids",
        ),
        (
            "knowing the pid namespace",
            |facts| facts.namespaces.initial_pid = None,
            "memmon is not in the initial pid namespace, and the kernel would report the host's pids",
        ),
        (
            "the user namespace",
            |facts| facts.namespaces.initial_user = Some(false),
            "memmon is not in the initial user namespace, and capabilities of others do not reach BPF",
        ),
        (
            "the time namespace",
            |facts| facts.namespaces.initial_time = false,
            "memmon is in a time namespace, and the kernel would report start times of another clock",
        ),
        ("a known version", |facts| facts.version = None, "no version in the kernel's release"),
        ("bpf(2)", |facts| facts.bpf = Probe::Missing, "the kernel has no bpf(2)"),
        (
            "permission of a seccomp filter",
            |facts| facts.bpf = Probe::Refused { error: "Operation not permitted".to_owned() },
            "bpf is refused: Operation not permitted",
        ),
        (
            "permission to read",
            |facts| facts.lockdown = Lockdown::Confidentiality,
            "lockdown=confidentiality keeps BPF programs from reading kernel memory",
        ),
        (
            "a recent kernel",
            |facts| facts.version = Some(KernelVersion { major: 5, minor: 7 }),
            "Linux 5.7 is older than 5.8",
        ),
        (
            "a readable release",
            |facts| (facts.version, facts.release) = (None, "\u{1b}[2J".to_owned()),
            r#"no version in the kernel's release "\u{1b}[2J""#,
        ),
    ];
    for release in KERNELS {
        for (what, remove, expected) in &without {
            let mut facts = facts(release);
            remove(&mut facts);
            let obstacles = obstacles(&facts);
            assert!(
                obstacles.iter().any(|line| line.starts_with(expected)),
                "{release} without {what}: {obstacles:?}"
            );

            let support = assess(&facts);
            assert_eq!(choose(SourceChoice::Auto, &support).unwrap().0, Source::Proc);
            let refusal = choose(SourceChoice::Ebpf, &support).unwrap_err();
            assert_eq!(refusal.obstacles, support.ebpf.obstacles);
            assert!(refusal.obstacles.iter().all(|obstacle| !obstacle.remedy().is_empty()));
        }
    }
}

fn only(some: &[Capability]) -> Capabilities {
    Capabilities::of(some.iter().copied())
}

#[test]
fn capabilities_that_suffice_for_ebpf() {
    let with =
        |release, rights: &[Capability]| obstacles(&Facts { capabilities: only(rights), ..facts(release) });
    assert_eq!(with("6.1.0", &[Capability::BPF, Capability::PERFMON]), [""; 0]);
    assert_eq!(with("6.1.0", &[Capability::SYS_ADMIN]), [""; 0]);
    // In integrity mode BPF programs may read.
    assert_eq!(obstacles(&Facts { lockdown: Lockdown::Integrity, ..facts("6.1.0") }), [""; 0]);
    // If unprivileged BPF is disabled, bpf(2) refuses every user without the capabilities: those are what is missing.
    let refused = Probe::Refused { error: "Operation not permitted".to_owned() };
    assert_eq!(
        obstacles(&Facts { capabilities: Capabilities(0), bpf: refused, ..facts("5.10.0") }),
        ["CAP_BPF and CAP_PERFMON missing"]
    );
}

#[test]
fn maps_are_charged_to_memlock_before_5_11() {
    let rights = only(&[Capability::BPF, Capability::PERFMON]);
    let limited = |release| Facts { capabilities: rights, memlock: Some(64 << 10), ..facts(release) };
    assert_eq!(obstacles(&limited("5.10.0")), ["RLIMIT_MEMLOCK is too low for BPF maps before Linux 5.11"]);
    assert_eq!(obstacles(&limited("5.11.0")), [""; 0]);
    assert_eq!(obstacles(&Facts { memlock: None, ..limited("5.10.0") }), [""; 0]);
    assert_eq!(obstacles(&Facts { capabilities: ALL_RIGHTS, ..limited("5.10.0") }), [""; 0]);
}

#[test]
fn the_layout_decides_for_backports() {
    // A kernel whose release is 5.14 and which has the counters of 6.2, and the reverse.
    let backported = Facts { btf: Btf::Read(Ok(offsets(false))), ..facts("5.14.0-503.el9.x86_64") };
    assert!(matches!(assess(&backported).counter_error, CounterError::PerProcess { .. }));
    let old = Facts { btf: Btf::Read(Ok(offsets(true))), ..facts("6.18.0") };
    assert_eq!(assess(&old).counter_error, CounterError::PerThread { bound: Bytes(65 * 16 * 4096) });
    assert!(!assess(&old).statm_exact);
}

#[test]
fn the_error_grows_with_the_square_of_the_cpus() {
    let error =
        |cpus, page_size| assess(&Facts { cpus, page_size, ..facts("6.18.0") }).counter_error.of(1000);
    assert_eq!(error(1, 4096), Bytes(3 * 32 * 4096));
    assert_eq!(error(2, 4096), Bytes(3 * 2 * 32 * 4096));
    assert_eq!(error(64, 4096), Bytes(96 * Bytes::MIB));
    assert_eq!(error(256, 4096), Bytes(1536 * Bytes::MIB));
    assert_eq!(error(64, 65536), Bytes(1536 * Bytes::MIB));
    assert!(error(u32::MAX, 65536) > Bytes(Bytes::GIB), "no overflow");
    let threads = assess(&facts("6.1.0")).counter_error;
    assert_eq!(threads.of(u64::MAX), Bytes::MAX, "no overflow");
}

#[test]
fn statm_has_the_error_of_the_counters_until_it_is_exact() {
    let accuracy = |release| assess(&facts(release)).accuracy();
    assert_eq!(accuracy("6.1.0"), Accuracy::PerThread { bound: Bytes(65 * 16 * 4096) });
    assert_eq!(accuracy("6.12.117+deb12"), Accuracy::StatmLags { bound: Bytes(192 * 4096) });
    assert_eq!(accuracy("6.16.0"), Accuracy::StatmLags { bound: Bytes(192 * 4096) });
    assert_eq!(accuracy("6.17-rc1"), Accuracy::StatmExact);
    // An unknown kernel is not treated as exact.
    assert!(matches!(accuracy("unknown"), Accuracy::StatmLags { .. }));
}

#[test]
fn nothing_is_enforced_without_pidfds() {
    let support = assess(&facts("5.2.0"));
    assert!(!support.enforce.available, "pidfd_send_signal alone is not enough");
    assert_eq!(support.enforce.obstacles[0].to_string(), "the kernel has no pidfd_open");
    assert_eq!(support.enforce.obstacles[0].remedy(), "boot Linux 5.3 or later, which has pidfd_open");

    let refused = Probe::Refused { error: "Operation not permitted".to_owned() };
    for probe in [refused, Probe::Missing] {
        let support = assess(&Facts { pidfd_send_signal: probe, ..facts("6.18.0") });
        assert!(!support.enforce.available && support.ebpf.available);
        let obstacle = &support.enforce.obstacles[0];
        assert!(obstacle.to_string().starts_with("pidfd_send_signal is refused: "), "{obstacle}");
        assert!(
            obstacle.remedy().contains("SystemCallFilter="),
            "the cause is a filter, not the kernel's version"
        );
    }
}

/// A container with a /proc of its own may enforce inside; what depends on a namespace that is not proven to be the
/// right one is refused.
#[test]
fn nothing_is_enforced_across_namespaces() {
    let with = |change: fn(&mut Namespaces)| {
        let mut facts = facts("6.18.0");
        change(&mut facts.namespaces);
        assess(&facts)
    };
    let own = with(|it| it.initial_pid = Some(false));
    assert!(own.enforce.available && !own.ebpf.available);
    assert_eq!(own.degraded, [Obstacle::PartOfMachine]);
    let foreign = with(|it| (it.initial_pid, it.same_pids) = (Some(false), false));
    assert_eq!(foreign.enforce.obstacles, [Obstacle::ForeignPids]);
    let unmapped = with(|it| (it.initial_user, it.same_uids) = (Some(false), false));
    assert_eq!(unmapped.enforce.obstacles, [Obstacle::ForeignUids]);
    let time = with(|it| it.initial_time = false);
    assert!(time.enforce.available && time.ebpf.obstacles == [Obstacle::TimeNamespace]);
    let cgroup = with(|it| it.initial_cgroup = false);
    assert!(cgroup.enforce.available && cgroup.ebpf.available);
    assert_eq!(cgroup.cgroup_paths.obstacles, [Obstacle::CgroupNamespace]);
    assert!(with(|_| {}).cgroup_paths.available);
}

#[test]
fn degraded_modes_are_listed() {
    let degraded =
        |facts: &Facts| -> Vec<String> { assess(facts).degraded.iter().map(ToString::to_string).collect() };
    assert_eq!(degraded(&facts("6.18.0")), [""; 0]);
    let bare = Facts {
        capabilities: Capabilities(0),
        bpf_fs: false,
        hidepid: Some("invisible".to_owned()),
        ..facts("5.10.0")
    };
    let lines = degraded(&bare);
    for part in ["CAP_KILL", "hidepid=invisible", "no bpffs", "no process_mrelease"] {
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:?}");
    }
    // With CAP_SYS_PTRACE hidepid hides nothing.
    assert_eq!(degraded(&Facts { hidepid: Some("2".to_owned()), ..facts("6.18.0") }), [""; 0]);
}

#[test]
fn a_source_is_chosen_with_its_reason() {
    let good = assess(&facts("6.18.0"));
    assert_eq!(choose(SourceChoice::Auto, &good), Ok((Source::Ebpf, "the best there is".to_owned())));
    assert_eq!(choose(SourceChoice::Ebpf, &good), Ok((Source::Ebpf, "asked for".to_owned())));
    assert_eq!(choose(SourceChoice::Proc, &good), Ok((Source::Proc, "asked for".to_owned())));

    let old = assess(&facts("5.4.0"));
    assert_eq!(
        choose(SourceChoice::Auto, &old),
        Ok((Source::Proc, "no ebpf: Linux 5.4 is older than 5.8".to_owned()))
    );

    let mut failed = good;
    failed.ebpf.disable(Obstacle::Attach { error: "E2BIG".to_owned() });
    assert_eq!(
        choose(SourceChoice::Auto, &failed).unwrap().1,
        "no ebpf: the BPF programs could not be attached: E2BIG"
    );

    let blind = assess(&Facts { proc: false, ..facts("5.4.0") });
    for choice in [SourceChoice::Auto, SourceChoice::Proc] {
        assert_eq!(choose(choice, &blind).unwrap_err().obstacles, [Obstacle::NoProc]);
    }
}

#[test]
fn a_refusal_names_obstacles_and_remedies() {
    let facts = Facts { capabilities: Capabilities(0), btf: Btf::Absent, ..facts("6.18.0") };
    let refusal = choose(SourceChoice::Ebpf, &assess(&facts)).unwrap_err();
    insta::assert_snapshot!(refusal, @r#"
    source "ebpf" is not available here
      CAP_BPF and CAP_PERFMON missing
        run as root, or with AmbientCapabilities=CAP_BPF CAP_PERFMON
      the kernel gives no type information: no /sys/kernel/btf/vmlinux
        boot a kernel that is built with CONFIG_DEBUG_INFO_BTF=y
    "#);
}

#[test]
fn support_is_serialized() {
    let facts = Facts { capabilities: Capabilities(0), ..facts("6.18.0") };
    let support = serde_json::to_value(assess(&facts)).unwrap();
    assert_eq!(
        support["ebpf"],
        serde_json::json!({
            "available": false,
            "obstacles": [{
                "what": "CAP_BPF and CAP_PERFMON missing",
                "remedy": "run as root, or with AmbientCapabilities=CAP_BPF CAP_PERFMON",
            }],
        })
    );
    assert_eq!(support["counter_error"], serde_json::json!({ "held_back": "per_process", "bound": 786_432 }));
}

#[test]
fn two_gears_need_a_count_for_each_page_and_a_tick_on_each_cpu() {
    for release in KERNELS {
        let (major, minor) = facts(release).version.map(|version| (version.major, version.minor)).unwrap();
        let expected = ((major, minor) < (6, 2)).then_some(OneGear::Batched);
        assert_eq!(assess(&facts(release)).one_gear, expected, "{release}");
    }
    let isolated = Facts { nohz_full: Some("2-7".to_owned()), ..facts("6.18.15") };
    assert_eq!(
        assess(&isolated).one_gear.map(|why| why.to_string()).as_deref(),
        Some("CPUs 2-7 have no tick while they run one task (nohz_full)")
    );
}

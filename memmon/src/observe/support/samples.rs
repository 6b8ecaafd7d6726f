//! Machines for tests.

use super::{Btf, CgroupMemory, Facts, KernelVersion, Lockdown, Namespaces, Probe};
use crate::model::{Capabilities, Uid};
use memmon_common::{FileMappingOffsets, Offsets};

/// All capabilities, as root has them.
pub(crate) const ALL_RIGHTS: Capabilities = Capabilities(u64::MAX);

/// Offsets of Debian's 5.10, with its own counters or those since 6.2.
pub(crate) fn offsets(legacy_rss: bool) -> Offsets {
    Offsets {
        rss: 712,
        rss_stride: if legacy_rss { 8 } else { 40 },
        rss_legacy: legacy_rss.into(),
        mm_owner: 912,
        mm_users: 80,
        task_tgid: 2236,
        task_pid: 2232,
        task_mm: 2056,
        task_flags: 36,
        task_start_boottime: 2544,
        task_comm: 2736,
        task_real_cred: 2712,
        task_group_leader: 2296,
        task_cgroups: 3328,
        css_set_dfl_cgrp: 120,
        cgroup_kn: 248,
        kernfs_node_id: 104,
        task_signal: 2832,
        cred_uid: 8,
        task_exit_code: 2100,
        signal_live: 4,
        signal_oom_mm: 1000,
        file_mapping: FileMappingOffsets::default(),
    }
}

/// The facts for root on this kernel, on a machine with two CPUs.
pub(crate) fn facts(release: &str) -> Facts {
    let version = KernelVersion::parse(release);
    let since = |major, minor| version >= Some(KernelVersion { major, minor });
    let probe = |available| if available { Probe::Available } else { Probe::Missing };
    Facts {
        built_with_ebpf: true,
        release: release.to_owned(),
        version,
        capabilities: ALL_RIGHTS,
        euid: Uid::ROOT,
        btf: if since(5, 4) { Btf::Read(Ok(offsets(!since(6, 2)))) } else { Btf::Absent },
        bpf_fs: true,
        proc: true,
        hidepid: None,
        namespaces: Namespaces::INITIAL,
        cgroup_memory: CgroupMemory::Writable,
        lockdown: Lockdown::None,
        bpf: Probe::Available,
        pidfd_open: probe(since(5, 3)),
        pidfd_send_signal: probe(since(5, 1)),
        process_mrelease: probe(since(5, 15)),
        memlock: None,
        cpus: 2,
        nohz_full: None,
        page_size: 4096,
        pid_max: Some(4_194_304),
        processes: 300,
        perf_event_paranoid: Some(2),
        unprivileged_bpf_disabled: Some(2),
    }
}

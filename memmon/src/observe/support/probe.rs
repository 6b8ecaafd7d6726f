//! Probes the running kernel. This is the only part of `support` that touches the system.

#![expect(unsafe_code, reason = "the probe tries system calls that neither libc nor nix wraps")]

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        raw::c_long,
        unix::fs::MetadataExt,
    },
    path::Path,
    ptr, str,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        resource::{Resource, getrlimit},
        statfs::{BPF_FS_MAGIC, PROC_SUPER_MAGIC, statfs},
        statvfs::{FsFlags, statvfs},
    },
    unistd::{SysconfVar, geteuid, getpid, sysconf},
};
use procfs::{process::Process, sys::kernel::pid_max};

use super::namespaces::Namespaces;
use super::types::{Btf, CgroupMemory, KernelVersion, Lockdown, Probe};
use crate::{
    model::{Capabilities, Uid},
    observe::{btf, procfs::ProcRoot},
};

/// File with the kernel's type information (since 5.4).
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// Mount point of bpffs in every distribution.
pub const BPF_FS: &str = "/sys/fs/bpf";

/// Facts about the running kernel and memmon's privileges, without a judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether this memmon contains the BPF programs.
    pub built_with_ebpf: bool,
    /// The release string, as in uname(2).
    pub release: String,
    /// The version at the start of the release string, if there is one.
    pub version: Option<KernelVersion>,
    /// The effective capabilities, in memmon's own user namespace.
    pub capabilities: Capabilities,
    /// The effective uid.
    pub euid: Uid,
    /// Field offsets, from [`VMLINUX`].
    pub btf: Btf,
    /// Whether there is a bpffs at [`BPF_FS`].
    pub bpf_fs: bool,
    /// Whether there is a procfs at /proc.
    pub proc: bool,
    /// The `hidepid` option of /proc, if it hides anything from memmon.
    pub hidepid: Option<String>,
    /// The namespaces that memmon is in.
    pub namespaces: Namespaces,
    /// Whether `memory.high` can be set.
    pub cgroup_memory: CgroupMemory,
    /// Kernel lockdown, which also restricts root.
    pub lockdown: Lockdown,
    /// bpf(2).
    pub bpf: Probe,
    /// pidfd_open(2), tried on memmon itself.
    pub pidfd_open: Probe,
    /// pidfd_send_signal(2), tried on memmon itself with signal 0.
    pub pidfd_send_signal: Probe,
    /// process_mrelease(2), tried without a process.
    pub process_mrelease: Probe,
    /// The soft RLIMIT_MEMLOCK in bytes; `None` if there is no limit.
    pub memlock: Option<u64>,
    /// Number of CPUs that are online.
    pub cpus: u32,
    /// The CPUs without a tick while they run one task (`nohz_full=` at boot).
    pub nohz_full: Option<String>,
    /// Size of a page in bytes.
    pub page_size: u64,
    /// The largest pid plus one (/proc/sys/kernel/pid_max).
    pub pid_max: Option<u32>,
    /// Number of processes now.
    pub processes: usize,
    /// /proc/sys/kernel/perf_event_paranoid, which sets the operations that need CAP_PERFMON.
    pub perf_event_paranoid: Option<i32>,
    /// /proc/sys/kernel/unprivileged_bpf_disabled: 0 allows bpf(2) to all users, 1 and 2 only with CAP_BPF.
    pub unprivileged_bpf_disabled: Option<i32>,
}

impl Facts {
    /// Gathers all facts once. This takes some milliseconds, and 5 MB for the kernel's BTF, which are freed again.
    pub fn gather() -> Self {
        let release = text("/proc/sys/kernel/osrelease").unwrap_or_default();
        let (pidfd_open, pidfd_send_signal, fdinfo) = probe_pidfd();
        Self {
            built_with_ebpf: cfg!(feature = "ebpf"),
            version: KernelVersion::parse(&release),
            release,
            capabilities: capabilities(),
            euid: Uid(geteuid().as_raw()),
            btf: read_btf(),
            bpf_fs: statfs(BPF_FS).is_ok_and(|at| at.filesystem_type() == BPF_FS_MAGIC),
            proc: statfs("/proc").is_ok_and(|at| at.filesystem_type() == PROC_SUPER_MAGIC),
            hidepid: ProcRoot::real().and_then(|root| root.hidepid()).ok().flatten(),
            namespaces: Namespaces::of(
                Path::new("/proc/self"),
                std::process::id(),
                fdinfo.as_deref(),
                owner_of_pid_namespace(),
            ),
            cgroup_memory: cgroup_memory(),
            lockdown: text("/sys/kernel/security/lockdown")
                .map_or(Lockdown::None, |file| Lockdown::parse(&file)),
            bpf: probe_bpf(),
            pidfd_open,
            pidfd_send_signal,
            process_mrelease: probe_mrelease(),
            memlock: getrlimit(Resource::RLIMIT_MEMLOCK)
                .ok()
                .and_then(|(soft, _)| (soft != libc::RLIM_INFINITY).then_some(soft)),
            cpus: text("/sys/devices/system/cpu/online")
                .and_then(|list| parse_cpus(&list))
                .or_else(|| system(SysconfVar::_NPROCESSORS_ONLN))
                .unwrap_or(1),
            // "(null)" where the kernel is built for it and none is named.
            nohz_full: text("/sys/devices/system/cpu/nohz_full").filter(|list| parse_cpus(list).is_some()),
            page_size: system(SysconfVar::PAGE_SIZE).unwrap_or(4096),
            pid_max: pid_max().ok().and_then(|count| u32::try_from(count).ok()),
            processes: ProcRoot::real().and_then(|proc| proc.pids()).map_or(0, |pids| pids.len()),
            perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
            unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        }
    }
}

/// memmon's effective capabilities, in its own user namespace; none if they cannot be read.
pub fn capabilities() -> Capabilities {
    let status = Process::myself().and_then(|own| own.status());
    status.map_or(Capabilities(0), |status| Capabilities(status.capeff))
}

/// Whether `memory.high` of cgroups can be set here.
pub fn cgroup_memory() -> CgroupMemory {
    probe_cgroup_memory(Path::new("/sys/fs/cgroup"))
}

/// Whether the unified hierarchy at `mount` has the memory controller, and may be written to.
fn probe_cgroup_memory(mount: &Path) -> CgroupMemory {
    let controllers = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    if !controllers.split_whitespace().any(|controller| controller == "memory") {
        return CgroupMemory::Elsewhere;
    }
    let is_read_only = statvfs(mount).is_ok_and(|mount| mount.flags().contains(FsFlags::ST_RDONLY));
    if is_read_only { CgroupMemory::ReadOnly } else { CgroupMemory::Writable }
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

fn number<T: str::FromStr>(path: &str) -> Option<T> {
    text(path)?.parse().ok()
}

fn system<T: TryFrom<c_long>>(variable: SysconfVar) -> Option<T> {
    T::try_from(sysconf(variable).ok()??).ok()
}

/// The inode of the user namespace that owns memmon's pid namespace: `NS_GET_USERNS` (ioctl_nsfs(2), Linux 4.9). `None`
/// if that is out of memmon's sight.
fn owner_of_pid_namespace() -> Option<u64> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    let pids = fs::File::open("/proc/self/ns/pid").ok()?;
    // SAFETY: takes a descriptor, which is open, and no argument; no memory of ours is involved.
    let owner = unsafe { libc::ioctl(pids.as_raw_fd(), NS_GET_USERNS) };
    if owner < 0 {
        return None;
    }
    // SAFETY: the kernel has just opened this descriptor for us, and no other code has it.
    let owner = fs::File::from(unsafe { OwnedFd::from_raw_fd(owner) });
    owner.metadata().ok().map(|found| found.ino())
}

fn read_btf() -> Btf {
    match fs::read(VMLINUX) {
        Ok(bytes) => Btf::Read(btf::resolve(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Btf::Absent,
        Err(error) => Btf::Unreadable { error: error.to_string() },
    }
}

/// Number of CPUs in a list such as `0-3,8`.
fn parse_cpus(list: &str) -> Option<u32> {
    let mut count = 0_u32;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

fn probed(result: c_long) -> Probe {
    match Errno::result(result) {
        Err(Errno::ENOSYS) => Probe::Missing,
        Err(error @ (Errno::EPERM | Errno::EACCES)) => Probe::Refused { error: error.desc().to_owned() },
        // Any other error for meaningless arguments shows that the call exists.
        Ok(_) | Err(_) => Probe::Available,
    }
}

/// Tries pidfd_open(2) on memmon itself, and pidfd_send_signal(2) with the result, or with no descriptor at all. The third
/// value is what /proc shows of that pidfd.
fn probe_pidfd() -> (Probe, Probe, Option<String>) {
    let own = getpid().as_raw();
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, own, 0) };
    // Before anything else can change errno.
    let open = probed(opened);
    let pidfd = i32::try_from(opened).ok().filter(|number| *number >= 0).map(|number| {
        // SAFETY: the kernel has just opened this descriptor for us, and no other code has it.
        unsafe { OwnedFd::from_raw_fd(number) }
    });
    let number = pidfd.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: signal 0 is never delivered; a null siginfo is allowed and means the same as in kill(2).
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, number, 0, no_info, 0) };
    let sent = probed(sent);
    // An unreadable one is no proof.
    let fdinfo =
        pidfd.map(|pidfd| text(&format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap_or_default());
    (open, sent, fdinfo)
}

/// Tries process_mrelease(2) without a process, which must return EBADF.
fn probe_mrelease() -> Probe {
    // SAFETY: process_mrelease takes two integers; -1 is not a descriptor, so there is nothing to act on.
    probed(unsafe { libc::syscall(libc::SYS_process_mrelease, -1, 0) })
}

/// Tries bpf(2) on an object that does not exist, which must return EBADF.
fn probe_bpf() -> Probe {
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    // The start of union bpf_attr: the descriptor, the length of a buffer, its address.
    let attributes: [u32; 4] = [u32::MAX, 0, 0, 0];
    // SAFETY: the kernel reads `attributes`, whose length is passed, and treats the rest of the union as zeros.
    probed(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, attributes.as_ptr(), size_of_val(&attributes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_counted_from_ranges() {
        assert_eq!(parse_cpus("0"), Some(1));
        assert_eq!(parse_cpus("0-1"), Some(2));
        assert_eq!(parse_cpus("0-3,8,10-11"), Some(7));
        for wrong in ["", "3-0", "0-", "x", "0-4294967295"] {
            assert_eq!(parse_cpus(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_memory_controller_must_be_in_the_unified_hierarchy() {
        let mount = tempfile::tempdir().unwrap();
        assert_eq!(probe_cgroup_memory(mount.path()), CgroupMemory::Elsewhere);
        let list = |text: &str| fs::write(mount.path().join("cgroup.controllers"), text).unwrap();
        list("cpuset cpu io hugetlb pids rdma\n");
        assert_eq!(probe_cgroup_memory(mount.path()), CgroupMemory::Elsewhere);
        list("cpuset cpu io memory pids\n");
        assert_eq!(probe_cgroup_memory(mount.path()), CgroupMemory::Writable);
    }

    /// The running kernel is expected to be 5.1 or later.
    #[test]
    fn facts_of_this_machine_are_plausible() {
        let facts = Facts::gather();
        assert!(facts.version.is_some(), "{:?}", facts.release);
        assert!(facts.proc);
        assert_eq!(facts.euid.0, geteuid().as_raw());
        assert!(facts.cpus >= 1 && facts.cpus < 1 << 16, "{}", facts.cpus);
        assert!(facts.page_size.is_power_of_two() && facts.page_size >= 4096);
        assert!(facts.pid_max.is_some_and(|most| most > 300));
        // A call that the version has is available, or refused by a filter; in an older kernel it is missing.
        let since = |major, minor| facts.version >= Some(KernelVersion { major, minor });
        assert_eq!(facts.pidfd_open != Probe::Missing, since(5, 3));
        assert_eq!(facts.pidfd_send_signal != Probe::Missing, since(5, 1));
        assert_eq!(facts.process_mrelease != Probe::Missing, since(5, 15));
        assert_ne!(facts.bpf, Probe::Missing);
    }

    #[test]
    fn gathering_leaves_no_descriptor_open() {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        for _ in 0..200 {
            probe_pidfd();
        }
        // Other tests open files at the same time, but not hundreds.
        assert!(open() < before + 100, "{before} before, {} after", open());
    }
}

//! The namespaces that memmon runs in, and the facts that depend on each of them.
//!
//! memmon reads a process in /proc and signals it through a pidfd. Both must mean the same process, and each figure and
//! name that a rule is compared with must be the one that the administrator wrote. So each kind of namespace
//! (namespaces(7)) was looked at, and this was decided:
//!
//! | kind | what depends on it | decision |
//! |---|---|---|
//! | pid | The numbers in /proc are those of the namespace that /proc was mounted in; pidfd_open(2) and kill(2) take those of memmon's own. eBPF programs see the numbers of the initial namespace. | Enforcing needs proof that both are the same ([`counts_as_we_do`]). eBPF needs the initial namespace. Inside of a container with a /proc of its own memmon enforces among the processes of that container, and reports that it sees no others. |
//! | user | /proc shows uids as memmon's own namespace maps them; an unmapped uid reads as 65534. `scope.users`, `whitelist.users` and `protect_root` are compared with them. Capabilities reach as far as the namespace. | Enforcing needs the initial namespace, or one that owns memmon's pid namespace and maps all uids up to 65534: then no process in sight has a uid of another namespace, and each uid that the configuration can name is one of this namespace. eBPF needs the initial one. |
//! | time | The start times in /proc are shifted by the namespace of the process that reads them, as CLOCK_BOOTTIME is. The kernel map has those of the initial namespace, and the times of its events are on the initial CLOCK_MONOTONIC. | eBPF needs the initial namespace. Polling /proc does not: all of its start times are read by memmon itself, so that they are shifted alike, and the clock they are compared with, too. |
//! | cgroup | The paths in /proc/PID/cgroup begin at the root of memmon's own namespace. `cgroups` and `units` of `[scope]`, `[whitelist]` and `[[rule]]` are compared with them. | Enforcing with one of these needs the initial namespace. Anything else that is made of a path (the unit in a report, back-off) is a name in a text. |
//! | mnt | Configuration, lock, pin and log. The paths of executables are those of the process's own mounts, and count by their last part only, which is a name that the process chose. | Nothing is refused. Two daemons whose /run differs find each other by their claims (`daemon/host/claim.rs`) and by the kernel map's pin. |
//! | net | The metrics listener and mail. | Nothing is refused. |
//! | uts | The host name in mails and metrics. | Nothing is refused. |
//! | ipc | Nothing: a System V segment counts in the process that maps it. | Nothing is refused. |
//!
//! In a dry run nothing is refused, because memmon sends no signals.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// The namespaces that memmon is in, as far as something depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// Whether memmon's pids are those of the kernel itself; `None` if that is not known.
    pub initial_pid: Option<bool>,
    /// Whether memmon's capabilities count for the whole machine; `None` if that is not known.
    pub initial_user: Option<bool>,
    /// Whether memmon's clocks are those of the kernel itself. A kernel without time namespaces has only those.
    pub initial_time: bool,
    /// Whether the paths of cgroups begin at the machine's root. A kernel without cgroup namespaces has only those.
    pub initial_cgroup: bool,
    /// Whether /proc and pidfds mean the same process by the same number.
    pub same_pids: bool,
    /// Whether each uid in sight, and each one that a configuration can name, is of memmon's own user namespace.
    pub same_uids: bool,
}

impl Namespaces {
    /// The namespaces of a machine without containers.
    #[cfg(test)]
    pub(crate) const INITIAL: Self = Self {
        initial_pid: Some(true),
        initial_user: Some(true),
        initial_time: true,
        initial_cgroup: true,
        same_pids: true,
        same_uids: true,
    };

    /// Reads `own`, which is /proc/self. `fdinfo` is the entry of /proc/self/fdinfo for a pidfd of memmon itself, if one
    /// could be opened; `owner_of_pids` is the inode of the user namespace that owns memmon's pid namespace.
    pub(super) fn of(own: &Path, pid: u32, fdinfo: Option<&str>, owner_of_pids: Option<u64>) -> Self {
        let initial = |kind: &str, inode: u64| {
            let target = fs::read_link(own.join("ns").join(kind)).ok()?;
            Some(target.as_os_str() == format!("{kind}:[{inode}]").as_str())
        };
        let text = |file: &str| fs::read_to_string(own.join(file)).unwrap_or_default();
        let initial_user = initial("user", INITIAL_USER);
        let user = fs::metadata(own.join("ns/user")).ok().map(|found| found.ino());
        let owns_pids = user.is_some() && user == owner_of_pids;
        Self {
            initial_pid: initial("pid", INITIAL_PID),
            initial_user,
            initial_time: initial("time", INITIAL_TIME).unwrap_or(true),
            initial_cgroup: initial("cgroup", INITIAL_CGROUP).unwrap_or(true),
            same_pids: counts_as_we_do(pid, &text("status"), fdinfo),
            same_uids: initial_user == Some(true) || owns_pids && maps_every_user(&text("uid_map")),
        }
    }
}

// `PROC_*_INIT_INO` of include/linux/proc_ns.h, part of the kernel's interface (nsfs.h) and the same since 3.8, or since
// the kind exists.
const INITIAL_PID: u64 = 0xEFFF_FFFC;
const INITIAL_USER: u64 = 0xEFFF_FFFD;
const INITIAL_CGROUP: u64 = 0xEFFF_FFFB;
const INITIAL_TIME: u64 = 0xEFFF_FFFA;

/// Whether a /proc counts pids as the system calls of the process `pid`, which is this one, do. `status` is its
/// /proc/self/status, `fdinfo` that of a pidfd of itself.
///
/// `NStgid` has the number of a process in the namespace of that /proc, followed by those in each namespace further in,
/// down to its own: a single number proves that the two are the same. (A /proc of a namespace that this process is not in
/// has no /proc/self at all.) A kernel without pid namespaces has no such line; there the number itself must be right.
fn counts_as_we_do(pid: u32, status: &str, fdinfo: Option<&str>) -> bool {
    let numbers = |text: &str, label: &str| -> Option<Vec<u32>> {
        let line = text.lines().find_map(|line| line.strip_prefix(label))?;
        // Text that is no number is no proof.
        line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok().or(Some(vec![]))
    };
    let own = Some(vec![pid]);
    let by_status =
        numbers(status, "Tgid:") == own && numbers(status, "NStgid:").is_none_or(|all| all == [pid]);
    let by_pidfd = |text: &str| {
        // `NSpid` is there since Linux 5.5.
        numbers(text, "Pid:") == own && numbers(text, "NSpid:").is_none_or(|all| all == [pid])
    };
    by_status && fdinfo.is_none_or(by_pidfd)
}

/// Whether a uid_map (user_namespaces(7)) has every uid that a list of users can name, up to the one that stands for
/// those without a place in it.
fn maps_every_user(uid_map: &str) -> bool {
    const OVERFLOW: u64 = 65_534;
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (first, _, count) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some((first, first + count))
    };
    let mut ranges: Vec<_> = uid_map.lines().filter_map(range).collect();
    ranges.sort_unstable();
    let mapped =
        ranges.into_iter().fold(0, |end, (first, next)| if first <= end { end.max(next) } else { end });
    mapped > OVERFLOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_proves_that_proc_and_system_calls_agree() {
        let status =
            |lines: &str| format!("Name:\tmemmon\nTgid:\t7\nNgid:\t0\nPid:\t7\n{lines}Uid:\t0\t0\t0\t0\n");
        let same = "NStgid:\t7\nNSpid:\t7\n";
        for (what, lines, fdinfo, proven) in [
            ("its own", same, Some("pos:\t0\nPid:\t7\nNSpid:\t7\n"), true),
            ("its own, before 5.5", same, Some("pos:\t0\nPid:\t7\n"), true),
            ("no pidfd to be had", same, None, true),
            ("a kernel without namespaces", "", Some("pos:\t0\nPid:\t7\n"), true),
            // The same number by chance.
            ("that of the parent", "NStgid:\t7\t7\nNSpid:\t7\t7\n", Some("Pid:\t7\nNSpid:\t7\t7\n"), false),
            ("that of the parent, for pidfds", same, Some("Pid:\t7\nNSpid:\t7\t7\n"), false),
            ("another process's", same, Some("Pid:\t8\nNSpid:\t8\n"), false),
            ("one that does not show it", same, Some("Pid:\t0\nNSpid:\t0\n"), false),
            ("one that shows nothing", same, Some(""), false),
            ("no numbers", "NStgid:\tx\n", None, false),
        ] {
            assert_eq!(counts_as_we_do(7, &status(lines), fdinfo), proven, "{what}");
        }
        assert!(!counts_as_we_do(8, &status("NStgid:\t8\n"), None), "another number");
        assert!(!counts_as_we_do(7, "", None), "no /proc/self");
    }

    #[test]
    fn a_map_must_have_every_user() {
        for (map, whole) in [
            ("         0          0 4294967295\n", true),
            ("0 100000 65536\n", true),
            ("0 1000 1\n1 100000 65536\n", true),
            ("1 100000 65536\n0 1000 1\n", true),
            ("0 1000 1\n", false),
            ("1000 1000 1\n", false),
            ("0 100000 65534\n", false),
            ("0 1000 1\n2 100000 65536\n", false),
            ("1 100000 65536\n", false),
            ("", false),
            ("nonsense\n", false),
        ] {
            assert_eq!(maps_every_user(map), whole, "{map:?}");
        }
    }

    #[test]
    fn without_a_proc_nothing_is_proven() {
        let none = Namespaces::of(Path::new("/nonexistent"), 7, None, None);
        assert_eq!((none.initial_pid, none.initial_user), (None, None));
        assert!(!none.same_pids && !none.same_uids);
    }
}

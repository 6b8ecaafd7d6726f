//! The requirements of the ignored tests, and whether this machine meets them.

use std::fs;

use anyhow::Result;

use crate::{privileges::Privileges, shell, test_tools};

/// The beginning of the reason of a test that needs the running kernel.
pub(super) const KERNEL: &str = "kernel:";
/// The reason of a test that only runs with `--real`.
pub(super) const REAL: &str = "real software";
/// A reason that names everything that CI must have.
pub(super) const EVERYTHING: &str = "kernel: needs root, kernel BTF, bpftool, cpio, mandoc, tmux, openssl, MEMMON_PROMTOOL, MEMMON_SMTPD_PYTHON and MEMMON_POSTGRES";

/// The type information of the running kernel.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// A name in that of a kernel that can restrict a BPF iterator to one process: Linux 6.1, and older ones with that change.
const ITERATORS: &[u8] = b"BPF_TASK_ITER_TGID\0";

/// The root of the cgroup v1 freezer, which many machines no longer have.
const FREEZER: &str = "/sys/fs/cgroup/freezer/tasks";
/// A file of the unified hierarchy of cgroups, alone or beside those of v1.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/unified/cgroup.procs"];

/// A file of cgroup v1 where it limits memory, and those of v2 where the cgroups below may have such limits.
const LIMIT_OF_V1: &str = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
const CONTROLLERS_BELOW: [&str; 2] =
    ["/sys/fs/cgroup/cgroup.subtree_control", "/sys/fs/cgroup/unified/cgroup.subtree_control"];

/// Programs that tests run, and how each is installed.
const PROGRAMS: [(&str, &str); 8] = [
    ("bpftool", "`cargo xtask setup --for-tests` installs it"),
    ("cpio", "`cargo xtask setup --for-tests` installs it"),
    ("mandoc", "`cargo xtask setup --for-tests` installs it"),
    ("openssl", "`cargo xtask setup --for-tests` installs it"),
    ("journalctl", "it is systemd's"),
    ("rpm", "`cargo xtask setup --for-packages` installs it"),
    ("systemd-analyze", "it is systemd's"),
    ("tmux", "`cargo xtask setup --for-tests` installs it"),
];

/// The properties of a machine that tests may need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    privileges: Privileges,
    btf: bool,
    iterators: bool,
    freezer: bool,
    unified: bool,
    limits_memory: bool,
    has_program: fn(&str) -> bool,
    has_variable: fn(&str) -> bool,
}

impl Machine {
    /// Looks at this machine.
    pub(super) fn look() -> Result<Self> {
        Ok(Self {
            privileges: Privileges::of_this_process()?,
            btf: fs::File::open(KERNEL_BTF).is_ok(),
            iterators: fs::read(KERNEL_BTF).is_ok_and(|types| contains(&types, ITERATORS)),
            freezer: fs::exists(FREEZER).unwrap_or(false),
            unified: UNIFIED.into_iter().any(|file| fs::exists(file).unwrap_or(false)),
            limits_memory: is_writable(LIMIT_OF_V1) || CONTROLLERS_BELOW.into_iter().any(has_memory),
            has_program: |name| shell::find(name).is_some(),
            has_variable: |name| test_tools::value(name).is_some(),
        })
    }

    /// The reason why a test with this `reason` in its `#[ignore]` cannot run here; none if it can.
    ///
    /// A reason names what it needs: `root`, `mounts`, `kernel BTF`, `BPF iterators of one process`, `freezer`, `cgroup v2`,
    /// `memory cgroup`, `CAP_SYS_RESOURCE`, one of the programs, or a variable `MEMMON_…`.
    /// If it names none of them, the test does not run.
    pub(super) fn lacks(&self, reason: &str) -> Option<String> {
        let Self { privileges, btf, iterators, freezer, unified, limits_memory, has_program, has_variable } =
            *self;
        let needs = |what: &str| reason.contains(what);
        let mut programs = PROGRAMS.into_iter().filter(|(name, _)| needs(name)).peekable();
        let any_program = programs.peek().is_some();
        let words = reason.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        let mut variables = words.filter(|word| word.starts_with("MEMMON_")).peekable();
        let any_variable = variables.peek().is_some();
        if (needs("root") || needs("kernel BTF")) && !privileges.is_root {
            Some("it needs root".to_owned())
        } else if needs("kernel BTF") && !privileges.may_trace() {
            Some("it needs CAP_BPF and CAP_PERFMON, which this root does not have".to_owned())
        } else if needs("mounts") && !privileges.may_mount() {
            Some("it needs CAP_SYS_ADMIN, which this root does not have".to_owned())
        } else if needs("CAP_SYS_RESOURCE") && !privileges.may_lower_oom_score() {
            Some("it needs CAP_SYS_RESOURCE, which this root does not have".to_owned())
        } else if needs("kernel BTF") && !btf {
            Some(format!("it needs {KERNEL_BTF} (a kernel with CONFIG_DEBUG_INFO_BTF)"))
        } else if needs("BPF iterators of one process") && !iterators {
            Some("it needs a kernel that restricts BPF iterators to one process (Linux 6.1)".to_owned())
        } else if needs("freezer") && !freezer {
            Some(format!("it needs {FREEZER} (cgroup v1)"))
        } else if needs("cgroup v2") && !unified {
            Some("it needs the unified hierarchy of cgroups (v2)".to_owned())
        } else if needs("memory cgroup") && !limits_memory {
            Some("it needs cgroups (v1 or v2) that limit memory, and may be created at the root".to_owned())
        } else if let Some((name, source)) = programs.find(|(name, _)| !has_program(name)) {
            Some(format!("it needs {name} ({source})"))
        } else if let Some(name) = variables.find(|name| !has_variable(name)) {
            Some(format!("{name} is not set ({reason})"))
        } else if any_variable || any_program || ["root", "kernel BTF"].into_iter().any(needs) {
            None
        } else {
            Some(if reason.is_empty() { "ignored without a reason".to_owned() } else { reason.to_owned() })
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Whether a file of cgroups is there, and not mounted read-only as in a container.
fn is_writable(file: &str) -> bool {
    fs::File::options().write(true).open(file).is_ok()
}

/// Whether this `cgroup.subtree_control` has the memory controller.
fn has_memory(file: &str) -> bool {
    let controllers = fs::read_to_string(file).unwrap_or_default();
    controllers.split_whitespace().any(|controller| controller == "memory") && is_writable(file)
}

#[cfg(test)]
mod tests {
    use rustix::thread::CapabilitySet;

    use super::*;

    const ALL_RIGHTS: u64 = 0x0000_01ff_ffff_ffff;

    fn machine(is_root: bool, capabilities: u64, btf: bool, bpftool: bool) -> Machine {
        let capabilities = CapabilitySet::from_bits_retain(capabilities);
        let has_program: fn(&str) -> bool = if bpftool { |name| name == "bpftool" } else { |_| false };
        Machine {
            privileges: Privileges { is_root, capabilities },
            btf,
            iterators: bpftool,
            freezer: bpftool,
            unified: bpftool,
            limits_memory: bpftool,
            has_program,
            has_variable: |name| name == "MEMMON_SET",
        }
    }

    #[test]
    fn a_test_runs_where_all_is_that_it_names() {
        let full = machine(true, ALL_RIGHTS, true, true);
        let user = machine(false, 0, true, true);
        let container = machine(true, 0x0000_0000_a804_25fb, true, true);
        let everything = Machine { has_program: |_| true, has_variable: |_| true, ..full };
        let bare = machine(true, ALL_RIGHTS, false, false);
        const ITERATORS_OF_ONE: &str = "kernel: needs root, kernel BTF and BPF iterators of one process";
        let kernel = "kernel: needs root and kernel BTF";
        for (machine, reason, expected) in [
            (full, kernel, None),
            (everything, EVERYTHING, None),
            (
                Machine { has_variable: |name| name == "MEMMON_PROMTOOL", ..everything },
                EVERYTHING,
                Some("MEMMON_SMTPD_PYTHON"),
            ),
            (full, "needs MEMMON_SET and MEMMON_UNSET", Some("MEMMON_UNSET is not set")),
            (full, "needs MEMMON_SET, a directory", None),
            (full, "needs MEMMON_UNSET, a directory", Some("MEMMON_UNSET is not set")),
            (full, "slow", Some("slow")),
            (full, "kernel: needs a miracle", Some("a miracle")),
            (full, "", Some("without a reason")),
            (user, kernel, Some("root")),
            (user, "kernel: needs root", Some("root")),
            (user, "needs bpftool", None),
            (full, "needs mandoc", Some("it needs mandoc")),
            (container, kernel, Some("CAP_BPF")),
            (container, "kernel: needs root", None),
            (full, "needs root and mounts", None),
            (container, "needs root and mounts", Some("CAP_SYS_ADMIN")),
            (user, "needs root and mounts", Some("root")),
            (full, "kernel: needs root and CAP_SYS_RESOURCE", None),
            (container, "kernel: needs root and CAP_SYS_RESOURCE", Some("CAP_SYS_RESOURCE")),
            (bare, kernel, Some(KERNEL_BTF)),
            (full, ITERATORS_OF_ONE, None),
            (Machine { iterators: false, ..full }, ITERATORS_OF_ONE, Some("restricts BPF iterators")),
            (full, "needs root and a cgroup v1 freezer", None),
            (bare, "needs root and a cgroup v1 freezer", Some(FREEZER)),
            (full, "needs root and cgroup v2", None),
            (bare, "needs root and cgroup v2", Some("v2")),
            (full, "needs root and a memory cgroup", None),
            (bare, "needs root and a memory cgroup", Some("limit memory")),
            (bare, "kernel: needs root and bpftool", Some("it needs bpftool")),
        ] {
            let lacks = machine.lacks(reason);
            assert_eq!(lacks.is_some(), expected.is_some(), "{reason}: {lacks:?}");
            assert!(lacks.unwrap_or_default().contains(expected.unwrap_or_default()), "{reason}");
        }
    }
}

//! What the ignored tests need, and whether this machine has it.

use std::{env, fs};

use anyhow::Result;

use crate::{rights::Rights, shell};

/// How the reason of a test begins that looks at the running kernel.
pub(super) const KERNEL: &str = "kernel:";
/// A reason that names all that CI must have.
pub(super) const EVERYTHING: &str = "kernel: needs root, kernel BTF and bpftool";

/// What a kernel resolves its own types by.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What the tests may need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    rights: Rights,
    btf: bool,
    bpftool: bool,
    has_variable: fn(&str) -> bool,
}

impl Machine {
    /// This one.
    pub(super) fn look() -> Result<Self> {
        Ok(Self {
            rights: Rights::of_this_process()?,
            btf: fs::File::open(KERNEL_BTF).is_ok(),
            bpftool: shell::find("bpftool").is_some(),
            has_variable: |name| env::var_os(name).is_some(),
        })
    }

    /// Why a test with this reason in its `#[ignore]` cannot run here; none if it can.
    ///
    /// A reason names what it needs: `root`, `kernel BTF`, `CAP_SYS_RESOURCE`, `bpftool`, or a variable `MEMMON_…`. One
    /// that names none of them is never taken for one that can run.
    pub(super) fn lacks(&self, reason: &str) -> Option<String> {
        let Self { rights, btf, bpftool, has_variable } = *self;
        let needs = |what: &str| reason.contains(what);
        let variable = reason
            .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
            .find(|word| word.starts_with("MEMMON_"));
        if (needs("root") || needs("kernel BTF")) && !rights.is_root() {
            Some("it needs root".to_owned())
        } else if needs("kernel BTF") && !rights.may_trace() {
            Some("it needs CAP_BPF and CAP_PERFMON, which this root does not have".to_owned())
        } else if needs("CAP_SYS_RESOURCE") && !rights.may_lower_oom_score() {
            Some("it needs CAP_SYS_RESOURCE, which this root does not have".to_owned())
        } else if needs("kernel BTF") && !btf {
            Some(format!("it needs {KERNEL_BTF} (a kernel with CONFIG_DEBUG_INFO_BTF)"))
        } else if needs("bpftool") && !bpftool {
            Some("it needs bpftool (`cargo xtask setup --for-tests` installs it)".to_owned())
        } else if let Some(name) = variable.filter(|name| !has_variable(name)) {
            Some(format!("{name} is not set ({reason})"))
        } else if variable.is_some() || ["root", "kernel BTF", "bpftool"].into_iter().any(needs) {
            None
        } else {
            Some(if reason.is_empty() { "ignored without a reason".to_owned() } else { reason.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_RIGHTS: &str = "000001ffffffffff";

    fn machine(uid: &str, capabilities: &str, btf: bool, bpftool: bool) -> Machine {
        let rights = Rights::parse(&format!("Uid:\t{uid}\t{uid}\nCapEff:\t{capabilities}\n")).unwrap();
        Machine { rights, btf, bpftool, has_variable: |name| name == "MEMMON_SET" }
    }

    #[test]
    fn a_test_runs_where_all_is_that_it_names() {
        let full = machine("0", ALL_RIGHTS, true, true);
        let user = machine("1000", "0000000000000000", true, true);
        let container = machine("0", "00000000a80425fb", true, true);
        let bare = machine("0", ALL_RIGHTS, false, false);
        let kernel = "kernel: needs root and kernel BTF";
        for (machine, reason, expected) in [
            (full, kernel, None),
            (full, EVERYTHING, None),
            (full, "needs MEMMON_SET, a directory", None),
            (full, "needs MEMMON_UNSET, a directory", Some("MEMMON_UNSET is not set")),
            (full, "slow", Some("slow")),
            (full, "kernel: needs a miracle", Some("a miracle")),
            (full, "", Some("without a reason")),
            (user, kernel, Some("root")),
            (user, "kernel: needs root", Some("root")),
            (user, "needs bpftool", None),
            (container, kernel, Some("CAP_BPF")),
            (container, "kernel: needs root", None),
            (full, "kernel: needs root and CAP_SYS_RESOURCE", None),
            (container, "kernel: needs root and CAP_SYS_RESOURCE", Some("CAP_SYS_RESOURCE")),
            (bare, kernel, Some(KERNEL_BTF)),
            (bare, "kernel: needs root and bpftool", Some("it needs bpftool")),
        ] {
            let lacks = machine.lacks(reason);
            assert_eq!(lacks.is_some(), expected.is_some(), "{reason}: {lacks:?}");
            assert!(lacks.unwrap_or_default().contains(expected.unwrap_or_default()), "{reason}");
        }
    }
}

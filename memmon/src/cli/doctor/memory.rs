//! The settings and programs that decide, beside memmon, about a shortage of memory: the kernel's, and other guards.

use super::check::{Check, Mark};
use crate::{
    model::{Bytes, Guard},
    observe::memory_settings::MemorySettings,
};

/// Above this share of all memory the reserve is a shortage of its own: a twentieth.
const LARGE_RESERVE: u64 = 20;

/// Pure: a line for each setting, and for each guard that runs.
pub(super) fn checks(settings: &MemorySettings, guards: &[Guard], total: Bytes) -> Vec<Check> {
    let MemorySettings {
        overcommit_memory,
        panic_on_oom,
        oom_kill_allocating_task,
        min_free,
        min_ttl_ms,
        zswap,
        pressure,
    } = settings;
    let note = |name, value: String| Check { name, mark: Mark::Degraded, value, remedy: None };
    let mut checks = vec![if *pressure {
        Check::ok("pressure", "/proc/pressure/memory")
    } else {
        let remedy = Some("boot with psi=1, on a kernel that is built with CONFIG_PSI=y".to_owned());
        let value = "the kernel measures no pressure: for [machine] only available memory and swap count";
        Check { remedy, ..note("pressure", value.to_owned()) }
    }];
    checks.extend(overcommit_memory.map(|mode| match mode {
        2 => Check::ok(
            "overcommit",
            "never (2): programs are refused memory, perhaps before there is a shortage",
        ),
        1 => Check::ok("overcommit", "always (1)"),
        mode => Check::ok("overcommit", format!("by a heuristic ({mode})")),
    }));
    checks.extend(panic_on_oom.map(|mode| match mode {
        0 => Check::ok("panic_on_oom", "0: the kernel's OOM killer ends a process"),
        mode => note(
            "panic_on_oom",
            format!("{mode}: the kernel panics if memory runs out, where its OOM killer would end a process"),
        ),
    }));
    checks.extend(oom_kill_allocating_task.map(|mode| {
        match mode {
            0 => Check::ok("OOM killer", "chooses the largest process, by its oom_score"),
            _ => note(
                "OOM killer",
                "ends the process that asks for memory, whatever its size (vm.oom_kill_allocating_task)"
                    .to_owned(),
            ),
        }
    }));
    checks.extend(min_free.map(|reserve| {
        let value = format!("{reserve} of {total} (vm.min_free_kbytes)");
        if reserve.0.saturating_mul(LARGE_RESERVE) > total.0 {
            note("reserve", format!("{value}: a large part of memory is never available"))
        } else {
            Check::ok("reserve", value)
        }
    }));
    checks.extend(min_ttl_ms.filter(|least| *least > 0).map(|least| {
        note(
            "min_ttl_ms",
            format!(
                "{least}: the kernel's OOM killer runs if the memory that was used in the last {least} ms does not fit, \
                 perhaps while more is available than [machine] asks for"
            ),
        )
    }));
    checks.extend(zswap.map(|on| {
        let value = if on { "on: a part of what is swapped out stays in memory, compressed" } else { "off" };
        Check::ok("zswap", value)
    }));
    if guards.is_empty() {
        checks.push(Check::ok("other guards", "none is running"));
    }
    checks.extend(guards.iter().map(|guard| note("other guard", guard.to_string())));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GuardKind, Pid, Strikes};

    fn read(settings: &MemorySettings, guards: &[Guard]) -> String {
        let checks = checks(settings, guards, Bytes(Bytes::GIB));
        let line = |check: &Check| {
            let remedy = check.remedy.as_ref().map(|remedy| format!("\n   -> {remedy}"));
            format!("{} {}: {}{}\n", check.mark.sign(), check.name, check.value, remedy.unwrap_or_default())
        };
        checks.iter().map(line).collect()
    }

    #[test]
    fn a_machine_as_it_is_installed() {
        let settings = MemorySettings {
            overcommit_memory: Some(0),
            panic_on_oom: Some(0),
            oom_kill_allocating_task: Some(0),
            min_free: Some(Bytes(45 * Bytes::MIB)),
            min_ttl_ms: Some(0),
            zswap: Some(false),
            pressure: true,
        };
        insta::assert_snapshot!(read(&settings, &[]), @r"
        ok pressure: /proc/pressure/memory
        ok overcommit: by a heuristic (0)
        ok panic_on_oom: 0: the kernel's OOM killer ends a process
        ok OOM killer: chooses the largest process, by its oom_score
        ok reserve: 45.0MB of 1.00GB (vm.min_free_kbytes)
        ok zswap: off
        ok other guards: none is running
        ");
    }

    #[test]
    fn settings_that_matter_and_other_guards() {
        let settings = MemorySettings {
            overcommit_memory: Some(2),
            panic_on_oom: Some(2),
            oom_kill_allocating_task: Some(1),
            min_free: Some(Bytes(100 * Bytes::MIB)),
            min_ttl_ms: Some(1000),
            zswap: Some(true),
            pressure: false,
        };
        let (available, swap_free_percent) = (Some(Bytes(100 * Bytes::MIB)), Some(10.0));
        let guards = [
            Guard {
                guard: GuardKind::Earlyoom,
                pid: Pid(812),
                strikes: Strikes { available, swap_free_percent, ..Strikes::default() },
            },
            Guard {
                guard: GuardKind::SystemdOomd,
                pid: Pid(701),
                strikes: Strikes { swap_free_percent, pressure_percent: Some(60.0), ..Strikes::default() },
            },
            Guard { guard: GuardKind::LowMemoryMonitor, pid: Pid(9), strikes: Strikes::default() },
            Guard {
                guard: GuardKind::Nohang,
                pid: Pid(10),
                strikes: Strikes { dry_run: true, ..Strikes::default() },
            },
        ];
        insta::assert_snapshot!(read(&settings, &guards), @r"
        !  pressure: the kernel measures no pressure: for [machine] only available memory and swap count
           -> boot with psi=1, on a kernel that is built with CONFIG_PSI=y
        ok overcommit: never (2): programs are refused memory, perhaps before there is a shortage
        !  panic_on_oom: 2: the kernel panics if memory runs out, where its OOM killer would end a process
        !  OOM killer: ends the process that asks for memory, whatever its size (vm.oom_kill_allocating_task)
        !  reserve: 100.0MB of 1.00GB (vm.min_free_kbytes): a large part of memory is never available
        !  min_ttl_ms: 1000: the kernel's OOM killer runs if the memory that was used in the last 1000 ms does not fit, perhaps while more is available than [machine] asks for
        ok zswap: on: a part of what is swapped out stays in memory, compressed
        !  other guard: earlyoom (pid 812), which ends processes if less than 100.0MB of memory is available and less than 10% of swap is free
        !  other guard: systemd-oomd (pid 701), which ends processes if less than 10% of swap is free, or if the pressure of a cgroup is above 60%, in the cgroups that `oomctl` lists
        !  other guard: low-memory-monitor (pid 9), which ends processes when memory runs short
        !  other guard: nohang (pid 10), which runs in dry run, and ends nothing
        ");
    }
}

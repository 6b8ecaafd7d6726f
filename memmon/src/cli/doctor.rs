//! `memmon doctor`: what this machine allows, line by line, and what to do where that is not enough.

mod check;
mod memory;

use std::{fmt::Write as _, io::Write, path::Path};

use anyhow::Context;
use memmon_common::{FileMappingOffsets, Offsets};
use serde::Serialize;

use self::check::{Check, Mark};
use super::{exit::Exit, machine::awaits_enable};
use crate::{
    daemon::cannot_keep,
    model::{Capability, Source, SourceChoice, Uid},
    observe::{
        guards,
        memory_settings::MemorySettings,
        procfs::ProcRoot,
        support::{self, BPF_FS, Btf, CounterError, Facts, Feature, Lockdown, Obstacle, Support, VMLINUX},
    },
};

/// Examines this machine and writes the findings to `out`, for people or as one JSON object.
///
/// Exits with 0 where memmon can watch and enforce, with [`Exit::CannotEnforce`] where it cannot.
pub(super) fn run(json: bool, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let facts = Facts::gather();
    let support = support::assess(&facts);
    let mut diagnosis = diagnose(&facts, &support);
    // Without /proc there are lines about that.
    if let Ok(proc) = ProcRoot::real()
        && let Ok(machine) = proc.memory()
    {
        let settings = MemorySettings::read(Path::new("/proc"), Path::new("/sys"));
        let found = guards::find(&proc, Path::new("/"));
        diagnosis.checks.extend(memory::checks(&settings, &found, machine.total));
    }
    diagnosis.checks.push(Check::ok("shared memory", mappings(&support, diagnosis.layout)));
    // Another user may not look there.
    if facts.euid == Uid::ROOT {
        diagnosis.checks.push(match cannot_keep() {
            None => Check::ok("state", "can be kept over a restart"),
            Some(value) => Check { name: "state", mark: Mark::Degraded, value, remedy: None },
        });
    }
    diagnosis.checks.extend(awaits_enable(None).then(|| Check {
        name: "service",
        mark: Mark::Degraded,
        value: "in dry run: it terminates nothing".to_owned(),
        remedy: Some("memmon enable".to_owned()),
    }));
    let text = if json {
        let mut text = serde_json::to_string_pretty(&diagnosis).context("the diagnosis as JSON")?;
        text.push('\n');
        text
    } else {
        render(&diagnosis)
    };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")?;
    Ok(if diagnosis.able { Exit::Ok } else { Exit::CannotEnforce })
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Diagnosis<'a> {
    /// Whether memmon can watch and enforce here, as far as it reaches.
    able: bool,
    /// The processes that it can terminate; `None` if it cannot enforce at all.
    reach: Option<Reach>,
    /// The choice of `auto`; `None` if there is no source at all.
    source: Option<Source>,
    checks: Vec<Check>,
    support: &'a Support,
    layout: Option<&'a Offsets>,
}

/// The processes that memmon can terminate here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reach {
    /// All processes of the machine.
    Machine,
    /// The processes of its own pid namespace.
    PidNamespace,
    /// The processes of its own user, as `CAP_KILL` is missing.
    OwnUser,
}

impl Reach {
    fn of(able: bool, support: &Support) -> Option<Self> {
        let has = |what: &Obstacle| support.degraded.contains(what);
        able.then(|| {
            if has(&Obstacle::OnlyOwnProcesses) {
                Self::OwnUser
            } else if has(&Obstacle::PartOfMachine) {
                Self::PidNamespace
            } else {
                Self::Machine
            }
        })
    }
}

/// Pure: what follows from the facts, in the order of reading.
fn diagnose<'a>(facts: &'a Facts, support: &'a Support) -> Diagnosis<'a> {
    let (ebpf, degraded) = (&support.ebpf.obstacles, &support.degraded);
    let chosen = support::choose(SourceChoice::Auto, support);
    // Without BPF programs memmon still works, from /proc.
    let lesser = if support.proc.available { Mark::Degraded } else { Mark::Failed };
    let about_ebpf = |name, value: String, about| Check::unless(name, value, ebpf, lesser, about);
    let layout = match &facts.btf {
        Btf::Read(Ok(layout)) => Some(layout),
        Btf::Read(Err(_)) | Btf::Absent | Btf::Unreadable { .. } => None,
    };

    let mut checks = about_ebpf("kernel", kernel(facts), |it| {
        matches!(it, Obstacle::OldKernel { .. } | Obstacle::UnknownKernel { .. } | Obstacle::Lockdown)
    });
    checks.extend(about_ebpf("bpf(2)", bpf(facts), |it| {
        matches!(it, Obstacle::NoBpf | Obstacle::Refused { .. } | Obstacle::BuiltWithout)
    }));
    checks.extend(about_ebpf("BTF", VMLINUX.to_owned(), |it| {
        matches!(it, Obstacle::NoBtf | Obstacle::UnreadableBtf { .. })
    }));
    if matches!(facts.btf, Btf::Read(_)) {
        let value = layout.map(described).unwrap_or_default();
        checks.extend(about_ebpf("layout", value, |it| matches!(it, Obstacle::Layout { .. })));
    }
    checks.extend(about_ebpf("rights", rights(facts), |it| {
        matches!(it, Obstacle::MissingCapabilities { .. } | Obstacle::UserNamespace | Obstacle::Memlock)
    }));
    checks.extend(
        degraded
            .iter()
            .filter(|it| {
                matches!(it, Obstacle::OnlyOwnProcesses | Obstacle::NoExe | Obstacle::HidePid { .. })
            })
            .map(|obstacle| Check::against("rights", Mark::Degraded, obstacle)),
    );
    checks.extend(namespaces(facts, support, lesser));
    checks.extend(Check::unless("bpffs", BPF_FS, degraded, Mark::Degraded, |it| {
        matches!(it, Obstacle::NoBpfFs)
    }));
    checks.extend(Check::unless(
        "pidfd",
        "pidfd_open and pidfd_send_signal",
        &support.enforce.obstacles,
        Mark::Failed,
        |it| matches!(it, Obstacle::NoCall { .. } | Obstacle::Refused { .. }),
    ));
    checks.extend(feature(
        "process_mrelease",
        "frees a victim's memory at once",
        &support.reclaim,
        Mark::Degraded,
    ));
    checks.push(source("source ebpf", &support.ebpf, lesser));
    checks.extend(feature("source proc", "available", &support.proc, Mark::Failed));
    checks.push(match &chosen {
        Ok((source, _)) => Check::ok("source auto", format!("takes {source}")),
        Err(_) => Check {
            name: "source auto",
            mark: Mark::Failed,
            value: "has none to take".to_owned(),
            remedy: None,
        },
    });
    checks.push(Check::ok("counter error", counter_error(facts, support.counter_error)));
    checks.push(Check::ok("gears", gears(support)));
    checks.push(Check::ok("sums", sums(support)));
    checks.extend(throttle(support));
    checks.push(Check::ok(
        "statm",
        if support.statm_exact { "an exact sum" } else { "lags behind: smaps_rollup is read near a limit" },
    ));

    let able = chosen.is_ok() && support.enforce.available;
    let reach = Reach::of(able, support);
    Diagnosis { able, reach, source: chosen.ok().map(|(source, _)| source), checks, support, layout }
}

fn gears(support: &Support) -> String {
    match &support.one_gear {
        _ if !support.ebpf.available => {
            "none without ebpf: no program of memmon runs in the kernel".to_owned()
        }
        None => "two: no program runs at a page fault while no process is near its limit".to_owned(),
        Some(why) => format!("one: {why}"),
    }
}

/// Whether cgroups can be slowed down. Without that memmon lacks nothing, unless a rule asks for it.
fn throttle(support: &Support) -> Vec<Check> {
    let about = |it: &Obstacle| matches!(it, Obstacle::NoMemoryHigh | Obstacle::ReadOnlyCgroups);
    Check::unless(
        "throttle",
        "memory.high of cgroups can be set",
        &support.throttle.obstacles,
        Mark::Ok,
        about,
    )
}

/// The part that notices when several processes hold too much together.
fn sums(support: &Support) -> &'static str {
    if support.ebpf.available {
        "those of users, programs and cgroups are noticed by the kernel, others by looks"
    } else {
        "noticed by looks"
    }
}

/// The way to find out whether other processes map the shared memory of a process.
fn mappings(support: &Support, layout: Option<&Offsets>) -> &'static str {
    match layout.filter(|_| support.ebpf.available) {
        Some(layout) if layout.file_mapping != FileMappingOffsets::default() => {
            "the kernel shows whether another process maps it"
        }
        Some(_) => {
            "every process is asked for its mappings: this kernel shows those of one process to no program (Linux 6.1 does)"
        }
        None => "every process is asked for its mappings",
    }
}

/// A line for each kind of namespace that something depends on.
fn namespaces(facts: &Facts, support: &Support, lesser: Mark) -> Vec<Check> {
    let Support { ebpf, enforce, cgroup_paths, degraded, .. } = support;
    let kind = |name, value: &str, feature: &Feature, mark, about| {
        Check::unless(name, value, &feature.obstacles, mark, about)
    };
    let pids = match facts.pid_max {
        Some(most) => format!("the initial one, up to {most} pids"),
        None => "the initial one".to_owned(),
    };
    let mut checks = kind("pid namespace", &pids, ebpf, lesser, |it| matches!(it, Obstacle::PidNamespace));
    let part = degraded.iter().filter(|it| matches!(it, Obstacle::PartOfMachine));
    checks.extend(part.map(|it| Check::against("pid namespace", Mark::Degraded, it)));
    checks.extend(kind("/proc", "counts pids as system calls do", enforce, Mark::Failed, |it| {
        matches!(it, Obstacle::ForeignPids)
    }));
    checks.extend(kind("uids", "all in sight are mapped", enforce, Mark::Failed, |it| {
        matches!(it, Obstacle::ForeignUids)
    }));
    checks.extend(kind("time namespace", "the initial one", ebpf, lesser, |it| {
        matches!(it, Obstacle::TimeNamespace)
    }));
    checks.extend(kind("cgroup namespace", "the initial one", cgroup_paths, Mark::Degraded, |_| true));
    checks
}

/// Pure: one line for each check, a second one where there is something to do.
fn render(diagnosis: &Diagnosis<'_>) -> String {
    let Diagnosis { able: _, reach, source, checks, support: _, layout: _ } = diagnosis;
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut line = |sign: &str, name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{sign}  {name:width$}  {value}");
    };
    for Check { name, mark, value, remedy } in checks {
        line(mark.sign(), name, value);
        if let Some(remedy) = remedy {
            line("  ", "", &format!("-> {remedy}"));
        }
    }
    text.push_str(match (reach, source) {
        (Some(Reach::Machine), _) => "\nmemmon can watch and enforce here.\n",
        (Some(Reach::PidNamespace), _) => {
            "\nmemmon can watch and enforce in its own pid namespace only: see the lines marked !\n"
        }
        (Some(Reach::OwnUser), _) => {
            "\nmemmon can watch here, but terminate only its own user's processes: see the lines marked !\n"
        }
        (None, Some(_)) => "\nmemmon can watch here, but not enforce: see the lines marked !!\n",
        (None, None) => "\nmemmon can do nothing here: see the lines marked !!\n",
    });
    text
}

fn kernel(facts: &Facts) -> String {
    let release = crate::model::Escaped(facts.release.as_bytes());
    match facts.lockdown {
        Lockdown::Integrity => format!("Linux {release}, lockdown=integrity"),
        Lockdown::None | Lockdown::Confidentiality => format!("Linux {release}"),
    }
}

fn bpf(facts: &Facts) -> String {
    let sysctl = |value: Option<i32>| value.map_or_else(|| "not there".to_owned(), |value| value.to_string());
    format!(
        "there (unprivileged_bpf_disabled {}, perf_event_paranoid {})",
        sysctl(facts.unprivileged_bpf_disabled),
        sysctl(facts.perf_event_paranoid)
    )
}

fn described(offsets: &Offsets) -> String {
    let Offsets { rss, rss_stride, rss_legacy, mm_owner, .. } = offsets;
    let era = if *rss_legacy != 0 { "before 6.2" } else { "since 6.2" };
    format!("rss_stat at {rss}, every {rss_stride} bytes (as {era}); owner at {mm_owner}")
}

fn rights(facts: &Facts) -> String {
    let held: Vec<String> = [
        Capability::BPF,
        Capability::PERFMON,
        Capability::SYS_ADMIN,
        Capability::KILL,
        Capability::SYS_PTRACE,
        Capability::SYS_RESOURCE,
    ]
    .into_iter()
    .filter(|capability| facts.capabilities.has(*capability))
    .map(|capability| capability.to_string())
    .collect();
    format!("uid {}, {}", facts.euid, held.join(" "))
}

fn feature(name: &'static str, value: &str, feature: &Feature, mark: Mark) -> Vec<Check> {
    Check::unless(name, value, &feature.obstacles, mark, |_| true)
}

/// The obstacles themselves have lines of their own, further up.
fn source(name: &'static str, feature: &Feature, mark: Mark) -> Check {
    if feature.available {
        Check::ok(name, "available")
    } else {
        Check { name, mark, value: "not available, for what is marked above".to_owned(), remedy: None }
    }
}

fn counter_error(facts: &Facts, error: CounterError) -> String {
    let error_of_one = error.of(1);
    match error {
        CounterError::PerProcess { .. } => {
            format!("up to {error_of_one} for a process, on {} CPUs", facts.cpus)
        }
        CounterError::PerThread { .. } => {
            format!("up to {error_of_one} for each thread of a process")
        }
    }
}

#[cfg(test)]
mod tests;

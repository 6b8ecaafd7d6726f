//! Decides which machines are booted and which scenarios run there. Pure.

use std::{fmt, time::Duration};

use anyhow::{Result, bail};
use clap::ValueEnum as _;

use super::{kernel::Series, rootfs::Image};

/// The mechanism that runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accelerator {
    Kvm,
    Emulation,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Emulation => "none, QEMU emulates (KVM is not available)",
        })
    }
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Boot {
    pub(super) name: &'static str,
    pub(super) cpus: usize,
    pub(super) megabytes: u32,
    pub(super) image: Image,
    /// The size of its second disk, for swap; without one if it is 0.
    pub(super) swap_megabytes: u64,
    /// Whether it can load zram.
    pub(super) zram: bool,
    /// From power-on to the verdict, under emulation on a busy host.
    pub(super) timeout: Duration,
    /// The scenarios in their order: each leaves memmon as it found it.
    pub(super) scenarios: Vec<String>,
    /// Shell variables for the scenarios.
    pub(super) settings: String,
}

/// The time limit of a machine. All scenarios take three to six minutes if the guest is emulated on two processors of its own;
/// on a busy host it gets only a fraction of them.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// A machine with little memory: 10 % of it is not much, and the kernel's OOM killer is near.
const SMALL: (&str, usize, u32) = ("small", 1, 512);
/// A machine with many CPUs, each of which holds back a part of the kernel's counters.
const WIDE: (&str, usize, u32) = ("wide", 8, 1024);

/// A machine that some processes of a hundred megabytes fill together.
pub(super) const SHORT: (&str, usize, u32) = ("short", 2, 1024);

/// A machine with the software that runs fleets of machines. The kernel matters little to it, so it runs with one.
const FLEET: (&str, usize, u32) = ("fleet", 2, 1024);

/// A machine with containers. The names of their cgroups are the container engine's, so it runs with one kernel.
const CONTAINERS: (&str, usize, u32) = ("containers", 2, 1024);

/// The first scenario in every machine.
pub(super) const INSTALL: &str = "install";
/// The scenario of `vm-compare`, which is no test.
pub(super) const COMPARE: &str = "compare";
/// The scenarios in the small machine. `package` removes memmon, so it is the last.
const IN_SMALL: [&str; 20] = [
    "start",
    "kill",
    "spare",
    "root",
    "reload",
    "watchdog",
    "crash",
    "bad-config",
    "hook",
    "operators",
    "runtime",
    "names",
    "cgroups",
    "fallback",
    "oom-race",
    "reserve",
    "limits",
    "thousand",
    "stop",
    "package",
];
const IN_WIDE: [&str; 1] = ["accuracy"];
const IN_SHORT: [&str; 4] = ["machine", "culprit", "rules", "throttle"];
const IN_FLEET: [&str; 2] = ["slurm", "ansible"];
const IN_CONTAINERS: [&str; 1] = ["podman"];
/// The scenarios with `--quick`: those that show most in the time that is acceptable for every change.
const QUICK: [&str; 9] =
    ["start", "kill", "spare", "reload", "crash", "bad-config", "oom-race", "stop", "package"];

/// The machines for every kernel; with `only`, just the machines for these scenarios, without the others.
pub(super) fn boots(quick: bool, only: &[String]) -> Result<Vec<Boot>> {
    let all = [&IN_SMALL[..], &IN_WIDE, &IN_SHORT, &IN_FLEET, &IN_CONTAINERS].concat();
    if let Some(unknown) = only.iter().find(|name| !all.contains(&name.as_str())) {
        bail!("there is no scenario {unknown}; there are {}", all.join(" "));
    }
    let wanted = |name: &&&str| match only {
        [] => !quick || QUICK.contains(*name),
        only => only.iter().any(|other| other == **name),
    };
    let boot = |(name, cpus, megabytes), scenarios: &[&str]| Boot {
        name,
        cpus,
        megabytes,
        image: match name {
            _ if name == FLEET.0 => Image::Fleet,
            _ if name == CONTAINERS.0 => Image::Podman,
            _ => Image::Plain,
        },
        swap_megabytes: 0,
        zram: false,
        timeout: TIMEOUT,
        scenarios: scenarios.iter().filter(wanted).map(|name| (*name).to_owned()).collect(),
        settings: String::new(),
    };
    let mut boots = vec![
        boot(SMALL, &IN_SMALL),
        boot(WIDE, &IN_WIDE),
        boot(SHORT, &IN_SHORT),
        boot(FLEET, &IN_FLEET),
        boot(CONTAINERS, &IN_CONTAINERS),
    ];
    boots.retain(|boot| !boot.scenarios.is_empty());
    for boot in &mut boots {
        boot.scenarios.insert(0, INSTALL.to_owned());
    }
    Ok(boots)
}

/// The requested kernels or, if none is named, all of them; with `quick`, the oldest and the newest.
pub(super) fn kernels(asked: &[Series], quick: bool) -> Vec<Series> {
    let all = Series::value_variants();
    match (asked, quick) {
        ([], false) => all.to_vec(),
        ([], true) => all.first().into_iter().chain(all.last()).copied().collect(),
        (asked, _) => asked.to_vec(),
    }
}

impl Boot {
    /// The kernels that it is booted with, of those that are tested: all of them, or the newest.
    pub(super) fn kernels<'a, T>(&self, all: &'a [T]) -> &'a [T] {
        match self.image {
            Image::Plain | Image::Guards => all,
            Image::Fleet | Image::Podman => &all[all.len().saturating_sub(1)..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_is_the_oldest_and_the_newest_kernel_once() {
        assert_eq!(kernels(&[], true), [Series::V5_10, Series::Newest]);
        assert_eq!(kernels(&[Series::V6_1], true), [Series::V6_1]);
        assert_eq!(kernels(&[], false).len(), 5);
        let quick = boots(true, &[]).unwrap();
        let [Boot { name: "small", scenarios, .. }] = &quick[..] else { panic!("one machine: {quick:?}") };
        assert_eq!((scenarios.len(), scenarios[0].as_str()), (1 + QUICK.len(), INSTALL));
        assert_eq!(boots(false, &[]).unwrap().len(), 5);
    }

    #[test]
    fn the_software_of_fleets_is_tested_with_the_newest_kernel() {
        let boots = boots(false, &["kill".to_owned(), "ansible".to_owned()]).unwrap();
        let [small, fleet] = &boots[..] else { panic!("two machines: {boots:?}") };
        assert_eq!((small.image, small.kernels(&[1, 2, 3])), (Image::Plain, &[1, 2, 3][..]));
        assert_eq!((fleet.image, fleet.kernels(&[1, 2, 3])), (Image::Fleet, &[3][..]));
    }

    #[test]
    fn single_scenarios_can_be_had_in_their_machine() {
        let boots = boots(false, &["accuracy".to_owned()]).unwrap();
        assert_eq!(boots.len(), 1);
        assert_eq!(
            (boots[0].name, boots[0].scenarios.as_slice()),
            ("wide", &["install", "accuracy"].map(str::to_owned)[..])
        );
        let error = super::boots(false, &["acuracy".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("there is no scenario acuracy; there are start kill"), "{error}");
    }

    #[test]
    fn every_scenario_has_its_file_and_every_file_its_scenario() {
        let folder = crate::workspace::root().join("xtask/vm/scenarios");
        let mut files: Vec<String> = folder
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut names =
            [&IN_SMALL[..], &IN_WIDE, &IN_SHORT, &IN_FLEET, &IN_CONTAINERS, &[INSTALL, COMPARE]].concat();
        names.sort_unstable();
        assert_eq!(files, names);
    }
}

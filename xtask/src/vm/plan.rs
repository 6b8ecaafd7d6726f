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

/// The first scenario in every machine.
pub(super) const INSTALL: &str = "install";
/// The scenario of `vm-compare`, which is no test.
pub(super) const COMPARE: &str = "compare";
/// The scenarios in the small machine. `package` removes memmon, so it is the last.
const IN_SMALL: &str = "start kill spare root reload watchdog crash bad-config hook operators runtime names cgroups shared \
                        fallback oom-race reserve limits thousand stop package";
/// The machines: name, CPUs, megabytes, root file system and scenarios.
const MACHINES: [(&str, usize, u32, Image, &str); 5] = [
    // 10 % of its memory is not much, and the kernel's OOM killer is near.
    ("small", 1, 512, Image::Plain, IN_SMALL),
    // Each of its CPUs holds back a part of the kernel's counters.
    ("wide", 8, 1024, Image::Plain, "accuracy"),
    // Some processes of a hundred megabytes fill it together.
    ("short", 2, 1024, Image::Plain, "machine culprit rules throttle"),
    // The kernel matters little to the software that runs fleets of machines, so it runs with one.
    ("fleet", 2, 1024, Image::Fleet, "slurm ansible"),
    // The names of the cgroups of containers are the container engine's, so it runs with one kernel.
    ("containers", 2, 1024, Image::Podman, "podman"),
];
/// The scenarios with `--quick`: those that show most in the time that is acceptable for every change.
const QUICK: &str = "start kill spare reload crash bad-config oom-race stop package";

fn all_scenarios() -> impl Iterator<Item = &'static str> {
    MACHINES.into_iter().flat_map(|(.., scenarios)| scenarios.split(' '))
}

/// The machines for every kernel; with `only`, just the machines for these scenarios, without the others.
pub(super) fn boots(quick: bool, only: &[String]) -> Result<Vec<Boot>> {
    let all: Vec<&str> = all_scenarios().collect();
    if let Some(unknown) = only.iter().find(|name| !all.contains(&name.as_str())) {
        bail!("there is no scenario {unknown}; there are {}", all.join(" "));
    }
    let wanted = |name: &&str| match only {
        [] => !quick || QUICK.split(' ').any(|other| other == *name),
        only => only.iter().any(|other| other == name),
    };
    let boot = |(name, cpus, megabytes, image, scenarios): (_, _, _, _, &str)| {
        let scenarios = scenarios.split(' ').filter(wanted).map(str::to_owned).collect();
        Boot { scenarios, ..Boot::new(name, cpus, megabytes, image) }
    };
    let mut boots = MACHINES.map(boot).to_vec();
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
    /// A machine without scenarios.
    pub(super) const fn new(name: &'static str, cpus: usize, megabytes: u32, image: Image) -> Self {
        Self {
            name,
            cpus,
            megabytes,
            image,
            swap_megabytes: 0,
            zram: false,
            timeout: TIMEOUT,
            scenarios: Vec::new(),
            settings: String::new(),
        }
    }

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
        assert_eq!((scenarios.len(), scenarios[0].as_str()), (1 + QUICK.split(' ').count(), INSTALL));
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
        let mut names: Vec<&str> = all_scenarios().chain([INSTALL, COMPARE]).collect();
        names.sort_unstable();
        assert_eq!(files, names);
    }
}

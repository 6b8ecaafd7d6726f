//! The rights that memmon's unit gives to memmon, for a daemon under test: its capabilities, its limits of resources, its umask,
//! and no new privileges; and what a drop-in adds to them that memmon(8), SYSTEMD, has for a configuration.

use std::{env, os::unix::process::CommandExt as _, process::Command};

use memmon::model::{Capabilities, Capability};
use nix::{
    errno::Errno,
    libc,
    sys::{
        resource::{Resource, rlim_t, setrlimit},
        stat::{Mode, umask},
    },
    unistd::{Gid, Group, getgroups, setgroups, setresgid},
};

const UNIT: &str = include_str!("../../../systemd/memmon.service");

/// Whether every daemon of this run has the rights of the unit: `MEMMON_TEST_RIGHTS=unit`.
pub fn is_asked_for() -> bool {
    env::var("MEMMON_TEST_RIGHTS").is_ok_and(|rights| rights == "unit")
}

/// The lines of a drop-in that concern the rights of a process.
#[derive(Debug, Default)]
pub struct DropIn {
    /// `CapabilityBoundingSet=`
    capabilities: Vec<Capability>,
    /// `Group=`
    group: Option<Gid>,
    /// `SupplementaryGroups=`
    more_groups: Vec<Gid>,
}

impl DropIn {
    /// The lines that memmon(8) has for this configuration.
    pub fn of(config: &toml::Table) -> Self {
        let key = |section: &str, key: &str| config.get(section)?.get(key);
        let text = |section, name| key(section, name)?.as_str().filter(|text| !text.is_empty());
        let mut lines = Self::default();
        if text("notify", "hook").is_some() && text("notify", "hook_user") != Some("root") {
            lines.capabilities.extend([Capability::SETUID, Capability::SETGID]);
        }
        lines.group = text("status", "group").map(gid);
        if key("notify", "terminal").and_then(toml::Value::as_bool) == Some(true) {
            lines.more_groups.push(gid("tty"));
        }
        lines
    }
}

/// The group of this name or number.
fn gid(group: &str) -> Gid {
    if let Ok(number) = group.parse() {
        return Gid::from_raw(number);
    }
    let found = Group::from_name(group).ok().flatten();
    found.unwrap_or_else(|| panic!("there is no group {group}")).gid
}

/// Gives the command the rights of the unit with this drop-in, and no more: as root with all of them it reads and writes what
/// it may not on any machine.
#[expect(unsafe_code, reason = "runs between fork and exec")]
pub fn with_rights(command: &mut Command, drop_in: &DropIn) {
    let bounding = directives("CapabilityBoundingSet=").next().unwrap_or_default();
    assert!(!bounding.is_empty(), "the unit limits no capabilities");
    let kept = bounding.split_whitespace().map(capability).chain(drop_in.capabilities.iter().copied());
    let Capabilities(kept) = Capabilities::of(kept);
    let limits = limits();
    let mask =
        directives("UMask=").next().and_then(|octal| Mode::from_bits(u32::from_str_radix(octal, 8).ok()?));
    let group = drop_in.group;
    let mut groups = getgroups().unwrap_or_else(|errno| panic!("the groups of this process: {errno}"));
    groups.extend(&drop_in.more_groups);
    assert_eq!(directives("NoNewPrivileges=").next(), Some("yes"));
    let take = move || {
        let mut kept = kept;
        for (resource, most, instead) in &limits {
            match setrlimit(*resource, *most, *most) {
                // Without CAP_SYS_RESOURCE root raises no limit, as in many containers. The capability that the limit does not
                // hold for takes its place.
                Err(Errno::EPERM) => kept |= instead,
                other => other?,
            }
        }
        for number in (0..64).filter(|number| kept & 1 << number == 0) {
            // SAFETY: prctl takes integers here.
            match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
                // The kernel has none of that number.
                Ok(_) | Err(Errno::EINVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if let Some(mask) = mask {
            umask(mask);
        }
        setgroups(&groups)?;
        if let Some(group) = group {
            setresgid(group, group, group)?;
        }
        // SAFETY: as above.
        Errno::result(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
        Ok(())
    };
    // SAFETY: system calls only, nothing is allocated.
    unsafe { command.pre_exec(take) };
}

fn directives(name: &str) -> impl Iterator<Item = &'static str> {
    UNIT.lines().filter_map(move |line| line.strip_prefix(name))
}

fn capability(name: &str) -> Capability {
    let found = Capability::KNOWN.into_iter().find(|known| known.name() == name);
    found.unwrap_or_else(|| panic!("the unit has {name}, whose number memmon does not know"))
}

/// The unit's `Limit…=`: each resource, its maximum, and the capabilities of processes that its limit does not hold for.
fn limits() -> Vec<(Resource, rlim_t, u64)> {
    let limits = directives("Limit").map(|line| {
        let (name, value) = line.split_once('=').unwrap_or_default();
        let number = |text: &str| text.parse().unwrap_or_else(|error| panic!("Limit{line}: {error}"));
        let of = |capability| Capabilities::of([capability]).0;
        match name {
            "MEMLOCK" if value == "infinity" => {
                (Resource::RLIMIT_MEMLOCK, libc::RLIM_INFINITY, of(Capability::IPC_LOCK))
            }
            "NOFILE" => (Resource::RLIMIT_NOFILE, number(value), 0),
            "RTPRIO" => (Resource::RLIMIT_RTPRIO, number(value), of(Capability::SYS_NICE)),
            "RTTIME" => (Resource::RLIMIT_RTTIME, number(value.trim_end_matches('s')) * 1_000_000, 0),
            // getrlimit(2): the ceiling of the nice value is 20 less this.
            "NICE" => {
                let below = value.strip_prefix('-').unwrap_or_else(|| panic!("Limit{line}"));
                (Resource::RLIMIT_NICE, 20 + number(below), of(Capability::SYS_NICE))
            }
            _ => panic!("the unit has Limit{line}, which the tests do not know"),
        }
    });
    limits.collect()
}

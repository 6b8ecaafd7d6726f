//! The facts of this machine that the plan needs.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::Result;

use super::plan::{AIOSMTPD, FOR_TESTS, Facts, Family, Lists, Package, packages_of_interest};
use crate::{shell, test_tools, toolchain};

/// Looks at this machine; `lists` is only passed on to the plan.
pub(crate) fn gather(lists: Lists) -> Result<Facts> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let family = family(&release);
    let packages = if family == Family::Debian { apt(&packages_of_interest())? } else { BTreeMap::new() };
    Ok(Facts {
        family,
        found: toolchain::look(),
        rustup: shell::find("rustup").is_some(),
        cxx: shell::find("c++").is_some(),
        missing: FOR_TESTS.into_iter().filter(|name| !is_installed(name)).collect(),
        promtool: test_tools::value("MEMMON_PROMTOOL").is_some(),
        postgres: test_tools::value("MEMMON_POSTGRES").is_some(),
        system_clippy: toolchain::system_clippy().is_some(),
        packages,
        lists,
    })
}

/// Whether the program of a package is in `$PATH`, or in the folder in which distributions install bpftool for root.
fn is_installed(package: &str) -> bool {
    if package == AIOSMTPD {
        return test_tools::value("MEMMON_SMTPD_PYTHON").is_some();
    }
    shell::find(package).is_some() || shell::is_executable(&Path::new("/usr/sbin").join(package))
}

/// The family by `ID` or, if that is unknown, by the nearest relative in `ID_LIKE` (os-release(5)).
fn family(release: &str) -> Family {
    let value = |key: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches(['"', '\''])
    };
    let known = |id: &str| match id {
        "debian" | "ubuntu" => Some(Family::Debian),
        "fedora" | "rhel" | "centos" => Some(Family::Fedora),
        "arch" | "archlinux" => Some(Family::Arch),
        "suse" | "opensuse" | "opensuse-tumbleweed" | "opensuse-leap" => Some(Family::Suse),
        "alpine" => Some(Family::Alpine),
        _ => None,
    };
    let name = value("PRETTY_NAME");
    std::iter::once(value("ID")).chain(value("ID_LIKE").split_whitespace()).find_map(known).unwrap_or_else(
        || Family::Other(if name.is_empty() { "this system".to_owned() } else { name.to_owned() }),
    )
}

fn apt(names: &[String]) -> Result<BTreeMap<String, Package>> {
    let text = shell::read(Command::new("apt-cache").arg("policy").args(names).env("LC_ALL", "C"))?;
    let mut packages = policies(&text);
    // apt-cache takes a name without a package for a pattern.
    packages.retain(|name, _| names.contains(name));
    for held in shell::read(Command::new("apt-mark").arg("showhold"))?.lines() {
        // `name:architecture` is a package of another architecture.
        if let Some(package) = packages.get_mut(held) {
            package.held = true;
        }
    }
    Ok(packages)
}

/// Parses the output of `apt-cache policy`: a line `name:`, then indented lines `Installed: VERSION` and
/// `Candidate: VERSION`.
fn policies(text: &str) -> BTreeMap<String, Package> {
    let mut packages = BTreeMap::new();
    let mut current: Option<&mut Package> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            current = Some(packages.entry(name.to_owned()).or_insert_with(Package::default));
        } else if let (Some(package), Some((key, value))) = (current.as_mut(), line.trim().split_once(": ")) {
            let version = (value != "(none)").then(|| value.to_owned());
            match key {
                "Installed" => package.installed = version,
                "Candidate" => package.candidate = version,
                _ => {}
            }
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_known_by_id_or_by_likeness() {
        for (release, expected) in [
            ("ID=debian\n", Family::Debian),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Family::Debian),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Family::Fedora),
            ("ID=endeavouros\nID_LIKE=arch\n", Family::Arch),
            ("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n", Family::Suse),
            ("ID=alpine\n", Family::Alpine),
            ("PRETTY_NAME=\"NixOS 25.11\"\nID=nixos\n", Family::Other("NixOS 25.11".to_owned())),
            ("", Family::Other("this system".to_owned())),
        ] {
            assert_eq!(family(release), expected, "{release}");
        }
    }

    #[test]
    fn policies_are_read_as_apt_writes_them() {
        let packages = policies(
            "rustc-web:\n  Installed: 1.96.0+dfsg1-1\n  Candidate: 1.96.0+dfsg1-2\n  Version table:\n \
             *** 1.96.0+dfsg1-1 500\n        500 http://deb.debian.org/debian bookworm/main amd64 Packages\n\
             libstd-rust-dev-bpf:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n",
        );
        let package = |installed: Option<&str>, candidate: Option<&str>| Package {
            installed: installed.map(str::to_owned),
            candidate: candidate.map(str::to_owned),
            held: false,
        };
        assert_eq!(packages["rustc-web"], package(Some("1.96.0+dfsg1-1"), Some("1.96.0+dfsg1-2")));
        assert_eq!(packages["libstd-rust-dev-bpf"], package(None, None));
        assert_eq!(packages.len(), 2);
    }
}

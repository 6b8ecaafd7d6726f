//! Decides what is missing and how to install it: facts in, steps out, without changing anything.

use std::{collections::BTreeMap, fmt, path::PathBuf, process::Command};

use super::postgres;
use crate::{
    cargo_tools::Tool,
    shell, test_tools,
    toolchain::{self, Compiler, Detected, Version},
};

/// The version of bpf-linker with which memmon is built and tested.
const LINKER: &str = "0.13.0";
/// The LLVM versions that it can be built with, the tested one first.
const LLVMS: [u32; 3] = [22, 23, 21];

/// The distribution's compilers, each with its core for BPF.
const RUST: [[&str; 2]; 2] = [["rustc-web", "libstd-rust-web-dev-bpf"], ["rustc", "libstd-rust-dev-bpf"]];

/// The packages of the programs that tests run: one with the program's name, and a Python with an SMTP server.
pub(crate) const FOR_TESTS: [&str; 6] = ["bpftool", "mandoc", "tmux", "openssl", "cpio", AIOSMTPD];
pub(crate) const AIOSMTPD: &str = "python3-aiosmtpd";

/// A family of distributions, by os-release(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Debian, Ubuntu and their derivatives.
    Debian,
    Fedora,
    Arch,
    Suse,
    Alpine,
    /// Any other distribution, with its name.
    Other(String),
}

/// apt's data on a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Package {
    /// The installed version.
    pub(crate) installed: Option<String>,
    /// The version that would be installed, pins included; none if apt does not know the package.
    pub(crate) candidate: Option<String>,
    /// An administrator has marked it with `apt-mark hold`, so it must not change.
    pub(crate) held: bool,
}

impl Package {
    /// The version that this machine would have after apt installed or upgraded it.
    fn available(&self) -> Option<&str> {
        if self.held { self.installed.as_deref() } else { self.candidate.as_deref() }
    }
}

/// The state of apt's lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lists {
    /// They are older than this run: they may be empty or weeks old.
    #[default]
    Unknown,
    /// They were updated in this run.
    Current,
    /// They could not be updated.
    Failed,
}

/// The facts on which the plan depends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) family: Family,
    pub(crate) found: Detected,
    pub(crate) rustup: bool,
    /// A C++ compiler, which links LLVM's libraries.
    pub(crate) cxx: bool,
    /// The missing ones of [`FOR_TESTS`].
    pub(crate) missing: Vec<&'static str>,
    /// Whether Prometheus' promtool, which checks memmon's metrics, is installed.
    pub(crate) promtool: bool,
    /// Whether there are the programs of a PostgreSQL server.
    pub(crate) postgres: bool,
    /// Whether there is the system's clippy, which reads the system's core for BPF.
    pub(crate) system_clippy: bool,
    /// The packages by name; empty if there is no apt.
    pub(crate) packages: BTreeMap<String, Package>,
    pub(crate) lists: Lists,
}

/// Every package whose facts a plan may need.
pub(crate) fn packages_of_interest() -> Vec<String> {
    let named = ["rustc-web", "libstd-rust-web-dev-bpf", "rust-web-clippy", "rustc", "libstd-rust-dev-bpf"];
    let others = ["rust-clippy", "libzstd-dev", "zlib1g-dev", "prometheus"];
    let llvm = LLVMS.into_iter().flat_map(|version| llvm_packages(version).into_iter());
    let named = named.into_iter().chain(others).chain(FOR_TESTS).map(str::to_owned);
    named.chain(llvm).chain(postgres::packages_of_interest()).collect()
}

/// One step of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Update apt's lists. If it is the last step, further steps depend on the new lists.
    AptUpdate,
    /// Install packages through apt.
    AptInstall(Vec<String>),
    /// Unpack the files of packages below target/: nothing is installed, and no service of theirs starts.
    Unpack { packages: Vec<String>, into: PathBuf },
    /// Install rustup's nightly with the source of core.
    RustupNightly,
    /// Build bpf-linker with the installed LLVM of that version.
    CargoLinker { llvm: u32 },
    /// Build a subcommand of cargo that makes packages.
    CargoTool(Tool),
    /// A step that only the user can do: the exact command, or a description of the problem.
    ByHand(String),
}

impl Step {
    /// A description for the user who waits for it.
    pub(crate) fn purpose(&self) -> String {
        match self {
            Self::AptUpdate => "bring apt's lists of packages up to date".to_owned(),
            Self::AptInstall(packages) => format!("install {} packages through apt", packages.len()),
            Self::Unpack { packages, .. } => format!("unpack {} below target/", packages.join(" and ")),
            Self::RustupNightly => "install rustup's nightly".to_owned(),
            Self::CargoLinker { llvm } => {
                format!("build bpf-linker {LINKER} with LLVM {llvm}, which takes some minutes")
            }
            Self::CargoTool(tool) => format!("build {}, which takes some minutes", tool.name),
            Self::ByHand(_) => "a manual step".to_owned(),
        }
    }

    /// Whether it needs root.
    pub(crate) const fn needs_root(&self) -> bool {
        matches!(self, Self::AptUpdate | Self::AptInstall(_))
    }

    /// Whether it needs up-to-date lists of apt.
    const fn asks_apt(&self) -> bool {
        matches!(self, Self::AptInstall(_) | Self::Unpack { .. })
    }

    /// The command that performs it; none for a step that only the user can do.
    pub(crate) fn command(&self) -> Option<Command> {
        let mut command;
        match self {
            Self::AptUpdate => {
                command = Command::new("apt-get");
                // Without this option an unreachable server is only a warning, and old lists look like new ones.
                command.args(["update", "-o", "APT::Update::Error-Mode=any"]);
            }
            Self::AptInstall(packages) => {
                command = Command::new("apt-get");
                command.args(["install", "--yes", "--no-install-recommends"]).args(packages);
            }
            Self::Unpack { packages, into } => {
                let (into, packages) = (into.display(), packages.join(" "));
                let unpack = "for archive in *.deb; do dpkg-deb -x \"$archive\" . || exit 1; done";
                command = Command::new("sh");
                command.arg("-c").arg(format!(
                    "mkdir -p {into} && cd {into} && apt-get download {packages} && {unpack} && rm *.deb"
                ));
            }
            Self::RustupNightly => {
                command = Command::new("rustup");
                command.args(["toolchain", "install", "nightly", "--profile=minimal"]);
                command.args(["--component=rust-src", "--component=llvm-tools"]);
            }
            Self::CargoLinker { llvm } => {
                command = Command::new("cargo");
                // Its build script reads no other variable, and without this one it takes any llvm-config in $PATH.
                command.env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"));
                command.args(["install", "bpf-linker", "--version", LINKER, "--locked", "--force"]);
                command.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]);
            }
            Self::CargoTool(tool) => command = tool.install(),
            Self::ByHand(_) => return None,
        }
        Some(command)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.command()) {
            (Self::ByHand(text), _) => f.write_str(text),
            (_, command) => f.write_str(&command.as_ref().map(shell::shown).unwrap_or_default()),
        }
    }
}

/// The steps that are needed to build the BPF half and, with `for_tests`, to test it; none if nothing is missing.
pub(crate) fn plan(facts: &Facts, for_tests: bool) -> Vec<Step> {
    let mut steps = match facts.family {
        Family::Debian => debian(facts, for_tests),
        Family::Fedora | Family::Arch | Family::Suse | Family::Alpine | Family::Other(_) => {
            by_hand(facts, for_tests)
        }
    };
    let is_first = steps.first() == Some(&Step::AptUpdate);
    if steps.iter().any(Step::asks_apt) && facts.lists == Lists::Unknown && !is_first {
        steps.insert(0, Step::AptUpdate);
    }
    steps
}

fn debian(facts: &Facts, for_tests: bool) -> Vec<Step> {
    let mut packages: Vec<String> = Vec::new();
    let mut rest: Vec<Step> = Vec::new();
    // Packages that old lists lack, or have only in an old version, may be available after an update.
    let instead_of_less = match facts.lists {
        Lists::Unknown => Some(Step::AptUpdate),
        Lists::Failed => Some(Step::ByHand(UPDATE_FAILED.to_owned())),
        Lists::Current => None,
    };

    if toolchain::choose(&facts.found).is_err() {
        let usable = usable_compiler(&facts.found);
        let mut writes = usable.and_then(|compiler| compiler.llvm);
        if usable.is_none() {
            match rust_packages(facts) {
                Some(rust) => packages.extend(rust),
                None if instead_of_less.is_some() => return Vec::from_iter(instead_of_less),
                None if facts.rustup => rest.push(Step::RustupNightly),
                None => rest.push(Step::ByHand(INSTALL_RUSTUP.to_owned())),
            }
            writes = None;
        }
        let reads = facts.found.linker.as_ref().map(|linker| linker.llvm);
        let linker_is_old = matches!((reads, writes), (Some(Some(reads)), Some(writes)) if writes > reads);
        if reads.is_none() || linker_is_old {
            match llvm(facts, writes) {
                Some(version) => {
                    packages.extend(llvm_packages(version));
                    packages.extend(["libzstd-dev", "zlib1g-dev"].map(str::to_owned));
                    packages.extend((!facts.cxx).then(|| "g++".to_owned()));
                    rest.push(Step::CargoLinker { llvm: version });
                }
                None if instead_of_less.is_some() => return Vec::from_iter(instead_of_less),
                None => rest.push(Step::ByHand(linker_release())),
            }
        } else if facts.found.objcopy.is_none() {
            packages.push("llvm".to_owned());
        }
    }
    if for_tests {
        packages.extend(facts.missing.iter().map(|name| (*name).to_owned()));
        let promtool =
            || Step::Unpack { packages: vec!["prometheus".to_owned()], into: test_tools::unpacked() };
        rest.extend((!facts.promtool).then(promtool));
        if !facts.postgres {
            match postgres::packages(|name| available(facts, name).is_some()) {
                Some((libraries, programs)) => {
                    packages.extend(libraries);
                    rest.push(Step::Unpack { packages: programs, into: test_tools::unpacked_postgres() });
                }
                None => rest.push(Step::ByHand(postgres::BY_HAND.to_owned())),
            }
        }
        packages.extend((!facts.system_clippy).then(|| system_clippy(facts, &packages)).flatten());
    }

    packages.retain(|name| {
        let Some(package) = facts.packages.get(name).filter(|package| package.installed.is_some()) else {
            return true;
        };
        // A compiler that is both installed and planned is too old.
        RUST.as_flattened().contains(&name.as_str()) && package.available() != package.installed.as_deref()
    });
    let install = (!packages.is_empty()).then_some(Step::AptInstall(packages));
    install.into_iter().chain(rest).collect()
}

/// A compiler that is good enough, apart from the linker.
fn usable_compiler(found: &Detected) -> Option<&Compiler> {
    let usable = |compiler: &Option<Compiler>| toolchain::fit(compiler.as_ref(), None).is_ok();
    [&found.system, &found.nightly].into_iter().find(|compiler| usable(compiler))?.as_ref()
}

/// The packages of a compiler that is new enough and has a core for BPF.
fn rust_packages(facts: &Facts) -> Option<[String; 2]> {
    RUST.into_iter()
        .find(|[compiler, core]| {
            let version = available(facts, compiler).and_then(Version::parse);
            version.is_some_and(|version| version >= Version::required()) && available(facts, core).is_some()
        })
        .map(|names| names.map(str::to_owned))
}

/// The reasons why the distribution's own packages are not enough, a line each; none if they are, or are not needed.
pub(crate) fn remarks(facts: &Facts) -> Vec<String> {
    if facts.family != Family::Debian
        || facts.lists != Lists::Current
        || toolchain::choose(&facts.found).is_ok()
    {
        return Vec::new();
    }
    let mut remarks: Vec<String> = facts
        .packages
        .iter()
        .filter(|(_, package)| package.held && package.candidate != package.installed)
        .map(|(name, package)| match &package.installed {
            Some(version) => {
                format!("{name} is held at {version} (`apt-mark showhold`), so it is not changed")
            }
            None => format!("{name} is held (`apt-mark showhold`), so it is not installed"),
        })
        .collect();
    if usable_compiler(&facts.found).is_none() && rust_packages(facts).is_none() {
        let newest = |name: &str| available(facts, name).map(|version| format!("{name} {version}"));
        let offered: Vec<String> = RUST.iter().filter_map(|[compiler, _]| newest(compiler)).collect();
        let offered = if offered.is_empty() { "no Rust".to_owned() } else { offered.join(" and ") };
        remarks.push(format!(
            "apt offers {offered}; memmon's BPF half needs Rust {} with a core for BPF",
            Version::required()
        ));
    }
    remarks
}

/// The package of the system compiler's clippy, if that compiler is installed or planned.
fn system_clippy(facts: &Facts, planned: &[String]) -> Option<String> {
    let there = |name: &str| {
        planned.iter().any(|other| other == name)
            || facts.packages.get(name).is_some_and(|package| package.installed.is_some())
    };
    [("libstd-rust-web-dev-bpf", "rust-web-clippy"), ("libstd-rust-dev-bpf", "rust-clippy")]
        .into_iter()
        .find(|(core, clippy)| there(core) && available(facts, clippy).is_some())
        .map(|(_, clippy)| clippy.to_owned())
}

/// A version of LLVM that bpf-linker can be built with and that reads the bitcode of LLVM `writes`.
fn llvm(facts: &Facts, writes: Option<u32>) -> Option<u32> {
    LLVMS.into_iter().find(|version| {
        writes.is_none_or(|writes| *version >= writes)
            && llvm_packages(*version).iter().all(|name| available(facts, name).is_some())
    })
}

fn llvm_packages(version: u32) -> [String; 2] {
    [format!("llvm-{version}-dev"), format!("libpolly-{version}-dev")]
}

fn available<'a>(facts: &'a Facts, name: &str) -> Option<&'a str> {
    facts.packages.get(name)?.available()
}

/// The message if apt's lists cannot be updated, so that the available packages are not known.
const UPDATE_FAILED: &str = "`apt-get update` failed (its message is above), and without up-to-date lists apt has no \
                             compiler or LLVM that is new enough: check the network and the files in \
                             /etc/apt/sources.list.d until `apt-get update` succeeds";

const INSTALL_RUSTUP: &str = "install rustup (https://rustup.rs), then run `cargo xtask setup` again";

/// The exact commands for distributions whose packages are not tested: rustup's nightly and bpf-linker's own release.
fn by_hand(facts: &Facts, for_tests: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |text: String| steps.push(Step::ByHand(text));
    if toolchain::choose(&facts.found).is_err() {
        let Detected { system: _, nightly: _, linker, objcopy } = &facts.found;
        let compiled_and_stripped = usable_compiler(&facts.found).is_some() && objcopy.is_some();
        if !compiled_and_stripped {
            if !facts.rustup {
                add(match &facts.family {
                    Family::Fedora => "sudo dnf install rustup gcc && rustup-init -y".to_owned(),
                    Family::Arch => "sudo pacman -S --needed rustup gcc".to_owned(),
                    Family::Suse => "sudo zypper install rustup gcc".to_owned(),
                    Family::Alpine => "sudo apk add rustup build-base && rustup-init -y".to_owned(),
                    Family::Debian | Family::Other(_) => INSTALL_RUSTUP.to_owned(),
                });
            }
            add(Step::RustupNightly.to_string());
        }
        // Its release is linked statically with the newest LLVM, which reads the bitcode of older ones.
        if linker.is_none() || compiled_and_stripped {
            add(linker_release());
        }
    }
    if for_tests && facts.missing.contains(&"bpftool") {
        add(match &facts.family {
            Family::Fedora => "sudo dnf install bpftool".to_owned(),
            Family::Arch => "sudo pacman -S --needed bpf".to_owned(),
            Family::Suse => "sudo zypper install bpftool".to_owned(),
            Family::Alpine => "sudo apk add bpftool".to_owned(),
            Family::Debian | Family::Other(_) => "install bpftool".to_owned(),
        });
    }
    if for_tests && !facts.promtool {
        add("install promtool (Prometheus), or name it in MEMMON_PROMTOOL".to_owned());
    }
    if for_tests && !facts.postgres {
        add(postgres::BY_HAND.to_owned());
    }
    if for_tests && facts.missing.contains(&AIOSMTPD) {
        add("install aiosmtpd for python3, or name a Python that has it in MEMMON_SMTPD_PYTHON".to_owned());
    }
    steps
}

fn linker_release() -> String {
    format!(
        "curl -fL https://github.com/aya-rs/bpf-linker/releases/download/v{LINKER}/bpf-linker-{}-unknown-linux-musl.tar.zst \
         | tar --zstd -x -C ~/.cargo/bin",
        std::env::consts::ARCH
    )
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(super) mod tests;

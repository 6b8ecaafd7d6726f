//! Tests of the plans for different machines.

use std::path::PathBuf;

use super::*;
use crate::toolchain::Linker;

/// Debian 12 with rustup's stable and nothing else, and up-to-date lists of apt.
pub(in crate::setup) fn bookworm() -> Facts {
    let packages = packages_of_interest().into_iter().map(|name| {
        let candidate = match name.as_str() {
            "rustc-web" | "libstd-rust-web-dev-bpf" | "rust-web-clippy" => Some("1.96.0+dfsg1-1~deb12u2"),
            "rustc" | "rust-clippy" => Some("1.63.0+dfsg1-2"),
            "libstd-rust-dev-bpf" | "llvm-21-dev" | "libpolly-21-dev" | "llvm-23-dev" | "libpolly-23-dev" => {
                None
            }
            "libicu76" | "libldap2" | "libreadline8t64" => None,
            _ if ["-16", "-17", "-18"].iter().any(|version| name.ends_with(version)) => None,
            _ => Some("1"),
        };
        (name, Package { candidate: candidate.map(str::to_owned), ..Package::default() })
    });
    Facts {
        family: Family::Debian,
        found: Detected::default(),
        rustup: true,
        cxx: true,
        missing: vec!["bpftool"],
        promtool: true,
        postgres: true,
        system_clippy: false,
        packages: packages.collect(),
        lists: Lists::Unknown,
    }
}

fn compiler(toolchain: Option<&str>, llvm: u32) -> Option<Compiler> {
    Some(Compiler {
        toolchain: toolchain.map(str::to_owned),
        version: Version::required(),
        llvm: Some(llvm),
        sysroot: PathBuf::new(),
        core: true,
    })
}

fn linker(llvm: u32) -> Option<Linker> {
    Some(Linker { path: PathBuf::from("bpf-linker"), llvm: Some(llvm) })
}

fn complete() -> Detected {
    Detected {
        system: compiler(None, 22),
        nightly: None,
        linker: linker(22),
        objcopy: Some(PathBuf::from("objcopy")),
    }
}

fn with_candidates(mut facts: Facts, candidates: &[(&str, Option<&str>)]) -> Facts {
    for (name, candidate) in candidates {
        facts.packages.entry((*name).to_owned()).or_default().candidate = candidate.map(str::to_owned);
    }
    facts
}

fn lines(facts: &Facts, for_tests: bool) -> Vec<String> {
    plan(facts, for_tests).iter().map(Step::to_string).collect()
}

/// The command that updates apt's lists.
pub(in crate::setup) const UPDATE: &str = "apt-get update -o APT::Update::Error-Mode=any";
const LINKER_22: &str = "LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --locked --force \
                         --no-default-features --features llvm-22";
const NIGHTLY: &str =
    "rustup toolchain install nightly --profile=minimal --component=rust-src --component=llvm-tools";

#[test]
fn nothing_is_planned_where_nothing_is_missing() {
    let facts = Facts { found: complete(), ..bookworm() };
    assert_eq!(plan(&facts, false), []);
    let facts = Facts { missing: vec![], system_clippy: true, ..facts };
    assert_eq!(plan(&facts, true), []);
}

#[test]
fn a_bare_debian_gets_all_of_it() {
    assert_eq!(
        lines(&bookworm(), false),
        [
            UPDATE,
            "apt-get install --yes --no-install-recommends rustc-web libstd-rust-web-dev-bpf llvm-22-dev \
             libpolly-22-dev libzstd-dev zlib1g-dev",
            LINKER_22,
        ]
    );
    let facts = Facts { cxx: false, lists: Lists::Current, ..bookworm() };
    assert_eq!(
        lines(&facts, true),
        [
            "apt-get install --yes --no-install-recommends rustc-web libstd-rust-web-dev-bpf llvm-22-dev \
             libpolly-22-dev libzstd-dev zlib1g-dev g++ bpftool rust-web-clippy",
            LINKER_22,
        ]
    );
}

#[test]
fn empty_lists_are_fetched_before_anything_is_decided() {
    let nothing = bookworm().packages.into_keys().map(|name| (name, Package::default())).collect();
    let mut facts = Facts { packages: nothing, ..bookworm() };
    let one = || Some("1".to_owned());
    facts
        .packages
        .insert("zlib1g-dev".to_owned(), Package { installed: one(), candidate: one(), held: false });
    assert_eq!(lines(&facts, true), [UPDATE]);
    // The lists are updated only once.
    let facts = Facts { lists: Lists::Current, ..facts };
    assert_eq!(lines(&facts, false)[0], NIGHTLY);
}

/// Debian 12's lists from before the compiler and LLVM came with its security suite.
fn stale() -> Facts {
    let old = "1.85.0+dfsg3-1~deb12u3";
    with_candidates(
        bookworm(),
        &[
            ("rustc-web", Some(old)),
            ("libstd-rust-web-dev-bpf", Some(old)),
            ("llvm-22-dev", None),
            ("libpolly-22-dev", None),
        ],
    )
}

#[test]
fn stale_lists_are_brought_up_to_date_before_a_plan_settles_for_less() {
    assert_eq!(lines(&stale(), false), [UPDATE]);
    assert_eq!(lines(&Facts { rustup: false, ..stale() }, true), [UPDATE]);
    // The same if only LLVM is too old.
    let llvm_only = with_candidates(bookworm(), &[("llvm-22-dev", None)]);
    assert_eq!(lines(&llvm_only, false), [UPDATE]);
    // Old lists that have everything are enough, and there is no remark.
    assert_eq!(lines(&bookworm(), false).len(), 3);
    assert_eq!(remarks(&stale()), [""; 0]);
}

#[test]
fn without_a_network_it_is_an_error_and_not_less() {
    let failed = |facts| Facts { lists: Lists::Failed, ..facts };
    for facts in [failed(stale()), Facts { rustup: false, ..failed(stale()) }] {
        let steps = plan(&facts, true);
        let [Step::ByHand(text)] = &steps[..] else { panic!("{steps:?}") };
        assert!(text.contains("`apt-get update` failed") && text.contains("check the network"), "{text}");
    }
    // One broken source of many does not matter if the lists have everything.
    let steps = lines(&failed(bookworm()), false);
    assert!(steps[0].starts_with("apt-get install --yes --no-install-recommends rustc-web "), "{steps:?}");
    assert_eq!(steps[1], LINKER_22);
}

#[test]
fn a_package_too_old_after_the_update_is_explained() {
    let old = Facts { lists: Lists::Current, ..stale() };
    assert_eq!(lines(&old, false)[0], NIGHTLY);
    let [remark] = remarks(&old).try_into().unwrap();
    assert_eq!(
        remark,
        "apt offers rustc-web 1.85.0+dfsg3-1~deb12u3 and rustc 1.63.0+dfsg1-2; memmon's BPF half needs Rust 1.95 with a \
         core for BPF"
    );
    assert_eq!(remarks(&Facts { found: complete(), ..old }), [""; 0]);
    assert_eq!(remarks(&Facts { lists: Lists::Current, ..bookworm() }), [""; 0]);
}

#[test]
fn an_installed_compiler_that_is_too_old_is_upgraded() {
    let mut facts = Facts { lists: Lists::Current, ..bookworm() };
    for name in ["rustc-web", "libstd-rust-web-dev-bpf"] {
        facts.packages.entry(name.to_owned()).or_default().installed = Some("1.85.0+dfsg3-1".to_owned());
    }
    let steps = lines(&facts, false);
    assert!(steps[0].contains(" rustc-web libstd-rust-web-dev-bpf "), "{steps:?}");
}

#[test]
fn a_package_that_an_administrator_holds_stays_as_it_is() {
    let hold = |facts: &mut Facts, name: &str, installed: Option<&str>| {
        let package = facts.packages.entry(name.to_owned()).or_default();
        *package = Package {
            installed: installed.map(str::to_owned),
            held: true,
            candidate: package.candidate.take(),
        };
    };
    let mut facts = Facts { lists: Lists::Current, ..bookworm() };
    hold(&mut facts, "rustc-web", Some("1.85.0+dfsg3-1"));
    let steps = lines(&facts, false);
    assert!(!steps[0].contains("rustc-web"), "{steps:?}");
    assert_eq!(steps[1..], [NIGHTLY, LINKER_22]);
    assert!(
        remarks(&facts)[0].starts_with("rustc-web is held at 1.85.0+dfsg3-1 (`apt-mark showhold`)"),
        "{:?}",
        remarks(&facts)
    );
    // Without rustup the user has to decide.
    assert_eq!(lines(&Facts { rustup: false, ..facts }, false)[1], INSTALL_RUSTUP);
    // A held compiler that is new enough is used.
    let mut facts = Facts { lists: Lists::Current, ..bookworm() };
    hold(&mut facts, "rustc-web", Some("1.96.0+dfsg1-1~deb12u2"));
    let steps = lines(&facts, false);
    assert!(!steps[0].contains("rustc-web "), "{steps:?}");
    assert!(steps[0].contains("libstd-rust-web-dev-bpf"), "{steps:?}");
    assert_eq!(steps[1..], [LINKER_22]);
    // A held LLVM that is missing is not installed.
    let mut facts = Facts { lists: Lists::Current, ..bookworm() };
    hold(&mut facts, "llvm-22-dev", None);
    assert!(lines(&facts, false)[1].starts_with("curl -fL"), "{:?}", lines(&facts, false));
    assert!(remarks(&facts)[0].starts_with("llvm-22-dev is held"), "{:?}", remarks(&facts));
}

#[test]
fn installed_packages_are_not_installed_again() {
    let mut facts = bookworm();
    for name in [
        "rustc-web",
        "libstd-rust-web-dev-bpf",
        "llvm-22-dev",
        "libpolly-22-dev",
        "libzstd-dev",
        "zlib1g-dev",
    ] {
        let package = facts.packages.entry(name.to_owned()).or_default();
        package.installed.clone_from(&package.candidate);
    }
    facts.found = Detected { linker: None, ..complete() };
    assert_eq!(lines(&facts, false), [LINKER_22]);
    // The clippy is that of the installed compiler.
    assert_eq!(
        lines(&facts, true)[1],
        "apt-get install --yes --no-install-recommends bpftool rust-web-clippy"
    );
}

#[test]
fn a_newer_debian_has_the_compiler_under_its_own_name() {
    let facts = with_candidates(
        bookworm(),
        &[
            ("rustc-web", None),
            ("rustc", Some("1.98.0+dfsg1-1")),
            ("libstd-rust-dev-bpf", Some("1.98.0+dfsg1-1")),
            ("rust-clippy", Some("1.98.0+dfsg1-1")),
        ],
    );
    assert_eq!(
        lines(&facts, true)[1],
        "apt-get install --yes --no-install-recommends rustc libstd-rust-dev-bpf llvm-22-dev libpolly-22-dev \
         libzstd-dev zlib1g-dev bpftool rust-clippy"
    );
}

#[test]
fn where_packages_are_too_old_rustup_helps() {
    let old = with_candidates(bookworm(), &[("rustc-web", Some("1.85.0+dfsg1-1"))]);
    let old = Facts { lists: Lists::Current, ..old };
    let install =
        "apt-get install --yes --no-install-recommends llvm-22-dev libpolly-22-dev libzstd-dev zlib1g-dev";
    assert_eq!(lines(&old, false), [install, NIGHTLY, LINKER_22]);
    let without_rustup = Facts { rustup: false, ..old };
    assert_eq!(lines(&without_rustup, false)[1], INSTALL_RUSTUP);
}

#[test]
fn the_linkers_llvm_reads_what_the_compilers_wrote() {
    let found = |nightly, linker| Detected {
        system: None,
        nightly: compiler(Some("nightly"), nightly),
        linker,
        ..complete()
    };
    let with_23 =
        || with_candidates(bookworm(), &[("llvm-23-dev", Some("1")), ("libpolly-23-dev", Some("1"))]);
    for (facts, expected) in [
        // The tested version, although there is a newer one.
        (Facts { found: found(22, None), ..with_23() }, Some(22)),
        (Facts { found: found(23, None), ..with_23() }, Some(23)),
        // A linker that is too old is built again.
        (Facts { found: found(23, linker(22)), ..with_23() }, Some(23)),
        (Facts { found: found(22, linker(21)), ..with_23() }, Some(22)),
        (Facts { found: found(22, linker(23)), ..with_23() }, None),
    ] {
        let planned = plan(&facts, false).into_iter().find_map(|step| match step {
            Step::CargoLinker { llvm } => Some(llvm),
            _ => None,
        });
        assert_eq!(planned, expected, "{:?}", facts.found);
    }
    // If no new enough LLVM is available: bpf-linker's own release is linked with the newest.
    let facts = Facts { found: found(23, linker(22)), lists: Lists::Current, ..bookworm() };
    assert!(lines(&facts, false)[0].starts_with("curl -fL https://github.com/aya-rs/bpf-linker/releases/"));
}

#[test]
fn only_objcopy_is_missing() {
    let facts = Facts { found: Detected { objcopy: None, ..complete() }, ..bookworm() };
    assert_eq!(lines(&facts, false), [UPDATE, "apt-get install --yes --no-install-recommends llvm"]);
}

#[test]
fn servers_for_tests_are_installed_for_tests_only() {
    let facts = Facts { found: complete(), system_clippy: true, ..bookworm() };
    let facts = Facts { missing: vec!["openssl", AIOSMTPD], promtool: false, postgres: false, ..facts };
    assert_eq!(plan(&facts, false), []);
    let folder = test_tools::unpacked();
    let folder = folder.display();
    let postgres = test_tools::unpacked_postgres();
    let unpack = "for archive in *.deb; do dpkg-deb -x \"$archive\" . || exit 1; done && rm *.deb";
    let expected = [
        UPDATE.to_owned(),
        "apt-get install --yes --no-install-recommends openssl python3-aiosmtpd libpq5 libicu72 libxml2 \
         libldap-2.5-0 libgssapi-krb5-2 libpam0g libreadline8 liblz4-1 libzstd1 libnuma1 liburing2"
            .to_owned(),
        format!("sh -c 'mkdir -p {folder} && cd {folder} && apt-get download prometheus && {unpack}'"),
        format!(
            "sh -c 'mkdir -p {0} && cd {0} && apt-get download postgresql-15 postgresql-client-15 && {unpack}'",
            postgres.display()
        ),
    ];
    assert_eq!(lines(&facts, true), expected);
    // A system without these packages.
    let mut other = facts.clone();
    other.packages.retain(|name, _| !name.starts_with("postgresql-"));
    let hint = "install the programs of a PostgreSQL server, or name their folder in MEMMON_POSTGRES";
    assert_eq!(lines(&other, true).last().map(String::as_str), Some(hint));
    // Unpacking needs no root, but updating the lists does.
    let facts = Facts { missing: vec![], postgres: true, ..facts };
    let steps = plan(&facts, true);
    assert_eq!(steps.iter().map(Step::needs_root).collect::<Vec<_>>(), [true, false]);
    let facts = Facts { family: Family::Fedora, ..facts };
    assert_eq!(lines(&facts, true), ["install promtool (Prometheus), or name it in MEMMON_PROMTOOL"]);
}

#[test]
fn other_distributions_get_the_exact_commands() {
    for (family, rustup, bpftool) in [
        (Family::Fedora, "sudo dnf install rustup gcc && rustup-init -y", "sudo dnf install bpftool"),
        (Family::Arch, "sudo pacman -S --needed rustup gcc", "sudo pacman -S --needed bpf"),
        (Family::Suse, "sudo zypper install rustup gcc", "sudo zypper install bpftool"),
        (Family::Alpine, "sudo apk add rustup build-base && rustup-init -y", "sudo apk add bpftool"),
        (Family::Other("NixOS".to_owned()), INSTALL_RUSTUP, "install bpftool"),
    ] {
        let facts = Facts { family, rustup: false, packages: BTreeMap::new(), ..bookworm() };
        assert!(plan(&facts, true).iter().all(|step| matches!(step, Step::ByHand(_))));
        let [first, nightly, linker, last] = lines(&facts, true).try_into().unwrap();
        assert_eq!([first.as_str(), nightly.as_str(), last.as_str()], [rustup, NIGHTLY, bpftool]);
        assert!(linker.contains("bpf-linker/releases/download/v0.13.0/bpf-linker-"), "{linker}");
        // No step if nothing is missing.
        let facts = Facts { found: complete(), missing: vec![], ..facts };
        assert_eq!(plan(&facts, true), []);
    }
}

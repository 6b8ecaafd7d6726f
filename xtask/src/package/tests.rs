//! Packages have what an installation has, each in its own way.

use std::collections::BTreeSet;

use super::*;
use crate::install::Item;

/// Where the packages' tables take files from, by the path below the staged tree (manuals may be compressed); what is a
/// package's alone is left out.
fn sources<'t>(assets: impl Iterator<Item = &'t str>) -> BTreeSet<String> {
    let staged = |path: &str| {
        let compressed =
            path.split_once("target/package/compressed").and_then(|(_, path)| path.strip_suffix(".gz"));
        path.split_once("target/package/tree").map(|(_, path)| path).or(compressed).map(str::to_owned)
    };
    assets.filter_map(staged).collect()
}

/// What an installation has, and what of it is a configuration.
fn installed() -> (BTreeSet<String>, BTreeSet<String>) {
    let directory = tempfile::tempdir().unwrap();
    for name in ["memmon", "memmon.8", "memmon.toml.5", "memmon.bash", "_memmon", "memmon.fish"] {
        fs::write(directory.path().join(name), name).unwrap();
    }
    let release = Release { binary: directory.path().join("memmon"), manual: directory.path().to_owned() };
    let items = install::items(&release, Path::new("/usr")).unwrap();
    let installed: BTreeSet<_> = items.iter().map(|item| item.path.to_string_lossy().into_owned()).collect();
    let configs = installed.iter().filter(|path| path.starts_with("/etc/")).cloned().collect();
    (installed, configs)
}

fn metadata() -> toml::Table {
    let manifest: toml::Table = include_str!("../../../memmon/Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"].as_table().unwrap().clone()
}

#[test]
fn a_deb_has_what_an_installation_has() {
    let (installed, configs) = installed();
    let deb = &metadata()["deb"];
    let mut packaged =
        sources(deb["assets"].as_array().unwrap().iter().map(|asset| asset[0].as_str().unwrap()));
    let units = deb["systemd-units"]["unit-scripts"].as_str().unwrap();
    packaged.insert(format!("{}/memmon.service", units.split_once("target/package/tree").unwrap().1));
    assert_eq!(packaged, installed);
    let marked = deb["conf-files"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned());
    assert_eq!(marked.collect::<BTreeSet<_>>(), configs);
    assert_eq!(deb["maintainer"].as_str(), Some(formats::MAINTAINER));
}

#[test]
fn an_rpm_has_what_an_installation_has() {
    let (installed, configs) = installed();
    let rpm = &metadata()["generate-rpm"];
    let assets = rpm["assets"].as_array().unwrap();
    assert_eq!(sources(assets.iter().map(|asset| asset["source"].as_str().unwrap())), installed);
    let marked = assets
        .iter()
        .filter(|asset| asset.get("config").is_some_and(|kind| kind.as_str() == Some("noreplace")));
    let marked: BTreeSet<_> = marked.map(|asset| asset["dest"].as_str().unwrap().to_owned()).collect();
    assert_eq!(marked, configs);
    for asset in assets {
        let (source, dest) = (asset["source"].as_str().unwrap(), asset["dest"].as_str().unwrap());
        // RPM's places are those of an installation below /usr.
        assert!(!source.contains("target/package") || source.ends_with(dest), "{source} goes to {dest}");
    }
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: BTreeSet<_> = Kind::ALL.into_iter().map(Kind::file_name).collect();
    assert_eq!(names.len(), Kind::ALL.len());
    assert!(names.iter().all(|name| name.contains(env!("CARGO_PKG_VERSION"))), "{names:?}");
}

#[test]
fn equal_sources_have_an_equal_fingerprint_and_others_another() {
    let item = |content: &str| Item {
        path: "/usr/sbin/memmon".into(),
        mode: 0o755,
        content: content.into(),
        kind: install::Kind::Program,
    };
    let of = |content: &str, when: &str| {
        let sources = Sources {
            out: PathBuf::new(),
            items: vec![item(content)],
            when: when.to_owned(),
            changelog: String::new(),
        };
        sources.fingerprint().unwrap()
    };
    assert_eq!(of("one", "1"), of("one", "1"));
    assert_ne!(of("one", "1"), of("two", "1"));
    assert_ne!(of("one", "1"), of("one", "2"));
}

//! Packages have the same files as an installation, each in its own layout.

use std::collections::BTreeSet;

use super::*;
use crate::install::Item;

/// Checks that each file of an installation is in exactly one of `folders`, which the tables of the packages name as
/// `target/package/tree/FOLDER/*` (manuals may be `compressed`), and that no folder is empty.
#[track_caller]
fn each_file_is_in_one<'t>(folders: impl Iterator<Item = &'t str>) {
    let directory = tempfile::tempdir().unwrap();
    for name in ["memmon", "memmon.8", "memmon.toml.5", "memmon.bash", "_memmon", "memmon.fish"] {
        fs::write(directory.path().join(name), name).unwrap();
    }
    let release = Release { binary: directory.path().join("memmon"), manual: directory.path().to_owned() };
    let items = install::items(&release, Path::new("/usr")).unwrap();
    let below = |folder: &'t str| {
        let (_, staged) = folder.split_once("target/package/")?;
        let (_, path) = staged.split_once('/')?;
        Some(format!("/{}", path.trim_end_matches('*').trim_end_matches("**/")))
    };
    let folders: BTreeSet<String> = folders.filter_map(below).collect();
    let mut filled = BTreeSet::new();
    for Item { path, .. } in &items {
        let path = path.to_str().unwrap();
        let holders: Vec<_> = folders.iter().filter(|folder| path.starts_with(folder.as_str())).collect();
        assert_eq!(holders.len(), 1, "{path} is in {holders:?}");
        filled.extend(holders);
    }
    assert_eq!(filled, folders.iter().collect());
}

fn metadata() -> toml::Table {
    let manifest: toml::Table = include_str!("../../../memmon/Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"].as_table().unwrap().clone()
}

#[test]
fn a_deb_has_what_an_installation_has() {
    let deb = &metadata()["deb"];
    let units = deb["systemd-units"]["unit-scripts"].as_str().unwrap();
    let assets = deb["assets"].as_array().unwrap();
    each_file_is_in_one(assets.iter().map(|asset| asset[0].as_str().unwrap()).chain([units]));
    assert_eq!(deb["maintainer"].as_str(), Some(formats::MAINTAINER));
}

#[test]
fn an_rpm_has_what_an_installation_has() {
    let rpm = &metadata()["generate-rpm"];
    let assets = rpm["assets"].as_array().unwrap();
    each_file_is_in_one(assets.iter().map(|asset| asset["source"].as_str().unwrap()));
    for asset in assets {
        let (source, dest) = (asset["source"].as_str().unwrap(), asset["dest"].as_str().unwrap());
        let folder = source.trim_end_matches('*').trim_end_matches("**/");
        // The paths in an .rpm are those of an installation below /usr.
        assert!(!source.contains("target/package") || folder.ends_with(dest), "{source} goes to {dest}");
        assert_eq!(asset.get("config").is_some(), dest == "/etc/", "{source}");
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

//! The other output of `cargo xtask package`: checksums, the archive, and the record of memmon's dependencies.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The folder of the packages.
fn folder() -> PathBuf {
    let deb = PathBuf::from(env::var_os("MEMMON_DEB").unwrap());
    deb.parent().unwrap().to_owned()
}

fn one_that_ends_with(end: &str) -> PathBuf {
    let files = folder().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = files.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    assert_eq!(found.len(), 1, "{end}: {found:?}");
    found.remove(0)
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs MEMMON_DEB, the path of a .deb beside everything else from `cargo xtask package`"]
fn everything_has_its_checksum() {
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(folder()));
    let sums = fs::read_to_string(folder().join("SHA256SUMS")).unwrap();
    let summed: BTreeSet<_> =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(_, file)| file).collect();
    let made = [".deb", ".rpm", ".tar.zst", ".cdx.json"].map(one_that_ends_with);
    let made = made.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(summed, made);
}

/// The name of every file below `root`, with its content; without the control files of a .deb, and without manuals, which it
/// compresses.
fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let list = run(Command::new("find").args([".", "-type", "f"]).current_dir(root));
    let its_own = |path: &&str| ["/doc/", "/lintian/", "/man/"].iter().any(|place| path.contains(place));
    // By name alone, because Debian has its own folders for units and for zsh's completions.
    let read = |path: &str| (path.rsplit('/').next().unwrap().to_owned(), fs::read(root.join(path)).unwrap());
    let mut files: Vec<_> = list.lines().filter(|path| !its_own(path)).map(read).collect();
    files.sort();
    files
}

#[test]
#[ignore = "needs MEMMON_DEB, the path of a .deb beside everything else from `cargo xtask package`"]
fn the_archive_has_what_the_deb_has() {
    let scratch = tempfile::tempdir().unwrap();
    let [tar, deb] = ["tar", "deb"].map(|name| scratch.path().join(name));
    fs::create_dir(&tar).unwrap();
    let mut extract = Command::new("tar");
    extract.args(["--zstd", "--extract", "--file"]).arg(one_that_ends_with(".tar.zst"));
    run(extract.arg("--directory").arg(&tar));
    run(Command::new("dpkg-deb").arg("--extract").arg(one_that_ends_with(".deb")).arg(&deb));
    assert!(run(Command::new(tar.join("usr/sbin/memmon")).arg("--version")).starts_with("memmon 2."));
    let (tar, deb) = (files(&tar), files(&deb));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&tar), names(&deb));
    assert!(tar == deb, "the same names, but other content");
}

#[test]
#[ignore = "needs MEMMON_DEB, the path of a .deb beside everything else from `cargo xtask package`"]
fn the_record_names_what_is_in_the_binary_and_nothing_of_its_tests() {
    let record: Value = serde_json::from_slice(&fs::read(one_that_ends_with(".cdx.json")).unwrap()).unwrap();
    assert_eq!(record["bomFormat"], "CycloneDX");
    assert_eq!(record["metadata"]["component"]["name"], "memmon");
    let components = record["components"].as_array().unwrap();
    let has = |name: &str| components.iter().any(|component| component["name"] == name);
    assert!(has("aya") && has("lettre") && has("tokio"));
    assert!(!has("proptest") && !has("insta"), "it has dependencies of tests");
    let complete = |component: &Value| component["purl"].is_string() && component["version"].is_string();
    assert!(components.iter().all(complete));
}

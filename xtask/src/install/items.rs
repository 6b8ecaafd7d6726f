//! The files of an installed memmon: the path and the mode of each.

use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;

use crate::{build::Release, workspace};

pub(crate) const CONFIG: &str = "/etc/memmon/config.toml";
/// The log file, unless the configuration names another.
pub(crate) const LOG: &str = "/var/log/memory_monitor.log";
/// The path of memmon in the shipped unit.
const UNIT_BINARY: &str = "/usr/sbin/memmon";

/// A file to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// The path from the machine's root.
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
    pub(crate) kind: Kind,
}

/// The treatment of a file that already exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Replace it.
    Program,
    /// Leave it as it is, and put the new one beside it.
    Config,
    /// Leave it as it is: files beside it are read as well.
    Snippet,
}

/// All files of an installation below `prefix`.
pub(crate) fn items(release: &Release, prefix: &Path) -> Result<Vec<Item>> {
    let root = workspace::root();
    let (share, manual) = (prefix.join("share"), |name: &str| release.manual.join(name));
    let binary = prefix.join("sbin/memmon");
    let unit = fs::read_to_string(root.join("systemd/memmon.service"))?;
    let unit = unit.replace(UNIT_BINARY, &binary.to_string_lossy()).into_bytes();
    let unit_path = unit_directory(prefix).join("memmon.service");
    let mut items = vec![
        Item { path: binary, mode: 0o755, content: fs::read(&release.binary)?, kind: Kind::Program },
        Item { path: unit_path, mode: 0o644, content: unit, kind: Kind::Program },
    ];
    let contrib =
        ["README.md", "prometheus/memmon.rules.yml", "grafana/memmon.json", "grafana/memmon-fleet.json"];
    let contrib = contrib.map(|name| {
        (share.join("doc/memmon/contrib").join(name), root.join("contrib").join(name), Kind::Program)
    });
    let files = [
        (
            catalog_directory(prefix).join("memmon.catalog"),
            root.join("systemd/memmon.catalog"),
            Kind::Program,
        ),
        (CONFIG.into(), root.join("config.toml"), Kind::Config),
        // With it the folder exists, which no package format has by itself.
        ("/etc/memmon/conf.d/README".into(), root.join("xtask/packaging/conf.d-README"), Kind::Program),
        ("/etc/logrotate.d/memmon".into(), root.join("systemd/memmon.logrotate"), Kind::Snippet),
        (share.join("man/man8/memmon.8"), manual("memmon.8"), Kind::Program),
        (share.join("man/man5/memmon.toml.5"), manual("memmon.toml.5"), Kind::Program),
        (share.join("bash-completion/completions/memmon"), manual("memmon.bash"), Kind::Program),
        (share.join("zsh/site-functions/_memmon"), manual("_memmon"), Kind::Program),
        (share.join("fish/vendor_completions.d/memmon.fish"), manual("memmon.fish"), Kind::Program),
    ];
    for (path, source, kind) in files.into_iter().chain(contrib) {
        items.push(Item { path, mode: 0o644, content: fs::read(source)?, kind });
    }
    Ok(items)
}

/// The folder in which systemd looks for units of software below `prefix` (systemd.unit(5)).
fn unit_directory(prefix: &Path) -> PathBuf {
    if ["/usr", "/usr/local"].into_iter().any(|known| prefix == Path::new(known)) {
        prefix.join("lib/systemd/system")
    } else {
        "/etc/systemd/system".into()
    }
}

/// The folder in which journalctl looks for message catalogs: one of two, whatever the prefix (systemd's catalog.c).
fn catalog_directory(prefix: &Path) -> PathBuf {
    let known = if prefix == Path::new("/usr") { "/usr" } else { "/usr/local" };
    Path::new(known).join("lib/systemd/catalog")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_what_is_installed_and_lies_where_systemd_looks() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["memmon", "memmon.8", "memmon.toml.5", "memmon.bash", "_memmon", "memmon.fish"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        let release =
            Release { binary: directory.path().join("memmon"), manual: directory.path().to_owned() };
        for (prefix, unit, catalog) in [
            ("/usr", "/usr/lib/systemd/system/memmon.service", "/usr/lib/systemd/catalog"),
            ("/usr/local", "/usr/local/lib/systemd/system/memmon.service", "/usr/local/lib/systemd/catalog"),
            ("/opt/memmon", "/etc/systemd/system/memmon.service", "/usr/local/lib/systemd/catalog"),
        ] {
            let items = items(&release, Path::new(prefix)).unwrap();
            assert!(items.iter().any(|item| item.path == Path::new(catalog).join("memmon.catalog")));
            let unit = items.iter().find(|item| item.path == Path::new(unit)).unwrap();
            let text = String::from_utf8(unit.content.clone()).unwrap();
            assert!(
                text.contains(&format!("\nExecStart={prefix}/sbin/memmon run --dry-run-until-enabled\n")),
                "{text}"
            );
            assert!(
                items
                    .iter()
                    .any(|item| item.path == Path::new(prefix).join("sbin/memmon") && item.mode == 0o755)
            );
        }
    }
}

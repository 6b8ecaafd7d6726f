//! The files of an installed memmon: the path and the mode of each.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

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
    let unit = text(&root.join("systemd/memmon.service"))?;
    let binary = prefix.join("sbin/memmon");
    let unit = unit.replace(UNIT_BINARY, &binary.to_string_lossy());
    let manual = |name: &str| read(&release.manual.join(name));
    let program = |path: PathBuf, mode, content| Item { path, mode, content, kind: Kind::Program };
    let share = prefix.join("share");
    let contrib =
        ["README.md", "prometheus/memmon.rules.yml", "grafana/memmon.json", "grafana/memmon-fleet.json"];
    let contrib = contrib.into_iter().map(|name| {
        let content = read(&root.join("contrib").join(name))?;
        Ok(program(share.join("doc/memmon/contrib").join(name), 0o644, content))
    });
    let contrib = contrib.collect::<Result<Vec<_>>>()?;
    let items = vec![
        program(binary, 0o755, read(&release.binary)?),
        program(unit_directory(prefix).join("memmon.service"), 0o644, unit.into_bytes()),
        program(
            catalog_directory(prefix).join("memmon.catalog"),
            0o644,
            read(&root.join("systemd/memmon.catalog"))?,
        ),
        Item {
            path: CONFIG.into(),
            mode: 0o644,
            content: read(&root.join("config.toml"))?,
            kind: Kind::Config,
        },
        // With it the folder exists, which no package format has by itself.
        program(
            "/etc/memmon/conf.d/README".into(),
            0o644,
            read(&root.join("xtask/packaging/conf.d-README"))?,
        ),
        Item {
            path: "/etc/logrotate.d/memmon".into(),
            mode: 0o644,
            content: read(&root.join("systemd/memmon.logrotate"))?,
            kind: Kind::Snippet,
        },
        program(share.join("man/man8/memmon.8"), 0o644, manual("memmon.8")?),
        program(share.join("man/man5/memmon.toml.5"), 0o644, manual("memmon.toml.5")?),
        program(share.join("bash-completion/completions/memmon"), 0o644, manual("memmon.bash")?),
        program(share.join("zsh/site-functions/_memmon"), 0o644, manual("_memmon")?),
        program(share.join("fish/vendor_completions.d/memmon.fish"), 0o644, manual("memmon.fish")?),
    ];
    Ok(items.into_iter().chain(contrib).collect())
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

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
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

//! Checks a package with the distributions' own linters; any error or warning is a failure.
//!
//! The findings that they ignore are listed, each with its reason, in xtask/packaging/.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::kind::Kind;
use crate::{shell, workspace};

/// Checks `file` with the linter for its `kind`, if that is installed.
pub(super) fn read(kind: Kind, file: &Path) -> Result<()> {
    let Some(mut linter) = linter(kind, file) else { return Ok(()) };
    let name = linter.get_program().to_string_lossy().into_owned();
    if shell::find(&name).is_none() {
        println!(
            "not checked, because {name} is not installed: `cargo xtask setup --for-packages` installs it"
        );
        return Ok(());
    }
    println!("$ {}", shell::shown(&linter));
    let output = linter.output().with_context(|| format!("cannot start {name}"))?;
    let printed = [output.stdout, output.stderr].concat();
    let complaints = complaints(&String::from_utf8_lossy(&printed));
    ensure!(
        complaints.is_empty() && output.status.success(),
        "{name} ({}) complains about {}:\n{}",
        output.status,
        file.display(),
        complaints.join("\n")
    );
    Ok(())
}

fn linter(kind: Kind, file: &Path) -> Option<Command> {
    match kind {
        Kind::Deb => {
            let mut lintian = Command::new("lintian");
            // lintian runs as root only with this option.
            lintian.args(["--allow-root", "--no-cfg", "--fail-on=error,warning", "--tag-display-limit=0"]);
            lintian.arg(file);
            Some(lintian)
        }
        Kind::Rpm => {
            let mut rpmlint = Command::new("rpmlint");
            rpmlint.arg("--config").arg(workspace::root().join("xtask/packaging/rpm/rpmlint.toml")).arg(file);
            Some(rpmlint)
        }
        Kind::Tar | Kind::Record => None,
    }
}

/// The lines that complain: `E: memmon: no-copyright-file`, `memmon.x86_64: W: no-documentation`.
fn complaints(printed: &str) -> Vec<String> {
    let complains = |line: &&str| {
        ["E: ", "W: "].into_iter().any(|mark| line.starts_with(mark) || line.contains(&format!(": {mark}")))
    };
    printed.lines().filter(complains).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_warnings_are_complaints() {
        let printed = "N: 3 hints overridden\nE: memmon: no-copyright-file\nmemmon.x86_64: W: no-documentation\n\
                    memmon.x86_64: I: spelling\n 1 packages and 0 specfiles checked; 0 errors, 1 warnings\n";
        assert_eq!(
            complaints(printed),
            ["E: memmon: no-copyright-file", "memmon.x86_64: W: no-documentation"]
        );
    }
}

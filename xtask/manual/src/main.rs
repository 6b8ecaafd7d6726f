//! Writes memmon's manuals and shell completions into a directory: `memmon-manual DIRECTORY`.
//!
//! The output is not kept in the repository, so it cannot differ from memmon: commands, options and exit codes come from the
//! definition of the command line, keys from the table of the configuration. The prose around them is in pages/.

mod commands;
mod configuration;
mod page;
#[cfg(test)]
mod readme;

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap_complete::Shell;

/// The shells with completions, and the file name that each expects.
const COMPLETIONS: [(Shell, &str); 3] =
    [(Shell::Bash, "memmon.bash"), (Shell::Zsh, "_memmon"), (Shell::Fish, "memmon.fish")];

fn main() -> Result<()> {
    let directory = env::args_os().nth(1).map(PathBuf::from).context("usage: memmon-manual DIRECTORY")?;
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for (name, text) in files()? {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Every file, by name.
fn files() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut files = vec![
        ("memmon.8", commands::page()?.into_bytes()),
        ("memmon.toml.5", configuration::page()?.into_bytes()),
    ];
    for (shell, name) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut memmon::cli::command(), "memmon", &mut text);
        files.push((name, text));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    fn file(name: &str) -> String {
        let (_, text) = files().unwrap().into_iter().find(|(found, _)| *found == name).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn nothing_is_left_to_be_filled_in() {
        for page in ["memmon.8", "memmon.toml.5"].map(file) {
            let text = page.lines().filter(|line| !line.starts_with(".\\\""));
            let marks: Vec<_> = text.filter(|line| line.starts_with('@') && line.ends_with('@')).collect();
            assert!(marks.is_empty(), "{marks:?}");
            assert!(page.contains(concat!("memmon ", env!("CARGO_PKG_VERSION"))));
        }
    }

    #[test]
    fn every_command_and_option_is_in_the_manual_and_completed() {
        let manual = file("memmon.8").replace("\\-", "-");
        let completions = COMPLETIONS.map(|(_, name)| (name, file(name)));
        for command in memmon::cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            assert!(manual.contains(&format!(".SS \"memmon {name}\"")), "{name}");
            for option in command.get_opts().filter_map(clap::Arg::get_long) {
                assert!(manual.contains(&format!("--{option}")), "{name} --{option}");
                for (shell, text) in &completions {
                    assert!(text.contains(name) && text.contains(option), "{shell}: {name} --{option}");
                }
            }
        }
    }

    /// Bash itself completes, as on Tab; zsh and fish are often not installed.
    #[test]
    fn bash_completes_commands_and_options() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("memmon.bash");
        fs::write(&script, file("memmon.bash")).unwrap();
        for (line, expected) in
            [("memmon expl", "explain"), ("memmon run --on", "--once"), ("memmon run --source e", "ebpf")]
        {
            let words: Vec<_> = line.split(' ').collect();
            let (current, before) = (words[words.len() - 1], words[words.len() - 2]);
            let typed = format!(
                "source '{}'; COMP_WORDS=({line}); COMP_CWORD={}; _memmon memmon {current} {before}; echo \"${{COMPREPLY[*]}}\"",
                script.display(),
                words.len() - 1
            );
            let bash = Command::new("bash").args(["--norc", "-c", &typed]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), expected, "{line}: {bash:?}");
        }
    }

    #[test]
    #[ignore = "needs mandoc"]
    fn mandoc_has_no_complaint() {
        for name in ["memmon.8", "memmon.toml.5"] {
            let mut mandoc = Command::new("mandoc")
                .args(["-Tlint", "-Wwarning"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            mandoc.stdin.take().unwrap().write_all(file(name).as_bytes()).unwrap();
            let output = mandoc.wait_with_output().unwrap();
            let printed = [output.stdout, output.stderr].concat();
            let printed = String::from_utf8_lossy(&printed);
            assert!(printed.is_empty() && output.status.success(), "{name}:\n{printed}");
        }
    }
}

//! Other programs: their commands are shown, and their failures reported.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Shows `command`, runs it with this terminal, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs `command` and returns its standard output; nothing is shown unless it fails.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, printed.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote something that is not UTF-8", shown(command)))
}

/// `command` as it could be typed: the variables that are set for it, the program, the arguments.
pub(crate) fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        // Cargo separates flags by 0x1f, which no one can type.
        let value = value?.to_string_lossy().replace('\x1f', " ");
        Some(format!("{}={}", name.to_string_lossy().replace("CARGO_ENCODED_", ""), quoted(&value)))
    });
    let words = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()));
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,+@%".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", command.get_program().to_string_lossy())
}

/// The first file called `program` in `$PATH` that can be executed.
pub(crate) fn find(program: impl AsRef<Path>) -> Option<PathBuf> {
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories)
        .map(|directory| directory.join(program.as_ref()))
        .find(|file| is_executable(file))
}

/// Whether `file` is a regular file with an execute bit.
pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The cargo that started this program, or the one in `$PATH`.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").as_deref().unwrap_or(OsStr::new("cargo")))
}

/// Whether a user at a terminal can answer a question.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Asks the user at the terminal; an empty answer is the `default`, an unclear one or an end of file is no.
pub(crate) fn ask(question: &str, default: bool) -> Result<bool> {
    print!("{question} [{}] ", if default { "Y/n" } else { "y/N" });
    io::stdout().flush().context("cannot write to the terminal")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read from the terminal")?;
    Ok(match answer.trim() {
        "" => default && !answer.is_empty(),
        answer => ["y", "Y", "yes"].contains(&answer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_could_type_it() {
        let mut command = Command::new("cargo");
        command
            .args(["build", "it's", "--cfg=a=\"b\""])
            .env("CARGO_ENCODED_RUSTFLAGS", "-Ca=b\x1f-Cc")
            .env_remove("GONE");
        assert_eq!(shown(&command), r#"RUSTFLAGS='-Ca=b -Cc' cargo build 'it'\''s' '--cfg=a="b"'"#);
    }

    #[test]
    fn a_failure_names_the_command_and_its_error_output() {
        let error = read(Command::new("sh").args(["-c", "echo oh no >&2; exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'echo oh no >&2; exit 3'` failed (exit status: 3): oh no");
    }
}

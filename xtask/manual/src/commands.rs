//! memmon(8): the prose of pages/memmon.8, with the text of `--help` of each command.

use anyhow::{Context as _, Result};
use clap::Command;
use clap_mangen::{
    Man,
    roff::{bold, italic, roman},
};

use crate::page::{Page, line};

/// The page.
pub(crate) fn page() -> Result<String> {
    let mut memmon = memmon::cli::command();
    memmon.build();
    let after = memmon.get_after_help().context("memmon --help does not list its exit codes")?.to_string();
    let commands: Vec<&Command> = memmon
        .get_subcommands()
        .filter(|command| !command.is_hide_set() && command.get_name() != "help")
        .collect();
    Ok(Page::new(include_str!("../pages/memmon.8"))
        .fill(
            "SYNOPSIS",
            &commands.iter().map(|command| synopsis(command)).collect::<Vec<_>>().join(".br\n"),
        )?
        .fill("COMMANDS", &commands.iter().map(|command| section(command)).collect::<Result<String>>()?)?
        .fill("EXIT", &exit_codes(&after)?)?
        .finish())
}

/// A command's synopsis, in one line.
fn synopsis(command: &Command) -> String {
    let mut words = vec![bold(format!("memmon {}", command.get_name()))];
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let value = argument.get_value_names().filter(|_| argument.get_action().takes_values());
        let value = value.map(|names| names.join(" "));
        let (open, close) = if argument.is_required_set() { (" ", "") } else { (" [", "]") };
        match (argument.get_long(), value) {
            (Some("help"), _) => {}
            (Some(long), Some(value)) => words.extend([
                roman(open),
                bold(format!("--{long}")),
                roman(" "),
                italic(value),
                roman(close),
            ]),
            (Some(long), None) => words.extend([roman(open), bold(format!("--{long}")), roman(close)]),
            (None, Some(value)) => words.extend([roman(open), italic(value), roman(close)]),
            (None, None) => {}
        }
    }
    line(words)
}

/// The section of a command: its description and its options.
fn section(command: &Command) -> Result<String> {
    let about =
        command.get_long_about().or_else(|| command.get_about()).context("a command has no description")?;
    let about: Vec<_> = about.to_string().split("\n\n").map(|text| line([roman(sentence(text))])).collect();
    let mut rendered = Vec::new();
    // Every command has --help, which needs no entry.
    let shown = command.clone().disable_help_flag(true).mut_args(|argument| {
        let is_help = argument.get_id() == "help";
        argument.hide(is_help)
    });
    Man::new(shown).render_options_section(&mut rendered)?;
    let rendered = String::from_utf8(rendered)?;
    // The section already has a heading, and mandoc warns about empty lines and about consecutive breaks.
    let mut options: Vec<_> = rendered.lines().skip_while(|line| *line != ".SH OPTIONS").skip(1).collect();
    options.retain(|line| !line.is_empty());
    options.dedup_by(|line, before| line == before && *line == ".br");
    Ok(format!(".SS \"memmon {}\"\n{}{}\n", command.get_name(), about.join(".PP\n"), options.join("\n")))
}

/// `text` with a full stop, which `--help` omits.
fn sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    if text.ends_with(['.', ':']) { text } else { text + "." }
}

/// The list of exit codes, from the lines `  CODE  MEANING` below the help.
fn exit_codes(help: &str) -> Result<String> {
    let codes = help.lines().filter_map(|line| line.trim().split_once("  "));
    let codes: Vec<_> = codes.filter(|(code, _)| code.parse::<u8>().is_ok()).collect();
    anyhow::ensure!(!codes.is_empty(), "no exit codes in: {help}");
    let entry = |(code, meaning): &(&str, &str)| format!(".TP\n.B {code}\n{}", line([roman(meaning.trim())]));
    Ok(codes.iter().map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_listed() {
        let page = page().unwrap();
        for code in 0..=4 {
            assert!(page.contains(&format!(".TP\n.B {code}\n")), "{code}");
        }
    }

    #[test]
    fn a_section_has_the_text_of_the_help() {
        let command = Command::new("look")
            .about("Look around")
            .arg(clap::Arg::new("far").long("far").value_name("METRES").help("How far"))
            .arg(clap::Arg::new("target").required(true).value_name("TARGET").help("At what"));
        insta::assert_snapshot!(synopsis(&command), @r"\fBmemmon look\fR [\fB\-\-far\fR \fIMETRES\fR] \fITARGET\fR");
        insta::assert_snapshot!(section(&command).unwrap(), @r#"
        .SS "memmon look"
        Look around.
        .TP
        \fB\-\-far\fR \fI<METRES>\fR
        How far
        .TP
        <\fITARGET\fR>
        At what
        "#);
    }
}

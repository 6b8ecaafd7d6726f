//! `cargo xtask test`: runs every test that this machine can run, and lists the others with the reason.

mod machine;
mod outcome;
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead as _, BufReader},
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use fs_err as fs;

use self::{
    machine::{KERNEL, Machine, REAL},
    outcome::{Ignored, Outcome},
};
use crate::{ebpf, real_software, shell, test_tools, toolchain, workspace};

/// Run every test that this machine can run, and name the rest
///
/// Tests that need more than a compiler are marked `#[ignore = "kernel: needs root and kernel BTF"]` if they use the running
/// kernel, or `#[ignore = "needs bpftool"]`; if the machine has everything that they need, they run one at a time. The last
/// line is `N passed, N failed, N skipped`; a test that both variants of memmon have, with and without its BPF half, counts
/// in each.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fail instead of skipping tests if those of the running kernel, or those with other programs, cannot run
    #[arg(long)]
    require_kernel: bool,
    /// Run only the tests with real software (PostgreSQL, Redis, a JVM, Python, LMDB, QEMU), and print what memmon charges each
    /// program with and what its end gave back; packages are unpacked below target/tools
    #[arg(long, conflicts_with = "filters")]
    real: bool,
    /// Run only the tests of the daemon, with the rights that memmon's unit gives it instead of all of root's
    #[arg(long, conflicts_with = "real")]
    as_unit: bool,
    /// Run only the tests whose names contain one of these
    #[arg(last = true, value_name = "FILTER")]
    filters: Vec<String>,
}

/// Builds the BPF half if that is possible, and runs the tests.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    let object = object()?;
    let machine = Machine::look()?;
    if options.require_kernel
        && let Some(why) = object.as_ref().err().or(machine.lacks(machine::EVERYTHING).as_ref())
    {
        bail!("not all of the tests can run: {why}");
    }

    let mut total = Total::default();
    if options.as_unit {
        variant(&daemon_alone(&object), &options.filters, &machine, &mut total, Kind::AsUnit)?;
    } else if options.real {
        real(&object, &machine, &mut total)?;
    } else if let Err(why) = &object {
        println!("{why}\nso memmon is tested without it");
        variant(&["--no-default-features"], &options.filters, &machine, &mut total, Kind::Usual)?;
        let why = "the BPF half is not built".to_owned();
        let asked_for = |name: &String| {
            options.filters.is_empty() || options.filters.iter().any(|filter| name.contains(filter))
        };
        let all = kernel_tests_in_sources()?.into_iter().filter(asked_for);
        let unmet = all.filter(|name| !total.has_met(Some(name)));
        total.skipped.extend(unmet.map(|name| (name, why.clone())).collect::<Vec<_>>());
    } else {
        variant(&[], &options.filters, &machine, &mut total, Kind::Usual)?;
        let without = ["--package=memmon", "--no-default-features"];
        variant(&without, &options.filters, &machine, &mut total, Kind::Usual)?;
    }

    if options.require_kernel && options.filters.is_empty() && !total.has_met(None) {
        bail!("no test of the running kernel was found: is its `#[ignore]` reason still \"{KERNEL} …\"?");
    }
    println!();
    for (name, reason) in &total.skipped {
        println!("skipped {name}: {reason}");
    }
    let Total { passed, failed, ignored: _, skipped } = &total;
    println!("{passed} passed, {failed} failed, {} skipped", skipped.len());
    Ok(if *failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// All that needs nothing special.
    Usual,
    /// With real software.
    Real,
    /// With the rights of memmon's unit.
    AsUnit,
}

/// The arguments by which cargo builds the tests of the daemon alone.
fn daemon_alone(object: &Result<(), String>) -> Vec<&'static str> {
    let mut selection = vec!["--package=memmon", "--test=daemon"];
    selection.extend(object.is_err().then_some("--no-default-features"));
    selection
}

/// Whether there is an object to embed, or the reason why there is none. It is an error if a build fails that should work.
fn object() -> Result<Result<(), String>> {
    if ebpf::is_given() {
        return Ok(Ok(()));
    }
    match toolchain::find() {
        Ok(tools) => {
            println!("BPF toolchain: {tools}");
            ebpf::build(&tools).map(|_| Ok(()))
        }
        Err(missing) => Ok(Err(format!("{missing}\n(`cargo xtask setup` installs it)"))),
    }
}

/// The sum of all runs.
#[derive(Debug, Default)]
struct Total {
    passed: u64,
    failed: u64,
    /// The ignored tests that were seen, whether they ran later or not, and what they need.
    ignored: BTreeMap<String, String>,
    /// Name and reason.
    skipped: BTreeSet<(String, String)>,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.passed += outcome.passed;
        self.failed += outcome.failed;
    }

    /// Whether a test of the running kernel was seen, with that name if there is one.
    fn has_met(&self, function: Option<&str>) -> bool {
        let mut kernel = self.ignored.iter().filter(|(_, reason)| reason.starts_with(KERNEL));
        kernel.any(|(met, _)| function.is_none_or(|function| met.rsplit("::").next() == Some(function)))
    }
}

/// Runs the tests with real software, and prints their table.
fn real(object: &Result<(), String>, machine: &Machine, total: &mut Total) -> Result<()> {
    if let Err(why) = real_software::fetch() {
        println!("some of the software is missing: {why:#}");
    }
    let table = real_software::table();
    let _ = fs::remove_file(&table);
    variant(
        &daemon_alone(object),
        &["real::", "postgres::", "prefork::", "kubernetes::"].map(str::to_owned),
        machine,
        total,
        Kind::Real,
    )?;
    let rows = fs::read_to_string(&table).unwrap_or_default();
    println!("\nwith {}", versions::of_real_software().join(", "));
    println!("\n{:<40} {:>8} {:>8} {:>8}   verdict", "MiB", "RSS", "charged", "back");
    print!("{rows}");
    Ok(())
}

/// Runs the tests that cargo builds with `selection`: first those that run anywhere, then those that this machine can run
/// in addition.
fn variant(
    selection: &[&str],
    filters: &[String],
    machine: &Machine,
    total: &mut Total,
    kind: Kind,
) -> Result<()> {
    let outcome = cargo_test(selection, filters, kind)?;
    total.add(&outcome);
    let mut able = Vec::new();
    for Ignored { name, reason } in outcome.ignored {
        if total.ignored.insert(name.clone(), reason.clone()).is_some() {
            continue; // the other variant has seen the same test
        }
        let elsewhere = || {
            (kind != Kind::Real && reason.contains(REAL))
                .then(|| "`cargo xtask test --real` runs it".to_owned())
        };
        match elsewhere().or_else(|| machine.lacks(&reason)) {
            None => able.push(name),
            Some(why) => {
                total.skipped.insert((name, why));
            }
        }
    }
    if !able.is_empty() {
        // One at a time, because they measure memory, which all processes share.
        let arguments = ["--ignored", "--exact", "--test-threads=1"].map(str::to_owned);
        total.add(&cargo_test(selection, &[&arguments[..], &able].concat(), kind)?);
    }
    Ok(())
}

/// Runs `cargo test`, shows its output as it comes, and reads the outcome from it.
fn cargo_test(selection: &[&str], arguments: &[String], kind: Kind) -> Result<Outcome> {
    let mut command = workspace::cargo();
    command.args(["test", "--no-fail-fast"]).args(selection).arg("--").args(arguments);
    println!("$ {}", shell::shown(&command));

    // One pipe for both, so that lines stay in their order.
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    let errors = writer.try_clone().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors).env("CARGO_TERM_COLOR", "never");
    command.envs(test_tools::found()).env("MEMMON_REAL_TABLE", real_software::table());
    if kind == Kind::AsUnit {
        command.env("MEMMON_TEST_RIGHTS", "unit");
    }
    let mut child = command.spawn().context("cannot start cargo")?;
    // The command holds the writing ends, and the reader waits until the last of them is closed.
    drop(command);

    let mut outcome = Outcome::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("cannot read cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        outcome.read(&line);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() && outcome.failed == 0 {
        println!(
            "cargo test ended with {status}: something did not build, or a test took its process with it"
        );
        outcome.failed = 1;
    }
    Ok(outcome)
}

/// The names of the tests of the running kernel, for a machine where they cannot be built.
fn kernel_tests_in_sources() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for folder in ["memmon/src", "memmon/tests"] {
        for path in workspace::files(&workspace::root().join(folder))? {
            if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(outcome::marked(&fs::read_to_string(&path)?, KERNEL).map(str::to_owned));
            }
        }
    }
    Ok(names)
}

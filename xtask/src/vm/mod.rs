//! `cargo xtask vm-test`: tests memmon under real systemd, in throw-away machines, on the kernels of common distributions.
//!
//! Nothing on this machine is changed: a guest has a root file system of its own, changes to it are discarded, and memmon
//! enforces its shipped configuration there. Downloads (kernels, the root file system) are kept for the next run.

mod apt;
mod boot;
pub(crate) mod compare;
mod cpio;
mod kernel;
mod layouts;
mod machine;
mod plan;
mod report;
mod rootfs;
mod vmlinux;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Instant,
};

use anyhow::{Result, anyhow};
use fs_err as fs;

use self::{
    kernel::{Kernel, Series},
    plan::{Accelerator, Boot},
};
use crate::{debian_programs, workspace};

/// The programs that make virtual machines, each with its package.
const PROGRAMS: [(&str, &str); 9] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("cpio", "cpio"),
    ("zstd", "zstd"),
    ("lz4", "lz4"),
    ("xz", "xz-utils"),
];

/// Test memmon under systemd in virtual machines, one kernel after the other
///
/// Guests are emulated if KVM does not work: a machine then takes about half a minute for one scenario, and some minutes for
/// all of its scenarios. Kernels and the root file system are Debian's packages, kept in $XDG_CACHE_HOME/memmon-vm or
/// target/vm.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Use only the oldest and the newest kernel, with one machine each
    #[arg(long)]
    quick: bool,
    /// Run only these scenarios (the names of the files in xtask/vm/scenarios, without `.sh`)
    #[arg(long = "only", value_name = "SCENARIO")]
    only: Vec<String>,
    /// Install this .deb in the guests, instead of building one
    #[arg(long, value_name = "FILE")]
    deb: Option<PathBuf>,
    /// Kernels to test; all of them by default
    #[arg(value_enum, value_name = "KERNEL")]
    kernels: Vec<Series>,
}

/// Boots the machines that `options` ask for. The last line is `N passed, N failed`.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    let began = Instant::now();
    debian_programs::install_missing(&PROGRAMS)?;
    let kernels = plan::kernels(&options.kernels, options.quick);
    let boots = plan::boots(options.quick, &options.only)?;
    let Ground { kernels, roots, programs, accelerator, cache } =
        Ground::prepare(kernels, &boots, options.deb.as_deref())?;

    let mut tally = report::Tally::default();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    for (boot, root) in boots.iter().zip(&roots) {
        for kernels in boot.kernels(&kernels).chunks((processors / boot.cpus).max(1)) {
            let started = |kernel: &Kernel| {
                println!("\n{}: starts", title(kernel, boot));
                run(kernel, boot, &programs, root, accelerator, &cache)
            };
            let outcomes = thread::scope(|scope| {
                let running: Vec<_> =
                    kernels.iter().map(|kernel| scope.spawn(move || started(kernel))).collect();
                running.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
            });
            for (kernel, outcomes) in kernels.iter().zip(outcomes) {
                let (outcomes, _) = outcomes.map_err(|_| anyhow!("a machine ended with a panic"))??;
                tally.add(&format!("{} {}", kernel.release, boot.name), outcomes);
            }
        }
    }
    tally.add("layouts", layouts::check(&kernels, &cache.join("btf"))?);
    println!("\n{tally}");
    println!("{} s", began.elapsed().as_secs());
    println!("{} passed, {} failed", tally.passed(), tally.failed());
    Ok(if tally.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The parts of a machine.
struct Ground {
    kernels: Vec<Kernel>,
    /// The root file system of each machine.
    roots: Vec<PathBuf>,
    programs: machine::Programs,
    accelerator: Accelerator,
    cache: PathBuf,
}

impl Ground {
    /// Downloads and builds everything for `boots`; memmon's .deb only if none is `given`.
    fn prepare(kernels: Vec<Series>, boots: &[Boot], given: Option<&Path>) -> Result<Self> {
        let cache = cache();
        fs::create_dir_all(&cache)?;
        // One waits for the compiler, the other for the network.
        let (programs, fetched) = thread::scope(|scope| {
            let fetching = scope.spawn(|| fetch(kernels, boots, &cache));
            (machine::Programs::build(given, boots), fetching.join())
        });
        let (kernels, roots) = fetched.map_err(|_| anyhow!("fetching kernels ended with a panic"))??;
        let accelerator = match kernels.first() {
            Some(kernel) => boot::accelerator(kernel, &cache)?,
            None => Accelerator::Emulation,
        };
        println!("accelerator: {accelerator}");
        Ok(Self { kernels, roots, programs: programs?, accelerator, cache })
    }
}

/// The kernels, and the root file system of each machine.
fn fetch(kernels: Vec<Series>, boots: &[Boot], cache: &Path) -> Result<(Vec<Kernel>, Vec<PathBuf>)> {
    let mut repository = apt::Repository::at(&cache.join("apt"));
    let kernels = kernels
        .into_iter()
        .map(|series| Kernel::get(series, &mut repository, &cache.join("kernels")))
        .collect::<Result<_>>()?;
    let roots = boots.iter().map(|boot| rootfs::get(boot.image, cache)).collect::<Result<_>>()?;
    Ok((kernels, roots))
}

/// Runs one machine from its start to its verdict, and prints its report in one piece, because others may run beside it. Returns
/// the outcomes and the guest's report.
fn run(
    kernel: &Kernel,
    boot: &Boot,
    programs: &machine::Programs,
    root: &Path,
    accelerator: Accelerator,
    cache: &Path,
) -> Result<(Vec<report::Outcome>, String)> {
    let began = Instant::now();
    let place = cache.join("boots").join(format!("{}-{}", kernel.release, boot.name));
    let initramfs = machine::initramfs(kernel, programs, boot, accelerator)?;
    let ended = boot::boot(kernel, &initramfs, Some(root), boot, accelerator, &place)?;
    let outcomes = report::outcomes(&boot.scenarios, &ended);
    let seconds = began.elapsed().as_secs();
    println!("{}", report::machine(&title(kernel, boot), &outcomes, &ended, seconds, &place.join("console")));
    Ok((outcomes, ended.report))
}

fn title(kernel: &Kernel, boot: &Boot) -> String {
    format!("== {} · {} ({} CPUs, {} MB)", kernel.release, boot.name, boot.cpus, boot.megabytes)
}

/// The folder for all downloads.
fn cache() -> PathBuf {
    std::env::var_os("XDG_CACHE_HOME")
        .filter(|home| !home.is_empty())
        .map_or_else(|| workspace::root().join("target/vm"), |home| PathBuf::from(home).join("memmon-vm"))
}

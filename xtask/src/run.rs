//! `cargo xtask run`: runs memmon on this machine, in the foreground and in dry run.

use std::{ffi::OsString, fs, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MsFlags, mount};

use crate::{
    ebpf,
    privileges::Privileges,
    progress::Progress,
    setup, shell,
    toolchain::{self, Tools},
    workspace,
};

/// The option that keeps memmon from sending a signal.
const DRY_RUN: &str = "--dry-run";

/// The configuration if the user names none.
const TRY_OUT: &str = "xtask/try.toml";

/// The type information of the running kernel.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The file system in which memmon pins its map.
const BPF_FS: &str = "/sys/fs/bpf";

/// Build memmon and run it here in the foreground, in dry run: it shows what it would do and sends no signal
///
/// The tools that build the BPF half are installed first if they are missing. If that fails although this machine could use
/// the BPF half, the command fails. Without root, or on a kernel without BTF, memmon watches through /proc.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Build memmon without its BPF half: it watches through /proc
    #[arg(long)]
    proc: bool,
    /// Arguments for `memmon run`, such as `--config PATH` or `--once`
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Builds both halves and replaces this process by memmon; returns only if that fails.
pub(crate) fn main(options: &Options) -> Result<()> {
    // It runs in the user's current folder, because arguments such as `--config PATH` are relative to that.
    let mut memmon = shell::cargo();
    memmon.args(["run", "--package=memmon", "--bin=memmon", "--release", "--manifest-path"]);
    memmon.arg(workspace::root().join("Cargo.toml"));
    let privileges = Privileges::of_this_process()?;
    let obstacle = obstacle(privileges.may_trace(), fs::File::open(KERNEL_BTF).is_ok());
    let mut progress = Progress::before(2);
    let with_bpf = if options.proc {
        false
    } else if ebpf::is_given() {
        true
    } else {
        match half(obstacle, toolchain(obstacle, &mut progress))? {
            Half::Bpf(tools) => {
                progress.begin_last("build the BPF half");
                println!("BPF toolchain: {tools}");
                ebpf::build(&tools)?;
                true
            }
            Half::Proc(why) => {
                println!("{why}\nso memmon is built without its BPF half and watches through /proc");
                false
            }
        }
    };
    if !with_bpf {
        progress = Progress::before(1);
        memmon.arg("--no-default-features");
    } else if let Some(obstacle) = obstacle {
        println!("{obstacle}, so memmon watches through /proc");
    } else if privileges.may_mount() {
        mount_bpf_fs(Path::new(BPF_FS), Path::new("/proc/thread-self/mountinfo"));
    }
    progress.begin_last("build memmon and start it");
    become_memmon(memmon, &options.arguments)
}

/// The reason why BPF programs cannot be used here, however memmon is built.
fn obstacle(may_trace: bool, btf: bool) -> Option<&'static str> {
    if !btf {
        Some("this kernel has no BTF (/sys/kernel/btf/vmlinux, CONFIG_DEBUG_INFO_BTF)")
    } else if !may_trace {
        Some("BPF programs need root (or CAP_BPF and CAP_PERFMON)")
    } else {
        None
    }
}

/// The tools that build the BPF half. They are not installed for a kernel that cannot use it.
fn toolchain(obstacle: Option<&str>, progress: &mut Progress) -> Result<Tools> {
    match obstacle {
        None => setup::toolchain(progress),
        Some(_) => Ok(toolchain::find()?),
    }
}

/// The source of readings that memmon is built with.
#[derive(Debug)]
enum Half {
    Bpf(Tools),
    /// With the reason.
    Proc(String),
}

/// Decides whether memmon may be built without its BPF half.
///
/// # Errors
/// The BPF half is missing although it could be used.
fn half(obstacle: Option<&str>, tools: Result<Tools>) -> Result<Half> {
    match (tools, obstacle) {
        (Ok(tools), _) => Ok(Half::Bpf(tools)),
        (Err(missing), Some(obstacle)) => Ok(Half::Proc(format!("{missing:#}\n{obstacle}"))),
        (Err(missing), None) => bail!(
            "{missing:#}\nThis machine can use the BPF half, so memmon is not built without it. To try memmon through \
             /proc: `cargo xtask run --proc`"
        ),
    }
}

/// Mounts bpffs at `point` if nothing is mounted there, and prints that. Without bpffs memmon still works, but cannot pin its
/// map.
fn mount_bpf_fs(point: &Path, mounts: &Path) {
    let is_mounted = fs::read_to_string(mounts).map(|mounts| is_mount_point(&mounts, point));
    if !matches!(is_mounted, Ok(false)) || !point.is_dir() {
        return;
    }
    // The same options as systemd's.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some("bpf"), point, Some("bpf"), flags, Some("mode=700")) {
        Ok(()) => {
            println!(
                "nothing was mounted at {0}: bpffs is mounted there now (`umount {0}` reverts it)",
                point.display()
            );
        }
        Err(error) => println!(
            "nothing is mounted at {}, and bpffs cannot be mounted there ({error}): memmon cannot pin its map",
            point.display()
        ),
    }
}

/// Whether something is mounted at `point`, by proc_pid_mountinfo(5).
fn is_mount_point(mounts: &str, point: &Path) -> bool {
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|mounted| Path::new(mounted) == point))
}

/// Replaces this program by `cargo`, which replaces itself by memmon, so signals from the terminal reach only memmon.
fn become_memmon(mut cargo: Command, arguments: &[OsString]) -> Result<()> {
    cargo.arg("--").args(memmon_arguments(arguments, &workspace::root().join(TRY_OUT)));
    println!("$ {}", shell::shown(&cargo));
    Err(cargo.exec()).context("cannot start cargo")
}

/// The arguments for memmon: `run --dry-run` with the user's arguments, and a configuration without a log file if the user
/// names none.
fn memmon_arguments(arguments: &[OsString], try_out: &Path) -> Vec<OsString> {
    let is_config = |argument: &OsString| argument.as_encoded_bytes().starts_with(b"--config");
    let config =
        (!arguments.iter().any(is_config)).then(|| ["--config".into(), try_out.as_os_str().to_owned()]);
    let others = arguments.iter().filter(|argument| *argument != DRY_RUN).cloned();
    ["run", DRY_RUN]
        .map(OsString::from)
        .into_iter()
        .chain(config.into_iter().flatten())
        .chain(others)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Tools {
        let path = std::path::PathBuf::new;
        let compiler = toolchain::Compiler {
            toolchain: None,
            version: toolchain::Version::required(),
            llvm: None,
            sysroot: path(),
            core: true,
        };
        Tools { compiler, linker: toolchain::Linker { path: path(), llvm: None }, objcopy: path() }
    }

    #[test]
    fn a_machine_that_can_use_bpf_gets_it_or_an_error() {
        let failed = || Err(anyhow::anyhow!("`apt-get update` failed"));
        assert_eq!(obstacle(true, true), None);
        let error = half(None, failed()).unwrap_err().to_string();
        assert!(error.starts_with("`apt-get update` failed\n") && error.contains("run --proc"), "{error}");
        for (may_trace, btf, missing) in [(false, true, "root"), (true, false, "BTF"), (false, false, "BTF")]
        {
            let obstacle = obstacle(may_trace, btf);
            let Half::Proc(why) = half(obstacle, failed()).unwrap() else { panic!("{obstacle:?}") };
            assert!(why.contains("apt-get update") && why.contains(missing), "{why}");
            // The BPF half is built if its tools are installed: memmon itself reports why it does not use it.
            assert!(matches!(half(obstacle, Ok(tools())).unwrap(), Half::Bpf(_)));
        }
    }

    #[test]
    fn mounts_are_read_as_the_kernel_writes_them() {
        let mounts = "22 26 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
                      30 22 0:26 / /sys/fs/bpf rw,nosuid shared:8 - bpf bpf rw,mode=700\n";
        assert!(is_mount_point(mounts, Path::new("/sys/fs/bpf")));
        assert!(!is_mount_point(mounts.lines().next().unwrap(), Path::new("/sys/fs/bpf")));
    }

    #[test]
    #[ignore = "needs root and mounts"]
    fn bpffs_is_mounted_where_nothing_is() {
        // A thread has a mount namespace of its own, which ends with it.
        let test = || {
            use nix::{mount::MntFlags, sched};
            sched::unshare(sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)
                .unwrap();
            let (point, mounts) = (Path::new(BPF_FS), Path::new("/proc/thread-self/mountinfo"));
            let mounted = || {
                let text = fs::read_to_string(mounts).unwrap();
                text.lines()
                    .filter(|line| line.contains(" /sys/fs/bpf "))
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            while !mounted().is_empty() {
                nix::mount::umount2(point, MntFlags::MNT_DETACH).unwrap();
            }
            mount_bpf_fs(point, mounts);
            let [line] = mounted().try_into().unwrap();
            assert!(line.contains(" - bpf bpf ") && line.contains("nosuid,nodev,noexec"), "{line}");
            // And not a second time.
            mount_bpf_fs(point, mounts);
            assert_eq!(mounted(), [line]);
        };
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn nothing_takes_the_dry_run_away() {
        for (given, expected) in [
            (&[][..], &["run", "--dry-run", "--config", "try"][..]),
            (&["--once"], &["run", "--dry-run", "--config", "try", "--once"]),
            (&["--dry-run", "--config", "x"], &["run", "--dry-run", "--config", "x"]),
            (&["--config=x", "--", "y"], &["run", "--dry-run", "--config=x", "--", "y"]),
        ] {
            let given: Vec<OsString> = given.iter().map(OsString::from).collect();
            assert_eq!(
                memmon_arguments(&given, Path::new("try")),
                expected.iter().map(OsString::from).collect::<Vec<_>>()
            );
        }
    }
}

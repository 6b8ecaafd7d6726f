//! Finds other programs that end processes when memory runs short, and the levels at which they do: from their command lines
//! and their configuration files.

use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::procfs::ProcRoot;
use crate::model::{Bytes, Guard, GuardKind, Strikes};

/// More than a configuration file has.
const LONGEST: u64 = 64 << 10;

/// Directories in which systemd looks for configuration, the most important one last.
const SYSTEMD: [&str; 4] = ["usr/lib/systemd", "usr/local/lib/systemd", "run/systemd", "etc/systemd"];

/// The guards that run, with the configuration files below `root`. A user's own program of such a name is not a guard.
pub fn find(proc: &ProcRoot, root: &Path) -> Vec<Guard> {
    let total = proc.memory().map_or(Bytes::ZERO, |memory| memory.total);
    let mut found: Vec<_> = proc
        .services()
        .into_iter()
        .filter_map(|(pid, arguments)| {
            let guard = kind(&arguments)?;
            let strikes = strikes(guard, &arguments, total, root);
            Some(Guard { guard, pid, strikes })
        })
        .collect();
    found.sort_by_key(|guard| (guard.guard, guard.pid));
    found
}

/// The guard that is started with these arguments: by its own name, or by an interpreter.
fn kind(arguments: &[Vec<u8>]) -> Option<GuardKind> {
    let name = |argument: &Vec<u8>| {
        Path::new(std::ffi::OsStr::from_bytes(argument)).file_name().map(|name| name.as_bytes().to_vec())
    };
    let first = name(arguments.first()?)?;
    let name = if first.starts_with(b"python") {
        name(arguments.iter().skip(1).find(|argument| !argument.starts_with(b"-"))?)?
    } else {
        first
    };
    GuardKind::of(str::from_utf8(&name).ok()?)
}

fn strikes(guard: GuardKind, arguments: &[Vec<u8>], total: Bytes, root: &Path) -> Strikes {
    let arguments: Vec<_> =
        arguments.iter().map(|argument| String::from_utf8_lossy(argument).into_owned()).collect();
    match guard {
        GuardKind::Earlyoom => earlyoom(&arguments, total),
        GuardKind::Nohang => {
            let file = option(&arguments, &["-c", "--config"]).unwrap_or("/etc/nohang/nohang.conf");
            nohang(&file_below(root, Path::new(file)), total)
        }
        GuardKind::SystemdOomd => systemd_oomd(root),
        GuardKind::LowMemoryMonitor | GuardKind::Oomd | GuardKind::Lmkd => Strikes::default(),
    }
}

/// The value of an option: `-m 5`, `-m5`, or `--config=x`.
fn option<'a>(arguments: &'a [String], names: &[&str]) -> Option<&'a str> {
    let mut rest = arguments.iter().skip(1);
    let mut found = None;
    while let Some(argument) = rest.next() {
        for name in names {
            let Some(value) = argument.strip_prefix(name) else { continue };
            found = match value.strip_prefix('=') {
                Some(value) => Some(value),
                None if value.is_empty() => rest.next().map(String::as_str),
                None if name.starts_with("--") => continue,
                None => Some(value),
            };
            break;
        }
    }
    found
}

/// earlyoom(1): `-m` and `-s` are percentages, 10 by default, `-M` and `-S` KiB; the lower one counts. After a comma stands the
/// level for SIGKILL.
fn earlyoom(arguments: &[String], total: Bytes) -> Strikes {
    let number = |name| -> Option<f64> { option(arguments, &[name])?.split(',').next()?.parse().ok() };
    let percent = number("-m").unwrap_or(10.0);
    let size = number("-M").map(|kib| Bytes(1024).times(kib));
    let by_percent = (total > Bytes::ZERO).then(|| total.times(percent / 100.0));
    Strikes {
        available: if number("-m").is_none() && size.is_some() {
            size
        } else {
            by_percent.into_iter().chain(size).min()
        },
        // The size of swap may change, so only a percentage is shown.
        swap_free_percent: number("-s").or_else(|| number("-S").is_none().then_some(10.0)),
        pressure_percent: None,
        dry_run: arguments.iter().any(|argument| argument == "--dryrun"),
    }
}

/// The settings `soft_threshold_min_mem` and `soft_threshold_min_swap` of nohang: `5 %`, or `300 M`.
fn nohang(text: &str, total: Bytes) -> Strikes {
    let value = |key| setting(text, key);
    let percent = |value: &str| value.strip_suffix('%')?.trim().parse::<f64>().ok();
    let size = |value: &str| {
        value.strip_suffix('M')?.trim().parse::<f64>().ok().map(|mib| Bytes(Bytes::MIB).times(mib))
    };
    let memory = value("soft_threshold_min_mem");
    Strikes {
        available: memory
            .and_then(|value| size(value).or_else(|| Some(total.times(percent(value)? / 100.0)))),
        swap_free_percent: value("soft_threshold_min_swap").and_then(percent),
        ..Strikes::default()
    }
}

/// oomd.conf(5). Swap counts together with memory that is used as much.
fn systemd_oomd(root: &Path) -> Strikes {
    let (mut used, mut pressure) = (90.0, 60.0);
    let mut files: Vec<PathBuf> = SYSTEMD.iter().map(|place| root.join(place).join("oomd.conf")).collect();
    let mut drop_ins: Vec<_> =
        SYSTEMD.iter().flat_map(|place| listed(&root.join(place).join("oomd.conf.d"))).collect();
    drop_ins.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    files.extend(drop_ins);
    for file in files {
        let text = read(&file);
        let share = |key| {
            let value = setting(&text, key)?;
            let number = |sign, factor: f64| {
                value.strip_suffix(sign)?.trim().parse::<f64>().ok().map(|number| number / factor)
            };
            number('%', 1.0).or_else(|| number('‰', 10.0)).or_else(|| number('‱', 100.0))
        };
        used = share("SwapUsedLimit").unwrap_or(used);
        pressure = share("DefaultMemoryPressureLimit").unwrap_or(pressure);
    }
    Strikes { swap_free_percent: Some(100.0 - used), pressure_percent: Some(pressure), ..Strikes::default() }
}

/// The last value of `key` in `key = value`.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.trim().strip_prefix(key)?.trim_start().strip_prefix('=').map(str::trim);
    text.lines().filter_map(value).next_back()
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|kind| kind == "conf")).take(100).collect()
}

fn file_below(root: &Path, path: &Path) -> String {
    path.strip_prefix("/").map_or_else(|_| String::new(), |path| read(&root.join(path)))
}

/// The text of a regular file; empty if it is not there, or is no text.
fn read(path: &Path) -> String {
    let mut options = OpenOptions::new();
    // A FIFO is not waited for.
    let opened = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let mut text = String::new();
    let regular = opened.ok().filter(|file| file.metadata().is_ok_and(|facts| facts.is_file()));
    match regular.map(|file| file.take(LONGEST).read_to_string(&mut text)) {
        Some(Ok(_)) => text,
        Some(Err(_)) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::procfs::testing::Tree;
    use super::*;

    fn started(arguments: &str) -> Vec<Vec<u8>> {
        arguments.split(' ').map(|argument| argument.as_bytes().to_vec()).collect()
    }

    fn percent_of_a_gigabyte(arguments: &str) -> (Option<u64>, Option<f64>) {
        let found = strikes(GuardKind::Earlyoom, &started(arguments), Bytes(1000), Path::new("/nonexistent"));
        (found.available.map(|bytes| bytes.0), found.swap_free_percent)
    }

    #[test]
    fn a_guard_is_found_by_its_program() {
        let kind = |arguments| kind(&started(arguments));
        assert_eq!(kind("/usr/bin/earlyoom -r 3600"), Some(GuardKind::Earlyoom));
        assert_eq!(kind("/lib/systemd/systemd-oomd"), Some(GuardKind::SystemdOomd));
        assert_eq!(kind("/usr/bin/python3 -u /usr/sbin/nohang --monitor"), Some(GuardKind::Nohang));
        assert_eq!(kind("/usr/libexec/low-memory-monitor"), Some(GuardKind::LowMemoryMonitor));
        assert_eq!([kind("vim /etc/default/earlyoom"), kind("python3"), kind("")], [None, None, None]);
    }

    #[test]
    fn the_levels_of_earlyoom_are_those_of_its_command_line() {
        assert_eq!(percent_of_a_gigabyte("earlyoom -r 60"), (Some(100), Some(10.0)));
        assert_eq!(percent_of_a_gigabyte("earlyoom -m 4,2 -s 100"), (Some(40), Some(100.0)));
        assert_eq!(percent_of_a_gigabyte("earlyoom -m5 -s50,20"), (Some(50), Some(50.0)));
        assert_eq!(percent_of_a_gigabyte("earlyoom -M 7,3"), (Some(7 * 1024), Some(10.0)));
        let dry = earlyoom(&["earlyoom".to_owned(), "--dryrun".to_owned()], Bytes(1000));
        assert!(dry.dry_run);
    }

    #[test]
    fn the_levels_of_the_others_are_those_of_their_files() {
        let tree = Tree::new();
        tree.write(
            "etc/nohang/desktop.conf",
            "# x\nsoft_threshold_min_mem = 5 %\nsoft_threshold_min_swap = 8 %\n",
        );
        let found = strikes(
            GuardKind::Nohang,
            &started("python3 nohang --config /etc/nohang/desktop.conf"),
            Bytes(1000),
            tree.path(),
        );
        assert_eq!((found.available, found.swap_free_percent), (Some(Bytes(50)), Some(8.0)));
        assert_eq!(
            nohang("soft_threshold_min_mem = 2 M", Bytes(1000)).available,
            Some(Bytes(2 * Bytes::MIB))
        );
        let missing = strikes(GuardKind::Nohang, &started("nohang"), Bytes(1000), tree.path());
        assert_eq!(missing, Strikes::default());

        let oomd = || {
            let found = strikes(GuardKind::SystemdOomd, &[], Bytes(1000), tree.path());
            (found.swap_free_percent, found.pressure_percent)
        };
        assert_eq!(oomd(), (Some(10.0), Some(60.0)));
        tree.write("usr/lib/systemd/oomd.conf", "[OOM]\n#SwapUsedLimit=1%\nSwapUsedLimit=80%\n");
        tree.write("etc/systemd/oomd.conf.d/20.conf", "[OOM]\nDefaultMemoryPressureLimit=505‰\n");
        tree.write("usr/lib/systemd/oomd.conf.d/30.conf", "[OOM]\nDefaultMemoryPressureLimit=40%\n");
        tree.write("etc/systemd/oomd.conf.d/30.conf.bak", "[OOM]\nSwapUsedLimit=1%\n");
        assert_eq!(oomd(), (Some(20.0), Some(40.0)));
    }

    #[test]
    fn a_program_of_a_user_is_no_guard() {
        let tree = Tree::new();
        tree.write("meminfo", "MemTotal: 1000 kB\nMemAvailable: 500 kB\n");
        for (pid, uid) in [(7, 0), (8, 1000), (9, 61_200)] {
            tree.cat(pid);
            tree.write(&format!("{pid}/cmdline"), "/usr/bin/earlyoom\0-m\x004\0");
            tree.write(
                &format!("{pid}/status"),
                format!("Name:\tearlyoom\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"),
            );
        }
        let found: Vec<_> =
            find(&tree.root(), tree.path()).into_iter().map(|guard| guard.to_string()).collect();
        let when =
            "which ends processes if less than 40KB of memory is available and less than 10% of swap is free";
        assert_eq!(found, [format!("earlyoom (pid 7), {when}"), format!("earlyoom (pid 9), {when}")]);
    }
}

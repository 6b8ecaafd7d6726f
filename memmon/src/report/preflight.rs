//! Outputs that cannot work as they are now, found before there is anything to report: memmon notices a hook that may not
//! be run at the start, and not with the first termination.

mod hook;

use std::{fs, net::UdpSocket, path::Path};

use nix::unistd::{AccessFlags, Group, access, geteuid};
use procfs::{Current as _, net::InterfaceDeviceStatus, process::Process};

use super::{advice::advised, file, metrics::textfile::replaceable, outputs::Outputs};
use crate::{
    files,
    model::{Capabilities, Capability, Escaped, Listen},
    socket,
};

/// A key of the configuration, and why what it names cannot be used; escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The key, with its section.
    pub key: &'static str,
    /// The reason and the remedy.
    pub why: String,
}

/// Looks at all that `outputs` name, and changes nothing. May take its time, as a file system or a name service may.
pub fn preflight(outputs: &Outputs) -> Vec<Unusable> {
    let (notify, metrics) = (&outputs.notify, &outputs.metrics);
    let mut found = Vec::new();
    let mut note = |key, looked: Result<(), String>| {
        if let Err(why) = looked {
            found.push(Unusable { key, why: Escaped(why.as_bytes()).to_string() });
        }
    };
    if let Some(path) = &outputs.file {
        note("settings.log_file", log_file(path));
    }
    if let Some(path) = &metrics.textfile {
        note("metrics.textfile", textfile(path));
    }
    match &metrics.listen {
        Some(Listen::Loopback(_)) => note("metrics.listen", network()),
        Some(Listen::Socket(path)) => note("metrics.listen", socket_folder(path)),
        None => {}
    }
    if let Some(mail) = &notify.mail {
        note("notify.mail_to", network());
        #[cfg(feature = "mail")]
        if let Some(path) = &mail.auth_file {
            note("notify.smtp_auth_file", super::notify::credentials(path));
        }
        #[cfg(not(feature = "mail"))]
        let _ = mail;
    }
    if notify.terminal {
        note("notify.terminal", terminals());
    }
    if let Some(hook) = &notify.hook {
        note("notify.hook", hook::runnable(hook));
        note("notify.hook_user", hook::can_become(hook));
    }
    found
}

fn log_file(path: &Path) -> Result<(), String> {
    // A folder that is missing has a warning of its own.
    if !path.parent().is_some_and(Path::is_dir) {
        return Ok(());
    }
    let place = file::place(path).map_err(|error| format!("{}: {}", path.display(), advised(&error)))?;
    if place.exists() { writable(&place) } else { writable(place.parent().unwrap_or(&place)) }
}

/// A folder that is missing below /run may be one that a service creates when it starts, as memmon's own.
fn socket_folder(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    if folder.starts_with("/run") && !folder.exists() {
        return Ok(());
    }
    files::takes_files(folder)?;
    socket::usable(path).map_err(|error| error.to_string())
}

/// It is written beside and renamed.
fn textfile(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    match fs::metadata(folder) {
        Ok(facts) if facts.is_dir() => {}
        Ok(_) => return Err(format!("{} is not a folder", folder.display())),
        Err(error) => return Err(format!("{}: {}", folder.display(), advised(&error))),
    }
    if path.is_dir() {
        return Err(format!("{} is a folder", path.display()));
    }
    files::takes_files(folder)?;
    replaceable(path).map_err(|error| format!("{}: {error}", path.display()))?;
    writable(folder)?;
    // After what keeps it from being written at all.
    if path.extension().is_none_or(|extension| extension != "prom") {
        return Err(format!("{}: node_exporter reads only files whose names end in .prom", path.display()));
    }
    Ok(())
}

/// Whether root, as it is here, may write to `path`. Of another user, which only looks, that means nothing.
fn writable(path: &Path) -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    access(path, AccessFlags::W_OK).map_err(|errno| format!("{}: {}", path.display(), advised(&errno.into())))
}

/// Whether memmon may write to the terminals of other users, which let the group `tty` do that.
fn terminals() -> Result<(), String> {
    // For another user than root it means nothing, and without an answer or such a group nothing is known.
    let (Ok(Some(tty)), Ok(status)) =
        (Group::from_name("tty"), Process::myself().and_then(|own| own.status()))
    else {
        return Ok(());
    };
    let groups = [status.egid].into_iter().chain(status.groups);
    if !geteuid().is_root() || may_write(groups, tty.gid.as_raw(), Capabilities(status.capeff)) {
        return Ok(());
    }
    let error = std::io::Error::from_raw_os_error(libc::EACCES);
    Err(format!("memmon may not write to the terminals of users, without the group tty: {}", advised(&error)))
}

/// Whether a process with these groups and this effective set may.
fn may_write(mut groups: impl Iterator<Item = u32>, tty: u32, effective: Capabilities) -> bool {
    groups.any(|group| group == tty) || effective.has(Capability::DAC_OVERRIDE)
}

/// Whether memmon may have connections at all, and is where the relay and Prometheus are.
fn network() -> Result<(), String> {
    UdpSocket::bind("127.0.0.1:0").map_err(|error| format!("no socket: {}", advised(&error)))?;
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let is_empty = || InterfaceDeviceStatus::current().is_ok_and(|interfaces| only_loopback(&interfaces));
    let is_apart = matches!((namespace("self"), namespace("1")), (Some(own), Some(init)) if own != init);
    if is_apart && is_empty() {
        let what = "memmon has a network of its own, with nothing in it; where that is the unit's PrivateNetwork=, memmon(8), \
                    SYSTEMD, has what allows connections";
        return Err(what.to_owned());
    }
    Ok(())
}

fn only_loopback(interfaces: &InterfaceDeviceStatus) -> bool {
    interfaces.0.keys().all(|name| name == "lo")
}

#[cfg(test)]
mod tests {
    use procfs::FromBufRead as _;

    use super::*;
    #[test]
    fn an_empty_network_has_lo_and_nothing_else() {
        let is_empty = |more: &str| {
            let text = format!("Inter-|   Receive\n face |bytes\n    lo: {0}\n{more}", "0 ".repeat(16));
            only_loopback(&InterfaceDeviceStatus::from_buf_read(text.as_bytes()).unwrap())
        };
        assert!(is_empty(""));
        assert!(!is_empty(&format!("  eth0: {}\n", "1 ".repeat(16))));
    }

    #[test]
    fn terminals_are_for_the_group_tty_and_for_a_root_that_may_write_everywhere() {
        let of = |groups: [u32; 2], effective| may_write(groups.into_iter(), 5, Capabilities::of(effective));
        let unit = [Capability::KILL, Capability::SYS_PTRACE, Capability::PERFMON, Capability::BPF];
        let all = unit.into_iter().chain([Capability::DAC_OVERRIDE]).collect();
        assert_eq!(
            [of([0, 27], unit.to_vec()), of([0, 5], unit.to_vec()), of([0, 27], all)],
            [false, true, true]
        );
    }

    #[test]
    fn folders_must_be_there_and_a_file_must_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let inside = |name: &str| folder.path().join(name);
        assert_eq!(textfile(&inside("x.prom")), Ok(()));
        fs::write(inside("file"), "").unwrap();
        fs::create_dir(inside("x.prom")).unwrap();
        for (path, refused) in [
            (inside("missing/x.prom"), "missing: No such file or directory (os error 2)"),
            (inside("file/x.prom"), "file is not a folder"),
            (inside("x.prom"), "x.prom is a folder"),
        ] {
            let why = textfile(&path).unwrap_err();
            assert!(why.ends_with(refused), "{why}");
        }
        std::os::unix::fs::symlink("file", inside("link")).unwrap();
        assert_eq!(log_file(&inside("new.log")), Ok(()));
        assert!(!inside("new.log").exists(), "it only looks");
        assert!(log_file(&inside("link")).unwrap_err().contains("it is a symbolic link"));
        assert!(textfile(&inside("new.txt")).unwrap_err().ends_with("whose names end in .prom"));
        fs::write(inside("y.prom"), "precious").unwrap();
        assert!(textfile(&inside("y.prom")).unwrap_err().contains("something else in it"));
        assert!(log_file(&inside("x.prom")).unwrap_err().contains("is not a regular file"));
    }

    #[test]
    fn no_output_is_put_into_a_file_system_of_the_kernels() {
        for folder in ["/proc", "/proc/sys/kernel", "/sys", "/sys/kernel"] {
            let path = Path::new(folder).join("x");
            for refused in [log_file(&path), textfile(&path), socket_folder(&path)] {
                assert!(refused.is_err_and(|why| why.contains("is the kernel's own")), "{folder}");
            }
        }
        // A file that is there would be written to, and that has an effect on the machine.
        let why = log_file(Path::new("/proc/sysrq-trigger")).unwrap_err();
        assert!(why.contains("is the kernel's own"), "{why}");
    }

    #[test]
    fn a_socket_needs_a_name_that_is_free_and_not_too_long() {
        assert!(socket_folder(Path::new("/etc/passwd")).unwrap_err().contains("/etc/passwd is there"));
        let long = format!("/run/{}", "a".repeat(200));
        assert!(socket_folder(Path::new(&long)).is_err());
        assert_eq!(socket_folder(Path::new("/run/nonexistent/metrics.sock")), Ok(()));
    }
}

//! Outputs that cannot work as they are now, found before there is anything to report: memmon notices a hook that may not
//! be run at the start, and not with the first termination.

use std::{
    fs, io,
    net::UdpSocket,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use nix::unistd::{AccessFlags, Gid, Uid, User, access, geteuid, setresgid, setresuid};
use procfs::{Current as _, net::InterfaceDeviceStatus, process::Process};

use super::{advice::advised, file, outputs::Outputs};
use crate::{
    files,
    model::{Escaped, Hook, Listen},
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
    if let Some(hook) = &notify.hook {
        note("notify.hook", runnable(hook));
        note("notify.hook_user", can_become(hook));
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
    socket::trusted(path).map_err(|error| error.to_string())
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
    writable(folder)
}

/// Whether root, as it is here, may write to `path`. Of another user, which only looks, that means nothing.
fn writable(path: &Path) -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    access(path, AccessFlags::W_OK).map_err(|errno| format!("{}: {}", path.display(), advised(&errno.into())))
}

fn runnable(hook: &Hook) -> Result<(), String> {
    let real = files::roots_alone(&hook.command)?;
    let place = |why: String| format!("{}: {why}", hook.command.display());
    let facts = fs::metadata(&real).map_err(|error| place(advised(&error)))?;
    if facts.permissions().mode() & 0o111 == 0 {
        return Err(place("it is not executable: chmod +x it".to_owned()));
    }
    let other = hook.user.filter(|uid| uid.0 != 0);
    if let Some(uid) = other
        && facts.mode() & 0o001 == 0
        && User::from_uid(uid.0.into()).ok().flatten().is_none_or(|user| user.gid.as_raw() != facts.gid())
    {
        return Err(place(format!("uid {uid}, which runs it, may not: chmod o+rx it")));
    }
    Ok(())
}

/// Whether memmon may become the user that runs the hook, and that user has an account.
fn can_become(hook: &Hook) -> Result<(), String> {
    let Some(uid) = hook.user.filter(|uid| uid.0 != geteuid().as_raw()) else { return Ok(()) };
    if matches!(User::from_uid(uid.0.into()), Ok(None)) {
        return Err(format!("uid {uid} has no account, and so no group"));
    }
    if !geteuid().is_root() {
        return Ok(());
    }
    // "Unchanged", thrice: refused only where a filter refuses the call itself.
    let (same_uid, same_gid) = (Uid::from_raw(u32::MAX), Gid::from_raw(u32::MAX));
    let calls =
        setresuid(same_uid, same_uid, same_uid).and_then(|()| setresgid(same_gid, same_gid, same_gid));
    calls.map_err(|errno| format!("memmon may not become uid {uid}: {}", advised(&errno.into())))?;
    // Without an answer the start of the hook shows it.
    let status = Process::myself().and_then(|own| own.status());
    let missing = status.map(|status| missing_capabilities(status.capeff)).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(libc::EPERM);
    Err(format!("memmon may not become uid {uid}, without {}: {}", missing.join(" and "), advised(&error)))
}

/// The capabilities that becoming another user takes, without those of the `effective` set (capabilities(7)).
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    /// linux/capability.h
    const NEEDED: [(&str, u32); 2] = [("CAP_SETGID", 6), ("CAP_SETUID", 7)];
    NEEDED.into_iter().filter(|(_, bit)| effective & (1 << bit) == 0).map(|(name, _)| name).collect()
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
    use std::time::Duration;

    use procfs::FromBufRead as _;

    use super::*;
    use crate::model::Uid;

    fn hook(command: &Path, user: u32) -> Hook {
        Hook { command: command.to_owned(), user: Some(Uid(user)), timeout: Duration::ZERO }
    }

    #[test]
    fn a_hook_must_be_there_and_roots_alone_and_executable() {
        let folder = tempfile::tempdir().unwrap();
        let why = |command: &Path| runnable(&hook(command, 0)).unwrap_err();
        assert!(why(Path::new("/nonexistent/hook")).contains("/nonexistent: No such file"));
        let file = folder.path().join("hook");
        fs::write(&file, "").unwrap();
        let refused = why(&file);
        assert!(
            refused.contains("where only root can write") || refused.contains("belongs to uid"),
            "{refused}"
        );
        assert!(why(Path::new("/etc/passwd")).ends_with("it is not executable: chmod +x it"));
        assert_eq!(runnable(&hook(Path::new("/bin/sh"), 65_534)), Ok(()));
    }

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
        assert!(log_file(&inside("x.prom")).unwrap_err().contains("is not a regular file"));
    }

    #[test]
    fn a_change_of_user_takes_two_capabilities() {
        for (effective, missing) in [
            (0x1ff_ffff_ffff, &[][..]),
            (0xc0, &[]),
            (0x80, &["CAP_SETGID"]),
            (0x8_0020, &["CAP_SETGID", "CAP_SETUID"]),
        ] {
            assert_eq!(missing_capabilities(effective), missing, "{effective:#x}");
        }
    }
}

//! The hook: whether it can be run by the user that is to run it.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use nix::unistd::{Gid, Uid, User, geteuid, setresgid, setresuid};
use procfs::process::Process;

use crate::{
    files,
    model::Hook,
    report::{advice::advised, notify::interpreter},
};

pub(super) fn runnable(hook: &Hook) -> Result<(), String> {
    let real = files::roots_alone(&hook.command)?;
    let place = |why: String| format!("{}: {why}", hook.command.display());
    let facts = fs::metadata(&real).map_err(|error| place(advised(&error)))?;
    if facts.mode() & 0o111 == 0 {
        return Err(place("it is not executable: chmod +x it".to_owned()));
    }
    let script = interpreter::of(&real, files::roots_alone)?;
    let Some(uid) = hook.user.filter(|uid| uid.0 != 0) else { return Ok(()) };
    // The hook has no other groups.
    let gid = User::from_uid(uid.0.into()).ok().flatten().map(|user| user.gid.as_raw());
    let may = |path: &Path, what: u32| {
        let facts = fs::metadata(path).map_err(|error| format!("{}: {}", path.display(), advised(&error)))?;
        let class = if gid == Some(facts.gid()) { 3 } else { 0 };
        // None of them is the user's own.
        let may = facts.mode() >> class & what == what;
        let remedy = if facts.is_dir() {
            "put the hook where every user may enter, in /usr/local/lib/memmon for example"
        } else {
            "chmod o+rx it"
        };
        if may {
            Ok(())
        } else {
            Err(format!("{}: uid {uid}, which runs the hook, may not: {remedy}", path.display()))
        }
    };
    let programs =
        [Some((&real, if script.is_some() { 0o5 } else { 0o1 })), script.as_ref().map(|path| (path, 0o1))];
    for (path, what) in programs.into_iter().flatten() {
        for folder in path.ancestors().skip(1) {
            may(folder, 0o1)?;
        }
        may(path, what)?;
    }
    Ok(())
}

/// Whether memmon may become the user that runs the hook, and that user has an account.
pub(super) fn can_become(hook: &Hook) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

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
        assert_eq!(runnable(&hook(Path::new("/usr/bin/ldd"), 65_534)), Ok(()), "a script");
    }

    /// Root's own folders that others may not enter, such as /root.
    #[test]
    #[ignore = "needs root"]
    fn the_user_of_a_hook_must_get_to_it() {
        let folder = tempfile::tempdir_in("/run").unwrap();
        let (file, program) = (folder.path().join("hook"), folder.path().join("program"));
        fs::copy("/bin/true", &program).unwrap();
        fs::write(&file, "#!/bin/sh\n").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let why = |path: &Path| runnable(&hook(path, 65_534));
        set(&file, 0o755);
        set(folder.path(), 0o700);
        let refused = why(&file).unwrap_err();
        assert!(refused.contains("may not: put the hook where every user may enter"), "{refused}");
        assert_eq!(runnable(&hook(&file, 0)), Ok(()));
        set(folder.path(), 0o711);
        assert_eq!(why(&file), Ok(()));
        // A script is read, and a program only executed.
        set(&file, 0o711);
        assert!(why(&file).unwrap_err().ends_with("may not: chmod o+rx it"));
        set(&program, 0o711);
        assert_eq!(why(&program), Ok(()));
        set(&program, 0o750);
        assert!(why(&program).is_err());
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

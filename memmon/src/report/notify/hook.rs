//! A command of the administrator's: no shell, nothing inherited but what it is given, a time limit for it and all that
//! it starts in its process group, and its output goes to the log.
#![expect(unsafe_code, reason = "the child gives up what is memmon's between fork and exec")]

use std::{
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        resource::{Resource, getrlimit, setrlimit},
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::{self, Pid, User},
};

use super::{
    interpreter,
    message::{Channel, Message, Remark},
};
use crate::{
    files,
    model::{Escaped, Hook},
    report::{advice::advised, event::Level},
};

/// The part of its output that is logged, in bytes.
const MOST_OUTPUT: usize = 4096;
/// Time between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(20);
/// A string of the environment may have 128 KiB (execve(2)).
const MOST_TEXT: usize = 64 << 10;

/// The command, and how its path is judged.
pub(super) struct Runner {
    pub(super) hook: Hook,
    pub(super) trusted: fn(&Path) -> Result<PathBuf, String>,
}

impl Runner {
    pub(super) fn new(hook: Hook) -> Self {
        Self { hook, trusted: files::roots_alone }
    }

    fn command(&self, message: &Message<'_>) -> Result<(Command, io::PipeReader), String> {
        let path = &self.hook.command;
        let real = (self.trusted)(path)?;
        interpreter::of(&real, self.trusted)?;
        let (output, writer) = io::pipe().map_err(|error| error.to_string())?;
        let again = writer.try_clone().map_err(|error| error.to_string())?;
        // The file that was checked, whatever a link leads to by now.
        let mut command = Command::new(real);
        command.arg0(path);
        command.stdin(input(&message.events)?).stdout(writer).stderr(again).current_dir("/").process_group(0);
        command.env_clear().env("PATH", interpreter::PATH);
        let count = message.count.to_string();
        let given = [
            ("MEMMON_SUBJECT", &message.subject),
            ("MEMMON_MESSAGE", &message.body),
            ("MEMMON_COUNT", &count),
        ];
        let fields = message.fields.iter().map(|(name, value)| (name.as_str(), value));
        for (name, value) in given.into_iter().chain(fields) {
            command.env(name, value[..value.floor_char_boundary(MOST_TEXT)].replace('\0', ""));
        }
        let account = self.account()?;
        // SAFETY: makes system calls and allocates nothing, so that it may run between fork and exec.
        unsafe { command.pre_exec(move || give_up(account)) };
        Ok((command, output))
    }

    /// The account to change to; `None` if memmon runs as that user already, which needs no privilege.
    fn account(&self) -> Result<Option<(unistd::Uid, unistd::Gid)>, String> {
        let Some(uid) = self.hook.user.filter(|uid| uid.0 != unistd::geteuid().as_raw()) else {
            return Ok(None);
        };
        let account = User::from_uid(uid.0.into()).ok().flatten();
        let account = account.ok_or_else(|| format!("uid {uid} has no account, and so no group"))?;
        Ok(Some((account.uid, account.gid)))
    }

    fn refused(&self, error: &io::Error) -> String {
        let Hook { command, user, timeout: _ } = &self.hook;
        let user = user.map(|uid| format!(" as uid {uid}")).unwrap_or_default();
        format!("{} cannot be run{user}: {}", command.display(), advised(error))
    }
}

/// In the child, before it is the command: what memmon has for its own work, and what it is.
fn give_up(account: Option<(unistd::Uid, unistd::Gid)>) -> io::Result<()> {
    // This must come before the change of user, because another user may not write there. It is refused only if memmon is
    // not protected itself.
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    for (resource, usual) in [(Resource::RLIMIT_NOFILE, 1024), (Resource::RLIMIT_MEMLOCK, 8 << 20)] {
        let (now, most) = getrlimit(resource)?;
        setrlimit(resource, now.min(usual), most)?;
    }
    // All of memmon's own are closed then; this is for what memmon itself was started with. (Linux 5.11)
    // SAFETY: integers only, and no descriptor is closed before there is another program.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if let Some((uid, gid)) = account {
        unistd::setgroups(&[])?;
        unistd::setgid(gid)?;
        unistd::setuid(uid)?;
    }
    Ok(())
}

impl Channel for Runner {
    fn name(&self) -> &'static str {
        "hook"
    }

    fn deliver(&mut self, message: &Message<'_>) -> Result<Option<Remark>, String> {
        let (mut command, mut output) = self.command(message)?;
        // Read without waiting: a grandchild may hold the other end for ever.
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| error.to_string())?;
        let mut child = command.spawn().map_err(|error| self.refused(&error))?;
        drop(command);
        let mut printed = Vec::new();
        let deadline = Instant::now() + self.hook.timeout;
        let ended = loop {
            drain(&mut output, &mut printed);
            match has_ended(&child) {
                Ok(true) => break true,
                Ok(false) if Instant::now() < deadline => thread::sleep(LOOK),
                Ok(false) => break false,
                // It was reaped, as if SIGCHLD is ignored: its number may be another process's by now.
                Err(error) => return Err(format!("it cannot be waited for: {error}")),
            }
        };
        // It is not reaped yet, so the number is its own, and that of its group.
        let _ = killpg(group(&child), Signal::SIGKILL);
        let status = child.wait().map_err(|error| error.to_string())?;
        drain(&mut output, &mut printed);
        let printed = Escaped(printed.trim_ascii()).to_string();
        if !ended {
            return Err(format!(
                "it took more than {:?} and was killed; its output: {printed}",
                self.hook.timeout
            ));
        }
        if !status.success() {
            return Err(format!("{status}; its output: {printed}"));
        }
        Ok((!printed.is_empty()).then_some((Level::Info, printed)))
    }
}

/// A file in memory: unlike a pipe it takes everything at once, whether the command reads it or not.
fn input(events: &str) -> Result<Stdio, String> {
    let file = memfd_create("memmon-events", MFdFlags::MFD_CLOEXEC).map_err(|error| error.to_string())?;
    let mut file = fs::File::from(file);
    file.write_all(events.as_bytes()).and_then(|()| file.rewind()).map_err(|error| error.to_string())?;
    Ok(file.into())
}

fn group(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Whether it has ended; it stays a zombie, so that no other process gets its number.
fn has_ended(child: &Child) -> Result<bool, Errno> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(group(child)), flags) {
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Reads what there is, and keeps the beginning of it.
fn drain(output: &mut io::PipeReader, printed: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    // One that writes without an end does not keep us here: the limit is looked at in between.
    for _ in 0..64 {
        match output.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                let room = MOST_OUTPUT.saturating_sub(printed.len());
                printed.extend(&buffer[..length.min(room)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::Uid;

    fn run(script: &str, timeout: Duration) -> (Result<Option<Remark>, String>, Duration, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hook");
        let text = format!("#!/bin/sh\ncd {}\n{script}\n", folder.path().display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        // The user does not change, so this takes no right.
        let user = Some(Uid(unistd::geteuid().as_raw()));
        let hook = Hook { command: path, user, timeout };
        let mut runner = Runner { hook, trusted: |path| Ok(path.to_owned()) };
        let fields = [("MEMMON_PID", "12345".to_owned()), ("MEMMON_ERROR", "é".repeat(200_000))];
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        let body = "a $(touch evil) `touch evil`; \"quoted\"\nb".to_owned();
        let message = Message {
            subject: "one".to_owned(),
            body,
            count: 1,
            owner: None,
            fields: &fields,
            events: "{\"pid\":12345}\n".repeat(10_000),
        };
        let begun = Instant::now();
        // Another test may be between fork and exec with the script open for writing.
        let outcome = loop {
            match runner.deliver(&message) {
                Err(error) if error.contains("Text file busy") => {}
                outcome => break outcome,
            }
        };
        (outcome, begun.elapsed(), folder)
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn it_gets_the_values_and_nothing_else_and_no_shell_sees_them() {
        let script = "env | sort > env; cat > events; printf %s \"$MEMMON_MESSAGE\" > message; echo done; echo oops >&2";
        let (outcome, _, folder) = run(script, SOON);
        assert_eq!(outcome, Ok(Some((Level::Info, r"done\noops".to_owned()))));
        let body = fs::read_to_string(folder.path().join("message")).unwrap();
        assert_eq!(body, "a $(touch evil) `touch evil`; \"quoted\"\nb");
        assert!(!folder.path().join("evil").exists());
        let events = fs::read_to_string(folder.path().join("events")).unwrap();
        assert_eq!(events, "{\"pid\":12345}\n".repeat(10_000), "more than a pipe holds");
        let env = fs::read_to_string(folder.path().join("env")).unwrap();
        assert!(env.contains("MEMMON_PID=12345\n") && env.contains("MEMMON_COUNT=1\n"), "{env}");
        assert!(!env.contains("CARGO") && !env.contains("HOME="), "{env}");
        let error = env.lines().find_map(|line| line.strip_prefix("MEMMON_ERROR=")).unwrap();
        assert_eq!(error.len(), MOST_TEXT, "no more than exec takes");
    }

    #[test]
    fn one_that_fails_is_reported_with_its_output() {
        let (outcome, _, _folder) = run("echo 'no \x1b[2Jpager' >&2; exit 3", SOON);
        let error = outcome.unwrap_err();
        assert_eq!(error, r"exit status: 3; its output: no \u{1b}[2Jpager");
    }

    #[test]
    fn one_that_forks_and_never_ends_is_killed_with_its_children() {
        let script = "sleep 300 & echo $! > child; echo started; sleep 300";
        let (outcome, took, folder) = run(script, Duration::from_secs(5));
        assert!(outcome.unwrap_err().ends_with("its output: started"));
        assert!(took < Duration::from_secs(10), "{took:?}");
        let child = fs::read_to_string(folder.path().join("child")).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        let begun = Instant::now();
        // The process that inherits it reaps it.
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(begun.elapsed() < SOON, "its child lives");
            thread::sleep(LOOK);
        }
    }

    #[test]
    fn one_that_leaves_a_child_with_its_output_is_not_waited_for() {
        let (outcome, took, _folder) = run("sleep 300 & echo bye", SOON);
        assert_eq!(outcome, Ok(Some((Level::Info, "bye".to_owned()))));
        assert!(took < SOON / 2, "{took:?}");
    }

    #[test]
    fn one_that_talks_without_an_end_is_cut_short() {
        let (outcome, took, _folder) = run("exec yes", Duration::from_millis(500));
        assert!(outcome.unwrap_err().len() < 3 * MOST_OUTPUT);
        assert!(took < SOON, "{took:?}");
    }

    fn message() -> Message<'static> {
        let (subject, body, events) = Default::default();
        Message { subject, body, count: 1, owner: None, fields: &[], events }
    }

    #[test]
    fn one_that_others_may_change_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hook");
        fs::write(&path, format!("#!/bin/sh\ntouch {}/ran", folder.path().display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut runner = Runner::new(Hook { command: path, user: None, timeout: SOON });
        assert!(runner.deliver(&message()).is_err());
        assert!(!folder.path().join("ran").exists());
    }

    #[test]
    fn the_checked_file_is_run_whatever_its_path_leads_to_by_now() {
        let hook = Hook { command: "/turned/meanwhile".into(), user: None, timeout: SOON };
        let mut runner = Runner { hook, trusted: |_| Ok("/bin/true".into()) };
        assert_eq!(runner.deliver(&message()), Ok(None));
    }
}

//! Probable mistakes: reported when the configuration is loaded, and no reason not to start.

use std::{
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::error::{escaped, quotable};
use crate::model::{Bytes, Escaped, Guard, Name, Pid};
use crate::policy::machine::Turn;

/// A concern, and the line of the file that gives rise to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Warning {
    /// The file, unless it is the one that names the configuration.
    pub file: Option<PathBuf>,
    /// Counted from 1; `None` if it is about the file as a whole.
    pub line: Option<usize>,
    /// The concern.
    #[serde(flatten)]
    pub concern: Concern,
}

/// A fact that may differ from the administrator's intention.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "warning")]
pub enum Concern {
    /// A limit below one percent: typed as a fraction, perhaps.
    #[error(
        "ram_percent_threshold = {} is less than one percent of memory: 10 is a tenth of it, not 0.1",
        quotable(.value)
    )]
    Fraction {
        /// The value as it was typed.
        value: String,
    },
    /// A name that no comm can be.
    #[error(
        "\"{}\" is longer than the 15 bytes of a comm: it can match an executable or argv[0] only",
        quotable(.name)
    )]
    LongName {
        /// The entry.
        name: String,
    },
    /// A name that is a path, where names are compared.
    #[error(fmt = path_for_name)]
    PathForName {
        /// The entry.
        name: String,
    },
    /// A whitelisted name that leaves no process to be terminated.
    #[error("\"{}\" matches every name: nothing will be terminated", quotable(.name))]
    EveryName {
        /// The entry.
        name: String,
    },
    /// A list of `[whitelist]` other than names that leaves no process to be terminated.
    #[error("{key} matches every process: nothing will be terminated")]
    EveryProcess {
        /// The key, with its section.
        key: String,
    },
    /// A rule that matches every process, and terminates none.
    #[error(
        "rule {rule} matches every process and terminates none: no process will be terminated for its limit, except by a \
         rule above it"
    )]
    RuleSparesAll {
        /// The rule.
        rule: String,
    },
    /// An entry that is a pattern, but of another language than globs.
    #[error(fmt = foreign_pattern)]
    ForeignPattern {
        /// The key, with its section.
        key: String,
        /// The entry.
        entry: String,
        /// Globs that mean the same; empty if no small number of globs does.
        globs: Vec<String>,
    },
    /// An entry that is several, or has marks around it.
    #[error(
        "{key}: \"{}\" is compared as a whole: unless that is what you mean, write {}",
        quotable(.entry),
        listed(.parts)
    )]
    SeveralInOne {
        /// The key, with its section.
        key: String,
        /// The entry.
        entry: String,
        /// The entries that were meant, perhaps.
        parts: Vec<String>,
    },
    /// A name that is not what the daemon of that software is called.
    #[error(
        "\"{}\" matches only what is called exactly that; its daemon is \"{real}\"",
        quotable(.name)
    )]
    OtherName {
        /// The entry.
        name: String,
        /// The name of its processes.
        real: &'static str,
    },
    /// `whitelist.names` is given, and protects less than its default.
    #[error(
        "whitelist.names takes the place of the default list, so that these are no longer protected: {}; add those that this \
         machine needs",
        .names.join(", ")
    )]
    NamesFellAway {
        /// The names that the default protects and the list does not.
        names: Vec<String>,
    },
    /// The file, user or group that a key names cannot be used as it is now.
    #[error("{key} cannot be used: {why}")]
    Unusable {
        /// The key, with its section.
        key: &'static str,
        /// The reason and the remedy; escaped.
        why: String,
    },
    /// A limit that was raised, where the other one, which was left at its default, is the lower one on this machine.
    #[error(
        "{raised} has no effect on this machine: {key} is the lower limit, {limit}, and a process that exceeds either is over \
         the limit; set both"
    )]
    LimitWithoutEffect {
        /// The key of the one that was raised.
        raised: &'static str,
        /// The key of the other one.
        key: &'static str,
        /// The limit in force.
        limit: Bytes,
    },
    /// The default share of a small machine's memory, which many programs exceed.
    #[error(
        "the limit is {limit} here, the default share of {total} of memory, which many programs exceed: set \
         ram_percent_threshold to what a process may have on this machine"
    )]
    SmallLimit {
        /// The limit in force.
        limit: Bytes,
        /// All memory.
        total: Bytes,
    },
    /// A level of `[machine]` in gigabytes that this machine would never be above, or only while it is nearly empty.
    #[error(
        "available_gb of [machine] is {level}, more than half of this machine's memory: the half counts instead, and memmon \
         ends processes with less than {most} available; available_percent fits machines of any size"
    )]
    MoreThanHalf {
        /// The level.
        level: Bytes,
        /// Half of all memory, which counts instead.
        most: Bytes,
    },
    /// Another program ends processes when memory runs short.
    #[error(fmt = other_guard)]
    OtherGuard {
        /// The program, and when it does.
        #[serde(flatten)]
        guard: Guard,
        /// The one of the two that acts first.
        first: Turn,
        /// Below this much available memory `[machine]` acts.
        #[serde(rename = "machine_acts_below_bytes")]
        ours: Option<Bytes>,
    },
    /// Another memmon enforces limits for the processes of its own pid namespace.
    #[error(
        "another memmon (pid {pid}) enforces limits in a container whose processes this one watches as well: stop that one, \
         or leave its users out of [scope] here"
    )]
    OtherMemmon {
        /// Its pid.
        pid: Pid,
    },
    /// Other memmons cannot notice this one.
    #[error(
        "memmons in containers, or with another /run, do not notice this one, and this one does not notice them: {error}"
    )]
    NoClaim {
        /// The error.
        error: String,
    },
    /// A key that has no effect without another one.
    #[error("{key} has no effect without {without}")]
    NoEffect {
        /// The key, with its section.
        key: &'static str,
        /// The other one.
        without: &'static str,
    },
    /// `whitelist.users` lists root, and `protect_root` is false.
    #[error("root is listed but not protected, as in v1: set protect_root = true to protect it")]
    RootNotProtected,
    /// A user that this machine does not know.
    #[error(
        "{key}: no user \"{}\" on this machine, the entry matches nobody until there is one{}",
        quotable(.name),
        if is_pattern(.name) { " (users are listed one by one, without patterns)" } else { "" }
    )]
    UnknownUser {
        /// The key, with its section.
        key: String,
        /// The entry.
        name: String,
    },
    /// A group that this machine does not know, in a list of groups.
    #[error(
        "{key}: no group \"{}\" on this machine, the entry matches nobody until there is one",
        quotable(.name)
    )]
    NoSuchGroup {
        /// The key, with its section.
        key: String,
        /// The entry.
        name: String,
    },
    /// A rule that never decides, because an earlier one matches all that it does.
    #[error(
        "rule {rule} never decides: rule {by} above it matches all that it does, and the first one decides"
    )]
    Shadowed {
        /// The rule.
        rule: String,
        /// The earlier one.
        by: String,
    },
    /// A number in `whitelist.pids` that is a thread's.
    #[error(
        "whitelist.pids: {thread} is a thread of the process {process} ({comm}), so that it protects nothing: list {process} \
         if that is meant"
    )]
    ThreadId {
        /// The number.
        thread: Pid,
        /// The process of the thread.
        process: Pid,
        /// The name of that process.
        comm: Name,
    },
    /// `whitelist.args` protects by what a process's owner can change at any time.
    #[error(
        "whitelist.args: every user can give their processes these arguments, and so protect them; add a whole command line \
         only where that does no harm"
    )]
    ArgsAreChosen,
    /// A group that this machine does not know, under `[status]`.
    #[error("status.group: no group \"{}\" on this machine, root alone may ask", quotable(.name))]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// `[notify]` has a password for a relay elsewhere, and does not ask for encryption.
    #[error(
        "the password of smtp_auth_file goes to \"{}\" unencrypted: set smtp_starttls = true",
        quotable(.host)
    )]
    PlainPassword {
        /// The relay.
        host: String,
    },
    /// The same entry twice in one list.
    #[error("{key}: \"{}\" is listed twice", quotable(.entry))]
    Duplicate {
        /// The key, with its section.
        key: String,
        /// The entry.
        entry: String,
    },
    /// `[scope]` names users, and this machine knows none of them.
    #[error("[scope] names no user that exists: nothing will be terminated")]
    NobodyInScope,
    /// Anyone may write to the configuration file.
    #[error("anyone may write to {}, and so decide what is terminated: chmod o-w it", shown(.file))]
    WorldWritable {
        /// The file.
        #[serde(serialize_with = "escaped")]
        file: PathBuf,
    },
    /// Others than root may write or replace the configuration file.
    #[error(
        "others than root decide by {} what is terminated: {}; put it where only root can write, in /etc/memmon for example",
        shown(.file),
        Escaped(.why.as_bytes())
    )]
    OthersDecide {
        /// The file.
        #[serde(serialize_with = "escaped")]
        file: PathBuf,
        /// By what.
        why: String,
    },
    /// A file in `conf.d` that is not read.
    #[error("{} is not read: the names of files in conf.d end in .toml", shown(.file))]
    NotRead {
        /// The file.
        #[serde(serialize_with = "escaped")]
        file: PathBuf,
    },
    /// There is a file as `memmon enable` writes it, and others than root decide about it.
    #[error(
        "memmon is not enabled, as the file that enables it is not trusted: {}",
        quotable(.reason)
    )]
    UntrustedConsent {
        /// The problem.
        reason: String,
    },
    /// The log file cannot be created where it should be.
    #[error(
        "there is no directory {}: no log file can be created in it",
        shown(.directory)
    )]
    NoLogDirectory {
        /// The directory that is missing.
        #[serde(serialize_with = "escaped")]
        directory: PathBuf,
    },
}

impl Warning {
    /// A concern about the configuration as a whole, or about the machine.
    pub const fn general(concern: Concern) -> Self {
        Self { file: None, line: None, concern }
    }

    /// Whether something that was asked for does not work, and not only may be a mistake.
    pub const fn is_degradation(&self) -> bool {
        use Concern::{NoClaim, NoLogDirectory, OtherMemmon, UntrustedConsent, Unusable};
        matches!(
            self.concern,
            Unusable { .. }
                | NoLogDirectory { .. }
                | NoClaim { .. }
                | OtherMemmon { .. }
                | UntrustedConsent { .. }
        )
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}, ", shown(file))?;
        }
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.concern),
            None => self.concern.fmt(f),
        }
    }
}

fn path_for_name(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let base = name.rsplit('/').next().unwrap_or_default();
    write!(f, "\"{}\" is a path, and names are compared: ", quotable(name))?;
    // A pattern without its folder would be wider than what was meant, up to every name there is.
    if base.is_empty() || base.contains(GLOB) {
        f.write_str("list the names of the programs in it, or give `exe` the path")
    } else {
        write!(f, "\"{}\" would match every program of that name, `exe` takes paths", quotable(base))
    }
}

fn foreign_pattern(key: &str, entry: &str, globs: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let entry = quotable(entry);
    write!(f, "{key}: \"{entry}\" looks like a regular expression, or another pattern that is no glob: ")?;
    match globs {
        [] => f.write_str("no few globs mean the same, list the names"),
        globs => write!(f, "write {}", listed(globs)),
    }
}

fn other_guard(guard: &Guard, first: &Turn, ours: &Option<Bytes>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let turn = match first {
        Turn::Theirs => "it acts before memmon does for the machine, with protections of its own",
        Turn::Ours => "memmon acts before it for the machine",
        Turn::Either => "either of the two may act first, and each has protections of its own",
        Turn::OnlyTheirs => {
            "it acts for the machine, and memmon, without [machine], for the limits of processes only"
        }
    };
    write!(f, "beside memmon runs {guard}: {turn}")?;
    match ours {
        Some(ours) => write!(f, " ([machine] acts if less than {ours} of memory is available)"),
        None => Ok(()),
    }
}

fn listed(entries: &[String]) -> String {
    entries.iter().map(|entry| format!("\"{}\"", quotable(entry))).collect::<Vec<_>>().join(", ")
}

fn shown(path: &Path) -> Escaped<'_> {
    Escaped(path.as_os_str().as_bytes())
}

/// Whether the name of a user is a pattern.
fn is_pattern(name: &str) -> bool {
    name.contains(GLOB) || name.contains(['^', '$', '(', '|', '%'])
}

/// Characters that make a name a glob.
pub(super) const GLOB: [char; 5] = ['*', '?', '[', '{', '\\'];

/// Names of the processes of software that goes by another name. v1's own default list has the first.
const OTHER_NAMES: [(&str, &str); 14] = [
    ("docker", "dockerd"),
    ("mysql", "mysqld"),
    ("mariadb-server", "mariadbd"),
    ("postgresql", "postgres"),
    ("mongodb", "mongod"),
    ("redis", "redis-server"),
    ("openssh", "sshd"),
    ("apache", "apache2"),
    ("kubernetes", "kubelet"),
    ("libvirt", "libvirtd"),
    ("dbus", "dbus-daemon"),
    ("udev", "systemd-udevd"),
    ("journald", "systemd-journald"),
    ("logind", "systemd-logind"),
];

/// The name of the processes of the software `name`, if it is another name.
pub(super) fn other_name(name: &str) -> Option<&'static str> {
    OTHER_NAMES.iter().find(|(software, _)| *software == name).map(|(_, real)| *real)
}

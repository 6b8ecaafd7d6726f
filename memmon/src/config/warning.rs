//! Probable mistakes: reported when the configuration is loaded, and no reason not to start.

use std::{fmt, os::unix::ffi::OsStrExt, path::PathBuf};

use serde::Serialize;

use super::error::{escaped, quotable};
use crate::model::{Bytes, Escaped, Guard, Pid};
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
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "warning")]
pub enum Concern {
    /// A limit below one percent: typed as a fraction, perhaps.
    Fraction {
        /// The value as it was typed.
        value: String,
    },
    /// A name that no comm can be.
    LongName {
        /// The entry.
        name: String,
    },
    /// A name that is a path, where names are compared.
    PathForName {
        /// The entry.
        name: String,
    },
    /// A whitelisted name that leaves no process to be terminated.
    EveryName {
        /// The entry.
        name: String,
    },
    /// A list of `[whitelist]` other than names that leaves no process to be terminated.
    EveryProcess {
        /// The key, with its section.
        key: String,
    },
    /// A rule that matches every process, and terminates none.
    RuleSparesAll {
        /// The rule.
        rule: String,
    },
    /// An entry that is a pattern, but of another language than globs.
    ForeignPattern {
        /// The key, with its section.
        key: String,
        /// The entry.
        entry: String,
        /// Globs that mean the same; empty if no small number of globs does.
        globs: Vec<String>,
    },
    /// An entry that is several, or has marks around it.
    SeveralInOne {
        /// The key, with its section.
        key: String,
        /// The entry.
        entry: String,
        /// The entries that were meant, perhaps.
        parts: Vec<String>,
    },
    /// A name that is not what the daemon of that software is called.
    OtherName {
        /// The entry.
        name: String,
        /// The name of its processes.
        real: &'static str,
    },
    /// `whitelist.names` is given, and protects less than its default.
    NamesFellAway {
        /// The names that the default protects and the list does not.
        names: Vec<String>,
    },
    /// The file, user or group that a key names cannot be used as it is now.
    Unusable {
        /// The key, with its section.
        key: &'static str,
        /// The reason and the remedy; escaped.
        why: String,
    },
    /// A limit that was raised, where the other one, which was left at its default, is the lower one on this machine.
    LimitWithoutEffect {
        /// The key of the one that was raised.
        raised: &'static str,
        /// The key of the other one.
        key: &'static str,
        /// The limit in force.
        limit: Bytes,
    },
    /// The default share of a small machine's memory, which many programs exceed.
    SmallLimit {
        /// The limit in force.
        limit: Bytes,
        /// All memory.
        total: Bytes,
    },
    /// A level of `[machine]` in gigabytes that this machine would never be above, or only while it is nearly empty.
    MoreThanHalf {
        /// The level.
        level: Bytes,
        /// Half of all memory, which counts instead.
        most: Bytes,
    },
    /// Another program ends processes when memory runs short.
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
    OtherMemmon {
        /// Its pid.
        pid: Pid,
    },
    /// Other memmons cannot notice this one.
    NoClaim {
        /// The error.
        error: String,
    },
    /// A key that has no effect without another one.
    NoEffect {
        /// The key, with its section.
        key: &'static str,
        /// The other one.
        without: &'static str,
    },
    /// `whitelist.users` lists root, and `protect_root` is false.
    RootNotProtected,
    /// A user that this machine does not know.
    UnknownUser {
        /// The key, with its section.
        key: String,
        /// The entry.
        name: String,
    },
    /// A group that this machine does not know, in a list of groups.
    NoSuchGroup {
        /// The key, with its section.
        key: String,
        /// The entry.
        name: String,
    },
    /// A rule that never decides, because an earlier one matches all that it does.
    Shadowed {
        /// The rule.
        rule: String,
        /// The earlier one.
        by: String,
    },
    /// `whitelist.args` protects by what a process's owner can change at any time.
    ArgsAreChosen,
    /// A group that this machine does not know, under `[status]`.
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// `[notify]` has a password for a relay elsewhere, and does not ask for encryption.
    PlainPassword {
        /// The relay.
        host: String,
    },
    /// The same entry twice in one list.
    Duplicate {
        /// The key, with its section.
        key: String,
        /// The entry.
        entry: String,
    },
    /// `[scope]` names users, and this machine knows none of them.
    NobodyInScope,
    /// Anyone may write to the configuration file.
    WorldWritable {
        /// The file.
        #[serde(serialize_with = "escaped")]
        file: PathBuf,
    },
    /// Others than root may write or replace the configuration file.
    OthersDecide {
        /// The file.
        #[serde(serialize_with = "escaped")]
        file: PathBuf,
        /// By what.
        why: String,
    },
    /// A file in `conf.d` that is not read.
    NotRead {
        /// The file.
        #[serde(serialize_with = "escaped")]
        file: PathBuf,
    },
    /// There is a file as `memmon enable` writes it, and others than root decide about it.
    UntrustedConsent {
        /// The problem.
        reason: String,
    },
    /// The log file cannot be created where it should be.
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
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}, ", Escaped(file.as_os_str().as_bytes()))?;
        }
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.concern),
            None => self.concern.fmt(f),
        }
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fraction { value } => write!(
                f,
                "ram_percent_threshold = {} is less than one percent of memory: 10 is a tenth of it, not 0.1",
                quotable(value)
            ),
            Self::LongName { name } => write!(
                f,
                "\"{}\" is longer than the 15 bytes of a comm: it can match an executable or argv[0] only",
                quotable(name)
            ),
            Self::PathForName { name } => {
                let base = name.rsplit('/').next().unwrap_or_default();
                let name = quotable(name);
                // A pattern without its folder would be wider than what was meant, up to every name there is.
                if base.is_empty() || base.contains(GLOB) {
                    write!(
                        f,
                        "\"{name}\" is a path, and names are compared: list the names of the programs in it, or give `exe` the path"
                    )
                } else {
                    let base = quotable(base);
                    write!(
                        f,
                        "\"{name}\" is a path, and names are compared: \"{base}\" would match every program of that name, `exe` takes paths"
                    )
                }
            }
            Self::EveryName { name } => {
                write!(f, "\"{}\" matches every name: nothing will be terminated", quotable(name))
            }
            Self::EveryProcess { key } => {
                write!(f, "{key} matches every process: nothing will be terminated")
            }
            Self::RuleSparesAll { rule } => write!(
                f,
                "rule {rule} matches every process and terminates none: no process will be terminated for its limit, except by \
                 a rule above it"
            ),
            Self::ForeignPattern { key, entry, globs } => {
                write!(
                    f,
                    "{key}: \"{}\" looks like a regular expression, or another pattern that is no glob: ",
                    quotable(entry)
                )?;
                if globs.is_empty() {
                    f.write_str("no few globs mean the same, list the names")
                } else {
                    let globs: Vec<_> = globs.iter().map(|glob| format!("\"{}\"", quotable(glob))).collect();
                    write!(f, "write {}", globs.join(", "))
                }
            }
            Self::SeveralInOne { key, entry, parts } => {
                let parts: Vec<_> = parts.iter().map(|part| format!("\"{}\"", quotable(part))).collect();
                let (entry, parts) = (quotable(entry), parts.join(", "));
                write!(f, "{key}: \"{entry}\" is compared as a whole: unless that is what you mean, write {parts}")
            }
            Self::OtherName { name, real } => {
                write!(
                    f,
                    "\"{}\" matches only what is called exactly that; its daemon is \"{real}\"",
                    quotable(name)
                )
            }
            Self::NamesFellAway { names } => write!(
                f,
                "whitelist.names takes the place of the default list, so that these are no longer protected: {}; add those \
                 that this machine needs",
                names.join(", ")
            ),
            Self::Unusable { key, why } => write!(f, "{key} cannot be used: {why}"),
            Self::LimitWithoutEffect { raised, key, limit } => write!(
                f,
                "{raised} has no effect on this machine: {key} is the lower limit, {limit}, and a process that exceeds either is \
                 over the limit; set both"
            ),
            Self::SmallLimit { limit, total } => write!(
                f,
                "the limit is {limit} here, the default share of {total} of memory, which many programs exceed: set \
                 ram_percent_threshold to what a process may have on this machine"
            ),
            Self::MoreThanHalf { level, most } => write!(
                f,
                "available_gb of [machine] is {level}, more than half of this machine's memory: the half counts instead, and \
                 memmon ends processes with less than {most} available; available_percent fits machines of any size"
            ),
            Self::OtherGuard { guard, first, ours } => {
                write!(f, "beside memmon runs {guard}: ")?;
                f.write_str(match first {
                    Turn::Theirs => "it acts before memmon does for the machine, with protections of its own",
                    Turn::Ours => "memmon acts before it for the machine",
                    Turn::Either => "either of the two may act first, and each has protections of its own",
                    Turn::OnlyTheirs => {
                        "it acts for the machine, and memmon, without [machine], for the limits of processes only"
                    }
                })?;
                match ours {
                    Some(ours) => write!(f, " ([machine] acts if less than {ours} of memory is available)"),
                    None => Ok(()),
                }
            }
            Self::OtherMemmon { pid } => write!(
                f,
                "another memmon (pid {pid}) enforces limits in a container whose processes this one watches as well: stop that \
                 one, or leave its users out of [scope] here"
            ),
            Self::NoClaim { error } => {
                write!(f, "memmons in containers, or with another /run, do not notice this one, and this one does not notice them: {error}")
            }
            Self::NoEffect { key, without } => write!(f, "{key} has no effect without {without}"),
            Self::RootNotProtected => f.write_str(
                "root is listed but not protected, as in v1: set protect_root = true to protect it",
            ),
            Self::UnknownUser { key, name } => {
                let name_shown = quotable(name);
                write!(
                    f,
                    "{key}: no user \"{name_shown}\" on this machine, the entry matches nobody until there is one"
                )?;
                if name.contains(GLOB) || name.contains(['^', '$', '(', '|', '%']) {
                    f.write_str(" (users are listed one by one, without patterns)")?;
                }
                Ok(())
            }
            Self::NoSuchGroup { key, name } => {
                write!(
                    f,
                    "{key}: no group \"{}\" on this machine, the entry matches nobody until there is one",
                    quotable(name)
                )
            }
            Self::Shadowed { rule, by } => {
                write!(f, "rule {rule} never decides: rule {by} above it matches all that it does, and the first one decides")
            }
            Self::ArgsAreChosen => f.write_str(
                "whitelist.args: every user can give their processes these arguments, and so protect them; add a whole command \
                 line only where that does no harm",
            ),
            Self::UnknownGroup { name } => {
                write!(f, "status.group: no group \"{}\" on this machine, root alone may ask", quotable(name))
            }
            Self::PlainPassword { host } => write!(
                f,
                "the password of smtp_auth_file goes to \"{}\" unencrypted: set smtp_starttls = true",
                quotable(host)
            ),
            Self::Duplicate { key, entry } => write!(f, "{key}: \"{}\" is listed twice", quotable(entry)),
            Self::NobodyInScope => {
                f.write_str("[scope] names no user that exists: nothing will be terminated")
            }
            Self::WorldWritable { file } => {
                let file = Escaped(file.as_os_str().as_bytes());
                write!(f, "anyone may write to {file}, and so decide what is terminated: chmod o-w it")
            }
            Self::OthersDecide { file, why } => {
                let (file, why) = (Escaped(file.as_os_str().as_bytes()), Escaped(why.as_bytes()));
                write!(
                    f,
                    "others than root decide by {file} what is terminated: {why}; put it where only root can write, in \
                     /etc/memmon for example"
                )
            }
            Self::NotRead { file } => {
                let file = Escaped(file.as_os_str().as_bytes());
                write!(f, "{file} is not read: the names of files in conf.d end in .toml")
            }
            Self::UntrustedConsent { reason } => {
                write!(
                    f,
                    "memmon is not enabled, as the file that enables it is not trusted: {}",
                    quotable(reason)
                )
            }
            Self::NoLogDirectory { directory } => {
                let directory = Escaped(directory.as_os_str().as_bytes());
                write!(f, "there is no directory {directory}: no log file can be created in it")
            }
        }
    }
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

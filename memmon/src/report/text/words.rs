//! The words that lines are made of: processes, rules, doubts, and text of others as one visible line.

use std::{
    fmt::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    model::{
        Container, ContainerNames, Doubt, Escaped, Exempt, Exemption, MatchKey, Name, NameField, Protection,
        SlurmJob, Uid, Workload, configuration_files, units::apart,
    },
    report::event::{Launched, Subject},
};

pub(super) fn who(subject: &Subject, user: &mut dyn FnMut(Uid) -> String) -> String {
    format!("PID={}, Name={}, User={}", subject.id, Field(&subject.name), subject.user(user))
}

pub(super) fn config_name(path: Option<&Path>, fragments: &[PathBuf]) -> String {
    let shown = |path: &Path| Escaped(path.as_os_str().as_bytes()).to_string();
    let main = path.map_or_else(|| "built-in defaults".to_owned(), shown);
    configuration_files(&main, fragments.iter().map(|path| shown(path)))
}

/// An exemption as a part of a sentence: its end, its user and its reason.
pub(super) fn exempt(exemption: &Exemption, user: &mut dyn FnMut(Uid) -> String) -> String {
    let Exemption { id, until, by, why, of: _ } = exemption;
    format!("until {until}, by {}, because {:?} (exemption {id})", user(*by), why.as_str())
}

/// The processes of an exemption as a value of a list.
pub(super) fn exempted(of: &Exempt, user: &mut dyn FnMut(Uid) -> String) -> String {
    match of {
        Exempt::User(uid) => format!("User={}", user(*uid)),
        Exempt::Process(_) | Exempt::Unit(_) | Exempt::Job(_) => of.to_string(),
    }
}

pub(super) fn rule(protection: &Protection, user: &mut dyn FnMut(Uid) -> String) -> String {
    match protection {
        Protection::Init => "being PID 1".to_owned(),
        Protection::KernelThread => "being a kernel thread".to_owned(),
        Protection::Memmon => "being memmon itself".to_owned(),
        Protection::OutOfScope => "being outside [scope]".to_owned(),
        Protection::Pid { pid } => format!("whitelist.pids entry {pid}"),
        Protection::Name { pattern, field, name } => format!(
            "whitelist.names entry \"{}\", which matches its {} {}",
            Escaped(pattern.as_bytes()),
            field.as_str(),
            Field(name)
        ),
        Protection::User { uid } => format!("whitelist.users entry {}", user(*uid)),
        Protection::Match { key, pattern } => {
            format!("whitelist.{} entry \"{}\"", key.as_str(), Escaped(pattern.as_bytes()))
        }
        Protection::Root => "whitelist.protect_root".to_owned(),
        Protection::OomScoreAdj => "its oom_score_adj of -1000".to_owned(),
        Protection::Exempt(one) => format!("an exemption {}", exempt(one, user)),
    }
}

pub(super) fn why(doubt: &Doubt) -> String {
    match doubt {
        Doubt::NameUnreadable(field) => format!(
            "Its {} cannot be read, so whitelist.names cannot be checked; {}",
            field.as_str(),
            match field {
                NameField::Comm | NameField::Exe => "memmon needs CAP_SYS_PTRACE",
                // Every user may read it, but that takes a lock which such a process holds.
                NameField::Argv0 => "the process is busy, or waits in the kernel, for example for a file server",
            }
        ),
        Doubt::FactUnreadable(MatchKey::Exe) => {
            "Its executable cannot be read, so a list of exe cannot be checked; the process is busy, or memmon needs \
             CAP_SYS_PTRACE"
                .to_owned()
        }
        Doubt::FactUnreadable(key) => {
            format!("What a list of {} compares cannot be read; the process is busy, or waits in the kernel", key.as_str())
        }
        Doubt::CgroupUnreadable => {
            "Its cgroup cannot be read, so scope.cgroups cannot be checked; memmon needs to see /proc/PID/cgroup"
                .to_owned()
        }
        Doubt::OomScoreAdjUnreadable => {
            "Its oom_score_adj cannot be read; memmon needs to see /proc/PID/oom_score_adj".to_owned()
        }
        Doubt::SharedMemoryUnknown => "The lookup of its shared memory is under way".to_owned(),
        Doubt::SharedMemoryUnreadable { reason } => {
            format!("The lookup of its shared memory failed and is tried again: {}", Escaped(reason.as_bytes()))
        }
        Doubt::InheritanceUnreadable => {
            "The memory that it shares with the process that forked it cannot be read; the process is busy, or memmon \
             needs CAP_SYS_PTRACE"
                .to_owned()
        }
        Doubt::WithinError { limit, rss, error } => {
            let (rss, limit) = apart(*rss, *limit);
            format!("{rss} is within the measuring error ({error}) of the limit, {limit}")
        }
    }
}

/// Characters of a command line that a line shows; programs get more of it.
const LONGEST_COMMAND: usize = 256;

/// The start and the workload of a process, as one line.
pub(super) fn how_launched(launched: &Launched, workload: Option<&Workload>) -> String {
    let Launched {
        command_line,
        parent,
        parent_comm,
        session,
        terminal,
        init,
        inside,
        slurm_job_id,
        started,
    } = launched;
    let mut text = format!("Started={}", started.strftime("%Y-%m-%d %H:%M:%S"));
    // Writing to a String cannot fail.
    let _ = write!(text, ", Parent={parent}");
    if let Some(name) = parent_comm {
        let _ = write!(text, ", Parent name={}", Field(name));
    }
    if let Some(leader) = session {
        let _ = write!(text, ", Session={leader}");
    }
    if let Some(terminal) = terminal {
        let _ = write!(text, ", TTY={terminal}");
    }
    if init.is_some() {
        text.push_str(", PID inside=1 (its end ends its pid namespace)");
    } else if let Some(pid) = inside.pid {
        let _ = write!(text, ", PID inside={pid}");
    }
    if let Some(uid) = inside.uid {
        let _ = write!(text, ", UID inside={uid}");
    }
    if let Some(workload) = workload {
        add_workload(&mut text, workload);
    }
    if let Some(job) = slurm_job_id {
        let _ = write!(text, ", SLURM_JOB_ID={job}");
    }
    if let Some(line) = command_line {
        let shown = line.to_string();
        let _ = match shown.char_indices().nth(LONGEST_COMMAND) {
            Some((end, _)) => write!(text, ", Command={}", quoted(&format!("{}…", &shown[..end]))),
            None => write!(text, ", Command={}", quoted(&shown)),
        };
    }
    text
}

/// Characters of a container's id that runtimes show, and accept.
const SHORT_ID: usize = 12;

fn add_workload(text: &mut String, workload: &Workload) {
    let Workload { unit, slurm, container } = workload;
    // Writing to a String cannot fail.
    if let Some(SlurmJob { job, step, task, node }) = slurm {
        let _ = write!(text, ", Job={job}");
        for (what, name) in [("Step", step), ("Node", node)] {
            if let Some(name) = name {
                let _ = write!(text, ", {what}={}", Field(name));
            }
        }
        if let Some(task) = task {
            let _ = write!(text, ", Task={task}");
        }
    }
    if let Some(Container { id, runtime, pod, names: ContainerNames { name, pod_name, namespace } }) =
        container
    {
        let is_hash = id.as_bytes().len() == 64;
        let id = if is_hash { Name::new(&id.as_bytes()[..SHORT_ID]) } else { id.clone() };
        let _ = write!(text, ", Container={}", Field(&id));
        if let Some(runtime) = runtime {
            let _ = write!(text, ", Runtime={}", runtime.as_str());
        }
        let names =
            [("Container name", name), ("Pod", pod), ("Pod name", pod_name), ("Namespace", namespace)];
        for (what, name) in names {
            if let Some(name) = name {
                let _ = write!(text, ", {what}={}", Field(name));
            }
        }
    } else if let (Some(unit), None) = (unit, slurm) {
        let _ = write!(text, ", Unit={}", Field(unit));
    }
}

/// Begins a line that belongs to the one above it: no record begins with a blank.
pub(super) const INDENTED_LINE: &str = "\n    ";

/// Lays out a text of several lines below each other, each of them escaped.
pub(super) fn indented(text: &str) -> String {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.map(|line| Printable(line).to_string()).collect::<Vec<_>>().join(INDENTED_LINE)
}

/// The beginning of a line about an action that a dry run does not take.
pub(super) const fn dry_run_mark(dry_run: bool) -> &'static str {
    if dry_run { "[DRY RUN] " } else { "" }
}

/// Joins the lines of any text into one: each is trimmed and escaped, and empty ones are left out.
pub(super) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| Printable(line).to_string()).collect::<Vec<_>>().join(" / ")
}

/// Text that is shown as [`Escaped`] does, except that a backslash stays, so that an escaped name is not escaped twice.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.split('\\').enumerate() {
            if i > 0 {
                f.write_char('\\')?;
            }
            Escaped(part.as_bytes()).fmt(f)?;
        }
        Ok(())
    }
}

/// A name as the value of a `Key=value` list: quoted if it could be read as more than one value.
pub(super) struct Field<'a>(pub(super) &'a Name);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.to_string();
        if shown.is_empty() || shown.trim() != shown || shown.contains([',', '=', '"']) {
            f.write_str(&quoted(&shown))
        } else {
            f.write_str(&shown)
        }
    }
}

fn quoted(shown: &str) -> String {
    format!("\"{}\"", shown.replace('"', "\\\""))
}

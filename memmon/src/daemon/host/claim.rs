//! Keeps two memmons of one kernel from enforcing limits for the same processes, whatever their /run, their mounts and their
//! sources are.
//!
//! Each memmon that runs as root has a file in memory with a known name, a memfd, and writes into it which users' processes
//! it enforces limits for. Before that it looks for such files among the descriptors of root's processes, as /proc shows
//! them. It belongs to the user that created it, wherever it is passed to later, so that no other user can make one.
//!
//! A memmon first writes that it is looking, then looks, and enforces only if no other one does. If two look at the same time,
//! each sees the other: the one whose file has the higher inode number gives way, and the other one waits for that.
//!
//! A memmon in another pid namespace can only reach the processes of that namespace: it is reported, and keeps no memmon
//! outside from enforcing, as everybody who is root in a container could otherwise do.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::memfd::{MFdFlags, memfd_create},
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Concern, Settings, Warning},
    daemon::host::instance::InstanceError,
    model::{Pid, Uid},
};

/// The name of the file, and the target of its descriptors in /proc.
const NAME: &str = "memmon-claim";
const LINK: &[u8] = b"/memfd:memmon-claim (deleted)";

/// The content is far shorter.
const MAX_LENGTH: usize = 64 << 10;

/// Maximum time to wait for another memmon that looks at the same time and has to give way.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two looks meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// Containers could have any number.
const MAX_WARNINGS: usize = 3;

/// This memmon's own file. The claim ends with the process.
#[derive(Debug)]
pub(crate) struct Claim {
    file: File,
    id: Id,
}

/// The inode of a claim's file, which is the same in each mount namespace.
type Id = u64;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    stage: Stage,
    /// The users whose processes it may terminate; all, if there is no list.
    uids: Option<Vec<(u32, u32)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// It sends no signals.
    DryRun,
    /// It looks for others, and will enforce unless it finds one.
    Looking,
    /// It enforces.
    Enforcing,
}

/// Another memmon's claim.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Other {
    pid: Pid,
    id: Id,
    /// Whether it is in another pid namespace.
    is_inside: bool,
    content: Content,
}

/// The consequence of the other claims for one of two that want to enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Enforce,
    /// The other one will give way, or enforces before it saw this one.
    Wait(Pid),
    GiveWay(Pid),
}

impl Claim {
    /// A claim to nothing.
    ///
    /// # Errors
    /// The kernel creates no file in memory.
    pub(crate) fn new() -> io::Result<Self> {
        let file: File = memfd_create(NAME, MFdFlags::MFD_CLOEXEC)?.into();
        let id = file.metadata()?.ino();
        Ok(Self { file, id })
    }

    /// Claims what `settings` need, beside what is claimed already. Warns about memmons in other pid namespaces that enforce
    /// limits for some of the same processes. May take seconds.
    ///
    /// # Errors
    /// [`InstanceError::Enforces`] if another memmon does; the claim is the same as before then.
    /// [`InstanceError::Unclaimed`] if the file or /proc cannot be read.
    pub(crate) fn extend(&self, settings: &Settings) -> Result<Vec<Warning>, InstanceError> {
        let (wanted, held) = (Content::of(settings), read(&self.file));
        if wanted.stage == Stage::DryRun || wanted == held {
            return Ok(vec![]);
        }
        self.write(&held.with(&wanted, Stage::Looking))?;
        match self.find(&wanted) {
            Ok(inside) => {
                self.write(&held.with(&wanted, Stage::Enforcing))?;
                Ok(inside)
            }
            Err(error) => {
                self.write(&held)?;
                Err(error)
            }
        }
    }

    /// Claims what `settings` need and nothing else: they are in force.
    ///
    /// # Errors
    /// [`InstanceError::Unclaimed`] if the file cannot be written.
    pub(crate) fn settle(&self, settings: &Settings) -> Result<(), InstanceError> {
        let wanted = Content::of(settings);
        if wanted == read(&self.file) { Ok(()) } else { self.write(&wanted) }
    }

    /// Looks for others until it is certain that none enforces what is `wanted`.
    fn find(&self, wanted: &Content) -> Result<Vec<Warning>, InstanceError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut others = others(Path::new("/proc")).map_err(InstanceError::Unclaimed)?;
            others.retain(|other| other.id != self.id && other.content.stage != Stage::DryRun);
            others.retain(|other| other.content.overlaps(wanted));
            match next(self.id, &others) {
                Next::Enforce => {
                    let warn = |other: &Other| Warning::general(Concern::OtherMemmon { pid: other.pid });
                    let inside = others.iter().filter(|other| other.is_inside);
                    return Ok(inside.take(MAX_WARNINGS).map(warn).collect());
                }
                Next::Wait(_) if Instant::now() < deadline => thread::sleep(PAUSE),
                Next::Wait(pid) | Next::GiveWay(pid) => return Err(InstanceError::Enforces { pid: pid.0 }),
            }
        }
    }

    /// Writes over the old content, so that nobody ever finds none.
    fn write(&self, content: &Content) -> Result<(), InstanceError> {
        let text = serde_json::to_vec(content).map_err(io::Error::other);
        let written = text.and_then(|text| {
            self.file.write_all_at(&text, 0)?;
            self.file.set_len(text.len() as u64)
        });
        written.map_err(InstanceError::Unclaimed)
    }
}

impl Content {
    const NOTHING: Self = Self { stage: Stage::DryRun, uids: Some(vec![]) };
    const EVERYTHING: Self = Self { stage: Stage::Enforcing, uids: None };

    fn of(settings: &Settings) -> Self {
        if settings.dry_run {
            return Self::NOTHING;
        }
        let uids = settings.rules.scope.uids.as_ref();
        let uids =
            uids.map(|uids| uids.ranges().map(|range| (range.start().0, range.end().0)).collect::<Vec<_>>());
        Self { stage: Stage::Enforcing, uids }
    }

    /// All that either of the two needs.
    fn with(&self, other: &Self, stage: Stage) -> Self {
        let mut uids = self.uids.clone();
        match (&mut uids, &other.uids) {
            (Some(uids), Some(others)) => uids.extend(others),
            _ => uids = None,
        }
        Self { stage, uids }
    }

    /// Whether both may terminate processes of one user.
    fn overlaps(&self, other: &Self) -> bool {
        match (&self.uids, &other.uids) {
            (Some(uids), Some(others)) => uids
                .iter()
                .any(|(first, last)| others.iter().any(|(begin, end)| first <= end && begin <= last)),
            _ => true,
        }
    }
}

/// Decides for the claim `id`, among others that overlap with it.
fn next(id: Id, others: &[Other]) -> Next {
    let mut rivals = others.iter().filter(|other| !other.is_inside);
    let gives_way = |other: &Other| other.content.stage == Stage::Looking && other.id > id;
    match rivals.clone().find(|other| !gives_way(other)) {
        Some(other) => Next::GiveWay(other.pid),
        None => rivals.next().map_or(Next::Enforce, |other| Next::Wait(other.pid)),
    }
}

/// The content of a claim. A file that is still empty claims nothing; one that cannot be read claims everything.
fn read(file: &File) -> Content {
    let mut text = vec![0; MAX_LENGTH];
    match file.read_at(&mut text, 0) {
        Ok(length) => parse(text.get(..length).unwrap_or_default()),
        Err(_) => Content::EVERYTHING,
    }
}

fn parse(text: &[u8]) -> Content {
    if text.is_empty() {
        return Content::NOTHING;
    }
    // The end of an older, longer content may follow.
    let first = serde_json::Deserializer::from_slice(text).into_iter().next();
    first.and_then(Result::ok).unwrap_or(Content::EVERYTHING)
}

/// The claims of all memmons in `proc`, this one's as well. A process that ends meanwhile, or that memmon may not look into,
/// has none.
fn others(proc: &Path) -> io::Result<Vec<Other>> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
    let own = namespace(&proc.join("self"));
    let mut found = Vec::new();
    for entry in fs::read_dir(proc)? {
        let entry = entry?;
        let process = entry.path();
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // The owner is root as well if the process hides from its user: what matters is the file's.
        let is_roots = fs::metadata(&process).is_ok_and(|found| found.uid() == Uid::ROOT.0);
        if is_roots && let Some((id, content)) = claim_of(&process) {
            let is_inside = namespace(&process) != own;
            found.push(Other { pid: Pid(pid), id, is_inside, content });
        }
    }
    Ok(found)
}

fn claim_of(process: &Path) -> Option<(Id, Content)> {
    fs::read_dir(process.join("fd")).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        let is_claim = fs::read_link(&path).is_ok_and(|link| link.as_os_str().as_bytes() == LINK);
        if !is_claim {
            return None;
        }
        // By now the descriptor may be one that a plain open would wait for.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).ok()?;
        let found = file.metadata().ok()?;
        (found.uid() == Uid::ROOT.0).then(|| (found.ino(), read(&file)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(stage: Stage, uids: &[(u32, u32)]) -> Content {
        Content { stage, uids: Some(uids.to_vec()) }
    }

    #[test]
    fn scopes_overlap_if_one_user_is_in_both() {
        let one = |uids: &[_]| content(Stage::Enforcing, uids);
        let thousands = one(&[(1000, 1999), (5000, 5000)]);
        for (uids, overlaps) in [
            (&[(0, 999)][..], false),
            (&[(0, 1000)], true),
            (&[(1500, 1500)], true),
            (&[(1999, 4000)], true),
            (&[(2000, 4999), (5001, 9000)], false),
            (&[(0, u32::MAX)], true),
            (&[], false),
        ] {
            assert_eq!(thousands.overlaps(&one(uids)), overlaps, "{uids:?}");
            assert_eq!(one(uids).overlaps(&thousands), overlaps, "{uids:?}");
        }
        assert!(thousands.overlaps(&Content::EVERYTHING) && Content::EVERYTHING.overlaps(&thousands));
    }

    /// Whatever they see of each other, two that look are never both allowed, and one of them is in the end.
    #[test]
    fn of_two_that_look_at_once_one_enforces() {
        let other = |id, stage, is_inside| Other {
            pid: Pid(id),
            id: id.into(),
            is_inside,
            content: content(stage, &[]),
        };
        let sees = |id, others: &[Other]| next(id, others);
        assert_eq!(sees(1, &[]), Next::Enforce);
        assert_eq!(sees(1, &[other(2, Stage::Looking, false)]), Next::Wait(Pid(2)));
        assert_eq!(sees(2, &[other(1, Stage::Looking, false)]), Next::GiveWay(Pid(1)));
        // The other one has looked before this one wrote its claim.
        assert_eq!(sees(1, &[other(2, Stage::Enforcing, false)]), Next::GiveWay(Pid(2)));
        assert_eq!(sees(2, &[other(1, Stage::Enforcing, false)]), Next::GiveWay(Pid(1)));
        let three = [other(3, Stage::Looking, false), other(1, Stage::Looking, false)];
        assert_eq!(sees(2, &three), Next::GiveWay(Pid(1)));
        assert_eq!(sees(2, &[other(1, Stage::Enforcing, true)]), Next::Enforce);
    }

    #[test]
    fn what_is_claimed_is_read_back_whatever_was_written_before() {
        let claim = Claim::new().unwrap();
        assert_eq!(read(&claim.file), Content::NOTHING);
        for written in
            [content(Stage::Enforcing, &[(1000, 1999), (5000, 5000)]), Content::NOTHING, Content::EVERYTHING]
        {
            claim.write(&written).unwrap();
            assert_eq!(read(&claim.file), written);
        }
        // Between the two calls that write a shorter content.
        let text = [serde_json::to_vec(&Content::NOTHING).unwrap(), b"9]]}".to_vec()].concat();
        assert_eq!(parse(&text), Content::NOTHING);
        // That of another version, perhaps.
        assert_eq!(parse(b"{\"stage\":\"later\"}"), Content::EVERYTHING);
    }

    #[test]
    fn what_was_claimed_stays_claimed_while_more_is() {
        let held = content(Stage::Enforcing, &[(1, 1)]);
        let both = held.with(&content(Stage::Enforcing, &[(2, 2)]), Stage::Looking);
        assert_eq!(both, content(Stage::Looking, &[(1, 1), (2, 2)]));
        assert_eq!(held.with(&Content::EVERYTHING, Stage::Enforcing), Content::EVERYTHING);
    }
}

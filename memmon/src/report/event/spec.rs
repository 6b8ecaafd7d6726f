//! Facts about each kind of event: one row, which filters, sinks and notifications read. Its name in JSON is that of the
//! variant, in snake case.
//!
//! `journalctl MESSAGE_ID=…` finds all of a kind, and `journalctl -x` explains it by systemd/memmon.catalog. An id is never
//! changed and never used again.

use super::{Event, Level, Subject};
use crate::model::{Cause, GivenBack, Unconfirmed};

/// One row.
#[derive(Clone, Copy)]
pub(in crate::report) struct Spec<'a> {
    /// The process that the event is about, if it is about one that was confirmed.
    pub(in crate::report) subject: Option<&'a Subject>,
    /// Its severity, by which `log.level` filters.
    pub(in crate::report) level: Level,
    /// The journal's MESSAGE_ID: 128 bits in hexadecimal (sd-id128(3)).
    pub(in crate::report) message_id: &'static str,
    /// Users cause it, so `log.lines_per_minute` bounds its lines. Events that occur once for each scan, start, reload or
    /// sink are not bounded.
    pub(in crate::report) is_flood_limited: bool,
    /// If it comes again word for word it is counted instead of written. Actions, their outcomes, answers to the
    /// administrator and v1's scan lines are always written.
    pub(in crate::report) is_folded: bool,
    /// It is written whatever `log.level` is: the record of a termination, from its first signal to its end.
    pub(in crate::report) is_always_written: bool,
    /// Mail and hook get it.
    pub(in crate::report) is_notified: bool,
    /// The user of the process gets it before anything happens to the process.
    pub(in crate::report) is_early: bool,
}

impl Event {
    /// The row of its kind.
    pub(in crate::report) fn spec(&self) -> Spec<'_> {
        use Level::{Error, Info, Warning};
        match self {
            Self::Started { .. } => new(Info, "e6c2347290b2427da0d487a090333ba5"),
            Self::Degraded { .. } => new(Warning, "fff3a3bc790e49b7be9e24b4e78df03a").folded(),
            Self::ConfigWarning { .. } => new(Warning, "d32e2e0cb9f149bead03c047878c485d").folded(),
            Self::SystemMemory { .. } => new(Info, "7ab84727557a46609b94876ee905d2aa"),
            Self::MemoryLow { .. } => new(Warning, "0a7ce232f0dd4ea883dc02ff94997f50").flood_limited(),
            Self::Culprit { subject, .. } => {
                about(subject, Warning, "373bd8db9c414d7c9a281a4745167626").always_written()
            }
            Self::NoCulprit { .. } => {
                new(Warning, "28d3fa9f456741f2914877ac22539a59").flood_limited().notified()
            }
            Self::MemoryBack { .. } => new(Info, "3d93d0eeb982444eb975206678a4607b").flood_limited(),
            Self::Approaching { subject, .. } => {
                about(subject, Warning, "f0bf97345c694c08bf20aebf3aba3084").early()
            }
            Self::Killing { subject, .. } => {
                about(subject, Warning, "840b317dabfb4557b7133b870608fdb2").always_written()
            }
            Self::GraceOver { subject, .. } => {
                about(subject, Warning, "023535654b124c9dab7fedc9991db12d").always_written()
            }
            Self::Delayed { subject, first, .. } => {
                about(subject, Warning, "eac705c9023249b982f895733304897b").notified_if(*first)
            }
            Self::Uncharged { subject, .. } => about(subject, Info, "32f9fbf639094e70a296d929ec83b0e9"),
            Self::Terminated { subject, record, given_back, .. } => {
                about(subject, terminated(given_back.as_deref()), "f3289371f0d242f083ebf990973733dd")
                    .always_written()
                    .notified_if(!matches!(record.cause, Cause::Itself))
            }
            Self::OomKilled { .. } => new(Warning, "523c143f8f5949a5b67dea6eb12be6d1").flood_limited(),
            Self::Spared { subject, .. } => {
                about(subject, Info, "9bd891a25ca749c39cb1b22eb9c33288").always_written()
            }
            Self::LetGo { subject, .. } => {
                about(subject, Info, "575ab26ca3df4be6b1208fb30ce29653").always_written()
            }
            Self::NowProtected { subject, .. } => {
                about(subject, Warning, "669bd588c0134c7b900857ce1f44bddb").folded().always_written()
            }
            Self::OverButProtected { subject, .. } => {
                about(subject, Info, "9ea472c093a94c6eb13f220a39759c80").folded()
            }
            Self::OverRule { subject, .. } => {
                about(subject, Warning, "5f0c7c2f4d5b4a8f9d6f1f1c7a2be0d4").folded().early()
            }
            Self::Exempted { .. } => new(Warning, "b5e7b31d57af4749852e2b461a89729b").flood_limited(),
            Self::ExemptionEnded { .. } => new(Info, "f911f77ba3a5441f93d2e7bf91dafe72").flood_limited(),
            Self::Stopped { subject, dry_run, .. } => {
                about(subject, Warning, "afdb59b4a1594f578cc38d98cd6e71a7")
                    .always_written()
                    .notified_if(!*dry_run)
            }
            Self::Continued { subject, .. } => {
                about(subject, Info, "9af3373759374166bf629f82df7ac2ec").always_written()
            }
            Self::SumOver { .. } => new(Warning, "7f1d3a52c0de4b6f8a1c95e2b4d80763").flood_limited().folded(),
            Self::Throttled { dry_run, .. } => new(Warning, "ddcd8ee5f3064bfbb29e075459eee93a")
                .flood_limited()
                .always_written()
                .notified_if(!*dry_run),
            Self::NotThrottled { .. } => {
                new(Warning, "4c63b47f77e84a5dbdf1fdf22fbd6a9c").flood_limited().folded().notified()
            }
            Self::ThrottleEnded { .. } => {
                new(Info, "da6820ca76974ff29e0d2d57d1cef648").flood_limited().always_written()
            }
            Self::DryRunDay { .. } => new(Info, "be0b87ba90e04ac6bf1a9370e95e50f0"),
            Self::Unsure { subject, .. } => {
                about(subject, Warning, "d2e68776039c46ec8d6c81fb4cff9a1b").folded()
            }
            Self::DoubtEnded { subject, .. } => {
                about(subject, Warning, "861040031e414b22b41aa42c79215688").folded()
            }
            Self::Unconfirmed { why, .. } => {
                new(unconfirmed(why), "395e0906167c48969edf9349a416d9fd").flood_limited().folded()
            }
            Self::OutOfReach { subject, .. } => {
                about(subject, Error, "c446d3e4a8f14d4a944d2911fa83840b").folded().notified()
            }
            Self::SignalFailed { subject, .. } => {
                about(subject, Error, "f13db7866a08438a97517a63a574b251").folded().notified()
            }
            Self::Lingers { subject, .. } => {
                about(subject, Error, "be76648c06394736831073336a115e8e").notified()
            }
            Self::Disagreement { .. } => {
                new(Warning, "2b0649a3e13b4759b555656312024777").flood_limited().folded()
            }
            Self::MapDefect { .. } => new(Warning, "73e065dad1d94c17a9ea76e2a36b25c7").folded(),
            Self::ScanComplete { .. } => new(Info, "13d60b31557141109c9297a0d10f3b24"),
            Self::Scheduled { .. } => new(Info, "ce683f2b2e4d4919a5deaf45a9477f18"),
            Self::Reloaded { .. } => new(Info, "7ad4b93bb4a44dffa082209570101b6f"),
            Self::ReloadFailed { .. } => new(Error, "769ce80c90144fa6a3ba534125c3b9c6").notified(),
            Self::SinkTrouble { .. } => new(Warning, "826ce126e9bd49c99246e0cc1f6287ab"),
            Self::Overflow { .. } => new(Warning, "063ee399c34c42b79ddc704b19eadf56"),
            Self::Repeated { severity, .. } => new(*severity, "dc802438bc7f47bfad7400a1fc2fd075"),
            Self::LeftOut { severity, .. } => new(*severity, "c13cf9ccdbe93063c3f531bb1bab2d5b"),
            // Traces for developers: a limit would hide what they look for.
            Self::Diagnostic { severity: Level::Debug, .. } => {
                new(Level::Debug, "ffdf6e205ad943ad943f10225cb4bfeb")
            }
            Self::Diagnostic { severity, .. } => {
                new(*severity, "ffdf6e205ad943ad943f10225cb4bfeb").flood_limited().folded()
            }
            Self::Stopping { .. } => new(Info, "9b853c5e391143bbb7a674b46773799b"),
        }
    }

    /// Its severity, by which `log.level` filters.
    pub fn level(&self) -> Level {
        self.spec().level
    }

    /// Whether the user of its process gets it by mail.
    pub(in crate::report) fn is_for_user(&self) -> bool {
        let Spec { subject: Some(subject), is_notified, is_early, .. } = self.spec() else { return false };
        match subject.notify_user {
            None => is_notified,
            Some(when) => (is_early && when.is_before()) || (is_notified && when.is_after()),
        }
    }

    /// The process that it is about, if it is about one that was confirmed.
    pub fn subject(&self) -> Option<&Subject> {
        self.spec().subject
    }

    /// The same, to add what was not known when it happened.
    pub(in crate::report) fn subject_mut(&mut self) -> Option<&mut Subject> {
        match self {
            Self::Culprit { subject, .. }
            | Self::Approaching { subject, .. }
            | Self::Killing { subject, .. }
            | Self::GraceOver { subject, .. }
            | Self::Delayed { subject, .. }
            | Self::Uncharged { subject, .. }
            | Self::Terminated { subject, .. }
            | Self::Spared { subject, .. }
            | Self::LetGo { subject, .. }
            | Self::NowProtected { subject, .. }
            | Self::OverButProtected { subject, .. }
            | Self::OverRule { subject, .. }
            | Self::Stopped { subject, .. }
            | Self::Continued { subject, .. }
            | Self::Unsure { subject, .. }
            | Self::DoubtEnded { subject, .. }
            | Self::OutOfReach { subject, .. }
            | Self::SignalFailed { subject, .. }
            | Self::Lingers { subject, .. } => Some(subject),
            _ => None,
        }
    }
}

const fn new(level: Level, message_id: &'static str) -> Spec<'static> {
    Spec {
        subject: None,
        level,
        message_id,
        is_flood_limited: false,
        is_folded: false,
        is_always_written: false,
        is_notified: false,
        is_early: false,
    }
}

/// A kind that is about a process, which always belongs to a user.
const fn about<'a>(subject: &'a Subject, level: Level, message_id: &'static str) -> Spec<'a> {
    Spec { subject: Some(subject), ..new(level, message_id).flood_limited() }
}

impl Spec<'_> {
    const fn flood_limited(self) -> Self {
        Self { is_flood_limited: true, ..self }
    }

    const fn folded(self) -> Self {
        Self { is_folded: true, ..self }
    }

    const fn always_written(self) -> Self {
        Self { is_always_written: true, ..self }
    }

    const fn early(self) -> Self {
        Self { is_early: true, ..self }
    }

    const fn notified(self) -> Self {
        self.notified_if(true)
    }

    const fn notified_if(self, is_notified: bool) -> Self {
        Self { is_notified, ..self }
    }
}

/// Memory that stays behind is for the administrator to free.
fn terminated(given_back: Option<&GivenBack>) -> Level {
    if given_back.is_some_and(|back| !back.left_behind.is_empty()) { Level::Warning } else { Level::Info }
}

const fn unconfirmed(why: &Unconfirmed) -> Level {
    match why {
        // A process that ends, or has only just been started, between two looks is everyday life.
        Unconfirmed::Gone | Unconfirmed::Borrowed { .. } | Unconfirmed::Thread { .. } => Level::Debug,
        Unconfirmed::AnotherProcess { .. } => Level::Info,
        Unconfirmed::Unreadable { .. } => Level::Warning,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::report::{samples, system_log};

    const CATALOG: &str = include_str!("../../../../systemd/memmon.catalog");

    fn id(event: &Event) -> &'static str {
        event.spec().message_id
    }

    #[test]
    fn there_is_a_sample_of_each_kind() {
        let rows = include_str!("spec.rs").split('"').filter(|text| {
            text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        let samples = samples::samples();
        assert_eq!(samples.iter().map(id).collect::<BTreeSet<_>>(), rows.collect());
    }

    /// Header and text by id, of a file as `journalctl --update-catalog` reads it (<https://systemd.io/CATALOG/>).
    fn catalog() -> BTreeMap<&'static str, (BTreeMap<&'static str, &'static str>, &'static str)> {
        let mut entries = BTreeMap::new();
        for entry in CATALOG.split("\n-- ").skip(1) {
            let (id, rest) = entry.split_once('\n').unwrap();
            let (header, text) = rest.split_once("\n\n").unwrap();
            let header = header.lines().map(|line| line.split_once(": ").unwrap()).collect();
            assert!(entries.insert(id, (header, text)).is_none(), "{id} twice");
        }
        entries
    }

    #[test]
    fn every_kind_of_event_is_explained_in_the_catalog_and_nothing_else() {
        let (catalog, samples) = (catalog(), samples::samples());
        let ids: BTreeSet<_> = samples.iter().map(id).collect();
        assert_eq!(catalog.keys().copied().collect::<BTreeSet<_>>(), ids);
        for (id, (header, text)) in catalog {
            assert!(
                id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
                "{id}"
            );
            assert_eq!(
                header.keys().copied().collect::<Vec<_>>(),
                ["Defined-By", "Documentation", "Subject"]
            );
            assert!(!text.trim().is_empty(), "{id}");
        }
    }

    #[test]
    fn ids_are_of_one_kind_each() {
        let mut kinds = BTreeMap::new();
        for event in samples::samples() {
            let kind = serde_json::to_value(&event).unwrap()["event"].to_string();
            assert_eq!(*kinds.entry(id(&event)).or_insert_with(|| kind.clone()), kind);
        }
    }

    #[test]
    fn the_readme_finds_terminations() {
        let samples = samples::samples();
        let ended = samples.iter().find(|event| matches!(event, Event::Terminated { .. })).unwrap();
        let readme = include_str!("../../../../README.md");
        assert!(readme.contains(&format!("journalctl MESSAGE_ID={}", id(ended))));
    }

    #[test]
    fn every_field_in_an_explanation_is_one_of_its_event() {
        let catalog = catalog();
        let mut unknown: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (id, (_, text)) in &catalog {
            // Between two at signs; the texts have none besides.
            unknown.insert(id, text.split('@').skip(1).step_by(2).collect());
        }
        for event in samples::samples() {
            let fields = system_log::field_names(&event);
            unknown.get_mut(id(&event)).unwrap().retain(|field| !fields.contains(*field));
        }
        unknown.retain(|_, fields| !fields.is_empty());
        assert_eq!(unknown, BTreeMap::new());
    }
}

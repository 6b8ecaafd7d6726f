//! The journal's MESSAGE_ID of each kind of event: `journalctl MESSAGE_ID=…` finds them all, and `journalctl -x`
//! explains them by systemd/memmon.catalog. An id is never changed and never used again.

use super::event::Event;

/// The id of `event`'s kind, 128 bits in hexadecimal (sd-id128(3)).
pub(super) const fn message_id(event: &Event) -> &'static str {
    match event {
        Event::Started { .. } => "e6c2347290b2427da0d487a090333ba5",
        Event::Degraded { .. } => "fff3a3bc790e49b7be9e24b4e78df03a",
        Event::SystemMemory { .. } => "7ab84727557a46609b94876ee905d2aa",
        Event::Killing { .. } => "840b317dabfb4557b7133b870608fdb2",
        Event::HeldBack { .. } => "eac705c9023249b982f895733304897b",
        Event::Uncharged { .. } => "32f9fbf639094e70a296d929ec83b0e9",
        Event::GraceOver { .. } => "023535654b124c9dab7fedc9991db12d",
        Event::Terminated { .. } => "f3289371f0d242f083ebf990973733dd",
        Event::Spared { .. } => "9bd891a25ca749c39cb1b22eb9c33288",
        Event::LetGo { .. } => "575ab26ca3df4be6b1208fb30ce29653",
        Event::NowProtected { .. } => "669bd588c0134c7b900857ce1f44bddb",
        Event::OverButProtected { .. } => "9ea472c093a94c6eb13f220a39759c80",
        Event::DryRunDay { .. } => "be0b87ba90e04ac6bf1a9370e95e50f0",
        Event::Unsure { .. } => "d2e68776039c46ec8d6c81fb4cff9a1b",
        Event::DoubtEnded { .. } => "861040031e414b22b41aa42c79215688",
        Event::Unconfirmed { .. } => "395e0906167c48969edf9349a416d9fd",
        Event::OutOfReach { .. } => "c446d3e4a8f14d4a944d2911fa83840b",
        Event::SignalFailed { .. } => "f13db7866a08438a97517a63a574b251",
        Event::Lingers { .. } => "be76648c06394736831073336a115e8e",
        Event::Disagreement { .. } => "2b0649a3e13b4759b555656312024777",
        Event::MapDefect { .. } => "73e065dad1d94c17a9ea76e2a36b25c7",
        Event::ScanComplete { .. } => "13d60b31557141109c9297a0d10f3b24",
        Event::Scheduled { .. } => "ce683f2b2e4d4919a5deaf45a9477f18",
        Event::Reloaded { .. } => "7ad4b93bb4a44dffa082209570101b6f",
        Event::ReloadFailed { .. } => "769ce80c90144fa6a3ba534125c3b9c6",
        Event::SinkTrouble { .. } => "826ce126e9bd49c99246e0cc1f6287ab",
        Event::Overflow { .. } => "063ee399c34c42b79ddc704b19eadf56",
        Event::Repeated { .. } => "dc802438bc7f47bfad7400a1fc2fd075",
        Event::LeftOut { .. } => "c13cf9ccdbe93063c3f531bb1bab2d5b",
        Event::Diagnostic { .. } => "ffdf6e205ad943ad943f10225cb4bfeb",
        Event::Approaching { .. } => "f0bf97345c694c08bf20aebf3aba3084",
        Event::OomKilled { .. } => "523c143f8f5949a5b67dea6eb12be6d1",
        Event::Stopping { .. } => "9b853c5e391143bbb7a674b46773799b",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::report::{samples, system_log};

    const CATALOG: &str = include_str!("../../../systemd/memmon.catalog");

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
        let catalog = catalog();
        let ids: BTreeSet<_> = samples::samples().iter().map(message_id).collect();
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
            assert_eq!(*kinds.entry(message_id(&event)).or_insert_with(|| kind.clone()), kind);
        }
    }

    #[test]
    fn the_readme_finds_terminations() {
        let samples = samples::samples();
        let ended = samples.iter().find(|event| matches!(event, Event::Terminated { .. })).unwrap();
        let readme = include_str!("../../../README.md");
        assert!(readme.contains(&format!("journalctl MESSAGE_ID={}", message_id(ended))));
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
            unknown.get_mut(message_id(&event)).unwrap().retain(|field| !fields.contains(*field));
        }
        unknown.retain(|_, fields| !fields.is_empty());
        assert_eq!(unknown, BTreeMap::new());
    }
}

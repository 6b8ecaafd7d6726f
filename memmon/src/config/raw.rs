//! The keys as they were typed, section by section.

use std::ops::Range;

use super::{
    keys::{
        History, Kernel, Log, Machine, Metrics, Notify, Rule, Scope, Settings, Status, Termination,
        Thresholds, Whitelist, Window, sections,
    },
    problems::Problems,
    toml_document::Document,
};

/// A configuration. v1's sections come first.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) thresholds: Thresholds,
    pub(super) whitelist: Whitelist,
    pub(super) settings: Settings,
    /// Each with the place of its heading.
    pub(super) schedule: Vec<(Window, Range<usize>)>,
    /// Each with the place of its heading.
    pub(super) rules: Vec<(Rule, Range<usize>)>,
    /// With the place of its heading if it is empty, because an empty section differs from a missing one.
    pub(super) scope: (Scope, Option<Range<usize>>),
    /// With the place of its heading if it is empty, because an empty section differs from a missing one.
    pub(super) machine: (Machine, Option<Range<usize>>),
    pub(super) kernel: Kernel,
    pub(super) termination: Termination,
    pub(super) log: Log,
    pub(super) status: Status,
    pub(super) history: History,
    pub(super) metrics: Metrics,
    pub(super) notify: Notify,
}

/// Reads `document`, and notes every key that is unknown or misplaced, and every value that its key cannot have.
pub(super) fn read(mut document: Document<'_>, problems: &mut Problems<'_>) -> Typed {
    let typed = Typed {
        thresholds: document.section(problems).0,
        whitelist: document.section(problems).0,
        settings: document.section(problems).0,
        schedule: document.sections(problems),
        rules: document.sections(problems),
        scope: document.section(problems),
        machine: document.section(problems),
        kernel: document.section(problems).0,
        termination: document.section(problems).0,
        log: document.section(problems).0,
        status: document.section(problems).0,
        history: document.section(problems).0,
        metrics: document.section(problems).0,
        notify: document.section(problems).0,
    };
    document.finish(&sections(), problems);
    typed
}

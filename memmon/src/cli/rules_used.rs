//! The rules that `explain` and `top` judge by, and where they come from.

use std::path::Path;

use jiff::Zoned;

use crate::{
    config::{self, Loaded, NameService},
    daemon::rules_of,
    model::configuration_files,
    policy::Rules,
    status::{Status, Text},
};

/// Rules with their source.
#[derive(Clone, Debug)]
pub(super) struct RulesUsed {
    pub(super) rules: Rules,
    /// The configuration file; `None` for the built-in defaults.
    pub(super) file: Option<Text>,
    /// The source as a phrase, safe to show.
    pub(super) source: String,
}

impl RulesUsed {
    /// The rules that the daemon judges by, if its answer has them.
    pub(super) fn of_daemon(status: &Status) -> Option<Self> {
        let rules = rules_of(status)?;
        let file = status.config.file.clone();
        let source = format!(
            "the running memmon (pid {}), from {}",
            status.pid,
            named(file.as_ref(), &status.config.fragments)
        );
        Some(Self { rules, file, source })
    }

    /// The rules that a configuration file has now; without a path those of the default file, or the built-in defaults.
    /// `why` is the reason why the daemon's rules are not used, unless the user chose the file.
    pub(super) fn of_file(path: Option<&Path>, why: Option<&str>) -> anyhow::Result<Self> {
        let Loaded { mut settings, origin, fragments, .. } = config::load(path, &NameService)?;
        settings.follow(&Zoned::now());
        let file = origin.as_deref().map(Text::path);
        let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
        let fragments: Vec<_> = fragments.iter().map(|path| Text::path(path)).collect();
        let source = named(file.as_ref(), &fragments) + &why;
        Ok(Self { rules: settings.rules, file, source })
    }
}

fn named(file: Option<&Text>, fragments: &[Text]) -> String {
    let main = file.map_or("the built-in defaults", Text::as_str);
    configuration_files(main, fragments.iter().map(ToString::to_string))
}

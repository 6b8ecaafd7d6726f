//! What `--for-packages` adds: the tools that make packages, and the programs that criticise them.

use super::plan::{Facts, Family, Step};
use crate::package::{LINTERS, Tool};

/// What packaging lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacks {
    pub(super) tools: Vec<Tool>,
    pub(super) critics: Vec<&'static str>,
}

/// Adds to `steps` what gets all that is lacked here.
///
/// The critics are Debian's; where they are not to be had packages are made all the same, and it is said that nobody read
/// them.
pub(super) fn add(steps: &mut Vec<Step>, lacks: &Lacks, facts: &Facts) {
    if facts.family == Family::Debian && !lacks.critics.is_empty() {
        if !facts.apt_updated && !steps.contains(&Step::AptUpdate) {
            steps.insert(0, Step::AptUpdate);
        }
        steps.push(Step::AptInstall(lacks.critics.iter().map(|name| (*name).to_owned()).collect()));
    }
    steps.extend(lacks.tools.iter().copied().map(Step::CargoTool));
}

/// The critics that are not there, by `is_there`.
pub(super) fn missing_critics(is_there: impl Fn(&str) -> bool) -> Vec<&'static str> {
    LINTERS.into_iter().filter(|name| !is_there(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{Kind, missing_tools};

    fn facts(family: Family) -> Facts {
        Facts { family, ..super::super::plan::tests::bookworm() }
    }

    #[test]
    fn what_is_lacked_is_installed_and_critics_only_where_there_are_any() {
        let tool = Kind::Deb.tool().unwrap();
        let lacks = Lacks { tools: vec![tool], critics: missing_critics(|name| name == "lintian") };
        let lines = |family| {
            let mut steps = Vec::new();
            add(&mut steps, &lacks, &facts(family));
            steps.iter().map(Step::to_string).collect::<Vec<_>>()
        };
        let cargo_deb = "cargo install --locked --debug cargo-deb --version 3.8.0";
        assert_eq!(
            lines(Family::Debian),
            ["apt-get update", "apt-get install --yes --no-install-recommends rpmlint rpm", cargo_deb]
        );
        assert_eq!(lines(Family::Fedora), [cargo_deb]);
        // What needs no tool lacks none.
        assert_eq!(missing_tools(&[Kind::Tar]), []);
    }
}

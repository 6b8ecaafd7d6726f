//! The steps of `--for-packages`: install the tools that make packages, and the programs that check them.

use super::plan::{Facts, Family, Lists, Step};
use crate::{
    cargo_tools::{self, LINTERS, Tool},
    shell,
};

/// The missing tools for packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacks {
    pub(super) tools: Vec<Tool>,
    pub(super) linters: Vec<&'static str>,
}

impl Lacks {
    /// Looks at this machine.
    pub(super) fn look() -> Self {
        Self {
            tools: cargo_tools::ALL.into_iter().filter(|tool| !tool.is_installed()).collect(),
            linters: LINTERS.into_iter().filter(|name| shell::find(name).is_none()).collect(),
        }
    }
}

/// Adds the steps that install what is missing, after everything else: the BPF half does not wait for it.
///
/// The linters are Debian's; on other distributions packages are made without them, and `cargo xtask package` prints that.
pub(super) fn add(steps: &mut Vec<Step>, lacks: &Lacks, facts: &Facts) {
    if *steps == [Step::AptUpdate] {
        return; // the needs of the BPF half are not known yet, and come first
    }
    if facts.family == Family::Debian && !lacks.linters.is_empty() {
        if facts.lists == Lists::Unknown && !steps.contains(&Step::AptUpdate) {
            steps.insert(0, Step::AptUpdate);
        }
        steps.push(Step::AptInstall(lacks.linters.iter().map(|name| (*name).to_owned()).collect()));
    }
    steps.extend(lacks.tools.iter().copied().map(Step::CargoTool));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(family: Family) -> Facts {
        Facts { family, ..super::super::plan::tests::bookworm() }
    }

    fn lines(steps: &[Step]) -> Vec<String> {
        steps.iter().map(Step::to_string).collect()
    }

    const CARGO_DEB: &str = "cargo install --locked --debug cargo-deb --version 3.8.0";

    #[test]
    fn missing_tools_are_installed_and_linters_only_on_debian() {
        let lacks = Lacks { tools: vec![cargo_tools::DEB], linters: vec!["rpmlint", "rpm"] };
        let added = |family| {
            let mut steps = Vec::new();
            add(&mut steps, &lacks, &facts(family));
            lines(&steps)
        };
        assert_eq!(
            added(Family::Debian),
            [
                super::super::plan::tests::UPDATE,
                "apt-get install --yes --no-install-recommends rpmlint rpm",
                CARGO_DEB
            ]
        );
        assert_eq!(added(Family::Fedora), [CARGO_DEB]);
    }

    #[test]
    fn the_bpf_half_does_not_wait_for_what_packages_need() {
        let lacks = Lacks { tools: vec![cargo_tools::DEB], linters: LINTERS.to_vec() };
        // Until the lists are updated for the BPF half, nothing else is installed.
        let mut undecided = vec![Step::AptUpdate];
        add(&mut undecided, &lacks, &facts(Family::Debian));
        assert_eq!(undecided, [Step::AptUpdate]);
        let facts = Facts { lists: Lists::Current, ..facts(Family::Debian) };
        let mut steps =
            vec![Step::AptInstall(vec!["llvm-22-dev".to_owned()]), Step::CargoLinker { llvm: 22 }];
        add(&mut steps, &lacks, &facts);
        assert_eq!(steps[1], Step::CargoLinker { llvm: 22 });
        assert_eq!(
            lines(&steps[2..]),
            ["apt-get install --yes --no-install-recommends lintian rpmlint rpm", CARGO_DEB]
        );
    }
}

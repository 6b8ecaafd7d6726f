//! `[machine]`: when the machine as a whole is short of memory. Without the section memmon does not ask.

use std::ops::Range;

use toml::Spanned;

use super::{
    keys,
    toml_document::{Given, Keys},
    values::Reader,
};
use crate::{
    model::Bytes,
    policy::machine::{Levels, MachineLimits},
};

/// A level for a warning that is not given is this many times as far away.
const WARNS_AT: f64 = 2.0;

impl Reader<'_, '_> {
    /// The levels; `None` without the section. `heading`: the place of that, if nothing is below it.
    pub(super) fn machine(
        &mut self,
        (typed, heading): (keys::Machine, Option<Range<usize>>),
    ) -> Option<MachineLimits> {
        if heading.is_none() && typed.shown().iter().all(Option::is_none) {
            return None;
        }
        let keys::Machine { levels: typed, warn: typed_warn, stop_writers } = typed;
        let place = typed.available_percent.as_ref().map_or_else(|| heading.unwrap_or(0..0), Spanned::span);
        let mut usual = levels(&Keys::defaults(), &Levels::default());
        // A percentage that was not asked for would be the higher level on a large machine.
        let has_gb = typed.available_gb.as_ref().is_some_and(|typed| typed.get_ref().is_some());
        usual.available_percent = usual.available_percent.filter(|_| !has_gb);
        let act = levels(&typed, &usual);
        if act.available_percent.is_none() && act.available.is_none() {
            let help = "set available_percent or available_gb: no other level counts without it";
            self.problems.add(place, "[machine] has no level for available memory", help);
            return None;
        }
        let typed_warn = typed_warn.unwrap_or_default();
        let farther = |percent: Option<f64>| percent.map(|percent| (WARNS_AT * percent).min(100.0));
        let nearer = |percent: Option<f64>| percent.map(|percent| percent / WARNS_AT);
        let usual = Levels {
            available_percent: farther(act.available_percent),
            available: act.available.map(|bytes| bytes.times(WARNS_AT)),
            swap_free_percent: farther(act.swap_free_percent),
            pressure_some: nearer(act.pressure_some),
            pressure_full: nearer(act.pressure_full),
        };
        let warn = levels(&typed_warn, &usual);
        let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.0 as f64);
        let pairs = [
            (warn.available_percent, act.available_percent, f64::lt as Later),
            (bytes(warn.available), bytes(act.available), f64::lt),
            (warn.swap_free_percent, act.swap_free_percent, f64::lt),
            (warn.pressure_some, act.pressure_some, f64::gt),
            (warn.pressure_full, act.pressure_full, f64::gt),
        ];
        let keys::Levels { available_percent, available_gb, swap_free_percent, pressure_some, pressure_full } =
            &typed_warn;
        let typed = [available_percent, available_gb, swap_free_percent, pressure_some, pressure_full];
        for ((key, typed), (warns, acts, is_later)) in keys::Levels::keys().iter().zip(typed).zip(pairs) {
            if let (Some(typed), Some(warns), Some(acts)) = (typed, warns, acts)
                && is_later(&warns, &acts)
            {
                let key = key.name;
                let help = format!("memmon would act before it warns: {key} of [machine] is reached first");
                self.refuse(key, &typed.span(), help);
            }
        }
        Some(MachineLimits { warn, act, stop_writers: stop_writers.is_some_and(Spanned::into_inner) })
    }
}

type Later = fn(&f64, &f64) -> bool;

/// The levels that are `typed`, and the `usual` ones for keys that are left out.
fn levels(typed: &keys::Levels, usual: &Levels) -> Levels {
    let keys::Levels { available_percent, available_gb, swap_free_percent, pressure_some, pressure_full } =
        typed;
    let level = |typed: &Given<Option<f64>>, usual| typed.as_ref().map_or(usual, |typed| *typed.get_ref());
    Levels {
        available_percent: level(available_percent, usual.available_percent),
        available: available_gb.as_ref().map_or(usual.available, |typed| typed.get_ref().map(Bytes::from_gb)),
        swap_free_percent: level(swap_free_percent, usual.swap_free_percent),
        pressure_some: level(pressure_some, usual.pressure_some),
        pressure_full: level(pressure_full, usual.pressure_full),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{error, parsed};
    use super::*;

    fn machine(text: &str) -> Option<MachineLimits> {
        parsed(text).settings.machine
    }

    #[test]
    fn it_is_off_without_the_section_and_on_with_an_empty_one() {
        assert_eq!(machine(""), None);
        let MachineLimits { warn, act, stop_writers } = machine("[machine]").unwrap();
        assert!(!stop_writers);
        assert!(machine("[machine]\nstop_writers = true").unwrap().stop_writers);
        let levels = |available, swap, full| Levels {
            available_percent: Some(available),
            available: None,
            swap_free_percent: Some(swap),
            pressure_some: None,
            pressure_full: Some(full),
        };
        assert_eq!((warn, act), (levels(10.0, 20.0, 10.0), levels(5.0, 10.0, 20.0)));
        assert_eq!(machine("[machine]\navailable_percent = 5"), machine("[machine]"));
    }

    #[test]
    fn gigabytes_alone_leave_no_percentage() {
        let MachineLimits { warn, act, .. } =
            machine("[machine]\navailable_gb = 1.5\npressure_full = 0").unwrap();
        assert_eq!((act.available_percent, act.available), (None, Some(Bytes(3 * Bytes::GIB / 2))));
        assert_eq!((warn.available_percent, warn.available), (None, Some(Bytes(3 * Bytes::GIB))));
        assert_eq!((warn.pressure_full, act.pressure_full), (None, None));
        assert_eq!(machine("[machine]\navailable_gb = 0"), machine("[machine]"), "that is the default");
    }

    #[test]
    fn a_warning_has_levels_of_its_own() {
        let text = "[machine]\nswap_free_percent = 50\npressure_some = 60\n\
                    warn = { available_percent = 7, pressure_some = 25 }";
        let MachineLimits { warn, act, .. } = machine(text).unwrap();
        assert_eq!((warn.available_percent, warn.swap_free_percent), (Some(7.0), Some(100.0)));
        assert_eq!((warn.pressure_some, act.pressure_some), (Some(25.0), Some(60.0)));
    }

    #[test]
    fn nonsense_is_refused() {
        let printed = |text: &str| error(text).lines().map(str::trim).collect::<Vec<_>>().join("\n");
        for (text, expected) in [
            ("[machine]\navailable_percent = 0", "has no level for available memory"),
            ("[machine]\navailable_percent = 51", "from 0.1 to 50"),
            ("[machine]\npressure_full = 101", "from 0.01 to 100"),
            ("[machine]\nwarn = { available_percent = 3 }", "memmon would act before it warns"),
            ("[machine]\nwarn = { pressure_full = 30 }", "memmon would act before it warns"),
            ("[machine]\nwarn = { pressure_ful = 30 }", "did you mean `pressure_full`?"),
            ("[machine]\nwarn = 10", "write warn = { available_percent = 10.0 }"),
            ("[machine]\navailable = 10", "did you mean `available_"),
        ] {
            let printed = printed(text);
            assert!(printed.contains(expected), "{text}: {printed}");
        }
    }
}

//! `[machine]`: when the machine as a whole is short of memory. Without the section memmon does not ask.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use super::{
    raw,
    resolve::{GBS, PERCENTS},
    values::Reader,
};
use crate::{
    model::Bytes,
    policy::machine::{Levels, MachineLimits},
};

/// The default levels at which memmon acts, in percent.
const AVAILABLE: f64 = 5.0;
const SWAP_FREE: f64 = 10.0;
const PRESSURE_FULL: f64 = 20.0;

/// A level for a warning that is not given is this many times as far away.
const WARNS_AT: f64 = 2.0;

/// Above half of it, available memory is no sign of a shortage.
const AVAILABLES: RangeInclusive<f64> = 0.1..=50.0;

impl Reader<'_, '_> {
    /// The levels; `None` without the section. `heading`: the place of that, if nothing is below it.
    pub(super) fn machine(
        &mut self,
        (typed, heading): (raw::Machine, Option<Range<usize>>),
    ) -> Option<MachineLimits> {
        let raw::Machine { levels: typed, warn: typed_warn, stop_writers } = typed;
        if typed.is_empty() && typed_warn.is_none() && stop_writers.is_none() && heading.is_none() {
            return None;
        }
        // A percentage that was not asked for would be the higher level on a large machine.
        let available = if typed.available_gb.is_some() { None } else { Some(AVAILABLE) };
        let place = typed.available_percent.as_ref().map_or_else(|| heading.unwrap_or(0..0), Spanned::span);
        let act = self.levels(&typed, |level| match level {
            Level::AvailablePercent => available,
            Level::SwapFree => Some(SWAP_FREE),
            Level::PressureFull => Some(PRESSURE_FULL),
            Level::AvailableGb | Level::PressureSome => None,
        });
        if act.available_percent.is_none() && act.available.is_none() {
            let help = "set available_percent or available_gb: no other level counts without it";
            self.problems.add(place, "[machine] has no level for available memory", help);
            return None;
        }
        let gb = act.available.map(|bytes| bytes.0 as f64 / Bytes::GIB as f64);
        let typed_warn = typed_warn.unwrap_or_default();
        let warn = self.levels(&typed_warn, |level| match level {
            Level::AvailablePercent => act.available_percent.map(|percent| (WARNS_AT * percent).min(100.0)),
            Level::AvailableGb => gb.map(|gb| WARNS_AT * gb),
            Level::SwapFree => act.swap_free_percent.map(|percent| (WARNS_AT * percent).min(100.0)),
            Level::PressureSome => act.pressure_some.map(|percent| percent / WARNS_AT),
            Level::PressureFull => act.pressure_full.map(|percent| percent / WARNS_AT),
        });
        let raw::Levels { available_percent, available_gb, swap_free_percent, pressure_some, pressure_full } =
            &typed_warn;
        let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.0 as f64);
        for (key, typed, warns, acts, is_later) in [
            (
                "available_percent",
                available_percent,
                warn.available_percent,
                act.available_percent,
                f64::lt as Later,
            ),
            ("available_gb", available_gb, bytes(warn.available), bytes(act.available), f64::lt),
            ("swap_free_percent", swap_free_percent, warn.swap_free_percent, act.swap_free_percent, f64::lt),
            ("pressure_some", pressure_some, warn.pressure_some, act.pressure_some, f64::gt),
            ("pressure_full", pressure_full, warn.pressure_full, act.pressure_full, f64::gt),
        ] {
            if let (Some(typed), Some(warns), Some(acts)) = (typed, warns, acts)
                && is_later(&warns, &acts)
            {
                let help = format!("memmon would act before it warns: {key} of [machine] is reached first");
                self.refuse(key, &typed.span(), help);
            }
        }
        let stop_writers = stop_writers.is_some_and(Spanned::into_inner);
        Some(MachineLimits { warn, act, stop_writers })
    }

    fn levels(&mut self, typed: &raw::Levels, default: impl Fn(Level) -> Option<f64>) -> Levels {
        let raw::Levels { available_percent, available_gb, swap_free_percent, pressure_some, pressure_full } =
            typed;
        let mut level = |level, typed: &Option<Spanned<f64>>| {
            let (key, unit, range) = match level {
                Level::AvailablePercent => {
                    ("available_percent", "percent of all memory, or 0 for none", AVAILABLES)
                }
                Level::AvailableGb => ("available_gb", "gigabytes of 2^30 bytes, or 0 for none", GBS),
                Level::SwapFree => ("swap_free_percent", "percent of all swap, or 0 for none", PERCENTS),
                Level::PressureSome => ("pressure_some", "percent of the time, or 0 for none", PERCENTS),
                Level::PressureFull => ("pressure_full", "percent of the time, or 0 for none", PERCENTS),
            };
            match typed {
                None => default(level),
                Some(typed) if *typed.get_ref() == 0.0 => None,
                Some(typed) => self.number(key, typed, unit, &range),
            }
        };
        Levels {
            available_percent: level(Level::AvailablePercent, available_percent),
            available: level(Level::AvailableGb, available_gb).map(Bytes::from_gb),
            swap_free_percent: level(Level::SwapFree, swap_free_percent),
            pressure_some: level(Level::PressureSome, pressure_some),
            pressure_full: level(Level::PressureFull, pressure_full),
        }
    }
}

type Later = fn(&f64, &f64) -> bool;

/// A key of [`Levels`].
#[derive(Clone, Copy)]
enum Level {
    AvailablePercent,
    AvailableGb,
    SwapFree,
    PressureSome,
    PressureFull,
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
            ("[machine]\nwarn = 10", "write warn = { available_percent = 10 }"),
            ("[machine]\navailable = 10", "did you mean `available_"),
        ] {
            let printed = printed(text);
            assert!(printed.contains(expected), "{text}: {printed}");
        }
    }
}

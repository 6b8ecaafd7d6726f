//! The effect of the limits on a machine with so much memory.

use super::{Concern, Settings, Warning, resolve::default_limits};
use crate::{
    model::Bytes,
    policy::{
        Limits,
        machine::{Levels, MachineLimits},
    },
};

/// Below it the default share is exceeded by a browser, a compiler, or a language server.
const SMALL: Bytes = Bytes(Bytes::GIB / 4);

impl Settings {
    /// Probable mistakes in the limits, on a machine with `total` memory.
    pub fn concerns_with(&self, total: Bytes) -> Vec<Warning> {
        let otherwise = &self.schedule.otherwise.limits;
        let mut concerns: Vec<_> = concern(otherwise, total).into_iter().collect();
        let windows = self.schedule.windows.iter();
        for concern in windows.filter_map(|window| concern_in_window(&window.pace.limits, otherwise, total)) {
            if !concerns.contains(&concern) {
                concerns.push(concern);
            }
        }
        concerns.extend(self.machine.as_ref().and_then(|limits| beyond_half(limits, total)));
        concerns.into_iter().map(Warning::general).collect()
    }
}

/// A level of `[machine]` in gigabytes that is more than half of this machine's memory.
fn beyond_half(limits: &MachineLimits, total: Bytes) -> Option<Concern> {
    let most = Levels::most(total);
    let level = limits.act.available.filter(|level| total > Bytes::ZERO && *level > most)?;
    Some(Concern::MoreThanHalf { level, most })
}

/// A limit that a window raised, where the other one is left as it is `otherwise`, and is the lower one.
fn concern_in_window(limits: &Limits, otherwise: &Limits, total: Bytes) -> Option<Concern> {
    let Concern::LimitWithoutEffect { raised, key, limit } = concern(limits, total)? else { return None };
    let is_gb = raised == "ram_gb_threshold";
    let raised = if is_gb && limits.bytes() != otherwise.bytes() && limits.percent() == otherwise.percent() {
        "schedule.ram_gb_threshold"
    } else if !is_gb && limits.percent() != otherwise.percent() && limits.bytes() == otherwise.bytes() {
        "schedule.ram_percent_threshold"
    } else {
        return None;
    };
    Some(Concern::LimitWithoutEffect { raised, key, limit })
}

fn concern(limits: &Limits, total: Bytes) -> Option<Concern> {
    let share = limits.share_of(total);
    if total == Bytes::ZERO {
        return None;
    }
    let usual = default_limits()?;
    let (is_default_percent, is_default_gb) =
        (limits.percent() == usual.percent(), limits.bytes() == usual.bytes());
    let (raised, key) = ("ram_gb_threshold", "ram_percent_threshold");
    if share < limits.bytes() && is_default_percent && limits.bytes() > usual.bytes() {
        Some(Concern::LimitWithoutEffect { raised, key, limit: share })
    } else if limits.bytes() < share && is_default_gb && limits.percent() > usual.percent() {
        let (raised, key) = (key, raised);
        Some(Concern::LimitWithoutEffect { raised, key, limit: limits.bytes() })
    } else if share < limits.bytes() && is_default_percent && share < SMALL {
        Some(Concern::SmallLimit { limit: share, total })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::parsed;

    const GB: u64 = Bytes::GIB;

    #[test]
    fn a_window_that_raises_one_limit_of_two_is_warned_of() {
        for (text, warned) in [
            (
                "[[schedule]]\nram_gb_threshold = 16",
                "schedule.ram_gb_threshold has no effect on this machine: ram_percent",
            ),
            (
                "[[schedule]]\nram_percent_threshold = 50",
                "schedule.ram_percent_threshold has no effect on this machine: ram_gb",
            ),
            ("[[schedule]]\nram_gb_threshold = 16\nram_percent_threshold = 50", ""),
            ("[[schedule]]\ncheck_interval = 5", ""),
            (
                "[thresholds]\nram_gb_threshold = 16\n[[schedule]]\ncheck_interval = 5",
                "ram_gb_threshold has no effect on this machine: ram_percent",
            ),
        ] {
            let concerns = parsed(text).settings.concerns_with(Bytes(16 * GB));
            let printed: Vec<_> = concerns.iter().map(ToString::to_string).collect();
            assert_eq!(printed.len(), usize::from(!warned.is_empty()), "{text}: {printed:?}");
            assert!(printed.concat().starts_with(warned), "{text}: {printed:?}");
        }
    }

    #[test]
    fn a_level_of_the_machine_that_is_more_than_half_of_it_is_warned_of() {
        let printed = |text, total| {
            let concerns = parsed(text).settings.concerns_with(total);
            concerns.iter().map(ToString::to_string).collect::<String>()
        };
        insta::assert_snapshot!(printed("[machine]\navailable_gb = 9", Bytes(16 * GB)), @"available_gb of [machine] is 9.00GB, more than half of this machine's memory: the half counts instead, and memmon ends processes with less than 8.00GB available; available_percent fits machines of any size");
        assert_eq!(printed("[machine]\navailable_gb = 8", Bytes(16 * GB)), "");
        assert_eq!(printed("[machine]\navailable_gb = 9", Bytes::ZERO), "");
    }

    #[test]
    fn a_limit_that_changes_nothing_and_a_small_machine_are_warned_of() {
        let text = |percent, gb, total| {
            let limits = Limits::new(percent, Bytes::from_gb(gb)).unwrap();
            concern(&limits, Bytes(total)).map(|concern| concern.to_string()).unwrap_or_default()
        };
        insta::assert_snapshot!(text(10.0, 16.0, 47 * GB / 2), @"ram_gb_threshold has no effect on this machine: ram_percent_threshold is the lower limit, 2.35GB, and a process that exceeds either is over the limit; set both");
        insta::assert_snapshot!(text(50.0, 2.0, 64 * GB), @"ram_percent_threshold has no effect on this machine: ram_gb_threshold is the lower limit, 2.00GB, and a process that exceeds either is over the limit; set both");
        insta::assert_snapshot!(text(10.0, 2.0, GB), @"the limit is 0.10GB here, the default share of 1.00GB of memory, which many programs exceed: set ram_percent_threshold to what a process may have on this machine");
        for (percent, gb, total) in [
            (10.0, 2.0, 16 * GB),
            (10.0, 2.0, 64 * GB),
            (10.0, 2.0, 0),
            // Both were set: one of them is always the lower one.
            (20.0, 16.0, 32 * GB),
            (20.0, 4.0, 64 * GB),
            // Limits that were set, or lowered, count as they are.
            (10.0, 16.0, 256 * GB),
            (10.0, 1.0, 64 * GB),
            (5.0, 2.0, GB),
            (50.0, 2.0, GB),
        ] {
            assert_eq!(text(percent, gb, total), "", "{percent} {gb} {total}");
        }
    }
}

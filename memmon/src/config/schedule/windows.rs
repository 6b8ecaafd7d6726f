//! `[[schedule]]` as it was typed → windows that can be meant.

use std::ops::Range;

use toml::Spanned;

use super::{Days, Minute, Pace, SHORT, Schedule, Window};
use crate::config::{hints::nearest, keys, toml_document::List, values::Reader};

impl Reader<'_, '_> {
    /// The windows, with what they leave out taken from `otherwise`.
    pub(in crate::config) fn schedule(
        &mut self,
        typed: Vec<(keys::Window, Range<usize>)>,
        otherwise: Pace,
    ) -> Schedule {
        let mut windows = Vec::new();
        for (window, place) in typed {
            let Some(window) = self.window(window, &place, otherwise) else { continue };
            if window.has_a_turn_after(&windows) {
                windows.push(window);
            } else {
                let help =
                    "those above it cover it, and the first one decides: put it before them, or remove it";
                self.problems.add(place, "this window never has its turn", help);
            }
        }
        Schedule { otherwise, windows }
    }

    fn window(&mut self, typed: keys::Window, place: &Range<usize>, otherwise: Pace) -> Option<Window> {
        let keys::Window { days, from, to, check_interval, ram_percent_threshold, ram_gb_threshold } = typed;
        if check_interval.is_none() && ram_percent_threshold.is_none() && ram_gb_threshold.is_none() {
            let help = "give it a check_interval, ram_percent_threshold or ram_gb_threshold";
            let is_flawed = !self.problems.failed(place).is_empty();
            self.add_unless(is_flawed, place, "this window changes nothing", help);
            return None;
        }
        let days = days.map_or(Some(Days::EVERY), |list| self.days(&list));
        let from = from.map_or(Some(Minute::START), Spanned::into_inner);
        let end = to.as_ref().map(Spanned::span);
        let to = to.map_or(Some(Minute::END), Spanned::into_inner);
        let check_interval = check_interval.map_or(otherwise.check_interval, Spanned::into_inner);
        let limits = self.limits(ram_percent_threshold, ram_gb_threshold, otherwise.limits);
        let (days, from, to) = (days?, from?, to?);
        if from == to || from == Minute::END {
            let help = "a window ends after it begins, on the next day perhaps; for all day leave out both";
            self.problems.add(
                end.unwrap_or_else(|| place.clone()),
                format!("nothing is from {from} to {to}"),
                help,
            );
            return None;
        }
        Some(Window { days, from, to, pace: Pace { check_interval, limits: limits? } })
    }

    fn days(&mut self, list: &List<String>) -> Option<Days> {
        if list.entries.is_empty() {
            let help = "name at least one, or remove the key: then it is every day";
            self.problems.add(list.span.clone(), "`days` is an empty list", help);
            return None;
        }
        let mut days = Some(Days::default());
        for (entry, span) in self.entries(list) {
            match Days::parse(entry) {
                Ok(more) => days = days.map(|days| days.and(more)),
                Err(word) => {
                    days = None;
                    let help = match nearest(word, SHORT.into_iter()) {
                        Some(day) => format!("did you mean \"{}\"?", entry.replace(word, day)),
                        None => format!("expected days, \"mon-fri\", of {}", SHORT.join(", ")),
                    };
                    self.refuse(list.name(), &span, help);
                }
            }
        }
        days
    }
}

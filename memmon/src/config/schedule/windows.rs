//! `[[schedule]]` as it was typed → windows that can be meant.

use std::ops::Range;

use toml::Spanned;

use super::{Days, Minute, Pace, SHORT, Schedule, Window};
use crate::config::{hints::nearest, raw, resolve::INTERVALS, toml_document::List, values::Reader};

impl Reader<'_, '_> {
    /// The windows, with what they leave out taken from `otherwise`.
    pub(in crate::config) fn schedule(
        &mut self,
        typed: Vec<(raw::Window, Range<usize>)>,
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

    fn window(&mut self, typed: raw::Window, place: &Range<usize>, otherwise: Pace) -> Option<Window> {
        let raw::Window { days, from, to, check_interval, ram_percent_threshold, ram_gb_threshold } = typed;
        if check_interval.is_none() && ram_percent_threshold.is_none() && ram_gb_threshold.is_none() {
            let help = "give it a check_interval, ram_percent_threshold or ram_gb_threshold";
            self.problems.add(place.clone(), "this window changes nothing", help);
            return None;
        }
        let days = days.map_or(Some(Days::EVERY), |list| self.days(&list));
        let starts = from.map_or(Some(Minute::START), |typed| self.minute("from", &typed));
        let (end, ends) = match to {
            Some(typed) => (Some(typed.span()), self.minute("to", &typed)),
            None => (None, Some(Minute::END)),
        };
        let interval = check_interval.map_or(Some(otherwise.check_interval), |typed| {
            self.seconds("check_interval", Some(typed), "seconds between scans", INTERVALS)
        });
        let limits = self.limits(ram_percent_threshold, ram_gb_threshold, otherwise.limits);
        let (days, from, to) = (days?, starts?, ends?);
        if from == to || from == Minute::END {
            let help = "a window ends after it begins, on the next day perhaps; for all day leave out both";
            self.problems.add(
                end.unwrap_or_else(|| place.clone()),
                format!("nothing is from {from} to {to}"),
                help,
            );
            return None;
        }
        Some(Window { days, from, to, pace: Pace { check_interval: interval?, limits: limits? } })
    }

    fn days(&mut self, list: &List<String>) -> Option<Days> {
        if list.get_ref().is_empty() {
            let help = "name at least one, or remove the key: then it is every day";
            self.problems.add(list.span(), "`days` is an empty list", help);
            return None;
        }
        let mut days = Some(Days::default());
        for (entry, span) in self.entries("schedule.days", list) {
            match Days::parse(entry) {
                Ok(more) => days = days.map(|days| days.and(more)),
                Err(word) => {
                    days = None;
                    let help = match nearest(word, SHORT.into_iter()) {
                        Some(day) => format!("did you mean \"{}\"?", entry.replace(word, day)),
                        None => format!("expected days, \"mon-fri\", of {}", SHORT.join(", ")),
                    };
                    self.refuse("days", &span, help);
                }
            }
        }
        days
    }

    fn minute(&mut self, key: &str, typed: &Spanned<String>) -> Option<Minute> {
        let minute = Minute::parse(typed.get_ref());
        if minute.is_none() {
            self.refuse(key, &typed.span(), "expected a time of day, \"09:00\" to \"24:00\"".to_owned());
        }
        minute
    }
}

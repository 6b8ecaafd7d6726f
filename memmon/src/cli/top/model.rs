//! The state of the screen: the last sample, and which of its rows are shown in which order.

use std::collections::HashMap;

use super::{
    groups::{Group, Grouping, groups},
    layout::Parts,
    overlay::Overlay,
    sample::{Sample, Track},
    sort::Sort,
};
use crate::{model::ProcessId, status::Row};

/// Processes over the limit that are not on the screen, by the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OverButHidden {
    /// The filter hides them.
    pub(super) filtered: usize,
    /// They are above or below the visible rows.
    pub(super) off_screen: usize,
    /// They have no row.
    pub(super) without_row: usize,
}

/// The whole state of the screen.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) size: (u16, u16),
    pub(super) sample: Option<Sample>,
    pub(super) trouble: Option<String>,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    pub(super) filter: String,
    /// Whether the user is typing the filter.
    pub(super) typing: bool,
    pub(super) frozen: bool,
    pub(super) grouping: Grouping,
    pub(super) overlay: Option<Overlay>,
    /// The selected process; if none, the first one.
    selected: Option<ProcessId>,
    /// The first row on the screen.
    first: usize,
    /// Indexes of the sample's rows in their order on the screen, without those that the filter hides.
    order: Vec<usize>,
    tracks: HashMap<ProcessId, Track>,
    /// The groups that pass the filter, in their order.
    groups: Vec<Group>,
    /// The name of the selected group; if none, the first one.
    selected_group: Option<String>,
}

impl Model {
    /// The rows that fit on the screen, and whether each is selected. The cost does not depend on the number of all rows.
    pub(super) fn visible(&self) -> impl Iterator<Item = (&Row, bool)> {
        let cursor = self.cursor();
        let rows = self.sample.as_ref().map_or(&[][..], |sample| &sample.table.rows);
        (self.first..)
            .zip(self.order.get(self.first..).unwrap_or_default())
            .take(self.page())
            .filter_map(move |(place, row)| Some((rows.get(*row)?, place == cursor)))
    }

    /// The groups that fit on the screen, and whether each is selected.
    pub(super) fn visible_groups(&self) -> impl Iterator<Item = (&Group, bool)> {
        let cursor = self.cursor();
        let groups = (0..).zip(&self.groups).skip(self.first).take(self.page());
        groups.map(move |(place, group)| (group, place == cursor))
    }

    /// The process under the cursor.
    pub(super) fn chosen(&self) -> Option<&Row> {
        if self.is_grouped() { None } else { self.row(self.cursor()) }
    }

    /// The group under the cursor.
    pub(super) fn chosen_group(&self) -> Option<&Group> {
        if self.is_grouped() { self.groups.get(self.cursor()) } else { None }
    }

    pub(super) fn is_grouped(&self) -> bool {
        self.grouping != Grouping::Processes
    }

    /// Number of rows, or of groups, that pass the filter.
    pub(super) fn count(&self) -> usize {
        if self.is_grouped() { self.groups.len() } else { self.order.len() }
    }

    /// The processes over the limit that are not on the screen.
    pub(super) fn over_but_hidden(&self) -> OverButHidden {
        let Some(Sample { table, .. }) = &self.sample else { return OverButHidden::default() };
        let is_over = |row: &&Row| row.limit(table.limit_bytes).is_some_and(|limit| row.rss_bytes > limit);
        let rows = table.rows.iter().filter(is_over).count();
        let listed = self.order.iter().filter_map(|row| table.rows.get(*row)).filter(is_over).count();
        let visible = self.visible().map(|(row, _)| row).filter(is_over).count();
        OverButHidden {
            filtered: rows.saturating_sub(listed),
            off_screen: listed.saturating_sub(visible),
            without_row: table.over.saturating_sub(rows),
        }
    }

    /// Growth of a row in bytes per second.
    pub(super) fn growth(&self, row: &Row) -> Option<f64> {
        // The daemon's figure, until there are two samples.
        let own = self.tracks.get(&row.id).and_then(|track| track.growth(row.error_bytes));
        own.or(row.growth.bytes_per_second)
    }

    /// Seconds until this row reaches its limit at its current growth.
    pub(super) fn left(&self, row: &Row) -> Option<f64> {
        let limit = row.limit(self.sample.as_ref()?.table.limit_bytes)?;
        let room = limit.0.checked_sub(row.rss_bytes.0)?;
        self.growth(row).filter(|growth| *growth >= 1.0).map(|growth| room as f64 / growth)
    }

    pub(super) fn track(&self, row: &Row) -> Option<&Track> {
        self.tracks.get(&row.id)
    }

    fn row(&self, place: usize) -> Option<&Row> {
        self.sample.as_ref()?.table.rows.get(*self.order.get(place)?)
    }

    pub(super) fn page(&self) -> usize {
        Parts::of(self.size.1).rows.into()
    }

    pub(super) fn cursor(&self) -> usize {
        if self.is_grouped() {
            let place = |name: &String| self.groups.iter().position(|group| group.name == *name);
            return self.selected_group.as_ref().and_then(place).unwrap_or_default();
        }
        let place = |id: ProcessId| {
            (0..self.order.len()).find(|place| self.row(*place).map(|row| row.id) == Some(id))
        };
        self.selected.and_then(place).unwrap_or_default()
    }

    pub(super) fn take(&mut self, sample: Sample) {
        let mut tracks = std::mem::take(&mut self.tracks);
        for row in &sample.table.rows {
            let mut track = tracks.remove(&row.id).unwrap_or_default();
            track.add(sample.at, row.rss_bytes);
            self.tracks.insert(row.id, track);
        }
        self.sample = Some(sample);
        self.arrange();
    }

    /// Sorts and filters the rows.
    pub(super) fn arrange(&mut self) {
        let Some(sample) = &self.sample else { return };
        let user = |row: &Row| sample.users.get(&row.uid).map_or("", String::as_str);
        let wanted = self.filter.to_lowercase();
        let shown = |row: &Row| {
            wanted.is_empty()
                || row.comm.as_str().to_lowercase().contains(&wanted)
                || user(row).to_lowercase().contains(&wanted)
                || row.id.pid.to_string().contains(&wanted)
                || row.verdict.to_string().contains(&wanted)
                || row.unit.as_ref().is_some_and(|unit| unit.as_str().to_lowercase().contains(&wanted))
                || row.rule.as_ref().is_some_and(|rule| rule.as_str().to_lowercase().contains(&wanted))
        };
        let rows = &sample.table.rows;
        let mut order: Vec<(usize, &Row, f64)> = (0..)
            .zip(rows)
            .filter(|(_, row)| shown(row))
            .map(|(place, row)| {
                let key = match self.sort {
                    Sort::Growth => -self.growth(row).unwrap_or(f64::NEG_INFINITY),
                    Sort::Left => self.left(row).unwrap_or(f64::INFINITY),
                    Sort::Memory | Sort::Pid | Sort::User | Sort::Name => 0.0,
                };
                (place, row, key)
            })
            .collect();
        order.sort_by(|(_, one, key), (_, other, other_key)| {
            let by = match self.sort {
                Sort::Memory | Sort::Growth | Sort::Left => key.total_cmp(other_key),
                Sort::Pid => one.id.pid.cmp(&other.id.pid),
                Sort::User => user(one).cmp(user(other)),
                Sort::Name => one.comm.cmp(&other.comm),
            };
            let by = by.then_with(|| other.rss_bytes.cmp(&one.rss_bytes)).then_with(|| one.id.cmp(&other.id));
            if self.reverse { by.reverse() } else { by }
        });
        self.order = order.into_iter().map(|(place, ..)| place).collect();
        let mut groups = groups(sample, self.grouping, self.sort, |row| self.growth(row));
        groups.retain(|group| wanted.is_empty() || group.name.to_lowercase().contains(&wanted));
        if self.reverse {
            groups.reverse();
        }
        if self
            .selected
            .is_some_and(|id| !self.order.iter().any(|row| rows.get(*row).map(|row| row.id) == Some(id)))
        {
            self.selected = None;
        }
        self.groups = groups;
        self.follow();
    }

    /// Shows processes in another kind of groups.
    pub(super) fn group(&mut self, grouping: Grouping) {
        self.grouping = grouping;
        (self.selected_group, self.first) = (None, 0);
        self.arrange();
    }

    /// Scrolls so that the cursor is visible.
    pub(super) fn follow(&mut self) {
        let (cursor, page) = (self.cursor(), self.page().max(1));
        let most = self.count().saturating_sub(page);
        self.first = self.first.clamp((cursor + 1).saturating_sub(page), cursor).min(most);
    }

    pub(super) fn move_to(&mut self, place: usize) {
        let place = place.min(self.count().saturating_sub(1));
        if self.is_grouped() {
            self.selected_group =
                self.groups.get(place).filter(|_| place > 0).map(|group| group.name.clone());
        } else {
            self.selected = if place == 0 { None } else { self.row(place).map(|row| row.id) };
        }
        self.follow();
    }
}

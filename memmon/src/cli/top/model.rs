//! The state of the screen, and its changes: [`update`] is pure, and each sample has its time.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::layout::{Parts, folded};
use crate::{
    model::{Bytes, ProcessId, Uid},
    status::{Row, Status, Table},
};

/// The machine at one time.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// Seconds since a fixed time.
    pub(super) at: f64,
    /// The processes.
    pub(super) table: Table,
    /// The daemon; none if top itself read /proc.
    pub(super) status: Option<Box<Status>>,
    /// What stands in for the daemon; none if there is one.
    pub(super) alone: Option<Alone>,
    /// The users' names, escaped.
    pub(super) users: BTreeMap<Uid, String>,
}

/// A look of top's own.
#[derive(Clone, Debug)]
pub(super) struct Alone {
    /// The reason why the daemon did not answer.
    pub(super) why: &'static str,
    /// The configuration that is used instead of the daemon's, safe to show.
    pub(super) rules_from: String,
}

/// An event for the screen.
#[derive(Debug)]
pub(super) enum Message {
    Key(KeyEvent),
    Sample(Box<Sample>),
    /// The sample failed.
    Trouble(String),
    /// The answer to [`Command::Explain`].
    Explained(ProcessId, String),
    /// The terminal's columns and rows.
    Size(u16, u16),
}

/// An action that follows from a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Quit,
    Explain(ProcessId),
}

/// The sort key of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Memory,
    Growth,
    Left,
    Pid,
    User,
    Name,
}

impl Sort {
    pub(super) const ALL: [Self; 6] =
        [Self::Memory, Self::Growth, Self::Left, Self::Pid, Self::User, Self::Name];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Growth => "growth",
            Self::Left => "left",
            Self::Pid => "pid",
            Self::User => "user",
            Self::Name => "name",
        }
    }

    const fn of_key(key: char) -> Option<Self> {
        match key {
            'm' => Some(Self::Memory),
            'g' => Some(Self::Growth),
            't' => Some(Self::Left),
            'p' => Some(Self::Pid),
            'u' => Some(Self::User),
            'n' => Some(Self::Name),
            _ => None,
        }
    }

    fn next(self) -> Self {
        let place = Self::ALL.iter().position(|one| *one == self).unwrap_or_default();
        Self::ALL.get(place + 1).copied().unwrap_or_default()
    }
}

/// A window over the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Overlay {
    Help {
        first: usize,
    },
    /// The explanation of a verdict; `text` is none until it arrives.
    Explanation {
        process: ProcessId,
        text: Option<String>,
        first: usize,
    },
}

const HELP: &str = "\
 up, down, j, k, page up, page down, home, end   choose a process
 enter    explain: every rule, the verdict, and what would change it
 space    freeze the screen, and let it go on
 /        show only what has this in its name, user, pid or verdict; esc: all
 s        sort by the next column; r: the other way round
 m g t p u n   sort by memory, growth, time left, pid, user, name
 q        quit

 RSS      resident memory: what limits are about
 CHARGED  what its end would give back, read for processes over the limit
 LIMIT    the share of its limit that a process uses
 GROWTH   bytes per second over the last ten seconds
 LEFT     until the limit, if it goes on growing like that
 VERDICT  what memmon would do with it now, or how far it is
 A narrow or low terminal has fewer columns and lines.
";

impl Overlay {
    /// What is in the window, as far as it is known.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Help { .. } => HELP,
            Self::Explanation { text, .. } => text.as_deref().unwrap_or_default(),
        }
    }

    /// The first line on the screen.
    pub(super) const fn first(&self) -> usize {
        match self {
            Self::Help { first } | Self::Explanation { first, .. } => *first,
        }
    }
}

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

/// Number of samples in a track.
const POINTS: usize = 32;
/// Growth is measured over this many seconds, or over two samples that are further apart.
const WINDOW: f64 = 10.0;

/// Resident memory of one process by sample: seconds and bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    points: VecDeque<(f64, Bytes)>,
}

impl Track {
    fn add(&mut self, at: f64, rss: Bytes) {
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back((at, rss));
    }

    /// Bytes per second over the last [`WINDOW`]; none for a single sample. A change within the counters' error is no growth.
    pub(super) fn growth(&self, error: Bytes) -> Option<f64> {
        let (now, last) = self.points.back()?;
        let recent = |(at, _): &&(f64, Bytes)| now - at <= WINDOW;
        let first = self.points.iter().find(recent).filter(|(at, _)| at < now);
        let (then, first) = first.or_else(|| self.points.iter().rev().nth(1))?;
        let grown = last.0 as f64 - first.0 as f64;
        let seconds = now - then;
        if seconds <= 0.0 {
            None
        } else if grown.abs() <= error.0 as f64 {
            Some(0.0)
        } else {
            Some(grown / seconds)
        }
    }

    /// The last `count` figures.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = Bytes> {
        self.points.iter().skip(self.points.len().saturating_sub(count)).map(|(_, rss)| *rss)
    }
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
    pub(super) overlay: Option<Overlay>,
    /// The selected process; if none, the first one.
    selected: Option<ProcessId>,
    /// The first row on the screen.
    first: usize,
    /// Indexes of the sample's rows in their order on the screen, without those that the filter hides.
    order: Vec<usize>,
    tracks: HashMap<ProcessId, Track>,
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

    /// The process under the cursor.
    pub(super) fn chosen(&self) -> Option<&Row> {
        self.row(self.cursor())
    }

    /// Number of rows that pass the filter.
    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    /// The processes over the limit that are not on the screen.
    pub(super) fn over_but_hidden(&self) -> OverButHidden {
        let Some(Sample { table, .. }) = &self.sample else { return OverButHidden::default() };
        let is_over = |row: &&Row| row.rss_bytes > table.limit_bytes;
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
        let room = self.sample.as_ref()?.table.limit_bytes.0.checked_sub(row.rss_bytes.0)?;
        self.growth(row).filter(|growth| *growth >= 1.0).map(|growth| room as f64 / growth)
    }

    pub(super) fn track(&self, row: &Row) -> Option<&Track> {
        self.tracks.get(&row.id)
    }

    fn row(&self, place: usize) -> Option<&Row> {
        self.sample.as_ref()?.table.rows.get(*self.order.get(place)?)
    }

    fn page(&self) -> usize {
        Parts::of(self.size.1).rows.into()
    }

    fn cursor(&self) -> usize {
        let place = |id: ProcessId| {
            (0..self.order.len()).find(|place| self.row(*place).map(|row| row.id) == Some(id))
        };
        self.selected.and_then(place).unwrap_or_default()
    }

    fn take(&mut self, sample: Sample) {
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
    fn arrange(&mut self) {
        let Some(sample) = &self.sample else { return };
        let user = |row: &Row| sample.users.get(&row.uid).map_or("", String::as_str);
        let wanted = self.filter.to_lowercase();
        let shown = |row: &Row| {
            wanted.is_empty()
                || row.comm.as_str().to_lowercase().contains(&wanted)
                || user(row).to_lowercase().contains(&wanted)
                || row.id.pid.to_string().contains(&wanted)
                || row.verdict.to_string().contains(&wanted)
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
        if self
            .selected
            .is_some_and(|id| !self.order.iter().any(|row| rows.get(*row).map(|row| row.id) == Some(id)))
        {
            self.selected = None;
        }
        self.follow();
    }

    /// Scrolls so that the cursor is visible.
    fn follow(&mut self) {
        let (cursor, page) = (self.cursor(), self.page().max(1));
        let most = self.order.len().saturating_sub(page);
        self.first = self.first.clamp((cursor + 1).saturating_sub(page), cursor).min(most);
    }

    fn move_to(&mut self, place: usize) {
        let place = place.min(self.order.len().saturating_sub(1));
        self.selected = if place == 0 { None } else { self.row(place).map(|row| row.id) };
        self.follow();
    }
}

/// Applies a message. Returns the new state, and a command to execute.
pub(super) fn update(mut model: Model, message: Message) -> (Model, Option<Command>) {
    let command = match message {
        Message::Key(key) => press(&mut model, key),
        Message::Sample(_) if model.frozen => None,
        Message::Sample(sample) => {
            model.trouble = None;
            model.take(*sample);
            None
        }
        Message::Trouble(text) => {
            model.trouble = Some(text);
            None
        }
        Message::Explained(process, found) => {
            if let Some(Overlay::Explanation { process: awaited, text, .. }) = &mut model.overlay
                && *awaited == process
            {
                *text = Some(found);
            }
            None
        }
        Message::Size(columns, rows) => {
            model.size = (columns, rows);
            model.follow();
            None
        }
    };
    (model, command)
}

fn press(model: &mut Model, key: KeyEvent) -> Option<Command> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Some(Command::Quit),
            _ => None,
        };
    }
    if model.typing {
        type_filter(model, key.code);
        return None;
    }
    if model.overlay.is_some() {
        return in_overlay(model, key.code);
    }
    let (cursor, page) = (model.cursor(), model.page());
    match key.code {
        KeyCode::Char('q') => return Some(Command::Quit),
        KeyCode::Esc if model.filter.is_empty() => return Some(Command::Quit),
        KeyCode::Esc => {
            model.filter.clear();
            model.arrange();
        }
        KeyCode::Char(' ') => model.frozen = !model.frozen,
        KeyCode::Char('/') => model.typing = true,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => model.overlay = Some(Overlay::Help { first: 0 }),
        KeyCode::Char('r') => {
            model.reverse = !model.reverse;
            model.arrange();
        }
        KeyCode::Char('s') => sort(model, model.sort.next()),
        KeyCode::Up | KeyCode::Char('k') => model.move_to(cursor.saturating_sub(1)),
        KeyCode::Down | KeyCode::Char('j') => model.move_to(cursor + 1),
        KeyCode::PageUp => model.move_to(cursor.saturating_sub(page)),
        KeyCode::PageDown => model.move_to(cursor + page),
        KeyCode::Home => model.move_to(0),
        KeyCode::End => model.move_to(usize::MAX),
        KeyCode::Enter => {
            let process = model.chosen()?.id;
            model.overlay = Some(Overlay::Explanation { process, text: None, first: 0 });
            return Some(Command::Explain(process));
        }
        KeyCode::Char(key) => {
            if let Some(by) = Sort::of_key(key) {
                sort(model, by);
            }
        }
        _ => {}
    }
    None
}

fn sort(model: &mut Model, by: Sort) {
    (model.sort, model.reverse) = (by, false);
    model.arrange();
}

/// Maximum length of the filter, longer than any name.
const LONGEST_FILTER: usize = 32;

fn type_filter(model: &mut Model, key: KeyCode) {
    match key {
        KeyCode::Enter => model.typing = false,
        KeyCode::Esc => {
            model.typing = false;
            model.filter.clear();
        }
        KeyCode::Backspace => drop(model.filter.pop()),
        KeyCode::Char(typed) if model.filter.chars().count() < LONGEST_FILTER => model.filter.push(typed),
        _ => {}
    }
    model.arrange();
}

fn in_overlay(model: &mut Model, key: KeyCode) -> Option<Command> {
    let page = model.page();
    let lines = model.overlay.as_ref().map_or(0, |overlay| folded(overlay.text(), model.size.0).len());
    let last = lines.saturating_sub(page);
    let Some(Overlay::Help { first } | Overlay::Explanation { first, .. }) = &mut model.overlay else {
        return None;
    };
    match key {
        KeyCode::Up | KeyCode::Char('k') => *first = first.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => *first = (*first + 1).min(last),
        KeyCode::PageUp => *first = first.saturating_sub(page),
        KeyCode::PageDown => *first = (*first + page).min(last),
        _ => model.overlay = None,
    }
    None
}

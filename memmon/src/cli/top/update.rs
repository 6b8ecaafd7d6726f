//! The effect of a message on the state of the screen: [`update`] is pure.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{groups::Grouping, layout::folded, model::Model, overlay::Overlay, sample::Sample, sort::Sort};
use crate::model::ProcessId;

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
        KeyCode::Tab => model.group(model.grouping.next()),
        KeyCode::Enter if model.is_grouped() => open_group(model),
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

/// Shows the processes of the selected group: those that have its name in one of theirs.
fn open_group(model: &mut Model) {
    let Some(group) = model.chosen_group() else { return };
    // A sum is named by its rule and its group: its processes are found by the one that the others have as well.
    let name = group.name.rsplit(": ").next().unwrap_or_default();
    let name = ["user ", "unit "].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
    model.filter = if name.starts_with('[') { String::new() } else { name.to_owned() };
    model.group(Grouping::Processes);
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

//! Draws the screen: a [`Model`] goes in, cells come out. It formats only what is visible.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row as TableRow, Table},
};

use super::{
    figures::{bar, spark},
    groups::Group,
    layout::{self, Column, GroupColumn},
    model::{Model, OverButHidden},
    overlay::Overlay,
    sample::Sample,
    sort::Sort,
};
use crate::{
    model::{
        Bytes, Parts, Uid,
        units::{self, narrow, narrow_rate, narrow_span},
    },
    status::{FromElder, Kept, Row, Sharing, Text, VerdictKind},
};

/// Capabilities of the terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    /// Whether to use colours; otherwise there are only bold, dim and reversed cells.
    pub(super) colour: bool,
    /// Whether to use Unicode; otherwise bars are ASCII.
    pub(super) unicode: bool,
}

impl Looks {
    const fn bars(self) -> (char, char) {
        if self.unicode { ('█', '░') } else { ('#', '.') }
    }

    const fn sparks(self) -> &'static [char] {
        if self.unicode {
            &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        } else {
            &['_', '.', '-', '=', '+', '*', '#']
        }
    }

    fn fg(self, colour: Color, otherwise: Modifier) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new().add_modifier(otherwise) }
    }

    /// For what must be seen: black on yellow, which can be read in every theme, or bold.
    fn marked(self) -> Style {
        if self.colour {
            Style::new().fg(Color::Black).bg(Color::Yellow)
        } else {
            Style::new().add_modifier(Modifier::BOLD)
        }
    }
}

/// Width of the sparkline.
const TREND: usize = 8;

pub(super) fn view(model: &Model, looks: Looks, frame: &mut Frame<'_>) {
    let parts = layout::Parts::of(frame.area().height);
    let length = |has: bool| Constraint::Length(u16::from(has));
    let [title, memory, counts, note, table, detail, keys] = Layout::vertical([
        length(parts.title),
        length(parts.memory),
        length(parts.counts),
        length(parts.note),
        Constraint::Min(1),
        Constraint::Length(parts.detail),
        length(parts.keys),
    ])
    .areas(frame.area());
    frame.render_widget(footer(model, keys.width), keys);
    let Some(sample) = &model.sample else {
        frame.render_widget(heading(model, None, title.width), title);
        let text = model.trouble.as_deref().unwrap_or("Looking …");
        frame.render_widget(lines(text, 0, table), table);
        return;
    };
    frame.render_widget(memory_line(sample, looks, memory.width), memory);
    // On a low screen, a note is more important than what it covers.
    let noted = note_line(model, sample, looks, frame.area().width);
    let (place, covered) = match (parts.note, parts.counts) {
        (true, _) => (note, None),
        (false, true) => (counts, noted.is_some().then_some(counts)),
        (false, false) => (title, noted.is_some().then_some(title)),
    };
    if covered != Some(title) {
        frame.render_widget(heading(model, Some(sample), title.width), title);
    }
    if covered != Some(counts) {
        frame.render_widget(Line::from(counts_line(model, sample)), counts);
    }
    if let Some(noted) = noted {
        frame.render_widget(noted, place);
    }
    let all = Rect { height: table.height + detail.height, ..table };
    match &model.overlay {
        None if model.count() == 0 => frame.render_widget(lines(&nothing(model, sample), 0, all), all),
        None if model.is_grouped() => {
            frame.render_widget(group_rows(model, looks, table.width), table);
            if let Some(group) = model.chosen_group() {
                frame.render_widget(lines(&group_detail(group), 0, detail), detail);
            }
        }
        None => {
            frame.render_widget(rows(model, sample, looks, table.width), table);
            if let Some(row) = model.chosen() {
                frame.render_widget(Paragraph::new(detail_lines(row, sample)), detail);
            }
        }
        Some(Overlay::Explanation { process, text: None, .. }) => {
            frame.render_widget(lines(&format!("Looking at {process} …"), 0, all), all);
        }
        Some(overlay) => frame.render_widget(lines(overlay.text(), overlay.first(), all), all),
    }
}

/// `text` from its line `first` on, folded to the width of `area`.
fn lines(text: &str, first: usize, area: Rect) -> Paragraph<'static> {
    let lines = layout::folded(text, area.width).into_iter().skip(first).take(area.height.into());
    Paragraph::new(lines.map(Line::from).collect::<Vec<_>>())
}

/// The reason why the table is empty.
fn nothing(model: &Model, sample: &Sample) -> String {
    let filter = Text::harmless(&model.filter);
    match sample.table.rows.len() {
        0 => "No process can be looked at.".to_owned(),
        rows if rows < sample.table.processes => format!(
            "None of the {rows} largest processes has \"{filter}\" in its name, user, pid or verdict. Esc shows all."
        ),
        _ => format!("No process has \"{filter}\" in its name, user, pid or verdict. Esc shows all."),
    }
}

/// Terminal width from which on there is room for more than the most important words.
const ROOMY: u16 = 60;

fn heading<'a>(model: &Model, sample: Option<&Sample>, width: u16) -> Line<'a> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![Span::styled("memmon", bold)];
    if model.frozen {
        spans.push("  ".into());
        spans.push(Span::styled(" FROZEN ", Style::new().add_modifier(Modifier::REVERSED)));
    }
    if let Some(sample) = sample {
        let about = match &sample.status {
            Some(status) => {
                let mode = if status.dry_run { "dry run" } else { "enforcing" };
                let version = if width < ROOMY { String::new() } else { format!(" {}", status.version) };
                format!("{version}  {}  {mode}", status.source.name)
            }
            None => {
                let why = sample.alone.as_ref().map_or("no daemon", |alone| alone.why);
                if width < ROOMY { format!("  {why}") } else { format!("  {why}: own look at /proc") }
            }
        };
        spans.push(about.into());
        spans.push(format!("  limit {}", sample.table.limit_bytes).into());
    }
    Line::from(spans)
}

fn memory_line<'a>(sample: &Sample, looks: Looks, width: u16) -> Line<'a> {
    let memory = sample.table.memory;
    let used = memory.used();
    let percent = used.percent_of(memory.total);
    let text = format!(" {percent:.1}% used  {used} / {}", memory.total);
    let room = usize::from(width).saturating_sub(4 + text.chars().count());
    let colour = match percent {
        high if high >= 90.0 => Color::Red,
        high if high >= 75.0 => Color::Yellow,
        _ => Color::Green,
    };
    let bar = bar(percent, room, looks.bars());
    Line::from(vec!["Mem ".into(), Span::styled(bar, looks.fg(colour, Modifier::empty())), text.into()])
}

fn counts_line(model: &Model, sample: &Sample) -> String {
    let table = &sample.table;
    let mut text = format!("{} processes, {} over", table.processes, table.over);
    let OverButHidden { filtered, off_screen, without_row } = model.over_but_hidden();
    let hidden: Vec<_> = [
        (filtered, "filtered out"),
        (off_screen, "off the screen"),
        (without_row, "not readable or too many"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, why)| format!("{count} {why}"))
    .collect();
    if !hidden.is_empty() {
        text += &format!(" ({})", hidden.join(", "));
    }
    if let Some(alone) = &sample.alone {
        text += &format!(", by the rules of {}", alone.rules_from);
    }
    if let Some(status) = &sample.status {
        let counts = status.counts;
        text += &format!(", {} being terminated, {} terminated", counts.in_flight, counts.terminated);
        if let Some(scan) = status.last_scan {
            let time = units::Span::from_seconds;
            text += &format!("  scan {}, {} ago", time(scan.wall_seconds), time(scan.seconds_ago));
        }
    }
    text
}

fn note_line<'a>(model: &Model, sample: &Sample, looks: Looks, width: u16) -> Option<Line<'a>> {
    let warning =
        |text: String| Some(Line::from(Span::styled(layout::shortened(&text, width), looks.marked())));
    if model.typing || !model.filter.is_empty() {
        let cursor = if model.typing { "_" } else { "" };
        let filter = Text::harmless(&model.filter);
        let (shown, all) = (sample.table.rows.len(), sample.table.processes);
        let of = if shown < all { format!("the {shown} largest") } else { shown.to_string() };
        let of = if model.is_grouped() { "groups".to_owned() } else { format!("of {of}") };
        return Some(Line::from(format!("Filter: {filter}{cursor}  ({} {of})", model.count())));
    }
    if let Some(trouble) = &model.trouble {
        return warning(Text::harmless(trouble).to_string());
    }
    let status = sample.status.as_ref()?;
    if let Some(error) = &status.config.last_error {
        return warning(format!("The last reload failed: {error}"));
    }
    let lost = status.lost.log_events + status.lost.crossings + status.lost.map_entries;
    match (status.degraded.split_first(), lost) {
        (Some((first, [])), _) => warning(format!("Degraded: {first}")),
        (Some((first, more)), _) => warning(format!("Degraded ({}): {first}", more.len() + 1)),
        (None, 1..) => warning(format!("{lost} events were lost: memmon status")),
        (None, 0) => None,
    }
}

fn rows<'a>(model: &Model, sample: &Sample, looks: Looks, width: u16) -> Table<'a> {
    let columns = Column::that_fit(width);
    let header = columns.iter().map(|(column, _)| {
        let sorted = sorts_by(*column) == Some(model.sort);
        let underlined = if sorted { Modifier::UNDERLINED } else { Modifier::empty() };
        Cell::new(column.title()).style(Style::new().add_modifier(underlined))
    });
    let header = TableRow::new(header).style(Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED));
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
    let body = model.visible().map(|(row, chosen)| {
        let near = looks.colour && !chosen && is_near(row, sample);
        let cells = columns.iter().map(|(column, width)| {
            let style = if near && *column == Column::Limit { looks.marked() } else { Style::new() };
            Cell::new(cell(*column, *width, model, sample, row, looks)).style(style)
        });
        // The terminal's own two colours: a colour of the row could be too near to its background.
        let selected = Style::new().add_modifier(Modifier::REVERSED);
        TableRow::new(cells).style(if chosen { selected } else { style(row, sample, looks) })
    });
    Table::new(body.collect::<Vec<_>>(), widths.collect::<Vec<_>>()).header(header).column_spacing(1)
}

/// The table of groups.
fn group_rows<'a>(model: &Model, looks: Looks, width: u16) -> Table<'a> {
    let columns = GroupColumn::that_fit(width);
    let header = TableRow::new(columns.iter().map(|(column, _)| Cell::new(column.title())));
    let header = header.style(Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED));
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
    let body = model.visible_groups().map(|(group, chosen)| {
        let near = looks.colour && !chosen && group.share().is_some_and(|share| share >= NEAR);
        let cells = columns.iter().map(|(column, _)| {
            let is_marked = near && *column == GroupColumn::Share;
            Cell::new(group_cell(*column, group)).style(if is_marked { looks.marked() } else { Style::new() })
        });
        let over = if group.is_over() { looks.fg(Color::Red, Modifier::BOLD) } else { Style::new() };
        TableRow::new(cells).style(if chosen { Style::new().add_modifier(Modifier::REVERSED) } else { over })
    });
    Table::new(body.collect::<Vec<_>>(), widths.collect::<Vec<_>>()).header(header).column_spacing(1)
}

fn group_cell(column: GroupColumn, group: &Group) -> String {
    match column {
        GroupColumn::Name => Text::harmless(&group.name).to_string(),
        GroupColumn::Processes => format!("{:>5}", group.processes),
        GroupColumn::Holds => format!("{:>6}", narrow(group.holds)),
        GroupColumn::Limit => format!("{:>6}", group.limit.map(narrow).unwrap_or_default()),
        GroupColumn::Share => {
            let share = group.share().map(|share| format!("{:.0}%", share.min(9999.0)));
            format!("{:>5}", share.unwrap_or_default())
        }
        GroupColumn::Growth => format!("{:>7}", group.growth.map(narrow_rate).unwrap_or_default()),
        GroupColumn::Left if group.is_over() => " over".to_owned(),
        GroupColumn::Left => format!("{:>5}", group.left.map(narrow_span).unwrap_or_default()),
        GroupColumn::Rule => group.rule.clone(),
    }
}

/// The largest processes of the selected group.
fn group_detail(group: &Group) -> String {
    let largest: Vec<_> = group.largest.iter().take(LARGEST).map(String::as_str).collect();
    let limit = match group.limit {
        Some(limit) => format!("rule {}: {} of {limit}", group.rule, group.holds),
        None => "no rule limits them together".to_owned(),
    };
    format!("{}: {limit}\nthe largest: {}", Text::harmless(&group.name), largest.join(", "))
}

/// A share of the limit, in percent, that is near to it.
const NEAR: f64 = 80.0;
/// Number of processes of a group that a line has room for.
const LARGEST: usize = 3;

const fn sorts_by(column: Column) -> Option<Sort> {
    match column {
        Column::Pid => Some(Sort::Pid),
        Column::User => Some(Sort::User),
        Column::Name => Some(Sort::Name),
        Column::Rss => Some(Sort::Memory),
        Column::Growth => Some(Sort::Growth),
        Column::Left => Some(Sort::Left),
        Column::Anon | Column::File | Column::Shmem | Column::Swap | Column::Charged => None,
        Column::Limit | Column::Trend | Column::Verdict => None,
    }
}

fn cell(column: Column, width: u16, model: &Model, sample: &Sample, row: &Row, looks: Looks) -> String {
    let part = |part: fn(Parts) -> Bytes| {
        let amount = row.parts.map_or_else(|| "?".to_owned(), |parts| narrow(part(parts)));
        format!("{amount:>6}")
    };
    match column {
        Column::Pid => format!("{:>7}", row.id.pid),
        Column::User => user(row.uid, sample),
        Column::Name => row.comm.to_string(),
        Column::Rss => format!("{:>6}", narrow(row.rss_bytes)),
        Column::Anon => part(|parts| parts.anon),
        Column::File => part(|parts| parts.file),
        Column::Shmem => part(|parts| parts.shmem),
        Column::Swap => part(|parts| parts.swap),
        Column::Charged => {
            let charged = row.charged_bytes.map(narrow).unwrap_or_default();
            format!("{charged:>7}")
        }
        Column::Limit => {
            let limit = row.limit(sample.table.limit_bytes);
            let share = limit.map(|limit| format!("{:.0}%", row.rss_bytes.percent_of(limit).min(9999.0)));
            format!("{:>5}", share.unwrap_or_default())
        }
        Column::Growth => format!("{:>7}", model.growth(row).map(narrow_rate).unwrap_or_default()),
        Column::Left => {
            let over = row.limit(sample.table.limit_bytes).is_some_and(|limit| row.rss_bytes > limit);
            let left =
                if over { "over".to_owned() } else { model.left(row).map(narrow_span).unwrap_or_default() };
            format!("{left:>5}")
        }
        Column::Trend => {
            model.track(row).map(|track| spark(track.last(TREND), looks.sparks())).unwrap_or_default()
        }
        Column::Verdict => match &row.phase {
            Some(phase) => phase.to_string(),
            None if width > Column::Verdict.width() + 6 => format!("{} {}", row.verdict, row.why),
            None => row.verdict.to_string(),
        },
    }
}

fn is_near(row: &Row, sample: &Sample) -> bool {
    let limit = row.limit(sample.table.limit_bytes);
    row.verdict == VerdictKind::Within && limit.is_some_and(|limit| row.rss_bytes.percent_of(limit) >= NEAR)
}

/// The style of a row, in colours that can be read on a dark and on a light background.
fn style(row: &Row, sample: &Sample, looks: Looks) -> Style {
    match row.verdict {
        _ if row.phase.is_some() => looks.fg(Color::Red, Modifier::BOLD).add_modifier(Modifier::BOLD),
        VerdictKind::Terminate => looks.fg(Color::Red, Modifier::BOLD),
        VerdictKind::Unsure => looks.fg(Color::Magenta, Modifier::BOLD),
        VerdictKind::Protected => Style::new().add_modifier(Modifier::DIM),
        VerdictKind::Within if is_near(row, sample) => Style::new().add_modifier(Modifier::BOLD),
        VerdictKind::Within => Style::new(),
    }
}

/// Details of the selected process that have no column.
fn detail_lines<'a>(row: &Row, sample: &Sample) -> Vec<Line<'a>> {
    let verdict = match (&row.phase, row.why.as_str()) {
        (Some(phase), _) => format!("being terminated, {phase}"),
        (None, "") => row.verdict.to_string(),
        (None, why) => format!("{}: {why}", row.verdict),
    };
    let amounts = match row.parts {
        Some(Parts { anon, file, shmem, swap }) => format!(
            "anon {}  file {}  shmem {}  swap {}",
            narrow(anon),
            narrow(file),
            narrow(shmem),
            narrow(swap)
        ),
        None => "parts unknown".to_owned(),
    };
    let error = match row.error_bytes {
        Bytes::ZERO => String::new(),
        error => format!("  +-{}", narrow(error)),
    };
    let named = format!("{} {} ({})", row.id.pid, row.comm, user(row.uid, sample));
    let charged =
        row.charged_bytes.map(|charged| format!("  charged {}", narrow(charged))).unwrap_or_default();
    let mut lines =
        vec![Line::from(format!("{named}  {verdict}")), Line::from(format!("{amounts}{charged}{error}"))];
    lines.extend(sharing(&row.sharing).map(Line::from));
    lines
}

/// The memory that its end would not give back, with the process that has it as well.
fn sharing(Sharing { inherited, kept }: &Sharing) -> Option<String> {
    let inherited = inherited
        .as_ref()
        .map(|FromElder { bytes, elder }| format!("inherited {} at its fork from {elder}", narrow(*bytes)));
    let kept = kept.as_ref().map(|Kept { bytes, object, holder, .. }| {
        let holder = holder.as_ref().map(|holder| format!(", which {holder} holds as well"));
        format!("{} stay, most in \"{object}\"{}", narrow(*bytes), holder.unwrap_or_default())
    });
    let parts: Vec<_> = inherited.into_iter().chain(kept).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn user(uid: Uid, sample: &Sample) -> String {
    sample.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
}

fn footer<'a>(model: &Model, width: u16) -> Line<'a> {
    let way = if model.reverse { " reversed" } else { "" };
    let sort = format!("s sort ({}{way})", model.sort.as_str());
    let group = format!("tab group ({})", model.grouping.as_str());
    let items: &[&str] = match (&model.overlay, model.typing) {
        (Some(_), _) => &["up/down scroll", "any other key: back"],
        (None, true) => &["enter keep", "esc all"],
        (None, false) if model.is_grouped() => {
            &["q quit", "? help", &group, "enter processes", &sort, "/ filter", "space freeze"]
        }
        (None, false) => {
            &["q quit", "? help", "enter explain", "/ filter", "tab group", &sort, "space freeze"]
        }
    };
    let text = format!(" {}", layout::that_fit(items, width.saturating_sub(1)).join("  "));
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

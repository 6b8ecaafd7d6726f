//! Draws the screen: a [`Model`] goes in, cells come out. It formats only what is visible.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row as TableRow, Table},
};

use super::{
    figures::{bar, left, rate, short, spark},
    model::{Model, Overlay, Sample, Sort},
};
use crate::{
    cli::status::span,
    model::{Bytes, Parts, Uid},
    status::{Row, Text, VerdictKind},
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
}

/// Width of the sparkline.
const TREND: usize = 8;
/// Terminal width from which on the parts of the memory have columns.
const WIDE: u16 = 112;

pub(super) fn view(model: &Model, looks: Looks, frame: &mut Frame<'_>) {
    let [title, memory, counts, note, table, detail, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let Some(sample) = &model.sample else {
        frame.render_widget(heading(model, None, looks), title);
        let text = model.trouble.as_deref().unwrap_or("Looking …");
        frame.render_widget(Paragraph::new(text), table);
        frame.render_widget(footer(model), keys);
        return;
    };
    frame.render_widget(heading(model, Some(sample), looks), title);
    frame.render_widget(memory_line(sample, looks, memory.width), memory);
    frame.render_widget(Line::from(counts_line(sample)), counts);
    frame.render_widget(note_line(model, sample, looks), note);
    match &model.overlay {
        None => {
            frame.render_widget(rows(model, sample, looks, table.width), table);
            if let Some(row) = model.chosen() {
                frame.render_widget(Paragraph::new(detail_lines(row, sample)), detail);
            }
        }
        Some(Overlay::Help) => frame.render_widget(Paragraph::new(HELP), rest(table, detail)),
        Some(Overlay::Explanation { process, text, first }) => {
            let wait = format!("Looking at {process} …");
            let lines = text.as_deref().unwrap_or(&wait).lines().skip(*first).map(Line::from);
            frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), rest(table, detail));
        }
    }
    frame.render_widget(footer(model), keys);
}

fn rest(table: Rect, detail: Rect) -> Rect {
    Rect { height: table.height + detail.height, ..table }
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
 LIMIT    the share of its limit that a process uses
 GROWTH   bytes per second over the last ten seconds
 LEFT     until the limit, if it goes on growing like that
 VERDICT  what memmon would do with it now, or how far it is
";

fn heading<'a>(model: &Model, sample: Option<&Sample>, looks: Looks) -> Line<'a> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![Span::styled("memmon", bold.patch(looks.fg(Color::Cyan, Modifier::BOLD)))];
    if let Some(sample) = sample {
        let about = match &sample.status {
            Some(status) => {
                let mode = if status.dry_run { "dry run" } else { "enforcing" };
                format!(" {}  {}  {mode}", status.version, status.source.name)
            }
            None => {
                let why = sample.alone.as_ref().map_or("no daemon", |alone| alone.why);
                format!("  {why}: own look at /proc")
            }
        };
        spans.push(about.into());
        spans.push(format!("  limit {}", sample.table.limit_bytes).into());
    }
    if model.frozen {
        spans.push("  ".into());
        spans.push(Span::styled(" FROZEN ", Style::new().add_modifier(Modifier::REVERSED)));
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

fn counts_line(sample: &Sample) -> String {
    let table = &sample.table;
    let mut text = format!("{} processes, {} over", table.processes, table.over);
    if let Some(alone) = &sample.alone {
        text += &format!(", by the rules of {}", alone.rules_from);
    }
    if let Some(status) = &sample.status {
        let counts = status.counts;
        text += &format!(", {} in flight, {} terminated", counts.in_flight, counts.terminated);
        if let Some(scan) = status.last_scan {
            text += &format!("  scan {}, {} ago", span(scan.wall_seconds), span(scan.seconds_ago));
        }
    }
    text
}

fn note_line<'a>(model: &Model, sample: &Sample, looks: Looks) -> Line<'a> {
    let warning = |text: String| Line::styled(text, looks.fg(Color::Yellow, Modifier::BOLD));
    if model.typing || !model.filter.is_empty() {
        let cursor = if model.typing { "_" } else { "" };
        let filter = Text::harmless(&model.filter);
        let (shown, all) = (sample.table.rows.len(), sample.table.processes);
        let of = if shown < all { format!("the {shown} largest") } else { shown.to_string() };
        return Line::from(format!("Filter: {filter}{cursor}  ({} of {of})", model.count()));
    }
    if let Some(trouble) = &model.trouble {
        return warning(Text::harmless(trouble).to_string());
    }
    let Some(status) = &sample.status else { return Line::default() };
    if let Some(error) = &status.config.last_error {
        return warning(format!("The last reload failed: {error}"));
    }
    let lost = status.lost.log_events + status.lost.crossings + status.lost.map_entries;
    match (status.degraded.split_first(), lost) {
        (Some((first, [])), _) => warning(format!("Degraded: {first}")),
        (Some((first, more)), _) => warning(format!("Degraded ({}): {first}", more.len() + 1)),
        (None, 1..) => warning(format!("{lost} events were lost: memmon status")),
        (None, 0) => Line::default(),
    }
}

fn rows<'a>(model: &Model, sample: &Sample, looks: Looks, width: u16) -> Table<'a> {
    let wide = width >= WIDE;
    let mut columns =
        vec![("    PID", 7, Some(Sort::Pid)), ("USER", 8, Some(Sort::User)), ("NAME", 15, Some(Sort::Name))];
    columns.push(("   RSS", 6, Some(Sort::Memory)));
    if wide {
        columns.extend([("  ANON", 6, None), ("  FILE", 6, None), (" SHMEM", 6, None), ("  SWAP", 6, None)]);
    }
    columns.extend([("LIMIT", 5, None), (" GROWTH", 7, Some(Sort::Growth)), (" LEFT", 5, Some(Sort::Left))]);
    columns.push(("TREND", 8, None));
    let header = columns.iter().map(|(name, _, sort)| {
        let sorted = *sort == Some(model.sort);
        Cell::new(*name).style(if sorted {
            Style::new().add_modifier(Modifier::UNDERLINED)
        } else {
            Style::new()
        })
    });
    let header = TableRow::new(header.chain([Cell::new("VERDICT")]))
        .style(Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED));
    let widths = columns.iter().map(|(_, width, _)| Constraint::Length(*width)).chain([Constraint::Min(9)]);
    let body = model.visible().map(|(row, chosen)| {
        let line = TableRow::new(cells(model, sample, row, looks, wide)).style(style(row, sample, looks));
        if chosen { line.style(style(row, sample, looks).add_modifier(Modifier::REVERSED)) } else { line }
    });
    Table::new(body.collect::<Vec<_>>(), widths).header(header).column_spacing(1)
}

fn cells(model: &Model, sample: &Sample, row: &Row, looks: Looks, wide: bool) -> Vec<String> {
    let share = row.rss_bytes.percent_of(sample.table.limit_bytes).min(9999.0);
    let over = row.rss_bytes > sample.table.limit_bytes;
    let left = if over { "over".to_owned() } else { model.left(row).map(left).unwrap_or_default() };
    let trend = model.track(row).map(|track| spark(track.last(TREND), looks.sparks()));
    let mut cells = vec![
        format!("{:>7}", row.id.pid),
        user(row.uid, sample),
        row.comm.to_string(),
        format!("{:>6}", short(row.rss_bytes)),
    ];
    if wide {
        let Parts { anon, file, shmem, swap } = row.parts.unwrap_or_default();
        let part = |amount| if row.parts.is_some() { short(amount) } else { "?".to_owned() };
        cells.extend([anon, file, shmem, swap].map(|amount| format!("{:>6}", part(amount))));
    }
    cells.extend([
        format!("{:>5}", format!("{share:.0}%")),
        format!("{:>7}", model.growth(row).map(rate).unwrap_or_default()),
        format!("{left:>5}"),
        trend.unwrap_or_default(),
        match &row.phase {
            Some(phase) => phase.to_string(),
            None if wide => format!("{} {}", row.verdict, row.why),
            None => row.verdict.to_string(),
        },
    ]);
    cells
}

fn style(row: &Row, sample: &Sample, looks: Looks) -> Style {
    let near = row.rss_bytes.percent_of(sample.table.limit_bytes) >= 80.0;
    match row.verdict {
        _ if row.phase.is_some() => looks.fg(Color::Red, Modifier::BOLD).add_modifier(Modifier::BOLD),
        VerdictKind::Terminate => looks.fg(Color::Red, Modifier::BOLD),
        VerdictKind::Unsure => looks.fg(Color::Magenta, Modifier::BOLD),
        VerdictKind::Protected => looks.fg(Color::DarkGray, Modifier::DIM),
        VerdictKind::Within if near => looks.fg(Color::Yellow, Modifier::BOLD),
        VerdictKind::Within => Style::new(),
    }
}

/// Details of the selected process that have no column.
fn detail_lines<'a>(row: &Row, sample: &Sample) -> Vec<Line<'a>> {
    let amounts = match row.parts {
        Some(Parts { anon, file, shmem, swap }) => format!(
            "anon {}  file {}  shmem {}  swap {}",
            short(anon),
            short(file),
            short(shmem),
            short(swap)
        ),
        None => "parts unknown".to_owned(),
    };
    let error = match row.error_bytes {
        Bytes::ZERO => String::new(),
        error => format!("  +-{}", short(error)),
    };
    let who = format!("{} {} ({})", row.id.pid, row.comm, user(row.uid, sample));
    let verdict = match (&row.phase, row.why.as_str()) {
        (Some(phase), _) => format!("being terminated: {phase}"),
        (None, "") => row.verdict.to_string(),
        (None, why) => format!("{}: {why}", row.verdict),
    };
    vec![Line::from(format!("{who}  {amounts}{error}")), Line::from(verdict)]
}

fn user(uid: Uid, sample: &Sample) -> String {
    sample.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
}

fn footer<'a>(model: &Model) -> Line<'a> {
    let text = match (&model.overlay, model.typing) {
        (Some(Overlay::Explanation { .. }), _) => " up/down scroll  any other key: back".to_owned(),
        (Some(Overlay::Help), _) => " any key: back".to_owned(),
        (None, true) => " enter keep  esc all".to_owned(),
        (None, false) => {
            let way = if model.reverse { " reversed" } else { "" };
            format!(
                " q quit  space freeze  enter explain  / filter  s sort ({}{way})  ? help",
                model.sort.as_str()
            )
        }
    };
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

//! The parts of the screen that there is room for, in lines and in columns. Pure.

/// The parts of the screen besides the table and its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) title: bool,
    pub(super) memory: bool,
    pub(super) counts: bool,
    /// The line for the filter and for warnings. Without it, they take the place of the counts or of the title.
    pub(super) note: bool,
    /// Lines about the selected process.
    pub(super) detail: u16,
    pub(super) keys: bool,
    /// Rows of the table.
    pub(super) rows: u16,
}

/// Rows of the table that everything but the title and the keys must leave.
const FEW_ROWS: u16 = 4;

impl Parts {
    /// The parts that a screen of so many lines has. The less important ones go first.
    pub(super) const fn of(lines: u16) -> Self {
        let title = lines >= 3;
        let keys = lines >= 4;
        // Room for more than the title, the keys, the header, and a few rows.
        let spare = lines.saturating_sub(3 + FEW_ROWS);
        let (counts, note, memory) = (spare >= 1, spare >= 2, spare >= 3);
        let detail = if spare >= 6 {
            3
        } else if spare >= 5 {
            2
        } else {
            0
        };
        let others = title as u16 + keys as u16 + counts as u16 + note as u16 + memory as u16 + detail;
        let rows = lines.saturating_sub(others + 1);
        Self { title, memory, counts, note, detail, keys, rows }
    }
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Pid,
    User,
    Name,
    Rss,
    Anon,
    File,
    Shmem,
    Swap,
    Charged,
    Limit,
    Growth,
    Left,
    Trend,
    Verdict,
}

impl Column {
    /// All of them, from left to right.
    const ALL: [Self; 14] = [
        Self::Pid,
        Self::User,
        Self::Name,
        Self::Rss,
        Self::Anon,
        Self::File,
        Self::Shmem,
        Self::Swap,
        Self::Charged,
        Self::Limit,
        Self::Growth,
        Self::Left,
        Self::Trend,
        Self::Verdict,
    ];
    /// The columns in the order in which they get room: the columns of one line come together or not at all.
    const BY_IMPORTANCE: [&[Self]; 9] = [
        &[Self::Pid],
        &[Self::Rss],
        &[Self::Name],
        &[Self::Verdict],
        &[Self::Limit],
        &[Self::Left],
        &[Self::Growth],
        &[Self::User],
        &[Self::Trend],
    ];
    /// The parts of the memory, if there is room for a verdict with its reason besides.
    const PARTS: [Self; 4] = [Self::Anon, Self::File, Self::Shmem, Self::Swap];
    /// Room for the first letters of a verdict's reason.
    const REASON: u16 = 5;

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Pid => "    PID",
            Self::User => "USER",
            Self::Name => "NAME",
            Self::Rss => "   RSS",
            Self::Anon => "  ANON",
            Self::File => "  FILE",
            Self::Shmem => " SHMEM",
            Self::Swap => "  SWAP",
            Self::Charged => "CHARGED",
            Self::Limit => "LIMIT",
            Self::Growth => " GROWTH",
            Self::Left => " LEFT",
            Self::Trend => "TREND",
            Self::Verdict => "VERDICT",
        }
    }

    /// Its width, which for the verdict is the least.
    pub(super) const fn width(self) -> u16 {
        match self {
            Self::Name => 15,
            Self::Verdict => 9,
            Self::User | Self::Trend => 8,
            Self::Pid | Self::Growth | Self::Charged => 7,
            Self::Rss | Self::Anon | Self::File | Self::Shmem | Self::Swap => 6,
            Self::Limit | Self::Left => 5,
        }
    }

    /// The columns that fit into `width` with a blank between them, each with its width. None is ever cut but the name,
    /// and on the smallest screens the pid.
    pub(super) fn that_fit(width: u16) -> Vec<(Self, u16)> {
        let mut chosen: Vec<Self> = Vec::new();
        let mut used = 0;
        let mut name = Self::Name.width();
        for columns in Self::BY_IMPORTANCE.into_iter().chain([&Self::PARTS[..], &[Self::Charged]]) {
            let needed: u16 = columns.iter().map(|column| column.width() + 1).sum();
            let reason = match columns {
                [Self::Charged] => 3 * Self::REASON,
                _ if columns == Self::PARTS => Self::REASON,
                _ => 0,
            };
            // There is no blank before the first column.
            let room = (width + 1).saturating_sub(used);
            if needed + reason <= room {
                used += needed;
                chosen.extend(columns);
            } else if *columns == [Self::Name] && room > 4 {
                // The first letters of the name are better than none.
                name = room.saturating_sub(1);
                chosen.extend(columns);
                break;
            } else {
                break;
            }
        }
        if chosen.is_empty() {
            return vec![(Self::Pid, width)];
        }
        let rest = width + 1 - used.min(width + 1);
        let columns = Self::ALL.into_iter().filter(|column| chosen.contains(column));
        let width_of = |column: Self| match column {
            Self::Name => name,
            Self::Verdict => column.width() + rest,
            _ => column.width(),
        };
        columns.map(|column| (column, width_of(column))).collect()
    }
}

/// A column of the table of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupColumn {
    Name,
    Processes,
    Holds,
    Limit,
    Share,
    Growth,
    Left,
    Rule,
}

impl GroupColumn {
    /// All of them, from left to right.
    const ALL: [Self; 8] = [
        Self::Name,
        Self::Processes,
        Self::Holds,
        Self::Limit,
        Self::Share,
        Self::Growth,
        Self::Left,
        Self::Rule,
    ];
    /// The columns in the order in which they get room; the name has the rest.
    const BY_IMPORTANCE: [Self; 7] =
        [Self::Holds, Self::Share, Self::Left, Self::Limit, Self::Growth, Self::Processes, Self::Rule];
    /// The least room for a name, if there is room for another column.
    const NAME: u16 = 12;

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Name => "GROUP",
            Self::Processes => "PROCS",
            Self::Holds => " HOLDS",
            Self::Limit => "    OF",
            Self::Share => "LIMIT",
            Self::Growth => " GROWTH",
            Self::Left => " LEFT",
            Self::Rule => "RULE",
        }
    }

    const fn width(self) -> u16 {
        match self {
            Self::Name => Self::NAME,
            Self::Processes | Self::Share | Self::Left => 5,
            Self::Holds | Self::Limit => 6,
            Self::Growth => 7,
            Self::Rule => 14,
        }
    }

    /// The columns that fit into `width` with a blank between them, each with its width.
    pub(super) fn that_fit(width: u16) -> Vec<(Self, u16)> {
        let mut rest = width;
        let mut chosen = vec![Self::Name];
        for column in Self::BY_IMPORTANCE {
            let needed = column.width() + 1;
            if rest < needed + Self::NAME {
                break;
            }
            rest -= needed;
            chosen.push(column);
        }
        let columns = Self::ALL.into_iter().filter(|column| chosen.contains(column));
        columns.map(|column| (column, if column == Self::Name { rest } else { column.width() })).collect()
    }
}

/// The items that fit into `width`, from the first on, in the order of the list.
pub(super) fn that_fit<'a>(items: &[&'a str], width: u16) -> Vec<&'a str> {
    let mut used = 0;
    let fits = |item: &&&str| {
        used += item.chars().count() + 2;
        used <= usize::from(width) + 1
    };
    items.iter().take_while(fits).copied().collect()
}

/// `text` in one line of at most `width` characters, with a sign where the rest is left out.
pub(super) fn shortened(text: &str, width: u16) -> String {
    let width = usize::from(width);
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// `text` in lines of at most `width` characters, cut at blanks where there are some.
pub(super) fn folded(text: &str, width: u16) -> Vec<String> {
    let width = usize::from(width.max(1));
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut rest: Vec<char> = line.chars().collect();
        let indent = rest.iter().take_while(|char| **char == ' ').count().min(width / 2);
        while rest.len() > width {
            let blank = (indent + 1..=width).rev().find(|place| rest.get(*place) == Some(&' '));
            let after = rest.split_off(blank.unwrap_or(width));
            lines.push(rest.iter().collect());
            let after = after.into_iter().skip_while(|char| *char == ' ');
            rest = std::iter::repeat_n(' ', indent).chain(after).collect();
        }
        lines.push(rest.iter().collect());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_rows_on_every_screen() {
        for lines in 0..200 {
            let parts = Parts::of(lines);
            assert!(parts.rows >= lines.saturating_sub(3).min(FEW_ROWS), "{lines}: {parts:?}");
        }
        let Parts { memory, counts, note, detail, rows, .. } = Parts::of(8);
        assert_eq!((memory, counts, note, detail, rows), (false, true, false, 0, 4));
        let Parts { memory, counts, note, detail, rows, .. } = Parts::of(24);
        assert_eq!((memory, counts, note, detail, rows), (true, true, true, 3, 15));
    }

    #[test]
    fn no_column_is_cut_and_the_pid_is_always_there() {
        for width in 0..300 {
            let columns = Column::that_fit(width);
            assert_eq!(columns[0].0, Column::Pid);
            let sum: u16 = columns.iter().map(|(_, width)| width + 1).sum();
            assert!(sum <= width + 1, "{width}: {columns:?}");
            if width >= 7 {
                assert_eq!(columns[0].1, 7, "{width}");
            }
        }
        let titles = |width| {
            Column::that_fit(width).iter().map(|(column, _)| column.title().trim()).collect::<Vec<_>>()
        };
        assert_eq!(titles(40), ["PID", "NAME", "RSS", "VERDICT"]);
        assert_eq!(titles(60), ["PID", "NAME", "RSS", "LIMIT", "GROWTH", "LEFT", "VERDICT"]);
        assert_eq!(titles(80), ["PID", "USER", "NAME", "RSS", "LIMIT", "GROWTH", "LEFT", "TREND", "VERDICT"]);
        assert_eq!((titles(112).len(), titles(140).len()), (13, 14));
    }

    #[test]
    fn the_name_of_a_group_has_the_room_that_is_left() {
        for width in 0..200 {
            let columns = GroupColumn::that_fit(width);
            assert_eq!(columns[0].0, GroupColumn::Name);
            let sum: u16 = columns.iter().map(|(_, width)| width + 1).sum();
            assert_eq!(sum, width + 1, "{width}: {columns:?}");
        }
        let titles = |width| {
            let columns = GroupColumn::that_fit(width);
            columns.iter().map(|(column, _)| column.title().trim()).collect::<Vec<_>>()
        };
        assert_eq!(titles(40), ["GROUP", "HOLDS", "OF", "LIMIT", "LEFT"]);
        assert_eq!(titles(80), ["GROUP", "PROCS", "HOLDS", "OF", "LIMIT", "GROWTH", "LEFT", "RULE"]);
    }

    #[test]
    fn a_line_that_is_too_long_shows_that_it_goes_on() {
        assert_eq!(shortened("the values of the start", 23), "the values of the start");
        assert_eq!(shortened("the values of the start", 22), "the values of the sta…");
        assert_eq!(shortened("the values of the start", 15), "the values of…");
        assert_eq!(shortened("the", 1), "…");
    }

    #[test]
    fn text_is_folded_at_blanks_and_keeps_its_indent() {
        assert_eq!(folded("  one two three", 9), ["  one two", "  three"]);
        assert_eq!(folded("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(folded("a\n\nb", 80), ["a", "", "b"]);
        for width in 0..20 {
            assert!(
                folded("      deep   words and more", width)
                    .iter()
                    .all(|line| line.chars().count() <= usize::from(width.max(1)))
            );
        }
    }
}

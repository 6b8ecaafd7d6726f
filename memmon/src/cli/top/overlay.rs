//! The windows over the table: the help, and the explanation of a verdict.

use crate::model::ProcessId;

/// A window over the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Overlay {
    Help {
        first: usize,
    },
    /// The explanation of a verdict; `text` is `None` until it arrives.
    Explanation {
        process: ProcessId,
        text: Option<String>,
        first: usize,
    },
}

const HELP: &str = "\
 up, down, j, k, page up, page down, home, end   choose a process
 enter    explain: every rule, the verdict, and what would change it
 tab      group by user, unit or rule, and back; enter: the processes of a group
 space    freeze the screen, and let it go on
 /        show only what has this in its name, user, pid, verdict, unit or rule; esc: all
 s        sort by the next column; r: the other way round
 m g t p u n   sort by memory, growth, time left, pid, user, name
 q        quit

 RSS      resident memory: what limits are about
 CHARGED  what its end would give back, read for processes over the limit
 LIMIT    the share of its limit that a process uses
 GROWTH   bytes per second over the last ten seconds
 LEFT     until the limit, if it goes on growing like that
 VERDICT  what memmon would do with it now, or how far it is
 HOLDS    what a group has together, under a rule for it as the daemon knows it;
          else the memory of its processes in this table
 A narrow or low terminal has fewer columns and lines.
";

impl Overlay {
    /// The content of the window, as far as it is known.
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

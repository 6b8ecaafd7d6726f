//! The start of a process, from the files that a close look has read already.

use super::parse::{self, Stat};
use crate::model::{Inside, Launch, Name, NamespaceInit, Pid};

/// More of a command line is not kept, in bytes.
const LONGEST: usize = 1024;

/// The facts in `stat`, in /proc/PID/status and, if it could be read, in the command line.
pub(super) fn launch(stat: &Stat<'_>, status: &[u8], cmdline: Option<&[u8]>) -> Launch {
    let pid_inside = parse::pid_inside(status).map(Pid);
    Launch {
        command_line: cmdline.and_then(command_line),
        session: u32::try_from(stat.session).ok().filter(|leader| *leader != 0).map(Pid),
        terminal: terminal(stat.terminal),
        init: (pid_inside == Some(Pid::INIT)).then(|| NamespaceInit { takes: parse::taken(status) }),
        inside: Inside { pid: pid_inside, uid: None },
        slurm_job_id: None,
    }
}

/// The beginning of /proc/PID/cmdline as ps(1) shows it. A process may overwrite it at any time, and most daemons do.
fn command_line(text: &[u8]) -> Option<Name> {
    let end = text.iter().rposition(|byte| *byte != 0)? + 1;
    let kept = &text[..end.min(LONGEST)];
    let mut shown: Vec<u8> = kept.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    if end > LONGEST {
        // No half of a letter before the mark.
        while shown.pop_if(|byte| (0x80..0xc0).contains(byte)).is_some() {}
        let _ = shown.pop_if(|byte| *byte >= 0xc0);
        shown.extend("…".as_bytes());
    }
    Some(Name::new(shown))
}

/// The name of a terminal by its device number (makedev(3)); its numbers if it is of a rare kind.
fn terminal(device: i32) -> Option<String> {
    let device = device.cast_unsigned();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    match (major, minor) {
        (0, 0) => None,
        (136, _) => Some(format!("pts/{minor}")),
        (4, 0..=63) => Some(format!("tty{minor}")),
        (4, _) => Some(format!("ttyS{}", minor - 64)),
        (5, 1) => Some("console".to_owned()),
        _ => Some(format!("{major}:{minor}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_as_ps_shows_it_and_bounded() {
        let shown = |text: &[u8]| command_line(text).map(|line| line.to_string());
        for (text, line) in [
            (&b"python3\0-u\0job.py\0"[..], Some("python3 -u job.py")),
            (b"postgres: checkpointer\0\0\0\0", Some("postgres: checkpointer")),
            (b"a\0\x1b[2J\n\0\xff", Some(r"a \u{1b}[2J\n \xff")),
            (b"a\0\0b\0", Some("a  b")),
            (b"\0\0", None),
            (b"", None),
        ] {
            assert_eq!(shown(text).as_deref(), line);
        }
        let long = "é".repeat(40_000);
        for cut in [long.as_bytes(), &long.as_bytes()[1..], &vec![0xff; 4096], &vec![0x80; 4096]] {
            let line = command_line(cut).unwrap();
            assert!(line.as_bytes().len() <= LONGEST + "…".len() && line.to_string().ends_with('…'));
        }
        assert!(!shown(long.as_bytes()).unwrap().contains("\\x"), "a letter was cut");
    }

    #[test]
    fn terminals_have_the_names_that_ps_prints() {
        for (device, name) in [
            (0, None),
            (34816, Some("pts/0")),
            ((136 << 8) | 0x2c | (1 << 20), Some("pts/300")),
            (1025, Some("tty1")),
            (1088, Some("ttyS0")),
            (1281, Some("console")),
            (204 << 8 | 64, Some("204:64")),
        ] {
            assert_eq!(terminal(device).as_deref(), name, "{device}");
        }
    }
}

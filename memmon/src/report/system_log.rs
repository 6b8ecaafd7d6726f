//! The machine's own log: the systemd journal where it runs, else syslog. Datagrams that are never waited for.
//!
//! Written by hand since the crates for either protocol (libsystemd, tracing-journald, syslog) hold one global or
//! private blocking socket at a fixed path: a stopped journald would stop the writer, and with it the log file.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use jiff::Zoned;
use serde_json::Value;

use super::{
    event::{Event, Level, Sink},
    sink::{Line, Output},
};

/// The identifier of the entries: `journalctl -t memmon`.
const IDENTIFIER: &str = "memmon";

/// One of the two sockets, chosen again for each line: journald may come after memmon, or go.
pub(super) struct SystemLog {
    journal: PathBuf,
    syslog: PathBuf,
    socket: Option<UnixDatagram>,
}

impl SystemLog {
    /// For journald's native socket at `journal` and syslogd's at `syslog`.
    pub(super) fn new(journal: PathBuf, syslog: PathBuf) -> Self {
        Self { journal, syslog, socket: None }
    }

    fn send(&mut self, datagram: &[u8], to: &Path) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                self.socket.insert(socket)
            }
        };
        // A datagram is taken whole or not at all.
        socket.send_to(datagram, to).map(drop)
    }
}

impl Output for SystemLog {
    fn sink(&self) -> Sink {
        if self.journal.exists() { Sink::Journal } else { Sink::Syslog }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let (datagrams, to) = match self.sink() {
            Sink::Journal => (vec![journal_entry(line)], self.journal.clone()),
            _ if self.syslog.exists() => (syslog_packets(line, std::process::id()), self.syslog.clone()),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!(
                        "neither {} nor {} is there; set enable_syslog = false if none is wanted",
                        self.journal.display(),
                        self.syslog.display()
                    ),
                ));
            }
        };
        datagrams
            .iter()
            .try_for_each(|datagram| self.send(datagram, &to))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", to.display())))
    }
}

/// `line` in journald's native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): MESSAGE, PRIORITY,
/// SYSLOG_IDENTIFIER, MESSAGE_ID, and each typed field of the event as MEMMON_*.
fn journal_entry(line: &Line) -> Vec<u8> {
    let mut entry = Vec::with_capacity(1024);
    push_field(&mut entry, "MESSAGE", &line.paragraph);
    push_field(&mut entry, "PRIORITY", &severity(line.level).to_string());
    push_field(&mut entry, "SYSLOG_IDENTIFIER", IDENTIFIER);
    push_field(&mut entry, "MESSAGE_ID", line.event.spec().message_id);
    if let Some(subject) = line.event.subject() {
        // journald looks up the process: `journalctl -u` and `systemctl status` of its unit then show the line too.
        push_field(&mut entry, "OBJECT_PID", &subject.id.to_string());
    }
    if let Some(user) = &line.user {
        push_field(&mut entry, "MEMMON_USER", user);
    }
    each_field(&line.event, &mut |name, value| push_field(&mut entry, name, value));
    entry
}

/// Gives `put` each typed field of `event`, as MEMMON_*.
pub(super) fn each_field(event: &Event, put: &mut dyn FnMut(&str, &str)) {
    // An event without its typed fields is still an event: the message says all.
    typed("MEMMON", &serde_json::to_value(event).unwrap_or_default(), put);
}

fn typed(name: &str, value: &Value, put: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::Null => {}
        Value::Bool(value) => put(name, &value.to_string()),
        Value::Number(value) => put(name, &value.to_string()),
        Value::String(value) => put(name, value),
        Value::Array(values) => values.iter().for_each(|value| typed(name, value, put)),
        Value::Object(fields) => {
            for (key, value) in fields {
                typed(&format!("{name}_{}", key.to_ascii_uppercase()), value, put);
            }
        }
    }
}

/// `NAME=value`, or the length-prefixed form where the value has line feeds that would end the field.
fn push_field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

/// `line` as syslog(3) writes it to its local socket: RFC 3164 without the host name. A packet is one line.
fn syslog_packets(line: &Line, pid: u32) -> Vec<Vec<u8>> {
    const FACILITY_DAEMON: u8 = 3;
    let priority = FACILITY_DAEMON * 8 + severity(line.level);
    let packet = |text| format!("<{priority}>{} {IDENTIFIER}[{pid}]: {text}", stamp(&line.at)).into_bytes();
    line.paragraph.lines().map(packet).collect()
}

fn stamp(at: &Zoned) -> String {
    at.strftime("%b %e %H:%M:%S").to_string()
}

/// The severities that both protocols share (syslog(3)).
const fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

/// The names of the fields that the journal gets of `event`.
#[cfg(test)]
pub(super) fn field_names(event: &Event) -> std::collections::BTreeSet<String> {
    tests::fields(event).into_keys().collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use jiff::{Timestamp, tz::TimeZone};

    use super::*;
    use crate::report::{samples, text};

    fn write(log: &mut SystemLog, event: &Event) -> io::Result<()> {
        let at: Timestamp = "2025-10-03T08:15:30Z".parse().unwrap();
        let at = at.to_zoned(TimeZone::fixed(jiff::tz::offset(2)));
        let paragraph = text::paragraph(event, &mut samples::user);
        let user = event.subject().map(|subject| samples::user(subject.uid));
        let (event, level) = (event.clone(), event.level());
        log.write(&Line { at, level, event, user, paragraph, whole: String::new() })
    }

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut buffer = vec![0; 1 << 16];
        socket.set_nonblocking(true).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    }

    /// A journal entry as journald reads it. Panics on anything that is not to the protocol.
    fn decoded(mut entry: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        while !entry.is_empty() {
            let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
            let (line, rest) = (&entry[..end], &entry[end + 1..]);
            let (name, value) = if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
                entry = rest;
                (text(&line[..equals]), text(&line[equals + 1..]))
            } else {
                let (length, rest) = rest.split_first_chunk().unwrap();
                let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
                assert_eq!(rest[length], b'\n');
                entry = &rest[length + 1..];
                (text(line), text(&rest[..length]))
            };
            assert!(name.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_')), "{name}");
            assert!(name.len() <= 64 && name.starts_with(|first: char| first.is_ascii_uppercase()), "{name}");
            let is_one_of_several = name.starts_with("MEMMON_GIVEN_BACK_LEFT_BEHIND_");
            let other = fields.insert(name.clone(), value);
            assert!(is_one_of_several || other.is_none(), "{name} twice");
        }
        fields
    }

    pub(super) fn fields(event: &Event) -> BTreeMap<String, String> {
        let at = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        let user = event.subject().map(|_| "john".to_owned());
        let (event, level) = (event.clone(), event.level());
        let line = Line { at, level, event, user, paragraph: String::new(), whole: String::new() };
        decoded(&journal_entry(&line))
    }

    #[test]
    fn an_end_is_reported_with_what_it_was_over_its_limit() {
        let ended = |event: &Event| matches!(event, Event::Terminated { .. });
        let fields = fields(&samples::samples().into_iter().find(ended).unwrap());
        assert_eq!(fields["MEMMON_OVERSHOOT_BYTES"], (3_u64 << 29).to_string());
    }

    #[test]
    fn the_journal_gets_typed_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let mut log = SystemLog::new(path, folder.path().join("log"));
        assert_eq!(log.sink(), Sink::Journal);
        let killing = Event::Killing {
            subject: samples::chrome(),
            breach: samples::BREACH,
            signal: crate::model::Signal::Term,
            dry_run: false,
            sum: None,
        };
        write(&mut log, &killing).unwrap();
        let fields = decoded(&received(&journald));
        let shown: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        MEMMON_CGROUP=/user.slice/user-1000.slice/session-2.scope
        MEMMON_COMM=chrome
        MEMMON_COMMAND_LINE=/opt/google/chrome/chrome --type=renderer "a", b
        MEMMON_DRY_RUN=false
        MEMMON_EVENT=killing
        MEMMON_EXE=/opt/google/chrome/chrome
        MEMMON_LIMIT_BYTES=2147483648
        MEMMON_PARENT_COMM=bash
        MEMMON_PARENT_PID=4321
        MEMMON_PERCENT=21.875
        MEMMON_PID=12345
        MEMMON_RSS_BYTES=3758096384
        MEMMON_RULE=gb
        MEMMON_SESSION=4000
        MEMMON_SIGNAL=SIGTERM
        MEMMON_START=987654
        MEMMON_STARTED=1970-01-01T00:00:00+00:00
        MEMMON_TTY=pts/3
        MEMMON_UID=1000
        MEMMON_USER=john
        MEMMON_WORKLOAD_UNIT=session-2.scope
        MESSAGE=Killing process: PID=12345, Name=chrome, User=john, RAM=3.50GB (21.88%)
            Started=1970-01-01 00:00:00, Parent=4321, Parent name=bash, Session=4000, TTY=pts/3, Unit=session-2.scope, Command="/opt/google/chrome/chrome --type=renderer \"a\", b"
        MESSAGE_ID=840b317dabfb4557b7133b870608fdb2
        OBJECT_PID=12345
        PRIORITY=4
        SYSLOG_IDENTIFIER=memmon
        "#);
        for event in samples::samples() {
            write(&mut log, &event).unwrap();
            let fields = decoded(&received(&journald));
            assert_eq!(fields["MESSAGE"], text::paragraph(&event, &mut samples::user));
            assert!(fields.contains_key("MEMMON_EVENT"));
        }
    }

    #[test]
    fn a_field_with_line_feeds_cannot_add_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let mut log = SystemLog::new(path, folder.path().join("log"));
        let error = "no\nPRIORITY=0\n=\n\n";
        write(&mut log, &Event::ReloadFailed { error: error.to_owned() }).unwrap();
        let fields = decoded(&received(&journald));
        assert_eq!(fields["MEMMON_ERROR"], error);
        assert_eq!(fields["PRIORITY"], "3");
    }

    #[test]
    fn syslog_where_there_is_no_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let syslogd = UnixDatagram::bind(&path).unwrap();
        let mut log = SystemLog::new(folder.path().join("socket"), path);
        assert_eq!(log.sink(), Sink::Syslog);
        write(&mut log, &Event::ScanComplete { scanned: 245, killed: 1 }).unwrap();
        let pid = std::process::id();
        let expected = format!("<30>Oct  3 10:15:30 memmon[{pid}]: Scan complete. Scanned: 245, Killed: 1");
        assert_eq!(String::from_utf8(received(&syslogd)).unwrap(), expected);
    }

    #[test]
    fn neither_is_reported_and_a_late_journal_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut log = SystemLog::new(path.clone(), folder.path().join("log"));
        let event = Event::Overflow { lost: 1 };
        let error = write(&mut log, &event).unwrap_err().to_string();
        assert!(error.starts_with("neither ") && error.contains("enable_syslog = false"), "{error}");
        let journald = UnixDatagram::bind(&path).unwrap();
        write(&mut log, &event).unwrap();
        assert_eq!(decoded(&received(&journald))["MEMMON_LOST"], "1");
        drop(journald);
        let error = write(&mut log, &event).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "the socket is there, nobody listens");
        fs::remove_file(&path).unwrap();
        let journald = UnixDatagram::bind(&path).unwrap();
        write(&mut log, &event).unwrap();
        received(&journald);
    }

    #[test]
    fn a_journal_that_reads_nothing_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _journald = UnixDatagram::bind(&path).unwrap();
        let mut log = SystemLog::new(path, folder.path().join("log"));
        let event = Event::Overflow { lost: 1 };
        // More than any queue takes (net.unix.max_dgram_qlen, the socket's buffer).
        let error = (0..1_000_000).find_map(|_| write(&mut log, &event).err()).expect("it must fill up");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

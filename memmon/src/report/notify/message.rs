//! A message, its recipients, and the channels that take it to them.

use std::fmt::Write as _;

use jiff::Zoned;

use super::digest::{Digest, Notice};
use crate::{
    model::{Escaped, Uid},
    report::{
        event::{Event, Level},
        json,
        system_log::each_field,
        text,
    },
};

/// One message, however it is sent.
pub(super) struct Message<'a> {
    pub(super) subject: String,
    pub(super) body: String,
    pub(super) count: u64,
    /// The user whose processes it is about, if it is for that user.
    #[cfg_attr(not(any(feature = "mail", test)), expect(dead_code, reason = "only mail goes to owners"))]
    pub(super) owner: Option<Uid>,
    /// The event's, where it is one.
    pub(super) fields: &'a [(String, String)],
    /// The events as `log.format = "json"` has them, one a line.
    pub(super) events: String,
}

/// A remark about a message that was sent, which is logged: its severity, and its text, escaped.
pub(super) type Remark = (Level, String);

/// The recipients of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Audience {
    /// All people of a channel.
    Everybody,
    /// The user of the processes that the message is about.
    #[cfg_attr(not(any(feature = "mail", test)), expect(dead_code, reason = "only mail goes to owners"))]
    Owner(Uid),
}

/// A way to people.
pub(super) trait Channel: Send + 'static {
    fn name(&self) -> &'static str;

    /// The recipients of `event` on this channel, if it has any for it.
    fn audience(&self, _event: &Event) -> Option<Audience> {
        Some(Audience::Everybody)
    }

    /// Whether it is for the users of processes, who get other events than administrators.
    fn is_for_users(&self) -> bool {
        false
    }

    /// Sends `message`, to one of the channel's people at least. May take its time.
    fn deliver(&mut self, message: &Message<'_>) -> Result<Option<Remark>, String>;
}

/// `event` as a channel keeps it.
pub(super) fn notice(at: &Zoned, event: &Event, mut user: impl FnMut(Uid) -> String) -> Notice {
    let name = event.subject().map(|subject| subject.user(&mut user));
    let line = text::line(at, event.level(), &text::paragraph(event, &mut user));
    let object = json::line(at, event, name.as_deref(), &text::message(event, &mut user));
    let mut fields: Vec<_> = name.map(|name| ("MEMMON_USER".to_owned(), name)).into_iter().collect();
    each_field(event, &mut |name, value| fields.push((name.to_owned(), value.to_owned())));
    Notice { line, fields, object }
}

/// The waiting notices of `digest`, as one message.
pub(super) fn message(audience: Audience, digest: &Digest) -> Message<'_> {
    let count = digest.count();
    let host = host();
    let (subject, fields) = match digest.notices() {
        [only] if digest.more() == 0 => {
            (format!("memmon on {host}: {}", brief(&only.line)), &only.fields[..])
        }
        _ => (format!("memmon on {host}: {count} events"), &[][..]),
    };
    let mut body = String::new();
    // Writing to a String cannot fail.
    for notice in digest.notices() {
        let _ = writeln!(body, "{}", notice.line);
    }
    if digest.more() > 0 {
        let _ = writeln!(body, "and {} more, which are in the log", digest.more());
    }
    let events = digest.notices().iter().flat_map(|notice| [&*notice.object, "\n"]).collect();
    let owner = match audience {
        Audience::Everybody => None,
        Audience::Owner(uid) => Some(uid),
    };
    Message { subject, body, count, owner, fields, events }
}

/// Characters of an event's text in a subject. A header may be longer (RFC 5322), and the sender of mail folds it; what shows
/// subjects cuts them.
pub(super) const LONGEST_SUBJECT: usize = 120;

/// The part of a line that a subject has room for: the text without time and level, up to the end of a word.
pub(super) fn brief(line: &str) -> String {
    const MARK: &str = "...";
    let printed = line.splitn(3, " - ").nth(2).unwrap_or(line).lines().next().unwrap_or_default();
    if printed.chars().count() <= LONGEST_SUBJECT {
        return printed.to_owned();
    }
    let room = printed.char_indices().nth(LONGEST_SUBJECT - MARK.len()).map_or(printed.len(), |(end, _)| end);
    // A word that ends where the room does is whole.
    let end =
        if printed[room..].starts_with(' ') { room } else { printed[..room].rfind(' ').unwrap_or(room) };
    format!("{}{MARK}", printed[..end].trim_end_matches([' ', ',', ';', ':', '.']))
}

/// The name of this machine.
pub(super) fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = Escaped(name.to_string_lossy().as_bytes()).to_string();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

//! Mail through a relay, by lettre. A relay that answers slowly, or not at all, costs a timeout on this thread only.
//!
//! Each recipient has an envelope of their own: lettre ends the whole at the first address that a relay refuses, and one
//! that is dead must not keep the others from their mail.

use std::{io, path::Path, time::Duration};

use lettre::{
    Message as Letter, SmtpTransport, Transport as _,
    address::Envelope,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Tls, TlsParameters},
    },
};

use super::message::{Channel, Message, Remark};
use crate::{
    files,
    model::{Escaped, Mail},
    report::{advice::advised, event::Level},
};

/// For each answer of the relay.
const PATIENCE: Duration = Duration::from_secs(30);

/// A relay, with the sender and the recipients.
pub(super) struct Post {
    pub(super) mail: Mail,
    pub(super) patience: Duration,
}

impl Post {
    pub(super) const fn new(mail: Mail) -> Self {
        Self { mail, patience: PATIENCE }
    }

    fn letter(&self, message: &Message<'_>) -> Result<Letter, String> {
        let address = |text: &str| text.parse::<Mailbox>().map_err(|error| format!("{text}: {error}"));
        let from = self.mail.from.clone().unwrap_or_else(|| sender(&super::message::host()));
        // Not every relay adds an id, and some people's servers refuse what has none.
        let mut letter = Letter::builder().from(address(&from)?).subject(&message.subject).message_id(None);
        for to in &self.mail.to {
            letter = letter.to(address(to)?);
        }
        letter.header(ContentType::TEXT_PLAIN).body(message.body.clone()).map_err(|error| error.to_string())
    }

    fn transport(&self) -> Result<SmtpTransport, String> {
        let Mail { host, port, starttls, auth_file, .. } = &self.mail;
        let mut transport = SmtpTransport::builder_dangerous(host).port(*port).timeout(Some(self.patience));
        if *starttls {
            let parameters = TlsParameters::new(host.clone()).map_err(|error| error.to_string())?;
            transport = transport.tls(Tls::Required(parameters));
        }
        if let Some(path) = auth_file {
            transport = transport.credentials(credentials(path)?);
        }
        Ok(transport.build())
    }
}

/// memmon at this `host`, or, if mail cannot have that name (it is too long, or ends in a dot), at what is left of it.
fn sender(host: &str) -> String {
    let at = |host: &str| format!("memmon@{host}");
    let is_letter = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.');
    let plain: String = host.chars().filter(is_letter).take(63).collect();
    [host, plain.trim_matches(['.', '-'])]
        .map(at)
        .into_iter()
        .find(|from| from.parse::<Mailbox>().is_ok())
        .unwrap_or_else(|| at("localhost"))
}

/// The longest that a file with a name and a password may be, in bytes.
const LONGEST_AUTH: usize = 4096;

/// The name and the password in the file `path`.
pub(super) fn credentials(path: &Path) -> Result<Credentials, String> {
    let place = |why: String| format!("{}: {why}", path.display());
    let (bytes, metadata) = files::read(path, LONGEST_AUTH).map_err(|error| place(advised(&error)))?;
    if !files::is_secret(&metadata) {
        return Err(place("others may read it: chmod 600 it".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| place("it is not UTF-8".to_owned()))?;
    let mut lines = text.lines().map(str::to_owned);
    let (Some(user), Some(password)) = (lines.next(), lines.next()) else {
        return Err(place(
            "expected the user's name on its first line and the password on its second".to_owned(),
        ));
    };
    Ok(Credentials::new(user, password))
}

impl Channel for Post {
    fn name(&self) -> &'static str {
        "mail"
    }

    fn deliver(&mut self, message: &Message<'_>) -> Result<Option<Remark>, String> {
        let sent = self.send(message)?;
        // Not tried again if one recipient got it, because that one would get it twice.
        if sent.reached > 0 || sent.missed.is_empty() { Ok(sent.report()) } else { Err(sent.missed) }
    }
}

/// The result of a letter.
pub(super) struct Sent {
    /// The number of recipients that it reached.
    reached: usize,
    /// The others, each with the relay's answer.
    missed: String,
    /// Whether the relay does not know any of those.
    pub(super) are_unknown: bool,
}

impl Sent {
    /// The recipients that it did not reach, for the log.
    pub(super) fn report(&self) -> Option<Remark> {
        let text = format!("a notification did not reach {}", Escaped(self.missed.as_bytes()));
        (!self.missed.is_empty()).then_some((Level::Warning, text))
    }

    /// The outcome for a channel that does not try again if no recipient can be reached.
    pub(super) fn final_if_unknown(self) -> Result<Option<Remark>, String> {
        let is_final = self.reached > 0 || self.missed.is_empty() || self.are_unknown;
        if is_final { Ok(self.report()) } else { Err(self.missed) }
    }
}

/// The relay's answers to an address that has no mailbox (RFC 5321), which another attempt does not change.
const UNKNOWN: [&str; 4] = ["501", "550", "551", "553"];

impl Post {
    /// Sends `message` to each recipient.
    ///
    /// # Errors
    /// The relay does not answer.
    pub(super) fn send(&self, message: &Message<'_>) -> Result<Sent, String> {
        let letter = self.letter(message)?;
        let transport = self.transport()?;
        let (text, to) = (letter.formatted(), letter.envelope().to());
        let (mut missed, mut are_unknown) = (Vec::new(), true);
        for (before, one) in to.iter().enumerate() {
            let envelope = Envelope::new(letter.envelope().from().cloned(), vec![one.clone()]);
            match transport.send_raw(&envelope.map_err(|error| error.to_string())?, &text) {
                Ok(_) => {}
                // A relay that does not answer is no matter of a single recipient.
                Err(error) if before == 0 && error.status().is_none() => return Err(whole(&error)),
                Err(error) => {
                    let is_unknown =
                        |code: lettre::transport::smtp::response::Code| UNKNOWN.contains(&&*code.to_string());
                    are_unknown &= error.status().is_some_and(is_unknown);
                    missed.push(format!("{one}: {}", whole(&error)));
                }
            }
        }
        Ok(Sent { reached: to.len() - missed.len(), missed: missed.join("; "), are_unknown })
    }
}

/// The error with all of its causes.
fn whole(error: &lettre::transport::smtp::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.downcast_ref::<io::Error>().map_or_else(|| inner.to_string(), advised);
        // Some have their cause in their own text.
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    /// Each of these kept all mail from everybody.
    #[test]
    fn every_machine_has_a_sender_whatever_it_is_called() {
        let long = "a".repeat(64);
        for (host, from) in [
            ("node1.example.com", "memmon@node1.example.com".to_owned()),
            ("node1.", "memmon@node1".to_owned()),
            ("node 1", "memmon@node1".to_owned()),
            (&long, format!("memmon@{}", "a".repeat(63))),
            ("..", "memmon@localhost".to_owned()),
            ("", "memmon@localhost".to_owned()),
        ] {
            assert_eq!(sender(host), from, "{host}");
        }
    }

    #[test]
    fn a_password_comes_from_a_regular_file_that_its_owner_alone_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        mkfifo(&place("fifo"), Mode::S_IRWXU).unwrap();
        let refusal = |path: &Path| credentials(path).unwrap_err();
        assert!(refusal(&place("fifo")).ends_with("it is a FIFO, not a regular file"));
        // No advice about the mode of a folder.
        assert!(refusal(folder.path()).ends_with("it is a directory, not a regular file"));
        let file = place("auth");
        for (text, mode, refused) in [
            ("user\npassword\n", 0o644, "others may read it: chmod 600 it"),
            ("user\n", 0o600, "expected the user's name on its first line and the password on its second"),
            (&"x\n".repeat(4096), 0o600, "it has more than 4KB, the most that memmon reads of it"),
        ] {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert!(refusal(&file).ends_with(refused), "{}", refusal(&file));
        }
        fs::write(&file, "user\npassword\nand more").unwrap();
        assert_eq!(credentials(&file).unwrap(), Credentials::new("user".to_owned(), "password".to_owned()));
    }
}

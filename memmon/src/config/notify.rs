//! `[notify]`: the recipients of notifications about terminations, in addition to the logs.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use toml::Spanned;

use super::{
    raw,
    toml_document::List,
    values::{Reader, uid},
    warning::Concern,
};
use crate::model::{Hook, Mail, OWNER, Uid, seconds::as_seconds};

/// `[notify]`: no recipients by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notify {
    /// Between two messages of one kind; what comes in between is put together.
    #[serde(serialize_with = "as_seconds")]
    pub interval: Duration,
    /// Mail, if anybody is named.
    pub mail: Option<Mail>,
    /// A command, if there is one.
    pub hook: Option<Hook>,
    /// Whether the user of a process gets a line on its terminal.
    pub terminal: bool,
}

impl raw::Notify {
    /// Whether a notification can reach the users of processes.
    pub(super) fn reaches_users(&self) -> bool {
        self.terminal.as_ref().is_some_and(|typed| *typed.get_ref())
            || self.mail_to.iter().flat_map(List::get_ref).any(|to| to.get_ref().contains(OWNER))
    }
}

const INTERVAL: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(10);
const NOBODY: &str = "nobody";

impl Reader<'_, '_> {
    pub(super) fn notify(&mut self, typed: raw::Notify) -> Notify {
        let raw::Notify {
            interval,
            mail_to,
            mail_from,
            smtp_host,
            smtp_port,
            smtp_starttls,
            smtp_auth_file,
            terminal,
            ..
        } = &typed;
        let terminal = terminal.as_ref().is_some_and(|typed| *typed.get_ref());
        let interval = interval.clone();
        let interval = self.seconds("interval", interval, "seconds between two messages", 1.0..=86_400.0);
        let port = smtp_port.as_ref().map_or(Some(25), |typed| self.port(typed));
        let auth_file = smtp_auth_file.as_ref().and_then(|typed| self.path("smtp_auth_file", typed));
        let from = mail_from.as_ref().and_then(|typed| self.address("mail_from", typed));
        let to: Vec<_> = mail_to
            .iter()
            .flat_map(List::get_ref)
            .filter_map(|typed| self.address("mail_to", typed))
            .collect();
        let host = smtp_host.as_ref().map_or(Some("localhost".to_owned()), |typed| self.relay(typed));
        let host = host.unwrap_or_default();
        let starttls = smtp_starttls.as_ref().is_some_and(|typed| *typed.get_ref());
        if let (Some(typed), Some(_), false) = (smtp_auth_file, &auth_file, starttls || is_here(&host)) {
            self.warn(&typed.span(), Concern::PlainPassword { host: host.clone() });
        }
        if to.is_empty() {
            let typed = [("notify.mail_from", mail_from), ("notify.smtp_auth_file", smtp_auth_file)];
            for (key, typed) in typed.into_iter().filter_map(|(key, typed)| Some((key, typed.as_ref()?))) {
                self.warn_of_no_effect(key, typed, "notify.mail_to");
            }
        }
        let mail =
            port.filter(|_| !to.is_empty()).map(|port| Mail { to, from, host, port, starttls, auth_file });
        let hook = self.hook(typed);
        Notify { interval: interval.unwrap_or(INTERVAL), mail, hook, terminal }
    }

    fn hook(&mut self, typed: raw::Notify) -> Option<Hook> {
        let raw::Notify { hook, hook_user, hook_timeout, .. } = typed;
        let timeout =
            self.seconds("hook_timeout", hook_timeout, "seconds that the hook may take", 0.1..=3600.0);
        let command = hook.as_ref().and_then(|typed| self.path("hook", typed));
        if let (None, Some(typed)) = (&command, &hook_user) {
            self.warn_of_no_effect("notify.hook_user", typed, "notify.hook");
        }
        let user = match &hook_user {
            Some(typed) => self.user("hook_user", typed),
            // Not as root, because no one has asked for that.
            None => command.as_ref().and_then(|_| self.users.uid(NOBODY).ok()?).or(Some(Uid(65_534))),
        };
        Some(Hook { command: command?, user: Some(user?), timeout: timeout.unwrap_or(TIMEOUT) })
    }

    fn warn_of_no_effect(&mut self, key: &'static str, typed: &Spanned<String>, without: &'static str) {
        if !typed.get_ref().is_empty() {
            self.warn(&typed.span(), Concern::NoEffect { key, without });
        }
    }

    fn user(&mut self, key: &str, typed: &Spanned<String>) -> Option<Uid> {
        let name = typed.get_ref();
        let found = uid(name).or_else(|| self.users.uid(name).ok()?);
        if found.is_none() {
            self.refuse(key, &typed.span(), "expected the name or uid of a user of this machine".to_owned());
        }
        found
    }

    fn path(&mut self, key: &str, typed: &Spanned<String>) -> Option<PathBuf> {
        let text = typed.get_ref();
        if text.is_empty() {
            return None;
        }
        if text.starts_with('/') && !text.ends_with('/') && !text.contains('\0') {
            return Some(Path::new(text).to_owned());
        }
        self.refuse(key, &typed.span(), "expected a file's path from the root".to_owned());
        None
    }

    fn port(&mut self, typed: &Spanned<i64>) -> Option<u16> {
        let port = u16::try_from(*typed.get_ref()).ok().filter(|port| *port > 0);
        if port.is_none() {
            self.refuse("smtp_port", &typed.span(), "expected a port, from 1 to 65535".to_owned());
        }
        port
    }

    /// An address as the sender of mail parses it: one that it does not take would keep mail from everybody.
    fn address(&mut self, key: &str, typed: &Spanned<String>) -> Option<String> {
        let text = typed.get_ref();
        // The owner of a process is a recipient, and no sender.
        let (example, with_name) = match key {
            "mail_to" => (" or \"%u@example.com\"", text.replace(OWNER, "name")),
            _ => ("", text.clone()),
        };
        match mailbox(&with_name) {
            Ok(()) => return Some(text.clone()),
            Err(why) => {
                let help = format!("expected an address, \"admin@example.com\"{example}{why}");
                self.refuse(key, &typed.span(), help);
            }
        }
        None
    }

    /// The relay: an address, or a name that a name server and a certificate can have.
    fn relay(&mut self, typed: &Spanned<String>) -> Option<String> {
        let text = typed.get_ref();
        let help = if text.parse::<IpAddr>().is_ok() {
            return Some(text.clone());
        } else if text.ends_with('.') {
            "write it without the dot at its end: no certificate has one"
        } else if text.len() > 253 || text.split('.').any(|label| label.len() > 63) {
            "a host name has at most 253 characters, and 63 between two dots"
        } else if !text.split('.').all(is_label) {
            "expected a host name or an address, without port, brackets or blanks"
        } else {
            return Some(text.clone());
        };
        self.refuse("smtp_host", &typed.span(), help.to_owned());
        None
    }
}

fn is_label(label: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !label.is_empty() && label.bytes().all(is_plain) && !label.starts_with('-') && !label.ends_with('-')
}

/// Whether `text` is an address for the sender of mail, or why not.
#[cfg(feature = "mail")]
fn mailbox(text: &str) -> Result<(), String> {
    let parsed = text.parse::<lettre::message::Mailbox>();
    parsed.map(drop).map_err(|error| format!(" ({})", super::error::quotable(&error.to_string())))
}

/// A build that sends none reports that anyway.
#[cfg(not(feature = "mail"))]
fn mailbox(text: &str) -> Result<(), String> {
    let plain = text.rsplit_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
    if plain && !text.contains(char::is_control) { Ok(()) } else { Err(String::new()) }
}

/// Whether what is sent to `host` does not leave this machine.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

//! `[notify]`: the recipients of notifications about terminations, in addition to the logs.

use std::net::IpAddr;

use toml::Spanned;

use super::{
    keys,
    toml_document::{Given, Keys},
    values::{Reader, uid},
    warning::Concern,
};
use crate::model::{Hook, Mail, Notify, OWNER, Uid};

impl keys::Notify {
    /// Whether a notification can reach the users of processes.
    pub(super) fn reaches_users(&self) -> bool {
        self.terminal
            || self.mail_to.iter().flat_map(|list| &list.entries).any(|to| to.get_ref().contains(OWNER))
    }
}

/// The value that was typed, or the usual one.
fn or<T: Default>(typed: Given<T>, usual: Given<T>) -> T {
    typed.or(usual).map(Spanned::into_inner).unwrap_or_default()
}

impl Reader<'_, '_> {
    pub(super) fn notify(&mut self, typed: keys::Notify) -> Notify {
        let usual: keys::Notify = Keys::defaults();
        let keys::Notify {
            interval,
            mail_to,
            mail_from,
            smtp_host,
            smtp_port,
            smtp_starttls,
            smtp_auth_file,
            hook,
            hook_user,
            hook_timeout,
            terminal,
        } = typed;
        let starttls = or(smtp_starttls, usual.smtp_starttls);
        let from = mail_from.as_ref().and_then(|typed| self.address("mail_from", typed));
        let to: Vec<_> = mail_to
            .iter()
            .flat_map(|list| &list.entries)
            .filter_map(|typed| self.address("mail_to", typed))
            .collect();
        let host = smtp_host.or(usual.smtp_host).and_then(|typed| self.relay(&typed)).unwrap_or_default();
        if let Some(typed) = &smtp_auth_file
            && typed.get_ref().is_some()
            && !(starttls || is_here(&host))
        {
            self.warn(&typed.span(), Concern::PlainPassword { host: host.clone() });
        }
        if to.is_empty() {
            self.warn_of_no_effect("notify.mail_from", mail_from.as_ref(), "notify.mail_to");
            let auth_file = smtp_auth_file.as_ref().filter(|typed| typed.get_ref().is_some());
            self.warn_of_no_effect("notify.smtp_auth_file", auth_file, "notify.mail_to");
        }
        let auth_file = smtp_auth_file.and_then(Spanned::into_inner);
        let port = or(smtp_port, usual.smtp_port);
        let mail = (!to.is_empty()).then_some(Mail { to, from, host, port, starttls, auth_file });
        let hook = hook.and_then(Spanned::into_inner);
        let timeout = or(hook_timeout, usual.hook_timeout);
        if hook.is_none() {
            self.warn_of_no_effect("notify.hook_user", hook_user.as_ref(), "notify.hook");
        }
        let user = match (hook_user, usual.hook_user) {
            (Some(typed), _) => self.user("hook_user", &typed),
            // Not as root, because no one has asked for that.
            (None, nobody) => nobody
                .filter(|_| hook.is_some())
                .and_then(|nobody| self.users.uid(nobody.get_ref()).ok()?)
                .or(Some(Uid(65_534))),
        };
        let hook = hook.zip(user).map(|(command, user)| Hook { command, user: Some(user), timeout });
        Notify { interval, mail, hook, terminal }
    }

    fn warn_of_no_effect<T>(&mut self, key: &'static str, typed: Option<&Spanned<T>>, without: &'static str) {
        if let Some(typed) = typed {
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

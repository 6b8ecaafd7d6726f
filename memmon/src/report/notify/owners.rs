//! Mail to the users whose processes an event is about: `%u` in `notify.mail_to` stands for their names.
//!
//! A user learns of their own processes only, and gets one message per interval. Users of the system, of containers and
//! without a name get none, and neither do users whose names are no part of an address.

use std::{fs, path::Path};

use super::{
    mail::Post,
    message::{Audience, Channel, Message, Remark, host},
};
use crate::{
    model::{Mail, OWNER, Uid, Workload},
    report::event::{Event, Level},
};

/// The first uid of a person if /etc/login.defs has none.
const FIRST_UID: u32 = 1000;
/// The uids of systemd's dynamic users, of the user nobody, and the invalid one (systemd's UIDS-GIDS.md).
const OF_THE_SYSTEM: std::ops::RangeInclusive<u32> = 61_184..=65_535;

/// The mail, and the users.
pub(super) struct Owners {
    post: Post,
    /// The addresses, with `%u` in them.
    to: Vec<String>,
    first_uid: u32,
    user_name: fn(Uid) -> Option<String>,
}

impl Owners {
    pub(super) fn new(mail: Mail, user_name: fn(Uid) -> Option<String>) -> Self {
        let defs = fs::read_to_string(Path::new("/etc/login.defs")).unwrap_or_default();
        let first_uid = first_uid(&defs);
        Self { to: mail.to.clone(), post: Post::new(mail), first_uid, user_name }
    }

    fn is_person(&self, uid: Uid) -> bool {
        uid.0 >= self.first_uid && !OF_THE_SYSTEM.contains(&uid.0)
    }
}

/// `UID_MIN` in the text of /etc/login.defs, but never less than 1: root is not a person.
fn first_uid(defs: &str) -> u32 {
    let value = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("UID_MIN")).then(|| words.next()?.parse().ok())?
    };
    defs.lines().filter_map(value).next_back().unwrap_or(FIRST_UID).max(1)
}

/// Whether a user's name is part of an address as it is: nothing in it has a meaning for mail.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.bytes().all(is_plain)
}

impl Channel for Owners {
    fn name(&self) -> &'static str {
        "owner-mail"
    }

    fn is_for_users(&self) -> bool {
        true
    }

    fn audience(&self, event: &Event) -> Option<Audience> {
        let subject = event.subject()?;
        // The same uid in a container is another user.
        let is_here = !subject.workload.as_ref().is_some_and(Workload::has_users_of_its_own);
        (is_here && self.is_person(subject.uid)).then_some(Audience::Owner(subject.uid))
    }

    fn deliver(&mut self, message: &Message<'_>) -> Result<Option<Remark>, String> {
        let Some(uid) = message.owner else { return Ok(None) };
        let not_sent =
            |why: String| Ok(Some((Level::Warning, format!("no mail was sent to uid {uid}: {why}"))));
        let Some(name) = (self.user_name)(uid) else {
            return not_sent("no user of this machine has it".to_owned());
        };
        if !is_plain(&name) {
            return not_sent(format!("an address cannot have the name {}", name.escape_default()));
        }
        self.post.mail.to = self.to.iter().map(|to| to.replace(OWNER, &name)).collect();
        let body = format!("This is about processes of the user {name} on {}.\n\n{}", host(), message.body);
        let Message { subject, count, owner, fields, events, .. } = message;
        let letter = Message {
            subject: subject.clone(),
            body,
            count: *count,
            owner: *owner,
            fields,
            events: events.clone(),
        };
        self.post.send(&letter)?.final_if_unknown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Name, NotifyUser},
        report::{event::Subject, samples},
    };

    fn owners() -> Owners {
        let mail = Mail {
            to: vec!["%u@example.com".to_owned()],
            from: None,
            host: "localhost".to_owned(),
            port: 25,
            starttls: false,
            auth_file: None,
        };
        let user_name: fn(Uid) -> Option<String> = |uid| match uid.0 {
            1000 => Some("john".to_owned()),
            1001 => Some("john@example.com, root".to_owned()),
            _ => None,
        };
        Owners { first_uid: 1000, ..Owners::new(mail, user_name) }
    }

    #[test]
    fn the_first_uid_of_a_person_is_that_of_login_defs() {
        for (defs, expected) in [
            ("", 1000),
            ("#UID_MIN 5\nUID_MAX 60000\nUID_MIN\t\t  500\nSYS_UID_MIN 100\n", 500),
            ("UID_MIN x\nUID_MIN", 1000),
            ("UID_MIN 0", 1),
        ] {
            assert_eq!(first_uid(defs), expected, "{defs}");
        }
    }

    #[test]
    fn a_person_gets_mail_about_their_processes_and_nobody_of_the_system_or_of_a_container_does() {
        let owners = owners();
        let about = |uid: u32, cgroup: &str| {
            let workload = Workload::of(&Name::from(cgroup));
            let about = Subject { uid: Uid(uid), workload, ..samples::chrome() };
            let event = samples::samples().into_iter().find_map(|mut event| match &mut event {
                Event::Terminated { subject, .. } => {
                    *subject = about.clone();
                    Some(event)
                }
                _ => None,
            });
            owners.audience(&event.unwrap())
        };
        let session = "/user.slice/user-1000.slice/session-1.scope";
        assert_eq!(about(1000, session), Some(Audience::Owner(Uid(1000))));
        assert_eq!(about(60_000, session), Some(Audience::Owner(Uid(60_000))));
        assert_eq!(about(1_234_567, session), Some(Audience::Owner(Uid(1_234_567))), "LDAP");
        for uid in [0, 33, 999, 61_184, 65_534, 65_535] {
            assert_eq!(about(uid, session), None, "{uid}");
        }
        assert_eq!(about(1000, &format!("/docker/{}", "0123456789abcdef".repeat(4))), None);
        assert_eq!(owners.audience(&Event::Overflow { lost: 1 }), None);
    }

    #[test]
    fn the_users_rule_decides_when_they_get_mail() {
        let with = |event: &Event, when| {
            let mut event = event.clone();
            match &mut event {
                Event::Approaching { subject, .. }
                | Event::OverRule { subject, .. }
                | Event::Terminated { subject, .. }
                | Event::Unsure { subject, .. } => subject.notify_user = when,
                _ => return None,
            }
            Some(event.is_for_user())
        };
        let kinds = |kind: fn(&Event) -> bool| samples::samples().into_iter().find(kind).unwrap();
        let early = [
            kinds(|event| matches!(event, Event::Approaching { .. })),
            kinds(|event| matches!(event, Event::OverRule { .. })),
        ];
        let (late, other) = (
            kinds(|event| matches!(event, Event::Terminated { .. })),
            kinds(|event| matches!(event, Event::Unsure { .. })),
        );
        for (when, before, after) in [
            (None, false, true),
            (Some(NotifyUser::Before), true, false),
            (Some(NotifyUser::After), false, true),
            (Some(NotifyUser::Both), true, true),
            (Some(NotifyUser::Never), false, false),
        ] {
            let early = early.each_ref().map(|event| with(event, when));
            assert_eq!((early, with(&late, when)), ([Some(before); 2], Some(after)), "{when:?}");
            assert_eq!(with(&other, when), Some(false), "{when:?}");
        }
        assert!(!Event::Overflow { lost: 1 }.is_for_user());
    }

    #[test]
    fn a_name_that_is_no_part_of_an_address_is_reported_and_not_used() {
        let refused = |uid: u32| {
            let (subject, body, events) = (String::new(), String::new(), String::new());
            let message = Message { subject, body, count: 1, owner: Some(Uid(uid)), fields: &[], events };
            owners().deliver(&message).unwrap().unwrap().1
        };
        assert_eq!(
            refused(1001),
            "no mail was sent to uid 1001: an address cannot have the name john@example.com, root"
        );
        assert_eq!(refused(1002), "no mail was sent to uid 1002: no user of this machine has it");
    }
}

//! Users and groups that the configuration names, and that this machine did not know when it was read. As in v1 they count as soon
//! as they exist: a service that is installed later is protected by its user's name.

use std::time::{Duration, Instant};

use crate::config::{Concern, Loaded, Users};

/// Minimum time between two looks for them. A look may ask a name service on another machine.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// The names, and the configuration that has them.
#[derive(Clone, Debug)]
pub(super) struct LateNames {
    users: Vec<String>,
    groups: Vec<String>,
    /// That of the configuration's files.
    digest: u64,
    looked: Option<Instant>,
}

impl LateNames {
    pub(super) fn of(loaded: &Loaded) -> Self {
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for warning in &loaded.warnings {
            match &warning.concern {
                Concern::UnknownUser { name, .. } => users.push(name.clone()),
                Concern::NoSuchGroup { name, .. } => groups.push(name.clone()),
                _ => {}
            }
        }
        Self { users, groups, digest: loaded.digest, looked: None }
    }

    /// Whether to look for them now, which counts as a look.
    pub(super) fn are_due(&mut self, now: Instant) -> bool {
        let is_due = self.looked.is_none_or(|last| now.saturating_duration_since(last) >= BETWEEN_LOOKS);
        if (self.users.is_empty() && self.groups.is_empty()) || !is_due {
            return false;
        }
        self.looked = Some(now);
        true
    }

    /// The first that exists by now. A name service that does not answer knows none.
    pub(super) fn found(&self, service: &dyn Users) -> Option<&str> {
        let user = self.users.iter().find(|name| matches!(service.uid(name), Ok(Some(_))));
        let group = || self.groups.iter().find(|name| matches!(service.group(name), Ok(Some(_))));
        user.or_else(group).map(String::as_str)
    }

    /// Whether `loaded` is what is in force, but for the names.
    pub(super) const fn is_of(&self, loaded: &Loaded) -> bool {
        self.digest == loaded.digest
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, FakeUsers};

    const NOBODY: FakeUsers = FakeUsers(&[]);

    fn loaded(text: &str) -> Loaded {
        config::parse(text, Path::new("c"), &NOBODY).unwrap()
    }

    #[test]
    fn a_user_and_a_group_are_found_as_soon_as_they_exist() {
        let of_both = loaded(
            "whitelist.users = ['postgres', '47001']\n[[rule]]\nname = 'a'\ngroups = ['hpc']\nnone = true",
        );
        let names = LateNames::of(&of_both);
        assert_eq!((names.users.len(), names.groups.len()), (1, 1), "a number needs no user");
        assert_eq!(names.found(&NOBODY), None);
        assert_eq!(names.found(&FakeUsers(&[("postgres", 113)])), Some("postgres"));
        assert_eq!(names.found(&FakeUsers(&[("hpc", 1000)])), Some("hpc"));
        // The name service does not answer for it.
        let unanswered = LateNames { users: vec!["who?".to_owned(), "postgres".to_owned()], ..names };
        assert_eq!(unanswered.found(&FakeUsers(&[("who?", 1)])), None);
        assert_eq!(unanswered.found(&FakeUsers(&[("postgres", 113)])), Some("postgres"));
    }

    #[test]
    fn looks_are_rare_and_none_is_needed_if_all_are_known() {
        let now = Instant::now();
        let mut names = LateNames::of(&loaded("whitelist.users = ['postgres']"));
        assert!(
            names.are_due(now)
                && !names.are_due(now + BETWEEN_LOOKS / 2)
                && names.are_due(now + BETWEEN_LOOKS)
        );
        assert!(!LateNames::of(&loaded("whitelist.users = ['0']")).are_due(now));
    }

    #[test]
    fn an_edited_configuration_is_another_one() {
        let text = "whitelist.users = ['postgres']";
        let names = LateNames::of(&loaded(text));
        assert!(names.is_of(&loaded(text)) && !names.is_of(&loaded(&format!("{text} # for now"))));
    }
}

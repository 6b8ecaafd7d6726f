//! One line of `memmon doctor`.

use serde::Serialize;

use crate::observe::support::Obstacle;

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) mark: Mark,
    pub(super) value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mark {
    /// As it should be.
    Ok,
    /// Works, but could work better.
    Degraded,
    /// Something does not work.
    Failed,
}

impl Mark {
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "! ",
            Self::Failed => "!!",
        }
    }
}

impl Check {
    pub(super) fn ok(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, mark: Mark::Ok, value: value.into(), remedy: None }
    }

    pub(super) fn against(name: &'static str, mark: Mark, obstacle: &Obstacle) -> Self {
        Self { name, mark, value: obstacle.to_string(), remedy: Some(obstacle.remedy()) }
    }

    /// A line with `value`, or one for each of the obstacles that are about this.
    pub(super) fn unless(
        name: &'static str,
        value: impl Into<String>,
        obstacles: &[Obstacle],
        mark: Mark,
        about: fn(&Obstacle) -> bool,
    ) -> Vec<Self> {
        let against: Vec<Self> = obstacles
            .iter()
            .filter(|obstacle| about(obstacle))
            .map(|obstacle| Self::against(name, mark, obstacle))
            .collect();
        if against.is_empty() { vec![Self::ok(name, value)] } else { against }
    }
}

//! The order of the rows.

/// The sort key of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Memory,
    Growth,
    Left,
    Pid,
    User,
    Name,
}

impl Sort {
    pub(super) const ALL: [Self; 6] =
        [Self::Memory, Self::Growth, Self::Left, Self::Pid, Self::User, Self::Name];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Growth => "growth",
            Self::Left => "left",
            Self::Pid => "pid",
            Self::User => "user",
            Self::Name => "name",
        }
    }

    pub(super) const fn of_key(key: char) -> Option<Self> {
        match key {
            'm' => Some(Self::Memory),
            'g' => Some(Self::Growth),
            't' => Some(Self::Left),
            'p' => Some(Self::Pid),
            'u' => Some(Self::User),
            'n' => Some(Self::Name),
            _ => None,
        }
    }

    pub(super) fn next(self) -> Self {
        let place = Self::ALL.iter().position(|one| *one == self).unwrap_or_default();
        Self::ALL.get(place + 1).copied().unwrap_or_default()
    }
}

//! Ranges of user ids.

use std::{fmt, ops::RangeInclusive};

use serde::{Serialize, Serializer};

use crate::model::Uid;

/// User ids, as ranges that include both their ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidRanges(Vec<RangeInclusive<Uid>>);

impl UidRanges {
    /// Whether `uid` is in one of the ranges. An empty list contains no uid.
    pub fn contains(&self, uid: Uid) -> bool {
        self.0.iter().any(|range| range.contains(&uid))
    }

    /// The range that contains `uid`, as it is typed.
    pub(super) fn find(&self, uid: Uid) -> Option<String> {
        self.0.iter().find(|range| range.contains(&uid)).map(|range| Typed(range).to_string())
    }

    /// The uids, if there are no more than `most`.
    pub(super) fn few(&self, most: u32) -> Option<Vec<Uid>> {
        let mut uids = Vec::new();
        for range in &self.0 {
            let (first, last) = (range.start().0, range.end().0);
            if last.saturating_sub(first) >= most {
                return None;
            }
            uids.extend((first..=last).map(Uid));
        }
        (uids.len() <= most as usize).then_some(uids)
    }

    /// Each range, as and where it was typed.
    pub fn ranges(&self) -> impl Iterator<Item = &RangeInclusive<Uid>> {
        self.0.iter()
    }
}

impl FromIterator<RangeInclusive<Uid>> for UidRanges {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<Uid>>>(ranges: I) -> Self {
        Self(ranges.into_iter().collect())
    }
}

/// One range as it is typed: `1000-59999`, or `47001`.
struct Typed<'a>(&'a RangeInclusive<Uid>);

impl fmt::Display for Typed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl fmt::Display for UidRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", Typed(range))?;
        }
        Ok(())
    }
}

impl Serialize for UidRanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|range| Typed(range).to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uid_ranges_include_both_ends() {
        let ranges: UidRanges = [Uid(1000)..=Uid(59_999), Uid(7)..=Uid(7)].into_iter().collect();
        for (uid, inside) in
            [(999, false), (1000, true), (59_999, true), (60_000, false), (7, true), (8, false)]
        {
            assert_eq!(ranges.contains(Uid(uid)), inside, "{uid}");
        }
        assert_eq!(ranges.to_string(), "1000-59999, 7");
        assert_eq!(serde_json::to_string(&ranges).unwrap(), r#"["1000-59999","7"]"#);
        assert!(!UidRanges::default().contains(Uid::ROOT));
    }
}

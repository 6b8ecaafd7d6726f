//! The sums in which processes count, for display.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::time::{Duration, Instant};

use super::Onlooker;
use crate::{
    model::{Bytes, ProcessId, SystemMemory},
    policy::{self, Sum},
};

/// Time limit of the close looks at the processes of all sums. The others then count with all of their resident memory.
const AT_MOST: Duration = Duration::from_secs(5);

impl Onlooker {
    /// The sums of which each of `wanted` is a part; all sums without `wanted`. A sum whose upper bound is within its limit is
    /// looked at closely only if it is wanted.
    ///
    /// # Errors
    /// /proc cannot be listed.
    pub fn sums(&self, wanted: Option<&BTreeSet<ProcessId>>, memory: &SystemMemory) -> io::Result<Vec<Sum>> {
        let Self { proc, accuracy, rules } = self;
        if rules.sums.is_empty() {
            return Ok(vec![]);
        }
        let begun = Instant::now();
        let processes = self.all()?;
        let mut sums = Vec::new();
        for group in policy::groups(rules, memory, &processes) {
            let is_wanted = match wanted {
                Some(wanted) => group.members.iter().any(|(process, _)| wanted.contains(&process.id)),
                None => {
                    let bound: Bytes = group.members.iter().map(|(one, _)| one.rss + one.error).sum();
                    bound > group.limit.1
                }
            };
            if !is_wanted {
                continue;
            }
            let looked: HashMap<_, _> = group
                .members
                .iter()
                .filter(|_| begun.elapsed() < AT_MOST)
                .filter_map(|(process, _)| {
                    let id = process.id;
                    let looked = proc.confirm_for_sum(id.pid, Some(id.start), false, accuracy, None).ok()?;
                    Some((id, looked))
                })
                .collect();
            let members = group.members.iter().map(|(process, _)| looked.get(&process.id).unwrap_or(process));
            let again = policy::groups(rules, memory, members);
            let same =
                again.iter().find(|one| one.rule.rule.name == group.rule.rule.name && one.key == group.key);
            sums.extend(same.map(|group| Sum::new(rules, memory, group)));
        }
        Ok(sums)
    }
}

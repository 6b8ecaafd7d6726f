//! All that can be read of one process's memory, also if no verdict depends on it.

use serde::Serialize;

use super::onlooker::Onlooker;
use crate::{
    model::{Bytes, Fact, Holdings, Parts, Process},
    status::Sharing,
};

/// The memory of a process in detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Details {
    /// Its parts.
    #[serde(flatten)]
    pub parts: Parts,
    /// The part of its shared memory that its end would free; `None` if that could not be read.
    #[serde(rename = "shmem_returned_bytes")]
    pub returned: Option<Bytes>,
    /// The memory that it shares.
    #[serde(flatten)]
    pub sharing: Sharing,
    /// All that its end would give back, or at least this much if `returned` is `None`.
    #[serde(rename = "charged_bytes")]
    pub charged: Bytes,
    /// Its huge pages of hugetlbfs, which neither resident nor charged memory includes (`HugetlbPages`, Linux 4.4).
    #[serde(rename = "hugetlb_bytes")]
    pub hugetlb: Bytes,
}

impl Onlooker {
    /// Reads the details of `process`. This may take a second for one with much shared memory. `None` if the process is gone,
    /// or the kernel (before 4.5) does not show the parts.
    pub fn details(&self, process: &Process) -> Option<Details> {
        let id = process.id;
        // With a limit of 0, its inherited memory is read whatever its size is.
        let mut all = self.proc.confirm(id.pid, Some(id.start), Bytes::ZERO, &self.accuracy).ok()?;
        let parts = self.proc.parts(id.pid).ok()?;
        let shared = match process.holdings.as_ref().map(|holdings| &holdings.shared) {
            Some(Fact::Known(shared)) => Fact::Known(shared.clone()),
            _ if parts.shmem == Bytes::ZERO => Fact::Absent,
            _ => self.proc.shared_memory_of(process, &parts),
        };
        all.holdings = Some(Holdings { parts, shared, trouble: None });
        let returned = match all.holdings.as_ref().map(|holdings| &holdings.shared) {
            Some(Fact::Known(shared)) => Some(shared.returned),
            Some(Fact::Absent) => Some(Bytes::ZERO),
            _ => None,
        };
        Some(Details {
            parts,
            returned,
            sharing: self.sharing(&all),
            charged: all.charged_at_least(),
            hugetlb: self.proc.hugetlb(id.pid).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Pid, observe::procfs::Accuracy, policy::fixtures::rules};

    #[test]
    fn this_process_is_shown_in_detail_though_it_is_within_its_limit() {
        let onlooker = Onlooker::new(rules(), Accuracy::StatmExact).unwrap();
        let memory = onlooker.memory().unwrap();
        let own = onlooker.process(Pid(std::process::id()), None, &memory).unwrap();
        assert_eq!(own.holdings, None, "no verdict depends on it");
        let details = onlooker.details(&own).unwrap();
        let Parts { anon, file, .. } = details.parts;
        assert!(anon > Bytes::ZERO && file > Bytes::ZERO, "{details:?}");
        assert!(details.charged >= Bytes(anon.0 / 2) && details.charged < anon + file, "{details:?}");
    }
}

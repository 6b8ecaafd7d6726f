//! The memory that the end of a victim gave back, for its record.

use serde::Serialize;

use super::{Bytes, Name, Parts, Uid};

/// Memory of the whole machine, before or after an end. Every process changes it all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FreeAndShared {
    /// `MemAvailable`.
    #[serde(rename = "available_bytes")]
    pub available: Bytes,
    /// Freed pages that the kernel keeps for each processor, which `MemAvailable` does not include (`pagesets` in
    /// /proc/zoneinfo): often more than 100 MB. None if they cannot be read.
    #[serde(rename = "free_per_cpu_bytes")]
    pub free_per_cpu: Option<Bytes>,
    /// `Shmem`: tmpfs, memfd, shared anonymous memory and System V segments.
    #[serde(rename = "shmem_bytes")]
    pub shmem: Bytes,
}

impl FreeAndShared {
    /// All memory that can be allocated.
    pub fn free(&self) -> Bytes {
        self.available + self.free_per_cpu.unwrap_or_default()
    }
}

/// The memory that the end of a victim was expected to give back, and the memory that it did give back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GivenBack {
    /// The parts of its memory at the look that decided its termination.
    pub parts: Option<Parts>,
    /// The memory that its end was expected to give back at least, at the same look. Shared memory is part of it only if it
    /// was looked up.
    #[serde(rename = "expected_bytes")]
    pub expected: Bytes,
    /// The memory of its cgroup right after a signal, before the process began to exit; `None` if other processes were in
    /// it.
    #[serde(rename = "cgroup_before_bytes")]
    pub cgroup_before: Option<Bytes>,
    /// The memory of that cgroup at the end; `None` if the cgroup is gone as well.
    #[serde(rename = "cgroup_after_bytes")]
    pub cgroup_after: Option<Bytes>,
    /// The machine's memory right after a signal; `free_per_cpu` up to 10 ms earlier, if no processor was idle.
    pub before: Option<FreeAndShared>,
    /// The machine's memory at its end.
    pub after: Option<FreeAndShared>,
    /// Shared memory that no end of a process frees.
    pub left_behind: Vec<LeftBehind>,
}

/// An object of shared memory that a process left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftBehind {
    /// The path of a file; `/SYSV…` with the key for a System V segment.
    pub name: Name,
    /// Its memory.
    pub bytes: Bytes,
    /// The user that owns it, if that is known.
    pub owner: Option<Uid>,
    /// The id of a System V segment, as `ipcrm -m` takes it; `None` for a file.
    pub segment: Option<u64>,
    /// Whether the process is known to have used it. If not, it is a file of the same user that has the right size.
    pub certain: bool,
}

impl GivenBack {
    /// The memory that came back by the process's own cgroup: exact, but for pages of the kernel's own.
    pub fn by_cgroup(&self) -> Option<Bytes> {
        Some(self.cgroup_before?.saturating_sub(self.cgroup_after?))
    }

    /// The shared memory of the process that the machine still has: what it had touched, less what all processes together
    /// freed meanwhile. `None` if that is less than half, as others may have taken as much.
    pub fn shmem_left(&self) -> Option<Bytes> {
        let (had, before, after) = (self.parts?.shmem, self.before?.shmem, self.after?.shmem);
        let left = had.saturating_sub(before.saturating_sub(after));
        (had.0 >= LeftBehind::LEAST.0 && left.0 >= had.0 / 2).then_some(left)
    }
}

impl LeftBehind {
    /// Less is not worth a warning.
    pub const LEAST: Bytes = Bytes(Bytes::MIB);
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mib(count: u64) -> Bytes {
        Bytes(count << 20)
    }

    #[test]
    fn shared_memory_is_left_if_the_machine_still_has_it() {
        let left = |had, before, after| {
            let machine =
                |shmem| Some(FreeAndShared { available: mib(9000), free_per_cpu: None, shmem: mib(shmem) });
            let parts = Some(Parts { shmem: mib(had), ..Parts::default() });
            let back =
                GivenBack { parts, before: machine(before), after: machine(after), ..GivenBack::default() };
            back.shmem_left().map(|bytes| bytes.0 >> 20)
        };
        assert_eq!(left(60, 500, 500), Some(60));
        assert_eq!(left(60, 500, 490), Some(50), "others freed some, or it did");
        assert_eq!(left(60, 500, 600), Some(60), "others took some");
        assert_eq!(left(60, 500, 440), None);
        assert_eq!(left(60, 500, 460), None, "most of it came back");
        assert_eq!(left(0, 500, 500), None);
    }

    #[test]
    fn a_cgroup_that_is_gone_proves_nothing() {
        let back =
            |after| GivenBack { cgroup_before: Some(mib(70)), cgroup_after: after, ..GivenBack::default() };
        assert_eq!(back(Some(mib(10))).by_cgroup(), Some(mib(60)));
        assert_eq!(back(Some(mib(80))).by_cgroup(), Some(Bytes::ZERO));
        assert_eq!(back(None).by_cgroup(), None);
    }
}

//! Settings of the kernel that decide what happens when memory runs short. memmon reads them, and changes none.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::model::Bytes;

/// The settings; `None` for one that this kernel does not have, or that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemorySettings {
    /// `vm.overcommit_memory`: 0 heuristic, 1 always, 2 never.
    pub overcommit_memory: Option<u64>,
    /// `vm.panic_on_oom`.
    pub panic_on_oom: Option<u64>,
    /// `vm.oom_kill_allocating_task`.
    pub oom_kill_allocating_task: Option<u64>,
    /// `vm.min_free_kbytes`.
    #[serde(rename = "min_free_bytes")]
    pub min_free: Option<Bytes>,
    /// `min_ttl_ms` of the multi-generational LRU, while that is in use.
    pub min_ttl_ms: Option<u64>,
    /// Whether swapped-out memory is kept compressed in memory.
    pub zswap: Option<bool>,
    /// Whether the kernel measures pressure.
    pub pressure: bool,
}

impl MemorySettings {
    /// The settings below these two folders: /proc and /sys.
    pub fn read(proc: &Path, sys: &Path) -> Self {
        let text = |path: &Path| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let vm = |name| text(&proc.join("sys/vm").join(name))?.parse::<u64>().ok();
        let lru = sys.join("kernel/mm/lru_gen");
        // A mask of what is in use: 0x0007.
        let generations = text(&lru.join("enabled"))
            .and_then(|mask| u64::from_str_radix(mask.strip_prefix("0x")?, 16).ok())
            .is_some_and(|mask| mask & 1 != 0);
        Self {
            overcommit_memory: vm("overcommit_memory"),
            panic_on_oom: vm("panic_on_oom"),
            oom_kill_allocating_task: vm("oom_kill_allocating_task"),
            min_free: vm("min_free_kbytes").map(Bytes::from_kib),
            min_ttl_ms: if generations {
                text(&lru.join("min_ttl_ms")).and_then(|text| text.parse().ok())
            } else {
                None
            },
            zswap: text(&sys.join("module/zswap/parameters/enabled"))
                .map(|text| matches!(text.as_str(), "Y" | "1")),
            pressure: text(&proc.join("pressure/memory")).is_some_and(|text| text.starts_with("some ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::procfs::testing::Tree;
    use super::*;

    #[test]
    fn each_setting_is_read_where_the_kernel_has_it() {
        let tree = Tree::new();
        let read = || MemorySettings::read(&tree.path().join("proc"), &tree.path().join("sys"));
        assert_eq!(read(), MemorySettings::default());
        for (file, text) in [
            ("proc/sys/vm/overcommit_memory", "2\n"),
            ("proc/sys/vm/panic_on_oom", "1\n"),
            ("proc/sys/vm/oom_kill_allocating_task", "0\n"),
            ("proc/sys/vm/min_free_kbytes", "67584\n"),
            ("proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
            ("sys/kernel/mm/lru_gen/enabled", "0x0000\n"),
            ("sys/kernel/mm/lru_gen/min_ttl_ms", "1000\n"),
            ("sys/module/zswap/parameters/enabled", "Y\n"),
        ] {
            tree.write(file, text);
        }
        let expected = MemorySettings {
            overcommit_memory: Some(2),
            panic_on_oom: Some(1),
            oom_kill_allocating_task: Some(0),
            min_free: Some(Bytes::from_kib(67_584)),
            min_ttl_ms: None,
            zswap: Some(true),
            pressure: true,
        };
        assert_eq!(read(), expected);
        tree.write("sys/kernel/mm/lru_gen/enabled", "0x0007\n");
        assert_eq!(read(), MemorySettings { min_ttl_ms: Some(1000), ..expected });
    }
}

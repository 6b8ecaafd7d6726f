//! The memory of the machine as a whole: /proc/meminfo, /proc/pressure/memory and /proc/vmstat.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::{ProcRoot, mountinfo, parse};
use crate::model::{Bytes, Elsewhere, MachineMemory, MemoryFiles, Name, Paging, Pressure};

impl ProcRoot {
    /// The machine's memory. A line that a kernel does not have counts as zero, apart from those that
    /// [`ProcRoot::memory`] needs.
    ///
    /// # Errors
    /// Those of [`ProcRoot::memory`].
    pub fn machine_memory(&self) -> io::Result<MachineMemory> {
        let text = self.piece("meminfo")?;
        let memory = self.memory_of(&text)?;
        let amount = |label| parse::kib(&text, label).unwrap_or(Bytes::ZERO);
        Ok(MachineMemory {
            memory,
            swap_total: amount("SwapTotal:"),
            swap_free: amount("SwapFree:"),
            elsewhere: Elsewhere {
                shmem: amount("Shmem:"),
                slab: amount("SUnreclaim:"),
                hugetlb: amount("Hugetlb:"),
            },
            pressure: self.piece("pressure/memory").ok().and_then(|text| pressure(&text)),
        })
    }
}

impl ProcRoot {
    /// The pages that went to the swap, and those that came back; `None` if the kernel does not count them.
    pub fn paging(&self) -> Option<Paging> {
        paging(&self.whole("vmstat").ok()?)
    }

    /// The id of this boot: each boot has another one.
    ///
    /// # Errors
    /// The error of reading the file.
    pub fn boot_id(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.whole("sys/kernel/random/boot_id")?).trim().to_owned())
    }

    /// The file systems in the mount namespace of pid 1 whose files are in memory, the largest first. Those that cannot be
    /// read are left out.
    pub fn memory_files(&self) -> Vec<MemoryFiles> {
        let mounts = mountinfo(self.directory.as_fd(), "1/mountinfo").unwrap_or_default();
        let root = self.path.join("1/root");
        let mut found: Vec<_> = tmpfs(&mounts)
            .into_iter()
            .filter_map(|path| {
                let inside = Path::new(OsStr::from_bytes(&path)).strip_prefix("/").ok()?.to_owned();
                let numbers = statvfs(&root.join(inside)).ok()?;
                let blocks = numbers.blocks().saturating_sub(numbers.blocks_free());
                let used = Bytes(blocks.saturating_mul(numbers.fragment_size()));
                Some(MemoryFiles { path: Name::new(path), used })
            })
            .collect();
        found.sort_by(|one, other| {
            other.used.cmp(&one.used).then_with(|| one.path.as_bytes().cmp(other.path.as_bytes()))
        });
        found
    }
}

/// First mount point of each tmpfs of a mountinfo (proc_pid_mountinfo(5)).
fn tmpfs(mounts: &[u8]) -> Vec<Vec<u8>> {
    let mut first: BTreeMap<&[u8], Vec<u8>> = BTreeMap::new();
    for line in mounts.split(|byte| *byte == b'\n') {
        let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
        let Some(separator) = fields.iter().position(|field| *field == b"-") else { continue };
        if let (Some(device), Some(path), Some(b"tmpfs")) =
            (fields.get(2), fields.get(4), fields.get(separator + 1).copied())
        {
            first.entry(device).or_insert_with(|| unescaped(path));
        }
    }
    first.into_values().collect()
}

/// A path of mountinfo, in which blanks, tabs, line feeds and backslashes are octal numbers.
pub(super) fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let number = after
            .first_chunk::<3>()
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(number.unwrap_or(*first));
        rest = if number.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain
}

/// The averages over ten seconds and over a minute. `None` if the file is not as Documentation/accounting/psi.rst describes it.
pub(super) fn pressure(text: &[u8]) -> Option<Pressure> {
    let text = std::str::from_utf8(text).ok()?;
    let average = |kind: &str, span: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        line.split(' ').find_map(|field| field.strip_prefix(span)?.strip_prefix('='))?.parse().ok()
    };
    Some(Pressure {
        some: average("some", "avg10")?,
        full: average("full", "avg10")?,
        some_of_minute: average("some", "avg60")?,
        full_of_minute: average("full", "avg60")?,
        swaps_calmly: false,
    })
}

/// The figures of /proc/vmstat. Before Linux 5.9 there is one figure of refaults, of files; before 6.8 (and without zswap)
/// there is none of what goes to zswap.
fn paging(text: &[u8]) -> Option<Paging> {
    let text = std::str::from_utf8(text).ok()?;
    let figure = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse::<u64>().ok()
    };
    let out = figure("pswpout")?.saturating_add(figure("zswpout").unwrap_or_default());
    let memory = figure("workingset_refault_anon").or_else(|| figure("pswpin"))?;
    let files = figure("workingset_refault_file").or_else(|| figure("workingset_refault"));
    Some(Paging { out, back: memory.saturating_add(files.unwrap_or_default()) })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;
    use crate::model::SystemMemory;

    const MEMINFO: &str = "MemTotal:  1024 kB\nMemAvailable:  512 kB\nSwapTotal:  2048 kB\nSwapFree:  1024 kB\n\
                           Shmem:  64 kB\nSUnreclaim:  32 kB\nHugetlb:  16 kB\n";

    #[test]
    fn the_machine_is_read_whole() {
        let tree = Tree::new();
        tree.write("meminfo", MEMINFO);
        tree.write(
            "pressure/memory",
            "some avg10=1.50 avg60=0.16 avg300=0.12 total=1\nfull avg10=0.25 avg60=0.12 avg300=0.09 total=1\n",
        );
        let kib = Bytes::from_kib;
        let expected = MachineMemory {
            memory: SystemMemory { total: kib(1024), available: kib(512) },
            swap_total: kib(2048),
            swap_free: kib(1024),
            elsewhere: Elsewhere { shmem: kib(64), slab: kib(32), hugetlb: kib(16) },
            pressure: Some(Pressure {
                some: 1.5,
                full: 0.25,
                some_of_minute: 0.16,
                full_of_minute: 0.12,
                swaps_calmly: false,
            }),
        };
        assert_eq!(tree.root().machine_memory().unwrap(), expected);
    }

    #[test]
    fn each_tmpfs_is_found_once() {
        let mounts = b"22 1 8:1 / / rw - ext4 /dev/sda rw\n\
            23 22 0:21 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw\n\
            24 22 0:22 / /mnt/a\\040b\\134 rw - tmpfs x rw,size=9k\n\
            25 22 0:21 /sub /srv/shm rw - tmpfs tmpfs rw\n26 22 0:5 / /dev rw - devtmpfs udev rw\n";
        assert_eq!(tmpfs(mounts), [b"/dev/shm".to_vec(), b"/mnt/a b\\".to_vec()]);
        let tree = Tree::new();
        assert_eq!(tree.root().memory_files(), []);
        std::fs::create_dir_all(tree.path().join("root/dev/shm")).unwrap();
        tree.write("1/mountinfo", mounts);
        tree.link("1/root", "../root");
        let found = tree.root().memory_files();
        assert_eq!(found.iter().map(|found| found.path.as_bytes()).collect::<Vec<_>>(), [b"/dev/shm"]);
    }

    #[test]
    fn what_goes_to_the_swap_and_what_comes_back_is_counted() {
        let tree = Tree::new();
        assert_eq!(tree.root().paging(), None);
        let vmstat = "nr_free_pages 9\nworkingset_refault_anon 3\nworkingset_refault_file 20\n\
                      pswpin 5\npswpout 100\nzswpin 1\nzswpout 1000\n";
        tree.write("vmstat", vmstat);
        assert_eq!(tree.root().paging(), Some(Paging { out: 1100, back: 23 }));
        tree.write("vmstat", "workingset_refault 20\npswpin 5\npswpout 100\n");
        assert_eq!(tree.root().paging(), Some(Paging { out: 100, back: 25 }));
        tree.write("vmstat", "nr_free_pages 9\n");
        assert_eq!(tree.root().paging(), None, "without swap in the kernel");
    }

    #[test]
    fn a_kernel_without_pressure_has_none() {
        let tree = Tree::new();
        tree.write("meminfo", "MemTotal:  1024 kB\nMemAvailable:  512 kB\n");
        let machine = tree.root().machine_memory().unwrap();
        assert_eq!((machine.pressure, machine.swap_free_percent()), (None, None));
        tree.write("pressure/memory", "some avg10=x\n");
        assert_eq!(tree.root().machine_memory().unwrap().pressure, None);
    }
}

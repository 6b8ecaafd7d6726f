//! Parsers for the files in /proc, as pure functions over their bytes (proc_pid_stat(5) and related pages).
//!
//! Names are arbitrary bytes from other processes: no parser assumes UTF-8, and none panics. `None` means that the text
//! is not in the kernel's format.

use std::{
    collections::BTreeSet,
    str::{self, FromStr},
};

use crate::model::{Bytes, Gid, Name, Pid, StartTime, Uid};

/// The fields of /proc/PID/stat that memmon needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    /// Field 2, which may contain parentheses, blanks and newlines.
    pub comm: &'a [u8],
    /// Field 3: `R`, `S`, `D`, `Z`, …
    pub state: char,
    /// Field 4.
    pub parent: Pid,
    /// Field 6: 0 if the session's leader is outside memmon's pid namespace, -1 if the process is being reaped.
    pub session: i32,
    /// Field 7, the device number of the controlling terminal: 0 for none.
    pub terminal: i32,
    /// Field 9, the kernel's `PF_*`.
    flags: u32,
    /// Field 20.
    pub threads: u64,
    /// Field 22.
    pub start: StartTime,
    /// Field 23, its virtual size, is not zero: its first thread has the process's memory.
    pub has_memory: bool,
    /// `None` if the kernel does not show it: without memory, or without PTRACE_MODE_READ.
    pub layout: Option<Layout>,
}

/// Addresses of the program, the stack and the heap in an address space (fields 26, 28 and 47 of stat). Fork copies all
/// three, exec draws them at random: processes that share memory through fork have the same, and hardly any others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    code: u64,
    stack: u64,
    heap: u64,
}

impl Stat<'_> {
    /// Whether this is a kernel thread: `PF_KTHREAD`, the same bit in every kernel since 2.6.27.
    pub(super) const fn kernel_thread(&self) -> bool {
        self.flags & 0x0020_0000 != 0
    }

    /// Whether the process was forked and has not called exec since: `PF_FORKNOEXEC`, the same bit in every kernel.
    pub(super) const fn is_forked(&self) -> bool {
        self.flags & 0x0000_0040 != 0
    }
}

/// Parses /proc/PID/stat: `pid (comm) state ppid …`. No field after comm contains a parenthesis, so the last one ends it.
pub(super) fn stat(text: &[u8]) -> Option<Stat<'_>> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let comm = text.get(open + 1..close)?;
    let mut fields = words(text.get(close + 1..)?);
    let state = char::from(*fields.next()?.first()?);
    let parent = Pid(number(fields.next()?)?);
    let session = number(fields.nth(1)?)?;
    let terminal = number(fields.next()?)?;
    let flags = number(fields.nth(1)?)?;
    let threads = number(fields.nth(10)?)?;
    let start = StartTime(number(fields.nth(1)?)?);
    let has_memory = fields.next().is_some_and(|size| size != b"0");
    let mut later = |skipped: usize| number(fields.nth(skipped)?).filter(|address: &u64| *address > 1);
    let layout = || Some(Layout { code: later(2)?, stack: later(1)?, heap: later(18)? });
    let layout = { layout }();
    Some(Stat { comm, state, parent, session, terminal, flags, threads, start, has_memory, layout })
}

/// The first three fields of /proc/PID/statm, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statm {
    /// Virtual size: 0 only if there is no memory at all.
    pub size: u64,
    /// Resident file, anonymous and shared pages.
    pub resident: u64,
    /// The part of them that are file or shared pages.
    pub shared: u64,
}

/// Parses /proc/PID/statm: `size resident shared …`.
pub(super) fn statm(text: &[u8]) -> Option<Statm> {
    let mut fields = words(text);
    let (size, resident) = (number(fields.next()?)?, number(fields.next()?)?);
    Some(Statm { size, resident, shared: number(fields.next()?)? })
}

/// The amount after `label` in a text of `Label:   123 kB` lines (meminfo, smaps_rollup).
pub(super) fn kib(text: &[u8], label: &str) -> Option<Bytes> {
    Some(Bytes::from_kib(number(words(field(text, label)?).next()?)?))
}

/// The real and effective uid in /proc/PID/status (which escapes newlines in the name above them).
pub(super) fn uids(text: &[u8]) -> Option<(Uid, Uid)> {
    let mut fields = words(field(text, "Uid:")?);
    Some((Uid(number(fields.next()?)?), Uid(number(fields.next()?)?)))
}

/// The process of a thread in /proc/TID/status; `None` if it does not show that.
pub(super) fn process_of(status: &[u8]) -> Option<Pid> {
    number(words(field(status, "Tgid:")?).next()?).map(Pid)
}

/// The real, effective and supplementary groups in /proc/PID/status.
pub(super) fn groups(text: &[u8]) -> BTreeSet<Gid> {
    let ids = |label: &str| field(text, label).map(words).into_iter().flatten();
    ids("Gid:").take(2).chain(ids("Groups:")).filter_map(number).map(Gid).collect()
}

/// The pid in a pid namespace below the reader's, by /proc/PID/status (`NSpid`, Linux 4.1); `None` if it is in the reader's.
pub(super) fn pid_inside(status: &[u8]) -> Option<u32> {
    let mut pids = field(status, "NSpid:").map(words).into_iter().flatten();
    pids.next()?;
    number(pids.last()?)
}

/// The uid in a user namespace that is `uid` outside, by /proc/PID/uid_map; `None` if it has no other number there.
pub(super) fn uid_inside(map: &[u8], uid: u32) -> Option<u32> {
    let inside = lines(map).find_map(|line| {
        let mut numbers = words(line).map(number::<u32>);
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let place = uid.checked_sub(outside).filter(|place| *place < count)?;
        inside.checked_add(place)
    });
    inside.filter(|inside| *inside != uid)
}

/// The signals that the main thread takes by /proc/PID/status: by a handler or, as it blocks them, by sigwait(3) or
/// signalfd(2), as most init programs do. Bit 0 is signal 1. All of them if it does not show that.
pub(super) fn taken(status: &[u8]) -> u64 {
    let masks = ["SigCgt:", "SigBlk:"].into_iter().map(|label| signals(status, label).unwrap_or(u64::MAX));
    masks.fold(0, |all, mask| all | mask)
}

/// Whether SIGSTOP waits for the process, by /proc/PID/status.
pub(super) fn has_pending_stop(status: &[u8]) -> bool {
    signals(status, "ShdPnd:").is_some_and(|pending| pending & (1 << (libc::SIGSTOP - 1)) != 0)
}

fn signals(status: &[u8], label: &str) -> Option<u64> {
    u64::from_str_radix(str::from_utf8(field(status, label)?.trim_ascii()).ok()?, 16).ok()
}

/// The beginning and the end of the environment in memory, by /proc/PID/stat (fields 50 and 51); `None` if the kernel does not show
/// them: without memory, or without PTRACE_MODE_READ.
pub(super) fn environment(stat: &[u8]) -> Option<(u64, u64)> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = words(stat.get(close + 1..)?).skip(47).map(number);
    let (start, end) = (fields.next()??, fields.next()??);
    (start > 0 && end > start).then_some((start, end))
}

/// The number of the job in /proc/PID/environ, as Slurm sets it for the processes of a job.
pub(super) fn slurm_job_id(environment: &[u8]) -> Option<u32> {
    let values = environment.split(|byte| *byte == 0);
    values.filter_map(|value| value.strip_prefix(b"SLURM_JOB_ID=")).find_map(number)
}

/// The strings of /proc/PID/cmdline.
pub(super) fn args(text: &[u8]) -> Vec<Name> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.is_empty() { vec![] } else { text.split(|byte| *byte == 0).map(Name::new).collect() }
}

/// The path in /proc/PID/cgroup (cgroups(7)): in the unified hierarchy or, if that is unused, in systemd's own of v1.
pub(super) fn cgroup(text: &[u8]) -> Option<&[u8]> {
    let (unified, systemd) = (hierarchy(text, b""), hierarchy(text, b"name=systemd"));
    unified.filter(|path| *path != b"/").or(systemd).or(unified)
}

/// The path in /proc/PID/cgroup in one hierarchy: that of a v1 `controller`, or the unified one for an empty name.
pub(super) fn hierarchy<'a>(text: &'a [u8], controller: &[u8]) -> Option<&'a [u8]> {
    lines(text).find_map(|line| {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let mut controllers = controllers.split(|byte| *byte == b',');
        // Only the unified one has the number 0, and no controllers.
        let found = controllers.any(|name| name == controller) && controller.is_empty() == (id == b"0");
        found.then_some(path)
    })
}

/// The first string of /proc/PID/cmdline; `None` if it is empty.
pub(super) fn argv0(text: &[u8]) -> Option<&[u8]> {
    text.split(|byte| *byte == 0).next().filter(|name| !name.is_empty())
}

/// The number that is a file's whole content.
pub(super) fn single_value<T: FromStr>(text: &[u8]) -> Option<T> {
    number(text.trim_ascii())
}

/// `path` without the suffix that the kernel appends to the name of a file or cgroup that was deleted while in use.
pub(super) fn strip_deleted_suffix(path: &[u8]) -> &[u8] {
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}

/// The `hidepid` option of the proc file system at `mount_point`, from `mounts` (proc_pid_mounts(5)); `None` if it hides
/// nothing. Of several mounts at one mount point the last one is visible.
pub(super) fn hidepid<'a>(mounts: &'a [u8], mount_point: &[u8]) -> Option<&'a [u8]> {
    let options = lines(mounts)
        .filter_map(|line| {
            let mut fields = words(line);
            let here = fields.nth(1)? == mount_point && fields.next()? == b"proc";
            if here { fields.next() } else { None }
        })
        .last()?;
    let mut options = options.split(|byte| *byte == b',');
    options
        .find_map(|option| option.strip_prefix(b"hidepid="))
        .filter(|value| !matches!(*value, b"0" | b"off"))
}

/// A decimal number and nothing else.
pub(super) fn number<T: FromStr>(word: &[u8]) -> Option<T> {
    str::from_utf8(word).ok()?.parse().ok()
}

fn field<'a>(text: &'a [u8], label: &str) -> Option<&'a [u8]> {
    lines(text).find_map(|line| line.strip_prefix(label.as_bytes()))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The fields of a real stat line after comm; parent 1, flags 4194560, 3 threads, start 123456.
    const REST: &[u8] =
        b" S 1 42 42 0 -1 4194560 900 0 1 0 2 3 0 0 20 0 3 0 123456 9000000 700 18446744073709551615";

    fn stat_line(comm: &[u8]) -> Vec<u8> {
        [b"42 (", comm, b")", REST, b"\n"].concat()
    }

    #[test]
    fn stat_fields_are_parsed() {
        let text = stat_line(b"cat");
        let stat = stat(&text).unwrap();
        assert_eq!(stat.comm, b"cat");
        assert_eq!((stat.state, stat.parent, stat.threads), ('S', Pid(1), 3));
        assert_eq!(stat.start, StartTime(123_456));
        assert!(!stat.kernel_thread());
    }

    #[test]
    fn a_flag_marks_kernel_threads() {
        let text = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0 18446744073709551615";
        assert!(stat(text).unwrap().kernel_thread());
    }

    #[test]
    fn the_first_process_of_a_pid_namespace_is_known_and_whether_it_takes_a_signal() {
        for (status, leads, takes_term) in [
            ("NSpid:\t4242\t1\nSigBlk:\t0000000000000000\nSigCgt:\t0000000000000000\n", true, false),
            ("NSpid:\t4242\t77\t1\nSigBlk:\t0000000000000000\nSigCgt:\t0000000000004000\n", true, true),
            ("NSpid:\t4242\t1\nSigBlk:\t0000000000004000\nSigCgt:\t0000000000000000\n", true, true),
            ("NSpid:\t4242\t77\nSigBlk:\t0000000000000000\nSigCgt:\t00000001ffffbfff\n", false, false),
            ("NSpid:\t1\nSigCgt:\tfffffffe7bfbfeff\n", false, true),
            ("", false, true),
        ] {
            assert_eq!(pid_inside(status.as_bytes()) == Some(1), leads, "{status:?}");
            assert_eq!(taken(status.as_bytes()) >> 14 & 1 == 1, takes_term, "{status:?}");
        }
    }

    #[test]
    fn the_place_of_the_environment_is_in_stat() {
        let zeros = |count| vec!["0"; count].join(" ");
        let stat = |start: u64, end: u64| format!("42 (a) b) S {} {start} {end} 0\n", zeros(46));
        assert_eq!(environment(stat(4096, 5000).as_bytes()), Some((4096, 5000)));
        for (start, end) in [(0, 0), (4096, 4096), (5000, 4096)] {
            assert_eq!(environment(stat(start, end).as_bytes()), None, "{start} {end}");
        }
        for short in [&b"42 (a) S 1"[..], b"42", b""] {
            assert_eq!(environment(short), None);
        }
    }

    #[test]
    fn the_environment_names_a_job_by_its_number() {
        for (environment, job) in [
            (&b"PATH=/bin\0SLURM_JOB_ID=4711\0SLURM_JOB_NAME=x\0"[..], Some(4711)),
            (b"SLURM_JOB_ID=4711", Some(4711)),
            (b"X=SLURM_JOB_ID=1\0", None),
            (b"SLURM_JOB_ID=\0", None),
            (b"SLURM_JOB_ID=12 34\0", None),
            (b"SLURM_JOB_ID=4294967296\0", None),
            (b"SLURM_JOB_ID=\x1b[2J\0SLURM_JOB_ID=8\0", Some(8)),
            (b"", None),
        ] {
            assert_eq!(slurm_job_id(environment), job, "{}", environment.escape_ascii());
        }
    }

    #[test]
    fn a_process_has_other_numbers_inside_its_namespaces() {
        for (status, pid) in [
            ("NSpid:\t4242\n", None),
            ("NSpid:\t4242\t17\n", Some(17)),
            ("NSpid:\t4242\t17\t1\n", Some(1)),
            ("NSpid:\t4242\tx\n", None),
            ("", None),
        ] {
            assert_eq!(pid_inside(status.as_bytes()), pid, "{status:?}");
        }
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        for (map, uid, inside) in [
            ("         0          0 4294967295\n", 1000, None),
            (rootless, 1000, Some(0)),
            (rootless, 100_999, Some(1000)),
            (rootless, 165_536, None),
            ("0 100000 65536\n", 100_000, Some(0)),
            ("4294967295 5 9\n", 7, None),
            ("0 1000\n", 1000, None),
            ("x 1000 1\n", 1000, None),
            ("", 1000, None),
        ] {
            assert_eq!(uid_inside(map.as_bytes(), uid), inside, "{map:?}");
        }
    }

    #[test]
    fn systemds_v1_cgroup_replaces_an_unused_unified_one() {
        for (text, path) in [
            ("0::/user.slice/user-1000.slice\n", Some("/user.slice/user-1000.slice")),
            ("1:name=systemd:/init.scope\n0::/system.slice/a.service\n", Some("/system.slice/a.service")),
            ("4:memory:/x\n1:name=systemd:/system.slice/b.service\n0::/\n", Some("/system.slice/b.service")),
            ("4:memory:/x\n1:name=systemd:/system.slice/b.service\n", Some("/system.slice/b.service")),
            ("0::/\n", Some("/")),
            ("0::/with:colons:in it\n", Some("/with:colons:in it")),
            ("4:memory:/x\n", None),
            ("10::/not/unified\n", None),
            ("", None),
        ] {
            assert_eq!(cgroup(text.as_bytes()), path.map(str::as_bytes), "{text:?}");
        }
    }

    #[test]
    fn labels_count_at_the_start_of_a_line_only() {
        let status = b"Name:\tUid:\\n7\t7\nUmask:\t0022\nUid:\t1000\t0\t0\t0\nGid:\t5\t5\t5\t5\n";
        assert_eq!(uids(status), Some((Uid(1000), Uid(0))));
        assert_eq!(uids(b"Uid:\t1000\n"), None);
        assert_eq!(kib(b"Pss: 3 kB\nRss:        2048 kB\n", "Rss:"), Some(Bytes(2 * Bytes::MIB)));
        assert_eq!(kib(b"MemFree: 1 kB\n", "MemAvailable:"), None);
    }

    #[test]
    fn hidepid_is_that_of_the_visible_mount() {
        for (mounts, value) in [
            ("proc /proc proc rw,relatime 0 0\n", None),
            ("proc /proc proc rw,hidepid=0 0 0\n", None),
            ("proc /proc proc rw,hidepid=off 0 0\n", None),
            ("proc /proc proc rw,gid=5,hidepid=invisible 0 0\n", Some("invisible")),
            ("proc /proc proc rw 0 0\nproc /proc proc rw,hidepid=2 0 0\n", Some("2")),
            ("proc /srv/proc proc rw,hidepid=2 0 0\n", None),
            ("systemd-1 /proc/sys/fs/binfmt_misc autofs rw,hidepid=2 0 0\n", None),
        ] {
            assert_eq!(hidepid(mounts.as_bytes(), b"/proc"), value.map(str::as_bytes), "{mounts:?}");
        }
    }

    #[test]
    fn argv0_ends_at_the_first_nul() {
        assert_eq!(argv0(b"/bin/cat\0-\0"), Some(&b"/bin/cat"[..]));
        assert_eq!(
            argv0(b"nginx: master process /usr/sbin/nginx"),
            Some(&b"nginx: master process /usr/sbin/nginx"[..])
        );
        assert_eq!(argv0(b"\0\0"), None);
        assert_eq!(argv0(b""), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..400), cut in 0..100_usize) {
            let mut cut_short = stat_line(&text);
            cut_short.truncate(cut_short.len().saturating_sub(cut));
            for text in [&text, &cut_short] {
                let _ = (stat(text), statm(text), kib(text, ""), uids(text), cgroup(text), argv0(text));
                let _ = (single_value::<i16>(text), strip_deleted_suffix(text), hidepid(text, b""), field(text, "\u{0}"));
            }
        }

        #[test]
        fn no_comm_forges_a_field(comm in proptest::collection::vec(any::<u8>(), 0..16)) {
            let text = stat_line(&comm);
            let stat = stat(&text).unwrap();
            prop_assert_eq!(stat.comm, &comm[..]);
            prop_assert_eq!((stat.state, stat.parent, stat.threads, stat.start), ('S', Pid(1), 3, StartTime(123_456)));
        }

        #[test]
        fn statm_parses_its_first_three_fields(size: u64, resident: u64, shared: u64) {
            let text = format!("{size} {resident} {shared} 1 0 2 0\n");
            prop_assert_eq!(statm(text.as_bytes()), Some(Statm { size, resident, shared }));
        }
    }
}

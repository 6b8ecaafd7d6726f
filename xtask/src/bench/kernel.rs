//! The kernel's own figures of BPF: the run time of programs and the size of maps; and an empty program, to measure the least
//! that any program costs.
#![expect(unsafe_code, reason = "bpf(2)")]

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use fs_err as fs;
use nix::libc;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BPF_ENABLE_STATS: libc::c_long = 32;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// While it lives, the kernel counts runs of BPF programs and their time, as with `kernel.bpf_stats_enabled`, but only until
/// this process ends. Linux 5.8.
pub(crate) struct Statistics(#[expect(dead_code, reason = "held open")] OwnedFd);

impl Statistics {
    pub(crate) fn enable() -> Result<Self> {
        // The type of statistics, BPF_STATS_RUN_TIME, is 0.
        bpf(BPF_ENABLE_STATS, &[0]).map(Self).context("cannot enable statistics of BPF programs")
    }
}

/// A program that returns at once, attached to a tracepoint: the least that any program there costs.
pub(crate) struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    pub(crate) fn attach(tracepoint: &std::ffi::CStr) -> Result<Self> {
        // r0 = 0; exit
        let instructions: [u64; 2] = [0xb7, 0x95];
        let load = [
            u64::from(BPF_PROG_TYPE_RAW_TRACEPOINT) | (2 << 32), // prog_type, insn_cnt
            instructions.as_ptr().addr() as u64,
            c"GPL".as_ptr().addr() as u64,
            0, // log_level, log_size
            0, // log_buf
            0, // kern_version, prog_flags
        ];
        let program = bpf(BPF_PROG_LOAD, &load).context("the kernel refused an empty BPF program")?;
        let open = [tracepoint.as_ptr().addr() as u64, program.as_raw_fd().cast_unsigned().into()];
        let link = bpf(BPF_RAW_TRACEPOINT_OPEN, &open).context("the kernel did not attach a BPF program")?;
        Ok(Self { program, _link: link })
    }

    pub(crate) fn runs(&self) -> Result<Runs> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.program.as_raw_fd()))?;
        Runs::parse(&info).context("the kernel does not report a BPF program's runs")
    }
}

/// The number of runs of a program, and their total time, while statistics were enabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    count: u64,
    nanoseconds: u64,
}

impl Runs {
    fn parse(info: &str) -> Option<Self> {
        Some(Self { count: number(info, "run_cnt:")?, nanoseconds: number(info, "run_time_ns:")? })
    }

    /// The number of runs since `before`, and nanoseconds per run.
    pub(crate) fn since(self, before: Self) -> (u64, f64) {
        let count = self.count - before.count;
        (count, (self.nanoseconds - before.nanoseconds) as f64 / count.max(1) as f64)
    }
}

/// The runs of the programs that a process holds, by program id.
pub(crate) fn runs_of(pid: u32) -> Result<BTreeMap<u64, Runs>> {
    let infos = infos(pid)?;
    Ok(infos.iter().filter_map(|info| Some((number(info, "prog_id:")?, Runs::parse(info)?))).collect())
}

/// The bytes that the kernel accounts for the maps that a process holds.
pub(crate) fn map_bytes(pid: u32) -> Result<u64> {
    let infos = infos(pid)?;
    let maps: BTreeMap<_, _> =
        infos.iter().filter_map(|info| Some((number(info, "map_id:")?, number(info, "memlock:")?))).collect();
    Ok(maps.values().sum())
}

/// The fdinfo of all descriptors of a process.
fn infos(pid: u32) -> Result<Vec<String>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo"))?;
    Ok(entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok()).collect())
}

fn number(info: &str, key: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
}

/// Runs a command of bpf(2) that returns a descriptor. `attributes` is `union bpf_attr` in words of eight bytes,
/// little-endian; the kernel takes the rest as zero.
fn bpf(command: libc::c_long, attributes: &[u64]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `attributes` by its length; the addresses in it are of data that lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_read_from_fdinfo() {
        let info = "pos:\t0\nprog_type:\t26\nprog_id:\t41\nrun_time_ns:\t3000\nrun_cnt:\t100\n";
        let runs = Runs::parse(info).unwrap();
        assert_eq!(runs.since(Runs { count: 50, nanoseconds: 500 }), (50, 50.0));
        assert_eq!(number(info, "prog_id:"), Some(41));
        assert_eq!(Runs::parse("pos:\t0\n"), None);
    }
}

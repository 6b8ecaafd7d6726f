//! The machine in one line: the properties on which figures depend, and nothing that identifies it.

use std::fmt;

use anyhow::{Context as _, Result};
use fs_err as fs;

/// A machine, and the other work that it was doing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machine {
    kernel: String,
    cpu: String,
    cpus: usize,
    memory_gib: f64,
    /// Runnable tasks, the mean of the last minute (proc_loadavg(5)).
    load: f64,
    /// memmon's BPF programs that are attached already.
    others: usize,
}

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
        Ok(Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: model(&cpus).to_owned(),
            cpus: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            memory_gib: kib.context("/proc/meminfo begins with something else than MemTotal")?
                / f64::from(1 << 20),
            load: fs::read_to_string("/proc/loadavg")?
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
            others: others()?,
        })
    }

    /// Kernel, CPUs and memory: the same for every run on the same machine.
    pub(crate) fn name(&self) -> String {
        let Self { kernel, cpu, cpus, memory_gib, .. } = self;
        format!("Linux {kernel}, {cpus} CPUs ({cpu}), {memory_gib:.0} GiB")
    }

    /// The other work that it was doing, if that spoils figures.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.load > 0.5 {
            troubles.push(format!("the machine was busy when this began (load {:.1})", self.load));
        }
        if self.others > 0 {
            troubles.push(format!(
                "{} other instances of memmon were running, so \"without\" was not entirely without",
                self.others
            ));
        }
        troubles
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        self.troubles().iter().try_for_each(|trouble| write!(f, "\nnote: {trouble}"))
    }
}

/// The CPU's `model name` on x86; other architectures have numbers only.
fn model(cpuinfo: &str) -> &str {
    let named = cpuinfo.lines().find(|line| line.starts_with("model name"));
    named.and_then(|line| line.split_once(": ")).map_or(std::env::consts::ARCH, |(_, name)| name.trim())
}

/// Processes called memmon.
fn others() -> Result<usize> {
    let processes = fs::read_dir("/proc")?;
    let name = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("comm")).ok();
    Ok(processes.filter_map(|entry| name(entry.ok()?)).filter(|name| name.trim_end() == "memmon").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_called_by_its_name_where_it_has_one() {
        assert_eq!(model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), "Some CPU @ 2 GHz");
        assert_eq!(model("processor\t: 0\nBogoMIPS\t: 50\n"), std::env::consts::ARCH);
    }

    #[test]
    fn conditions_that_spoil_figures_are_reported() {
        let mut machine = Machine::look().unwrap();
        (machine.load, machine.others) = (0.2, 0);
        assert_eq!(machine.troubles(), Vec::<String>::new());
        (machine.load, machine.others) = (3.0, 1);
        assert_eq!(machine.troubles().len(), 2);
        assert!(machine.cpus > 0 && machine.memory_gib > 0.1, "{machine:?}");
    }
}

//! Parts of the configuration that cannot work on this machine, found before anything depends on them.

use std::{collections::BTreeSet, path::Path};

use super::outputs::outputs;
use crate::{
    config::{Concern, Settings, Warning},
    model::{Guard, Listen, MachineMemory, Pid},
    observe::{
        guards,
        procfs::ProcRoot,
        support::{self, CgroupMemory, Obstacle},
    },
    policy::machine::{MachineLimits, turn},
    report, status,
};

/// The reason why `pressure_some` and `pressure_full` are never reached.
const NO_PRESSURE: &str = "the kernel measures no pressure (/proc/pressure/memory), so that only available memory and \
                           swap count: start it with psi=1";

/// The reason why no cgroup can be slowed down; `None` if the kernel can do it. Only the memmon in the unit knows the rights of
/// the unit.
fn cannot_throttle(memory: CgroupMemory) -> Option<String> {
    let obstacle = Obstacle::NoMemoryHigh;
    (memory == CgroupMemory::Elsewhere).then(|| format!("{obstacle}: {}", obstacle.remedy()))
}

/// Probable mistakes, and settings that cannot work on this machine. Changes nothing. It may be slow, because it asks file
/// systems and name services.
pub fn preflight(settings: &Settings) -> Vec<Warning> {
    let unusable = report::preflight(&outputs(settings))
        .into_iter()
        .map(|report::Unusable { key, why }| Warning::general(Concern::Unusable { key, why }));
    let taken = taken(settings).map(|why| Warning::general(Concern::Unusable { key: "metrics.listen", why }));
    // Without /proc there is an error of its own.
    let proc = ProcRoot::real().ok();
    let machine = proc.as_ref().and_then(|proc| proc.machine_memory().ok());
    let limits = machine.map(|machine| settings.concerns_with(machine.memory.total)).unwrap_or_default();
    let is_blind = settings.machine.is_some() && machine.is_some_and(|machine| machine.pressure.is_none());
    let pressure =
        is_blind.then(|| Warning::general(Concern::Unusable { key: "machine", why: NO_PRESSURE.to_owned() }));
    let throttle = settings.throttles().then(|| cannot_throttle(support::cgroup_memory())).flatten();
    let throttle = throttle.map(|why| Warning::general(Concern::Unusable { key: "rule.action", why }));
    let threads = proc.as_ref().map(|proc| threads(&settings.rules.whitelist.pids, proc)).unwrap_or_default();
    let guards = proc.map(|proc| guards::find(&proc, Path::new("/"))).unwrap_or_default();
    let guards = guards.into_iter().zip(machine.into_iter().cycle());
    let guards = guards.filter_map(|(guard, machine)| beside(guard, settings.machine.as_ref(), &machine));
    unusable.chain(taken).chain(limits).chain(threads).chain(pressure).chain(throttle).chain(guards).collect()
}

/// Warnings about numbers in `whitelist.pids` that are no process's.
fn threads(pids: &BTreeSet<Pid>, proc: &ProcRoot) -> Vec<Warning> {
    let pids = pids.iter();
    pids.filter_map(|&thread| {
        let (process, comm) = proc.process_of_thread(thread)?;
        Some(Warning::general(Concern::ThreadId { thread, process, comm }))
    })
    .collect()
}

/// The reason why metrics cannot be at the socket that is theirs: memmon answers other queries there.
fn taken(settings: &Settings) -> Option<String> {
    let Some(Listen::Socket(path)) = &settings.metrics.listen else { return None };
    let own = Path::new(status::SOCKET);
    let is_own = path == own || *path == own.with_file_name(status::MINE_SOCKET);
    is_own.then(|| format!("{} is the socket of `memmon status`", path.display()))
}

/// A warning about another guard; `None` for one that ends no process.
fn beside(guard: Guard, limits: Option<&MachineLimits>, machine: &MachineMemory) -> Option<Warning> {
    if guard.strikes.dry_run {
        return None;
    }
    let first = turn(&guard.strikes, limits, machine);
    let ours = limits.map(|limits| limits.act.available(machine.memory.total));
    Some(Warning::general(Concern::OtherGuard { guard, first, ours }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bytes, Elsewhere, GuardKind, Strikes, SystemMemory};
    use crate::policy::machine::Levels;

    #[test]
    fn the_number_of_a_thread_is_named_with_its_process() {
        let (sender, threads_id) = std::sync::mpsc::channel();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            sender.send(nix::unistd::gettid()).unwrap();
            let _ = held.recv();
        });
        let (thread_id, own) = (threads_id.recv().unwrap().as_raw().cast_unsigned(), std::process::id());
        let pids = [Pid::INIT, Pid(own), Pid(thread_id), Pid(4_194_304)].into();
        let warnings = threads(&pids, &ProcRoot::real().unwrap());
        drop(hold);
        thread.join().unwrap();
        let [Warning { concern: Concern::ThreadId { thread, process, comm }, .. }] = &warnings[..] else {
            panic!("{warnings:?}")
        };
        assert_eq!((*thread, *process), (Pid(thread_id), Pid(own)));
        let printed = warnings[0].to_string();
        assert!(printed.contains(&format!("a thread of the process {own} ({comm}), so that")), "{printed}");
    }

    #[test]
    fn another_guard_is_named_with_the_one_that_acts_first() {
        let memory = SystemMemory { total: Bytes(Bytes::GIB), available: Bytes(Bytes::GIB) };
        let (swap_total, swap_free) = (Bytes::ZERO, Bytes::ZERO);
        let machine =
            MachineMemory { memory, swap_total, swap_free, elsewhere: Elsewhere::default(), pressure: None };
        let act = Levels { available_percent: Some(5.0), ..Levels::default() };
        let limits = MachineLimits { warn: act, act, stop_writers: false };
        let strikes = Strikes { available: Some(memory.total.times(0.1)), ..Strikes::default() };
        let earlyoom = Guard { guard: GuardKind::Earlyoom, pid: Pid(812), strikes };
        let shown = |guard: &Guard, limits| {
            beside(guard.clone(), limits, &machine).map(|warning| warning.to_string())
        };
        insta::assert_snapshot!(shown(&earlyoom, Some(&limits)).unwrap(), @"beside memmon runs earlyoom (pid 812), which ends processes if less than 0.10GB of memory is available: it acts before memmon does for the machine, with protections of its own ([machine] acts if less than 51.2MB of memory is available)");
        insta::assert_snapshot!(shown(&earlyoom, None).unwrap(), @"beside memmon runs earlyoom (pid 812), which ends processes if less than 0.10GB of memory is available: it acts for the machine, and memmon, without [machine], for the limits of processes only");
        let dry_run = Guard { strikes: Strikes { dry_run: true, ..strikes }, ..earlyoom };
        assert_eq!(shown(&dry_run, Some(&limits)), None);
    }
}

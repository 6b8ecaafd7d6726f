//! Loads the embedded object and attaches its programs; its errors name the remedy.

use std::{
    fs,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use aya::{
    Btf, BtfError, Ebpf, EbpfError, EbpfLoader, include_bytes_aligned,
    maps::{Map, MapError},
    programs::{BtfTracePoint, Iter, ProgramError, tp_btf::BtfTracePointLink},
};
use aya_log::EbpfLogger;
use memmon_common::{Config, FileMappingOffsets, NEVER, Offsets, map, program};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use tracing::debug;

use super::{Gears, KernelMap, Options, PinError, batch, pin::Pin, plain::Plain, sums, survey::Survey};

static OBJECT: &[u8] = include_bytes_aligned!(env!("MEMMON_BPF_OBJECT_PATH"));

/// The ring of the programs' log, by the name that aya gives it, and its size in bytes. Both copies of a ring in memmon's
/// memory are resident from the start, and the programs log a line or two.
const LOG_RING: &str = "AYA_LOGS";
const LOG_BYTES: u32 = 16 << 10;

/// The exit program is attached first, so that it sees the exit of every process that a later one adds.
const LIVES: [&str; 3] = [program::EXIT, program::EXEC, program::FORK];

/// Wall-clock time that a busy CPU waits for a tick, which is due after 10 ms at the latest (`CONFIG_HZ=100`).
const TICK_IS_LATE: Duration = Duration::from_millis(60);

/// Reason why the programs could not be attached, with its remedy.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The type information is missing, or aya does not understand it.
    #[error("the kernel's type information is unusable: {0} (the kernel needs CONFIG_DEBUG_INFO_BTF=y)")]
    Btf(#[source] BtfError),
    /// EPERM.
    #[error("the kernel refused {what}: {}", advice(*.locked_down))]
    NotPermitted {
        /// The operation that failed.
        what: String,
        /// Whether kernel lockdown forbids it for all users.
        locked_down: bool,
    },
    /// The verifier did not accept a program.
    #[error("the kernel's verifier refused program {program}: {source}\n{log}")]
    Verifier {
        /// The name of the program.
        program: &'static str,
        /// The kernel's error.
        source: io::Error,
        /// The last lines of the verifier's log, which contain the reason.
        log: String,
    },
    /// A map could not be created.
    #[error("the kernel did not make map {map}: {source} (a smaller kernel.max_processes takes less memory)")]
    Map {
        /// The name of the map.
        map: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The programs run, but the processes that started before them could not be added.
    #[error("the processes that run already could not be added to the map: {0}")]
    Seed(#[source] io::Error),
    /// Another daemon has its map pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Anything else: a kernel older than 5.8, or an object that is not memmon's.
    #[error("{what}: {source}")]
    Other {
        /// The operation that failed.
        what: String,
        /// aya's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// See [`KernelMap::attach`].
pub(super) fn load(offsets: &Offsets, options: &Options) -> Result<KernelMap, AttachError> {
    // First, because it refuses a second daemon at no cost.
    let pin = match options.pin_dir.as_deref().map(Pin::claim).transpose() {
        Err(second @ PinError::AlreadyRunning(_)) => return Err(second.into()),
        claimed => claimed,
    };
    // Before 5.11 maps count as locked memory. If memmon may not raise the limit, creating the map returns the error.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);

    let offsets = Plain(*offsets);
    let mut ebpf = EbpfLoader::new()
        // rustc emits no relocations that would need it.
        .btf(None)
        .override_global(program::OFFSETS, &offsets, true)
        .map_max_entries(map::PROCESSES, options.capacity)
        .map_max_entries(map::LEVELS, options.capacity)
        .map_max_entries(LOG_RING, LOG_BYTES)
        .load(OBJECT)
        .map_err(loading)?;
    let btf = Btf::from_sys_fs().map_err(AttachError::Btf)?;
    verify(&mut ebpf, &btf)?;

    let processes = take(&mut ebpf, map::PROCESSES)?;
    let pin = pin.and_then(|pin| pin.map(|pin| pin.publish(&processes)).transpose());
    let Map::HashMap(data) = &processes else { return Err(unusable(map::PROCESSES)("not a hash")) };
    let processes_fd = data.fd().as_fd().try_clone_to_owned().map_err(unusable(map::PROCESSES))?;
    let log = EbpfLogger::init(&mut ebpf).map_err(unusable(LOG_RING))?;
    let mut kernel_map = KernelMap {
        processes: processes.try_into().map_err(unusable(map::PROCESSES))?,
        processes_fd,
        levels: take(&mut ebpf, map::LEVELS)?.try_into().map_err(unusable(map::LEVELS))?,
        config: take(&mut ebpf, map::CONFIG)?.try_into().map_err(unusable(map::CONFIG))?,
        counters: take(&mut ebpf, map::COUNTERS)?.try_into().map_err(unusable(map::COUNTERS))?,
        sums: sums::Sums::new(
            take(&mut ebpf, map::SUMS)?.try_into().map_err(unusable(map::SUMS))?,
            take(&mut ebpf, map::SUM_LEVELS)?.try_into().map_err(unusable(map::SUM_LEVELS))?,
            take(&mut ebpf, map::SUM_CONFIG)?.try_into().map_err(unusable(map::SUM_CONFIG))?,
        ),
        events: take(&mut ebpf, map::EVENTS)?.try_into().map_err(unusable(map::EVENTS))?,
        log,
        gears: Gears::One(None),
        current: Config::default(),
        process_floor: 0,
        sum_near: false,
        no_mappings: None,
        scratch: batch::Scratch::new(),
        pin,
        ebpf,
    };
    let config = Config { generation: 1, default_wake_at: NEVER, default_generation: 1, floor: 0 };
    kernel_map.write_config(config).map_err(unusable(map::CONFIG))?;
    attach(&mut kernel_map.ebpf, &LIVES)?;
    // Without it a move between cgroups is noticed with the next step of the process's memory.
    let _ = watch_moves(&mut kernel_map.ebpf, &btf);
    // Without it older processes are asked for their mappings.
    if offsets.0.file_mapping != FileMappingOffsets::default()
        && let Err(error) = load_mappings(&mut kernel_map.ebpf, &btf)
    {
        debug!(%error, "mappings cannot be read");
        kernel_map.no_mappings = Some(error.to_string());
    }
    if options.two_gears {
        kernel_map.gears = match calm_gear(&mut kernel_map, &btf) {
            Ok(two) => two,
            Err(why) => Gears::One(Some(why)),
        };
    }
    if matches!(kernel_map.gears, Gears::One(_)) {
        attach(&mut kernel_map.ebpf, &[program::RSS_STAT])?;
    }
    kernel_map.refresh().map_err(AttachError::Seed)?;
    Ok(kernel_map)
}

fn watch_moves(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), AttachError> {
    let name = program::CGROUP_MOVE;
    let moves: &mut BtfTracePoint = find(ebpf, name)?;
    moves.load(name, btf).map_err(|error| running(name, "loading", error))?;
    attach(ebpf, &[name])
}

fn load_mappings(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), AttachError> {
    let program: &mut Iter = find(ebpf, program::MAPPINGS)?;
    program.load("task_vma", btf).map_err(|error| running(program::MAPPINGS, "loading", error))
}

/// The program that reads mappings.
///
/// # Errors
/// It was not loaded.
pub(super) fn mappings_program(ebpf: &Ebpf) -> io::Result<OwnedFd> {
    let program = ebpf.program(program::MAPPINGS).ok_or(io::ErrorKind::NotFound)?;
    let program = <&Iter>::try_from(program).and_then(Iter::fd).map_err(io::Error::other)?;
    program.as_fd().try_clone_to_owned()
}

/// Loads and attaches what the calm gear takes. Returns the reason if that is not available.
fn calm_gear(kernel_map: &mut KernelMap, btf: &Btf) -> Result<Gears, String> {
    let program: &mut Iter =
        find(&mut kernel_map.ebpf, program::SURVEY).map_err(|error| error.to_string())?;
    program
        .load("bpf_map_elem", btf)
        .map_err(|error| running(program::SURVEY, "loading", error).to_string())?;
    let survey = program
        .fd()
        .map_err(io::Error::other)
        .and_then(|program| Survey::attach(program.as_fd(), kernel_map.processes_fd.as_fd()))
        .map_err(|error| format!("attaching program {}: {error}", program::SURVEY))?;
    let tick = watch_ticks(kernel_map, btf)?;
    Ok(Gears::Two { _tick: tick, survey, exact: None })
}

/// Attaches the program that ticks run, and makes sure that they do: a kernel without high-resolution timers has ticks
/// that are none. Returns the reason if they don't.
fn watch_ticks(kernel_map: &mut KernelMap, btf: &Btf) -> Result<BtfTracePointLink, String> {
    let tick: &mut BtfTracePoint =
        find(&mut kernel_map.ebpf, program::TICK).map_err(|error| error.to_string())?;
    tick.load(program::TIMER, btf).map_err(|error| running(program::TICK, "loading", error).to_string())?;
    let link = attach_link(&mut kernel_map.ebpf, program::TICK).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    // Busy, because only a busy CPU has a tick.
    while begun.elapsed() < TICK_IS_LATE {
        match kernel_map.counters() {
            Ok(counters) if counters.ticks == 0 => {}
            Ok(_) => return Ok(link),
            Err(error) => return Err(format!("counters of ticks: {error}")),
        }
    }
    Err("the timer interrupts of this machine are not visible to BPF programs".to_owned())
}

/// Runs the task iterator to its end. EAGAIN means that it visited a million tasks without writing; it then continues.
pub(super) fn refresh(ebpf: &mut Ebpf) -> io::Result<()> {
    let program: &mut Iter = find(ebpf, program::REFRESH).map_err(io::Error::other)?;
    let link = program.attach().and_then(|link| program.take_link(link)).map_err(io::Error::other)?;
    let mut tasks = link.into_file().map_err(io::Error::other)?;
    loop {
        match tasks.read(&mut [0; 64]) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Loads all programs that every kernel has, which runs the verifier.
fn verify(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), AttachError> {
    for name in LIVES.into_iter().chain([program::RSS_STAT]) {
        let program: &mut BtfTracePoint = find(ebpf, name)?;
        program.load(name, btf).map_err(|error| running(name, "loading", error))?;
    }
    let refresh: &mut Iter = find(ebpf, program::REFRESH)?;
    refresh.load("task", btf).map_err(|error| running(program::REFRESH, "loading", error))
}

fn attach(ebpf: &mut Ebpf, names: &[&'static str]) -> Result<(), AttachError> {
    for name in names {
        let program: &mut BtfTracePoint = find(ebpf, name)?;
        program.attach().map_err(|error| running(name, "attaching", error))?;
    }
    Ok(())
}

/// Attaches a program until the link is dropped.
pub(super) fn attach_link(ebpf: &mut Ebpf, name: &'static str) -> Result<BtfTracePointLink, AttachError> {
    let program: &mut BtfTracePoint = find(ebpf, name)?;
    let link = program.attach().and_then(|link| program.take_link(link));
    link.map_err(|error| running(name, "attaching", error))
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, AttachError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| unusable(name)("missing"))?;
    program.try_into().map_err(unusable(name))
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, AttachError> {
    ebpf.take_map(name).ok_or_else(|| unusable(name)("missing"))
}

fn loading(error: EbpfError) -> AttachError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) if refused(&io_error) => {
            not_permitted(format!("to make map {name}"))
        }
        EbpfError::MapError(MapError::CreateError { name, io_error }) => {
            AttachError::Map { map: name, source: io_error }
        }
        EbpfError::BtfError(BtfError::LoadError { io_error, .. }) if refused(&io_error) => {
            not_permitted("to take the programs' type information".to_owned())
        }
        error => AttachError::Other { what: "loading the BPF object".to_owned(), source: error.into() },
    }
}

fn running(name: &'static str, what: &'static str, error: ProgramError) -> AttachError {
    match error {
        ProgramError::LoadError { io_error, verifier_log }
            if refused(&io_error) && is_empty(&verifier_log) =>
        {
            not_permitted(format!("to load program {name}"))
        }
        ProgramError::LoadError { io_error, verifier_log } => AttachError::Verifier {
            program: name,
            source: io_error,
            log: last_lines(&verifier_log.to_string(), 8),
        },
        ProgramError::SyscallError(error) if refused(&error.io_error) => {
            not_permitted(format!("to attach program {name}"))
        }
        ProgramError::Btf(error) => AttachError::Btf(error),
        error => AttachError::Other { what: format!("{what} program {name}"), source: error.into() },
    }
}

fn is_empty(log: &impl ToString) -> bool {
    log.to_string().trim().is_empty()
}

fn refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn not_permitted(what: String) -> AttachError {
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    AttachError::NotPermitted { what, locked_down: lockdown.contains("[confidentiality]") }
}

fn advice(locked_down: bool) -> &'static str {
    if locked_down {
        "kernel lockdown is in confidentiality mode, which forbids BPF to read kernel memory; use source = \"proc\""
    } else {
        "run memmon as root, or with CAP_BPF and CAP_PERFMON (before 5.11 also CAP_SYS_RESOURCE)"
    }
}

fn last_lines(log: &str, count: usize) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn unusable<E: Into<Box<dyn std::error::Error + Send + Sync>>>(part: &str) -> impl FnOnce(E) -> AttachError {
    let what = format!("{part} in the BPF object");
    move |source| AttachError::Other { what, source: source.into() }
}

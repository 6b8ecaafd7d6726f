//! The compilers for the BPF half: finds the installed ones and chooses between them.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::shell;

/// The target that the BPF half is built for: the kernel's byte order is this machine's.
pub(crate) const TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

/// The distribution's compiler.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// A version of Rust or of a library, without its patch number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Version {
    /// `rust-version` in Cargo.toml.
    pub(crate) fn required() -> Self {
        Self::parse(env!("CARGO_PKG_RUST_VERSION")).unwrap_or(Self { major: 1, minor: 95 })
    }

    /// Parses `1.96.0`, `1.97.0-nightly` or a package's `1:1.96.0+dfsg1-1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.split_once(':').map_or(text, |(_epoch, rest)| rest);
        let mut numbers = text.split(|character: char| !character.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A Rust compiler, and whether it has what a BPF build needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// rustup's name for the toolchain; none for the system's compiler.
    pub(crate) toolchain: Option<String>,
    pub(crate) version: Version,
    /// The major version of the LLVM that writes its bitcode.
    pub(crate) llvm: Option<u32>,
    pub(crate) sysroot: PathBuf,
    /// Whether there is a `core` for [`TARGET`]: prebuilt (system), or its source (nightly).
    pub(crate) core: bool,
}

/// bpf-linker, which turns LLVM bitcode into a BPF object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linker {
    pub(crate) path: PathBuf,
    /// The major version of its LLVM; none if it is linked statically.
    pub(crate) llvm: Option<u32>,
}

/// The tools for a BPF build that are on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Detected {
    pub(crate) system: Option<Compiler>,
    pub(crate) nightly: Option<Compiler>,
    pub(crate) linker: Option<Linker>,
    /// The program that removes DWARF and keeps BTF.
    pub(crate) objcopy: Option<PathBuf>,
}

/// The tools of one build of the BPF half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tools {
    pub(crate) compiler: Compiler,
    pub(crate) linker: Linker,
    pub(crate) objcopy: PathBuf,
}

/// Decides which tools to build with, or returns everything that is missing.
///
/// The system's compiler comes first: it needs no download, and a distribution builds the same object everywhere.
pub(crate) fn choose(found: &Detected) -> Result<Tools, Missing> {
    let linker = found.linker.as_ref();
    let compiler = fit(found.system.as_ref(), linker).or_else(|system| {
        fit(found.nightly.as_ref(), linker).map_err(|nightly| {
            vec![format!("the system's toolchain: {system}"), format!("rustup's nightly: {nightly}")]
        })
    });
    match (compiler, linker, &found.objcopy) {
        (Ok(compiler), Some(linker), Some(objcopy)) => {
            Ok(Tools { compiler: compiler.clone(), linker: linker.clone(), objcopy: objcopy.clone() })
        }
        (compiler, linker, objcopy) => {
            let mut missing = compiler.err().unwrap_or_default();
            if linker.is_none() {
                missing.push("bpf-linker: not in $PATH nor in cargo's bin folder".to_owned());
            }
            if objcopy.is_none() {
                missing
                    .push("llvm-objcopy: not in /usr/lib/llvm-*/bin, $PATH or rustup's nightly".to_owned());
            }
            Err(Missing(missing))
        }
    }
}

/// `compiler` if it can build the BPF half for `linker` (any, if there is none yet), or the reason why it cannot.
pub(crate) fn fit<'a>(
    compiler: Option<&'a Compiler>,
    linker: Option<&Linker>,
) -> Result<&'a Compiler, String> {
    let Some(compiler) = compiler else { return Err("not installed".to_owned()) };
    let Compiler { toolchain, version, llvm, sysroot: _, core } = compiler;
    if *version < Version::required() {
        return Err(format!("its Rust {version} is older than {}", Version::required()));
    }
    if !core {
        return Err(match toolchain {
            None => format!("it has no core for {TARGET}"),
            Some(name) => format!("it has no rust-src (`rustup component add rust-src --toolchain {name}`)"),
        });
    }
    match (*llvm, linker.and_then(|linker| linker.llvm)) {
        (Some(writes), Some(reads)) if writes > reads => Err(format!(
            "its LLVM {writes} writes bitcode that bpf-linker, built with LLVM {reads}, cannot read"
        )),
        _ => Ok(compiler),
    }
}

/// The missing parts of a BPF build, a line each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing(pub(crate) Vec<String>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the BPF half cannot be built here:")?;
        self.0.iter().try_for_each(|line| write!(f, "\n  - {line}"))
    }
}

impl std::error::Error for Missing {}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.toolchain {
            None => write!(f, "the system's rustc {} with core prebuilt for BPF", self.version)?,
            Some(name) => write!(f, "rustup's {name} ({}), which builds core from rust-src", self.version)?,
        }
        self.llvm.map_or(Ok(()), |llvm| write!(f, ", LLVM {llvm}"))
    }
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.compiler, self.linker.path.display())?;
        self.linker.llvm.map_or(Ok(()), |llvm| write!(f, ", LLVM {llvm}"))
    }
}

impl Compiler {
    /// A cargo that builds with this compiler and nothing else.
    pub(crate) fn cargo(&self) -> Command {
        self.with_rustc(shell::cargo())
    }

    /// The same, to run clippy; none if this compiler has no clippy of its own.
    pub(crate) fn cargo_clippy(&self) -> Option<Command> {
        match self.toolchain {
            None => system_clippy().map(|clippy| self.with_rustc(Command::new(clippy))),
            Some(_) => self.sysroot.join("bin/cargo-clippy").is_file().then(|| self.cargo()),
        }
    }

    fn with_rustc(&self, mut cargo: Command) -> Command {
        match &self.toolchain {
            // A BPF target needs unstable flags, and the system's compiler is a stable one.
            None => {
                cargo.env("RUSTC", SYSTEM_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
            Some(name) => {
                cargo = Command::new("rustup");
                // The cargo that started this program set these for its children.
                cargo
                    .env_remove("CARGO")
                    .env_remove("RUSTC")
                    .env_remove("RUSTDOC")
                    .args(["run", name, "cargo"]);
                cargo
            }
        }
    }
}

/// The tools of this machine, or everything that is missing.
pub(crate) fn find() -> Result<Tools, Missing> {
    choose(&look())
}

/// Looks at this machine.
pub(crate) fn look() -> Detected {
    let nightly = nightly();
    Detected { system: system(), linker: linker(), objcopy: objcopy(nightly.as_ref()), nightly }
}

/// The distribution's own `file`. A proxy of rustup's, which may be installed there as well, does not count.
fn of_the_system(file: &'static str) -> Option<&'static Path> {
    let file = Path::new(file);
    let is_rustup = || file.canonicalize().is_ok_and(|target| target.ends_with("rustup"));
    (shell::is_executable(file) && !is_rustup()).then_some(file)
}

/// The clippy that belongs to the system's compiler, and reads its core.
pub(crate) fn system_clippy() -> Option<&'static Path> {
    of_the_system("/usr/bin/clippy-driver").and(of_the_system("/usr/bin/cargo-clippy"))
}

fn system() -> Option<Compiler> {
    let rustc = of_the_system(SYSTEM_RUSTC)?;
    let (version, llvm, sysroot) = inspect(|| Command::new(rustc)).ok()?;
    let prebuilt = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let core = prebuilt.read_dir().is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    });
    Some(Compiler { toolchain: None, version, llvm, sysroot, core })
}

fn nightly() -> Option<Compiler> {
    let names = shell::read(Command::new("rustup").args(["toolchain", "list", "--quiet"])).ok()?;
    let mut compilers = names.lines().filter(|name| name.starts_with("nightly")).filter_map(|name| {
        let rustc = || {
            let mut rustup = Command::new("rustup");
            rustup.args(["run", name, "rustc"]);
            rustup
        };
        let (version, llvm, sysroot) = inspect(rustc).ok()?;
        let core = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file();
        Some(Compiler { toolchain: Some(name.to_owned()), version, llvm, sysroot, core })
    });
    let first = compilers.next()?;
    Some(if first.core { first } else { compilers.find(|other| other.core).unwrap_or(first) })
}

fn inspect(rustc: impl Fn() -> Command) -> Result<(Version, Option<u32>, PathBuf)> {
    let verbose = shell::read(rustc().arg("-vV"))?;
    let value = |key: &str| verbose.lines().find_map(|line| line.strip_prefix(key));
    let version = value("release: ").and_then(Version::parse).context("rustc -vV names no release")?;
    let llvm = value("LLVM version: ").and_then(|text| text.split('.').next()?.parse().ok());
    let sysroot = shell::read(rustc().args(["--print", "sysroot"]))?;
    Ok((version, llvm, PathBuf::from(sysroot.trim())))
}

fn linker() -> Option<Linker> {
    // The folder of `cargo install`, which may not be in $PATH.
    let installed = cargo_home().map(|home| home.join("bin/bpf-linker"));
    let path = shell::find("bpf-linker").or_else(|| installed.filter(|file| shell::is_executable(file)))?;
    let llvm = std::fs::read(&path).ok().and_then(|binary| linked_llvm(&binary));
    Some(Linker { path, llvm })
}

/// The LLVM that an executable is dynamically linked with: `libLLVM.so.22.1`, before LLVM 19 `libLLVM-18.so.1`.
fn linked_llvm(binary: &[u8]) -> Option<u32> {
    ["libLLVM.so.", "libLLVM-"].into_iter().find_map(|name| {
        let mut places =
            binary.windows(name.len()).enumerate().filter(|(_, window)| *window == name.as_bytes());
        places.find_map(|(start, _)| {
            let digits = binary[start + name.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            String::from_utf8(digits.copied().collect()).ok()?.parse().ok()
        })
    })
}

/// The newest llvm-objcopy in /usr/lib, so that the object does not depend on older ones; otherwise that in `$PATH`, or that of
/// the component `llvm-tools` of rustup's nightly.
fn objcopy(nightly: Option<&Compiler>) -> Option<PathBuf> {
    let versions = Path::new("/usr/lib").read_dir().into_iter().flatten().flatten().filter_map(|entry| {
        // Debian's folders are called llvm-22, Alpine's llvm22.
        let major =
            entry.file_name().to_str()?.strip_prefix("llvm")?.trim_start_matches('-').parse::<u32>().ok()?;
        Some((major, entry.path().join("bin/llvm-objcopy")))
    });
    let newest = versions.filter(|(_, file)| shell::is_executable(file)).max();
    newest.map(|(_, file)| file).or_else(|| shell::find("llvm-objcopy")).or_else(|| {
        let hosts = nightly?.sysroot.join("lib/rustlib").read_dir().ok()?.flatten();
        let mut files = hosts.map(|host| host.path().join("bin/llvm-objcopy"));
        files.find(|file| shell::is_executable(file))
    })
}

/// The folder of cargo's downloads and installed programs.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    let home = || env::home_dir().map(|home| home.join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(toolchain: Option<&str>, version: &str, llvm: u32, core: bool) -> Compiler {
        Compiler {
            toolchain: toolchain.map(str::to_owned),
            version: Version::parse(version).unwrap(),
            llvm: Some(llvm),
            sysroot: PathBuf::from("/sysroot"),
            core,
        }
    }

    fn found(system: Option<Compiler>, nightly: Option<Compiler>, linker: Option<Option<u32>>) -> Detected {
        let linker = linker.map(|llvm| Linker { path: PathBuf::from("/bin/bpf-linker"), llvm });
        Detected { system, nightly, linker, objcopy: Some(PathBuf::from("/bin/llvm-objcopy")) }
    }

    #[test]
    fn the_first_complete_toolchain_is_taken() {
        let system = || Some(compiler(None, "1.96.0", 22, true));
        let nightly = |llvm| Some(compiler(Some("nightly"), "1.97.0-nightly", llvm, true));
        let old = || Some(compiler(None, "1.63.0", 14, true));
        let bare = || Some(compiler(None, "1.96.0", 22, false));
        let linker = Some(Some(22));
        let not_installed = "rustup's nightly: not installed";
        for (found, expected) in [
            (found(system(), nightly(22), linker), Ok(None)),
            (found(old(), nightly(22), linker), Ok(Some("nightly"))),
            (found(bare(), nightly(21), linker), Ok(Some("nightly"))),
            // The LLVM of a statically linked linker is unknown until the build.
            (found(None, nightly(23), Some(None)), Ok(Some("nightly"))),
            (
                found(old(), None, linker),
                Err(vec!["the system's toolchain: its Rust 1.63 is older than 1.95", not_installed]),
            ),
            (
                found(bare(), None, linker),
                Err(vec!["the system's toolchain: it has no core for bpfel-unknown-none", not_installed]),
            ),
            (
                found(None, nightly(23), linker),
                Err(vec![
                    "the system's toolchain: not installed",
                    "rustup's nightly: its LLVM 23 writes bitcode that bpf-linker, built with LLVM 22, cannot read",
                ]),
            ),
            (found(system(), None, None), Err(vec!["bpf-linker: not in $PATH nor in cargo's bin folder"])),
        ] {
            let chosen = choose(&found).map(|tools| tools.compiler.toolchain);
            let line = |line: &str| line.replace("bpfel-unknown-none", TARGET);
            let expected = expected
                .map(|name: Option<&str>| name.map(str::to_owned))
                .map_err(|lines| Missing(lines.into_iter().map(line).collect()));
            assert_eq!(chosen, expected, "{found:?}");
        }
    }

    #[test]
    fn everything_that_is_missing_is_reported_at_once() {
        let nothing = choose(&Detected::default()).unwrap_err().to_string();
        for part in [
            "the system's toolchain: not installed",
            "rustup's nightly: not installed",
            "bpf-linker:",
            "llvm-objcopy:",
        ] {
            assert!(nothing.contains(part), "{part:?} in {nothing}");
        }
    }

    #[test]
    fn the_linkers_llvm_is_found_by_its_library() {
        assert_eq!(linked_llvm(b"\0libc.so.6\0libLLVM.so.22.1\0"), Some(22));
        assert_eq!(linked_llvm(b"\0libLLVM-18.so.1\0"), Some(18));
        assert_eq!(linked_llvm(b"libLLVM.so.\0 nor libLLVM-\0"), None);
        assert_eq!(linked_llvm(b"libLLVM.so."), None);
    }

    #[test]
    fn versions_are_read_from_compilers_and_packages() {
        for (text, expected) in [
            ("1.96.0", Some((1, 96))),
            ("1.97.0-nightly", Some((1, 97))),
            ("1:1.96.0+dfsg1-1~deb12u2", Some((1, 96))),
            ("1.95", Some((1, 95))),
            ("", None),
            ("nightly", None),
        ] {
            assert_eq!(
                Version::parse(text).map(|version| (version.major, version.minor)),
                expected,
                "{text}"
            );
        }
    }
}

//! `cargo xtask build-ebpf`: from Rust to the BPF object that memmon embeds.

use std::{
    env,
    path::{Path, PathBuf},
    process::{self, Command},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail, ensure};
use fs_err as fs;

use crate::{
    shell,
    toolchain::{self, TARGET, Tools},
    workspace,
};

/// Build the BPF half into target/bpf/memmon.bpf.o
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Build a copy of the sources in another folder as well, and fail unless both objects are the same to the byte
    #[arg(long)]
    check_reproducible: bool,
    /// Run clippy over the BPF half instead of building it
    #[arg(long, conflicts_with = "check_reproducible")]
    clippy: bool,
}

/// Builds or checks the BPF half, as `options` ask for, with the tools of this machine.
pub(crate) fn main(options: &Options) -> Result<()> {
    let tools = toolchain::find().context("run `cargo xtask setup`, which installs what is missing")?;
    println!("BPF toolchain: {tools}");
    if options.clippy {
        return clippy(&tools);
    }
    let object = build(&tools)?;
    if options.check_reproducible {
        check_reproducible(&tools, &object)?;
    }
    Ok(())
}

/// Whether memmon embeds an object that was built elsewhere, so that none needs to be built here.
pub(crate) fn is_given() -> bool {
    env::var_os("MEMMON_BPF_OBJECT").is_some()
}

/// Builds the object of this checkout, puts it where memmon looks for it, and returns it.
pub(crate) fn build(tools: &Tools) -> Result<Vec<u8>> {
    let object = compile(tools, workspace::root(), &workspace::bpf_dir().join("build"))?;
    let place = workspace::bpf_object();
    let path = place.display();
    let size = object.len().div_ceil(1024);
    if fs::read(&place).is_ok_and(|old| old == object) {
        // memmon is not to be compiled again for an equal object. memmon/build.rs calls one stale that is older than
        // its sources, though, so that one is marked as looked at.
        if modified(&place) < newest_source(workspace::root()) {
            fs::File::open(&place)?.set_modified(SystemTime::now())?;
        }
        println!("{path}: {size} KiB, unchanged");
    } else {
        let unfinished = place.with_extension(format!("o.{}", process::id()));
        fs::write(&unfinished, &object)?;
        fs::rename(&unfinished, &place)?;
        println!("{path}: {size} KiB");
    }
    Ok(object)
}

/// The object built from the sources at `root`, without DWARF but with BTF.
fn compile(tools: &Tools, root: &Path, target_dir: &Path) -> Result<Vec<u8>> {
    let mut build = complete(tools.compiler.cargo(), "build", tools, root, target_dir);
    shell::run(&mut build).with_context(|| advice(tools))?;
    let linked = target_dir.join(TARGET).join("release/memmon-ebpf");
    let stripped = linked.with_extension("stripped");
    shell::run(Command::new(&tools.objcopy).arg("--strip-debug").arg(&linked).arg(&stripped))?;
    let object = fs::read(&stripped)?;
    ensure!(
        contains(&object, b".BTF\0"),
        "{} has no BTF section: was it linked by another linker than {}?",
        stripped.display(),
        tools.linker.path.display()
    );
    Ok(object)
}

/// Makes `cargo` run `verb` on the BPF half of the checkout at `root`.
fn complete(mut cargo: Command, verb: &str, tools: &Tools, root: &Path, target_dir: &Path) -> Command {
    cargo.current_dir(root).env("CARGO_ENCODED_RUSTFLAGS", flags(tools, root).join("\x1f"));
    cargo
        .args([verb, "--package=memmon-ebpf", "--release", "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir);
    if tools.compiler.toolchain.is_some() {
        cargo.arg("-Zbuild-std=core");
    }
    cargo
}

/// The compiler's flags: BTF needs debug information, and no folder of this machine may end up in the object.
fn flags(tools: &Tools, root: &Path) -> Vec<String> {
    let mut flags = vec![
        // aya-ebpf's bindings of the kernel's registers depend on the machine.
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", tools.linker.path.display()),
        "-Clink-arg=--btf".to_owned(),
    ];
    // The last that matches wins: from the widest to the narrowest.
    let sysroot = Some((tools.compiler.sysroot.clone(), "rust"));
    let std_sources = Some((PathBuf::from("/usr/src"), "rust-src"));
    let cargo_home = toolchain::cargo_home().map(|home| (home, "cargo"));
    let checkout = Some((root.to_owned(), "memmon"));
    for (folder, name) in [sysroot, std_sources, cargo_home, checkout].into_iter().flatten() {
        flags.push(format!("--remap-path-prefix={}={name}", folder.display()));
    }
    flags
}

/// A hint for a build that fails unexpectedly.
fn advice(tools: &Tools) -> String {
    match (tools.compiler.llvm, tools.linker.llvm) {
        (Some(writes), None) => format!(
            "if the linker cannot read the bitcode: rustc writes that of LLVM {writes}, and {} must be built with \
             LLVM {writes} or later (`cargo xtask setup` builds one)",
            tools.linker.path.display()
        ),
        _ => "the BPF half was not built".to_owned(),
    }
}

/// Builds the same sources from another folder and compares.
fn check_reproducible(tools: &Tools, object: &[u8]) -> Result<()> {
    let elsewhere = env::temp_dir().join(format!("memmon-{}", process::id()));
    let result = copy_sources(workspace::root(), &elsewhere.join("another/checkout"))
        .and_then(|()| compile(tools, &elsewhere.join("another/checkout"), &elsewhere.join("build")));
    fs::remove_dir_all(&elsewhere)?;
    let other = result?;
    if other != object {
        let place = workspace::bpf_dir().join("elsewhere.bpf.o");
        fs::write(&place, &other)?;
        bail!(
            "not reproducible: {} (from {}) and {} (from {}) differ",
            workspace::bpf_object().display(),
            workspace::root().display(),
            place.display(),
            elsewhere.display()
        );
    }
    // Both builds shared these folders, so a comparison would not notice them.
    for folder in
        [toolchain::cargo_home(), tools.linker.path.parent().map(Path::to_owned)].into_iter().flatten()
    {
        let text = folder.display().to_string();
        ensure!(!contains(object, text.as_bytes()), "the object contains a path of this machine: {text}");
    }
    println!("reproducible: the same {} bytes from two folders", object.len());
    Ok(())
}

/// Copies what cargo needs to build the BPF half: the workspace without its build output and history.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    for source in workspace::files(from)? {
        let copy = to.join(source.strip_prefix(from)?);
        fs::create_dir_all(copy.parent().unwrap_or(to))?;
        fs::copy(&source, &copy)?;
    }
    Ok(())
}

/// Clippy with the flags of the build.
fn clippy(tools: &Tools) -> Result<()> {
    let cargo = tools.compiler.cargo_clippy().with_context(|| {
        format!("there is no clippy for {}: `cargo xtask setup --for-tests` installs it", tools.compiler)
    })?;
    let target_dir = workspace::bpf_dir().join("clippy");
    shell::run(complete(cargo, "clippy", tools, workspace::root(), &target_dir).args(["--", "-Dwarnings"]))
}

/// Time of the last change of the files that the object is made from.
fn newest_source(root: &Path) -> Option<SystemTime> {
    let files = workspace::BPF_SOURCES.iter().filter_map(|folder| workspace::files(&root.join(folder)).ok());
    files.flatten().filter_map(|file| modified(&file)).max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

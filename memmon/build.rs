//! Finds the BPF object that memmon embeds, and advises if there is none.
//!
//! With the feature `ebpf` the crate is compiled with `MEMMON_BPF_OBJECT_PATH`, the object's absolute path, for
//! `include_bytes!(env!(…))`. The object is the one that the environment variable `MEMMON_BPF_OBJECT` names (for
//! packagers that build the two halves apart), else target/bpf/memmon.bpf.o in the checkout, where `cargo xtask
//! build-ebpf` puts it whatever `CARGO_TARGET_DIR` says.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

const REMEDY: &str =
    "run `cargo xtask build-ebpf` (or build memmon without its BPF half: `--no-default-features`)";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=MEMMON_BPF_OBJECT");
    if env::var_os("CARGO_FEATURE_EBPF").is_none() {
        return;
    }
    match object() {
        Ok(path) => println!("cargo::rustc-env=MEMMON_BPF_OBJECT_PATH={}", path.display()),
        Err(why) => println!("cargo::error={why}"),
    }
}

/// The object's path, checked, or one line that says what is wrong and what helps.
fn object() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("MEMMON_BPF_OBJECT").map(PathBuf::from) {
        println!("cargo::rerun-if-changed={}", path.display());
        let given = format!("MEMMON_BPF_OBJECT={}", path.display());
        if !path.is_absolute() {
            return Err(format!("{given}: the path must be absolute"));
        }
        return check(&path).map(|()| path).map_err(|why| format!("{given}: {why}"));
    }
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let workspace = manifest.parent().unwrap_or(&manifest);
    let path = workspace.join("target/bpf/memmon.bpf.o");
    println!("cargo::rerun-if-changed={}", path.display());
    if !path.exists() {
        return Err(format!("the BPF half is not built: {REMEDY}"));
    }
    check(&path).map_err(|why| format!("{}: {why}: {REMEDY}", path.display()))?;
    for source in ["memmon-ebpf/src", "memmon-common/src"].map(|folder| workspace.join(folder)) {
        println!("cargo::rerun-if-changed={}", source.display());
        if newest(&source) > newest(&path) {
            println!("cargo::warning=the BPF half is older than {}: {REMEDY}", source.display());
        }
    }
    Ok(path)
}

/// Whether `path` is a BPF object in the byte order of the target (elf(5)).
fn check(path: &Path) -> Result<(), String> {
    const EM_BPF: u16 = 247;
    let object = fs::read(path).map_err(|error| error.to_string())?;
    let big = env::var("CARGO_CFG_TARGET_ENDIAN").is_ok_and(|endian| endian == "big");
    let (data, machine) = if big { (2, EM_BPF.to_be_bytes()) } else { (1, EM_BPF.to_le_bytes()) };
    if object.starts_with(b"\x7fELF") && object.get(5) == Some(&data) && object.get(18..20) == Some(&machine)
    {
        Ok(())
    } else {
        Err("not a BPF object for this target".to_owned())
    }
}

/// Time of the last change of `path`, or of the newest file below it.
fn newest(path: &Path) -> Option<SystemTime> {
    match path.read_dir() {
        Ok(entries) => entries.flatten().filter_map(|entry| newest(&entry.path())).max(),
        Err(_) => path.metadata().and_then(|metadata| metadata.modified()).ok(),
    }
}

//! Tells the compiler where the BPF object is that memmon embeds.

use std::{env, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed=MEMMON_BPF_OBJECT");
    if env::var_os("CARGO_FEATURE_EBPF").is_none() {
        return ExitCode::SUCCESS;
    }
    let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/memmon.bpf.o");
    let object = env::var_os("MEMMON_BPF_OBJECT").map_or_else(built, PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    if !object.is_file() {
        println!("cargo::error=no BPF object at {}; build it: cargo xtask build-ebpf", object.display());
        return ExitCode::FAILURE;
    }
    println!("cargo::rustc-env=MEMMON_BPF_OBJECT_PATH={}", object.display());
    ExitCode::SUCCESS
}

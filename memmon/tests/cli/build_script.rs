//! The decisions of build.rs about the BPF object, by the words that cargo reads.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

/// The first bytes of a BPF object (elf(5)): EM_BPF in the byte order of the target.
fn object() -> Vec<u8> {
    let (data, machine) =
        if cfg!(target_endian = "big") { (2, 247_u16.to_be_bytes()) } else { (1, 247_u16.to_le_bytes()) };
    let mut bytes = b"\x7fELF\x02".to_vec();
    bytes.push(data);
    bytes.resize(18, 0);
    bytes.extend(machine);
    bytes
}

/// The script, and a checkout with nothing in it.
struct Build(TempDir);

impl Build {
    fn new() -> Self {
        let build = Self(tempfile::tempdir().unwrap());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
        let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut rustc = Command::new(compiler);
        rustc.args(["--edition=2024", "-o"]).arg(build.path("script")).arg(script);
        assert!(rustc.status().unwrap().success());
        fs::create_dir_all(build.path("target/bpf")).unwrap();
        build
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// The object that it takes, and the lines that it has for people.
    fn run(&self, given: Option<&str>) -> (Option<String>, String) {
        let mut script = Command::new(self.path("script"));
        script.env_clear().env("CARGO_FEATURE_EBPF", "1").env("CARGO_MANIFEST_DIR", self.path("memmon"));
        let endian = if cfg!(target_endian = "big") { "big" } else { "little" };
        script.env("CARGO_CFG_TARGET_ENDIAN", endian);
        script.envs(given.map(|given| ("MEMMON_BPF_OBJECT", given)));
        let output = script.output().unwrap();
        assert!(output.status.success(), "what it finds wrong is printed by cargo: {output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let line = |mark: &str| printed.lines().find_map(|line| line.strip_prefix(mark)).map(str::to_owned);
        let reported = ["cargo::error=", "cargo::warning="].into_iter().find_map(line).unwrap_or_default();
        (line("cargo::rustc-env=MEMMON_BPF_OBJECT_PATH="), reported)
    }
}

#[test]
fn a_plain_build_takes_the_checkouts_object_or_says_the_one_command_that_makes_it() {
    let remedy =
        "run `cargo xtask build-ebpf` (or build memmon without its BPF half: `--no-default-features`)";
    let build = Build::new();
    assert_eq!(build.run(None), (None, format!("the BPF half is not built: {remedy}")));

    let path = build.path("target/bpf/memmon.bpf.o");
    let taken = Some(path.display().to_string());
    fs::write(&path, "no object").unwrap();
    let wrong = format!("{}: not a BPF object for this target: {remedy}", path.display());
    assert_eq!(build.run(None), (None, wrong));
    fs::write(&path, object()).unwrap();
    assert_eq!(build.run(None), (taken.clone(), String::new()));

    let source = build.path("memmon-ebpf/src/main.rs");
    fs::create_dir_all(source.parent().unwrap()).unwrap();
    fs::write(&source, "").unwrap();
    let later = SystemTime::now() + Duration::from_secs(60);
    fs::File::options().write(true).open(&source).unwrap().set_modified(later).unwrap();
    let (still, warning) = build.run(None);
    assert_eq!(still, taken);
    assert!(warning.starts_with("the BPF half is older than ") && warning.ends_with(remedy), "{warning}");
}

#[test]
fn a_packagers_object_goes_before_the_checkouts_and_must_be_one() {
    let build = Build::new();
    fs::write(build.path("target/bpf/memmon.bpf.o"), object()).unwrap();
    let path = build.path("packaged.o");
    let given = path.to_str().unwrap();
    fs::write(&path, object()).unwrap();
    assert_eq!(build.run(Some(given)), (Some(given.to_owned()), String::new()));

    fs::write(&path, "\x7fELF and no more").unwrap();
    let wrong = format!("MEMMON_BPF_OBJECT={given}: not a BPF object for this target");
    assert_eq!(build.run(Some(given)), (None, wrong));
    fs::remove_file(&path).unwrap();
    let (none, missing) = build.run(Some(given));
    assert!(
        none.is_none() && missing.starts_with(&format!("MEMMON_BPF_OBJECT={given}: No such file")),
        "{missing}"
    );
    let relative = "MEMMON_BPF_OBJECT=packaged.o: the path must be absolute".to_owned();
    assert_eq!(build.run(Some("packaged.o")), (None, relative));
}

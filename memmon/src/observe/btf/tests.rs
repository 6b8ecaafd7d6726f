//! Layouts of synthetic kernels, of this machine's kernel, and of corrupted files.

use std::{fs, path::Path, time::Duration};

use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;

use super::build::{Builder, Kernel};
use super::*;

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

fn resolve(kernel: &Kernel) -> Result<Offsets, LayoutError> {
    super::resolve(&kernel.btf())
}

fn refusal(kernel: &Kernel) -> String {
    resolve(kernel).unwrap_err().to_string()
}

#[test]
fn every_field_has_its_offset() {
    let since_6_2 = Offsets {
        rss: 64 + 8,
        rss_stride: 40,
        rss_legacy: 0,
        mm_owner: 256,
        mm_users: 40,
        task_tgid: 68,
        task_pid: 64,
        task_mm: 56,
        task_flags: 44,
        task_start_boottime: 80,
        task_comm: 96,
        task_real_cred: 88,
        task_group_leader: 72,
        task_cgroups: 120,
        css_set_dfl_cgrp: 32,
        cgroup_kn: 16,
        kernfs_node_id: 24,
        task_signal: 112,
        cred_uid: 8,
        task_exit_code: 48,
        signal_live: 4,
        signal_oom_mm: 8,
        file_mapping: FileMappingOffsets {
            vma_vm_file: 48,
            vma_node: 64,
            vma_left: 80,
            vma_right: 72,
            file_f_mapping: 24,
            address_space_root: 40,
            address_space_host: 0,
            inode_i_ino: 56,
            inode_i_sb: 32,
            super_block_s_dev: 16,
        },
    };
    assert_eq!(resolve(&Kernel::default()), Ok(since_6_2));
    assert_eq!(
        resolve(&Kernel { legacy: true, ..Kernel::default() }),
        Ok(Offsets { rss: 64, rss_stride: 8, rss_legacy: 1, ..since_6_2 })
    );
    // Sums of cgroups are not kept then.
    let no_cgroups =
        Offsets { task_cgroups: 0, css_set_dfl_cgrp: 0, cgroup_kn: 0, kernfs_node_id: 0, ..since_6_2 };
    assert_eq!(resolve(&Kernel { wide_cgroup_id: false, ..Kernel::default() }), Ok(no_cgroups));
    // Older processes are asked for their mappings then.
    let no_mappings = Offsets { file_mapping: FileMappingOffsets::default(), ..since_6_2 };
    assert_eq!(resolve(&Kernel { wide_inode_number: false, ..Kernel::default() }), Ok(no_mappings));
    assert_eq!(resolve(&Kernel { iterates: "map", ..Kernel::default() }), Ok(no_mappings), "Linux 6.0");
}

#[test]
fn a_missing_field_is_named_with_its_reason() {
    assert_eq!(
        refusal(&Kernel { owner: false, ..Kernel::default() }),
        "no `owner` in mm_struct: the kernel was built without CONFIG_MEMCG"
    );
    assert_eq!(
        refusal(&Kernel { start_boottime: false, ..Kernel::default() }),
        "no `start_boottime` in task_struct: the kernel is older than 5.5"
    );
    assert_eq!(super::resolve(&Builder::new().finish()), Err(LayoutError::NoStruct("mm_struct")));
}

#[test]
fn a_field_of_another_type_is_not_used() {
    let comm = refusal(&Kernel { comm_length: 32, ..Kernel::default() });
    assert!(comm.starts_with("`comm` in task_struct is not an array of 16 characters"), "{comm}");
    for legacy in [false, true] {
        let few = refusal(&Kernel { legacy, counters: 3, ..Kernel::default() });
        assert!(few.starts_with("`rss_stat` in mm_struct is not an array of four"), "{few}");
        // Further counters do no harm.
        assert!(resolve(&Kernel { legacy, counters: 5, ..Kernel::default() }).is_ok());
    }
}

#[test]
fn a_field_beyond_the_end_of_its_struct_is_not_used() {
    let counters = refusal(&Kernel { mm_size: 64 + 3 * 40 + 8, ..Kernel::default() });
    assert!(counters.contains("`rss_stat`"), "{counters}");
    let owner = refusal(&Kernel { mm_size: 256, ..Kernel::default() });
    assert!(owner.contains("`owner`"), "{owner}");
}

#[test]
fn counters_in_another_order_are_not_used() {
    assert_eq!(
        resolve(&Kernel { order: Some([0, 2, 1, 3]), ..Kernel::default() }),
        Err(LayoutError::CounterOrder { counter: "MM_ANONPAGES", expected: 1, found: 2 })
    );
    assert!(resolve(&Kernel { order: None, ..Kernel::default() }).is_ok());
}

#[test]
fn two_structs_of_one_name_must_agree() {
    assert!(resolve(&Kernel { second_task: Some(64), ..Kernel::default() }).is_ok());
    assert_eq!(
        resolve(&Kernel { second_task: Some(60), ..Kernel::default() }),
        Err(LayoutError::Ambiguous { structure: "task_struct", field: "pid" })
    );
}

#[test]
fn a_file_that_is_not_btf_is_refused() {
    let mut swapped = Kernel::default().btf();
    swapped.swap(0, 1);
    assert_eq!(super::resolve(&swapped), Err(LayoutError::ForeignByteOrder));
    for bytes in [&b""[..], b"\x7f", b"\x7fELF and so on, for longer than a header is"] {
        assert_eq!(super::resolve(bytes), Err(LayoutError::NotBtf));
    }
    let mut unknown = Builder::new();
    unknown.push("", 63 << 24, 0, &[]);
    assert_eq!(super::resolve(&unknown.finish()), Err(LayoutError::UnknownKind(63)));
}

#[test]
fn circles_and_explosions_are_refused() {
    // A typedef of itself.
    let mut circle = Builder::new();
    let own = circle.typedef("mm_t", 1);
    circle.structure("mm_struct", 8, &[("rss_stat", own, 0)]);
    for name in ["task_struct", "cred", "signal_struct"] {
        circle.structure(name, 8, &[]);
    }
    assert_eq!(
        super::resolve(&circle.finish()),
        Err(LayoutError::Malformed("a typedef goes round in a circle"))
    );
    // A struct that contains itself, twice, without a name.
    let mut deep = Builder::new();
    deep.structure("mm_struct", 8, &[("", 1, 0), ("", 1, 0)]);
    for name in ["task_struct", "cred", "signal_struct"] {
        deep.structure(name, 8, &[]);
    }
    assert_eq!(super::resolve(&deep.finish()), Err(LayoutError::Malformed("its structs nest too deeply")));
    // Structs of thousands of anonymous structs of thousands of anonymous structs.
    let mut wide = Builder::new();
    let mut inner = wide.structure("", 8, &[]);
    for _ in 0..8 {
        let fields = vec![("", inner, 0); 2000];
        inner = wide.structure("", 8, &fields);
    }
    wide.structure("mm_struct", 8, &[("", inner, 0)]);
    for name in ["task_struct", "cred", "signal_struct"] {
        wide.structure(name, 8, &[]);
    }
    assert_eq!(super::resolve(&wide.finish()), Err(LayoutError::Malformed("its structs have no end")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// For any corrupted file the result is a layout or an error.
    #[test]
    fn tampering_never_panics(
        legacy: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut file = Kernel { legacy, ..Kernel::default() }.btf();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let _ = super::resolve(&file);
    }

    /// A resolved offset lies within its struct, even if the file is corrupted after its header.
    #[test]
    fn offsets_stay_within_reason(at in any::<prop::sample::Index>(), word: u32) {
        let mut file = Kernel::default().btf();
        let words = (file.len() - 24) / 4;
        let at = 24 + 4 * at.index(words);
        file[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        if let Ok(layout) = super::resolve(&file) {
            // Only the size of a struct itself can have become larger.
            let limit = word.max(512);
            prop_assert!(layout.rss + 3 * layout.rss_stride + 8 <= limit);
            prop_assert!(layout.task_comm + 16 <= limit && layout.mm_owner + 8 <= limit);
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = Kernel::default().btf();
        file.truncate(24);
        file.extend(noise);
        let _ = super::resolve(&file);
    }
}

/// The running kernel's BTF. The tests that need it fail if it is missing.
fn vmlinux() -> Vec<u8> {
    fs::read(VMLINUX)
        .unwrap_or_else(|error| panic!("this test needs {VMLINUX} (CONFIG_DEBUG_INFO_BTF): {error}"))
}

#[test]
fn this_machines_kernel_resolves_quickly() {
    let file = vmlinux();
    let spent = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let before = spent();
    let layout = super::resolve(&file).unwrap();
    let took = spent() - before;
    // 5 ms optimised; this is a test build on a machine that may be busy.
    assert!(took.as_secs_f64() < 2.0, "{took:?}");

    assert_eq!(layout.rss_legacy != 0, layout.rss_stride == 8 && layout.rss.is_multiple_of(8));
    for pointer in [
        layout.mm_owner,
        layout.task_mm,
        layout.task_real_cred,
        layout.task_group_leader,
        layout.task_signal,
        layout.rss,
        layout.task_start_boottime,
    ] {
        assert!(pointer.is_multiple_of(8) && pointer > 0 && pointer < 1 << 14, "{layout:?}");
    }
    assert_eq!(layout.task_tgid, layout.task_pid + 4, "they are neighbours since 2.6");
    assert!(layout.cred_uid >= 4 && layout.signal_live >= 4, "both follow a reference count");
}

/// bpftool prints the offsets that libbpf reads from the same file.
#[test]
#[ignore = "needs bpftool"]
fn offsets_equal_bpftools() {
    let output = std::process::Command::new("bpftool")
        .args(["btf", "dump", "file", VMLINUX, "format", "raw"])
        .output()
        .expect("this test needs bpftool");
    let text = String::from_utf8(output.stdout).unwrap();
    let offset = |structure: &str, field: &str| -> u32 {
        let head = format!("STRUCT '{structure}' ");
        let member = format!("\t'{field}' ");
        text.lines()
            .skip_while(|line| !line.contains(&head))
            .skip(1)
            .take_while(|line| line.starts_with('\t'))
            .find_map(|line| line.strip_prefix(&member)?.rsplit_once("bits_offset=")?.1.parse::<u32>().ok())
            .unwrap_or_else(|| panic!("bpftool shows no {field} in {structure}"))
            / 8
    };
    let layout = super::resolve(&vmlinux()).unwrap();
    assert_eq!(layout.task_tgid, offset("task_struct", "tgid"));
    assert_eq!(layout.task_mm, offset("task_struct", "mm"));
    assert_eq!(layout.task_flags, offset("task_struct", "flags"));
    assert_eq!(layout.task_start_boottime, offset("task_struct", "start_boottime"));
    assert_eq!(layout.task_comm, offset("task_struct", "comm"));
    assert_eq!(layout.task_real_cred, offset("task_struct", "real_cred"));
    assert_eq!(layout.task_group_leader, offset("task_struct", "group_leader"));
    assert_eq!(layout.task_signal, offset("task_struct", "signal"));
    assert_eq!(layout.cred_uid, offset("cred", "uid"));
    assert_eq!(layout.signal_live, offset("signal_struct", "live"));
    assert_eq!(layout.task_exit_code, offset("task_struct", "exit_code"));
    assert_eq!(layout.task_cgroups, offset("task_struct", "cgroups"));
    assert_eq!(layout.css_set_dfl_cgrp, offset("css_set", "dfl_cgrp"));
    assert_eq!(layout.cgroup_kn, offset("cgroup", "kn"));
    assert_eq!(layout.kernfs_node_id, offset("kernfs_node", "id"));
    assert_eq!(layout.signal_oom_mm, offset("signal_struct", "oom_mm"));
}

#[test]
fn no_part_of_a_real_file_panics() {
    let whole = vmlinux();
    for part in 0..24 {
        let end = whole.len() * part / 24;
        assert!(super::resolve(&whole[..end]).is_err(), "cut at {end}");
    }
    for round in 0..12_usize {
        let mut file = whole.clone();
        for change in 0..200 {
            let at = (round * 7919 + change * 104_729 * (round + 1)) % file.len();
            file[at] ^= u8::try_from(1 << (change % 8)).unwrap();
        }
        let _ = super::resolve(&file);
    }
}

/// `.BTF` sections of other kernels, each in a file `RELEASE.btf`: the known Debian cloud kernels for x86-64 must have
/// the known offsets, and all others must resolve.
#[test]
#[ignore = "needs MEMMON_BTF_DIR, a directory of other kernels' BTF"]
fn known_kernels_have_known_offsets() {
    let known = [
        ("5.10.0-46-cloud-amd64", 712, 912, 8),
        ("6.1.0-56-cloud-amd64", 728, 928, 8),
        ("6.12.117+deb12-cloud-amd64", 824 + 8, 1152, 40),
        ("6.18.15+deb13-cloud-amd64", 928 + 8, 1264, 40),
        ("7.3.4+deb13-cloud-amd64", 1208 + 8, 1528, 40),
    ];
    let directory = std::env::var_os("MEMMON_BTF_DIR").expect("MEMMON_BTF_DIR is not set");
    let mut read = 0;
    for file in fs::read_dir(Path::new(&directory)).unwrap() {
        let path = file.unwrap().path();
        let release = path.file_stem().unwrap().to_str().unwrap();
        let layout =
            super::resolve(&fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{release}: {error}"));
        // `struct mm_rss_stat` gave way to an array of per-CPU counters in 6.2.
        let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        assert_eq!(layout.rss_legacy != 0, version < (6, 2), "{release}");
        let shows_mappings = layout.file_mapping != FileMappingOffsets::default();
        assert!(shows_mappings || version < (6, 1), "{release}: no way to a file's mappings");
        if let Some((_, rss_stat, owner, stride)) = known.iter().find(|(known, ..)| *known == release) {
            // A distribution may have that change in an older kernel.
            assert_eq!(shows_mappings, version >= (6, 1), "{release}");
            let found = (layout.rss, layout.mm_owner, layout.rss_stride);
            assert_eq!(found, (*rss_stat, *owner, *stride), "{release}");
        }
        read += 1;
    }
    assert!(read > 0, "no file in {}", Path::new(&directory).display());
}

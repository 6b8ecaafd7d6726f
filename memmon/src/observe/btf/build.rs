//! Writes small BTF files for tests.

/// A builder for a BTF file. Type ids are assigned in order, from 1.
#[derive(Default)]
pub(crate) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    starts: Vec<usize>,
}

/// Name, type id and bit offset of a member.
pub(crate) type Field<'a> = (&'a str, u32, u32);

impl Builder {
    pub(crate) fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    pub(crate) fn int(&mut self, name: &str, size: u32) -> u32 {
        self.push(name, 1 << 24, size, &[size * 8])
    }

    /// A pointer whose target is set later by [`Builder::point`].
    pub(crate) fn pointer(&mut self) -> u32 {
        self.push("", 2 << 24, 0, &[])
    }

    pub(crate) fn point(&mut self, pointer: u32, target: u32) {
        let at = self.starts[pointer as usize - 1] + 8;
        self.types[at..at + 4].copy_from_slice(&target.to_ne_bytes());
    }

    pub(crate) fn array(&mut self, element: u32, count: u32) -> u32 {
        self.push("", 3 << 24, 0, &[element, 1, count])
    }

    pub(crate) fn structure(&mut self, name: &str, size: u32, fields: &[Field<'_>]) -> u32 {
        let members: Vec<u32> =
            fields.iter().flat_map(|(name, of, bits)| [self.string(name), *of, *bits]).collect();
        self.push(name, (4 << 24) | u32::try_from(fields.len()).unwrap(), size, &members)
    }

    pub(crate) fn enumeration(&mut self, values: &[(&str, u32)]) -> u32 {
        let members: Vec<u32> = values.iter().flat_map(|(name, value)| [self.string(name), *value]).collect();
        self.push("", (6 << 24) | u32::try_from(values.len()).unwrap(), 4, &members)
    }

    pub(crate) fn typedef(&mut self, name: &str, target: u32) -> u32 {
        self.push(name, 8 << 24, target, &[])
    }

    /// Any type: `info` is kind << 24 | member count, with bit 31 for the kind flag.
    pub(crate) fn push(&mut self, name: &str, info: u32, size_or_type: u32, tail: &[u32]) -> u32 {
        self.starts.push(self.types.len());
        let name = self.string(name);
        for word in [name, info, size_or_type].iter().chain(tail) {
            self.types.extend(word.to_ne_bytes());
        }
        u32::try_from(self.starts.len()).unwrap()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let length = |section: &[u8]| u32::try_from(section.len()).unwrap().to_ne_bytes();
        let mut file = Vec::new();
        file.extend(0xeb9f_u16.to_ne_bytes());
        file.extend([1, 0]);
        file.extend(24_u32.to_ne_bytes());
        file.extend(0_u32.to_ne_bytes());
        file.extend(length(&self.types));
        file.extend(length(&self.types));
        file.extend(length(&self.strings));
        file.extend(self.types);
        file.extend(self.strings);
        file
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.as_bytes());
        self.strings.push(0);
        at
    }
}

/// A kernel with only the types that memmon reads; change a field for a kernel that differs.
pub(crate) struct Kernel {
    pub(crate) legacy: bool,
    pub(crate) owner: bool,
    pub(crate) start_boottime: bool,
    pub(crate) comm_length: u32,
    pub(crate) counters: u32,
    pub(crate) order: Option<[u32; 4]>,
    pub(crate) mm_size: u32,
    pub(crate) second_task: Option<u32>,
    pub(crate) wide_cgroup_id: bool,
    pub(crate) wide_inode_number: bool,
    /// The name of the member that restricts an iterator to a process.
    pub(crate) iterates: &'static str,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            legacy: false,
            owner: true,
            start_boottime: true,
            comm_length: 16,
            counters: 4,
            order: Some([0, 1, 2, 3]),
            mm_size: 512,
            second_task: None,
            wide_cgroup_id: true,
            wide_inode_number: true,
            iterates: "task",
        }
    }
}

impl Kernel {
    pub(crate) fn btf(&self) -> Vec<u8> {
        let mut b = Builder::new();
        let (int, long, character) = (b.int("int", 4), b.int("long", 8), b.int("char", 1));
        let (to_task, to_mm, to_cred, to_signal) = (b.pointer(), b.pointer(), b.pointer(), b.pointer());
        let (to_set, to_cgroup, to_node) = (b.pointer(), b.pointer(), b.pointer());
        if let Some(numbers) = self.order {
            let names = ["MM_FILEPAGES", "MM_ANONPAGES", "MM_SWAPENTS", "MM_SHMEMPAGES"];
            let values: Vec<(&str, u32)> = names.into_iter().zip(numbers).collect();
            b.enumeration(&values);
        }
        let rss = if self.legacy {
            let atomic = b.structure("", 8, &[("counter", long, 0)]);
            let atomic_long = b.typedef("atomic_long_t", atomic);
            let counts = b.array(atomic_long, self.counters);
            b.structure("mm_rss_stat", 8 * self.counters, &[("count", counts, 0)])
        } else {
            let counter = b.structure("percpu_counter", 40, &[("lock", int, 0), ("count", long, 64)]);
            b.array(counter, self.counters)
        };
        // As in the kernel, everything in mm_struct is within one anonymous struct.
        let users = b.structure("", 4, &[("counter", int, 0)]);
        let users = b.typedef("atomic_t", users);
        let mut fields = vec![("pgd", long, 0), ("mm_users", users, 40 * 8), ("rss_stat", rss, 64 * 8)];
        if self.owner {
            fields.push(("owner", to_task, 256 * 8));
        }
        let inner = b.structure("", self.mm_size, &fields);
        let mm = b.structure("mm_struct", self.mm_size, &[("", inner, 0)]);

        let kuid = b.structure("", 4, &[("val", int, 0)]);
        let kuid_t = b.typedef("kuid_t", kuid);
        let cred = b.structure("cred", 32, &[("usage", int, 0), ("uid", kuid_t, 8 * 8)]);
        let atomic = b.structure("", 4, &[("counter", int, 0)]);
        let signal_fields = [("sigcnt", atomic, 0), ("live", atomic, 4 * 8), ("oom_mm", to_mm, 8 * 8)];
        let signal = b.structure("signal_struct", 32, &signal_fields);
        let id = if self.wide_cgroup_id { long } else { int };
        let node = b.structure("kernfs_node", 64, &[("id", id, 24 * 8)]);
        let cgroup = b.structure("cgroup", 64, &[("kn", to_node, 16 * 8)]);
        let set = b.structure("css_set", 64, &[("dfl_cgrp", to_cgroup, 32 * 8)]);
        let comm = b.array(character, self.comm_length);
        let pid_t = b.typedef("pid_t", int);
        let mut task_with = |pid: u32| {
            let mut fields = vec![
                ("flags", int, 44 * 8),
                ("exit_code", int, 48 * 8),
                ("mm", to_mm, 56 * 8),
                ("pid", pid_t, pid * 8),
                ("tgid", pid_t, 68 * 8),
                ("group_leader", to_task, 72 * 8),
                ("real_cred", to_cred, 88 * 8),
                ("comm", comm, 96 * 8),
                ("signal", to_signal, 112 * 8),
                ("cgroups", to_set, 120 * 8),
            ];
            if self.start_boottime {
                fields.push(("start_boottime", long, 80 * 8));
            }
            b.structure("task_struct", 128, &fields)
        };
        let task = task_with(64);
        if let Some(pid) = self.second_task {
            task_with(pid);
        }
        let inode_number = if self.wide_inode_number { long } else { int };
        Self::file_mappings(&mut b, int, long, inode_number);
        let process = b.structure("", 8, &[("type", int, 0), ("pid", int, 32)]);
        b.structure("bpf_iter_aux_info", 16, &[(self.iterates, process, 64)]);
        let targets = [(to_task, task), (to_mm, mm), (to_cred, cred), (to_signal, signal)];
        let cgroups = [(to_set, set), (to_cgroup, cgroup), (to_node, node)];
        for (pointer, target) in targets.into_iter().chain(cgroups) {
            b.point(pointer, target);
        }
        b.finish()
    }

    /// Mappings, and the way from them to the tree of all mappings of a file.
    fn file_mappings(b: &mut Builder, int: u32, long: u32, inode_number: u32) {
        let pointers = [(); 5].map(|()| b.pointer());
        let [to_file, to_node, to_space, to_inode, to_super] = pointers;
        let links = [("__rb_parent_color", long, 0), ("rb_right", to_node, 64), ("rb_left", to_node, 128)];
        let node = b.structure("rb_node", 24, &links);
        let shared = b.structure("", 32, &[("rb", node, 0), ("rb_subtree_last", long, 24 * 8)]);
        b.structure("vm_area_struct", 128, &[("vm_file", to_file, 48 * 8), ("shared", shared, 64 * 8)]);
        let file = b.structure("file", 64, &[("f_mapping", to_space, 24 * 8)]);
        let root = b.structure("rb_root", 8, &[("rb_node", to_node, 0)]);
        let cached = b.structure("rb_root_cached", 16, &[("rb_root", root, 0), ("rb_leftmost", to_node, 64)]);
        let space = b.structure("address_space", 64, &[("host", to_inode, 0), ("i_mmap", cached, 40 * 8)]);
        let inode = b.structure("inode", 96, &[("i_sb", to_super, 32 * 8), ("i_ino", inode_number, 56 * 8)]);
        let dev_t = b.typedef("dev_t", int);
        let super_block = b.structure("super_block", 64, &[("s_dev", dev_t, 16 * 8)]);
        for (pointer, target) in pointers.into_iter().zip([file, node, space, inode, super_block]) {
            b.point(pointer, target);
        }
    }
}

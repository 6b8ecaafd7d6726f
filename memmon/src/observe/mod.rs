//! Reads the kernel: its map of processes, and /proc. This module decides nothing and changes nothing.

#[cfg(feature = "ebpf")]
pub mod bpf;
pub mod btf;
pub mod decode;
pub mod guards;
pub mod memory_settings;
pub mod merge;
pub mod procfs;
pub mod support;

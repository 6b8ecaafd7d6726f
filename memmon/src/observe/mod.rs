//! Reads the kernel: its map of processes and /proc. Nothing is decided here, and nothing changed.

#[cfg(feature = "ebpf")]
pub mod bpf;
pub mod btf;
pub mod decode;
pub mod merge;
pub mod procfs;
pub mod support;

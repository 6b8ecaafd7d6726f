//! (being built)

#[cfg(feature = "ebpf")]
pub mod bpf;
pub mod btf;
pub mod decode;
pub mod merge;
pub mod procfs;
pub mod support;

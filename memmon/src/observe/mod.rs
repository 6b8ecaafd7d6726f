//! (being built)

#[cfg(feature = "ebpf")]
pub mod bpf;
pub mod btf;
pub mod merge;
pub mod procfs;
pub mod support;
pub mod decode;

//! (being built)

pub mod btf;
pub mod support;
pub mod procfs;

//! (being built)

pub mod btf;
pub mod support;
pub mod merge;
pub mod procfs;

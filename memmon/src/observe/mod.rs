//! (being built)

pub mod btf;
pub mod merge;
pub mod procfs;
pub mod support;

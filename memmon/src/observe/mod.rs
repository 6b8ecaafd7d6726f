//! (being built)

pub mod btf;
pub mod support;

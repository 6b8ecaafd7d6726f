//! (being built)

pub mod explain;

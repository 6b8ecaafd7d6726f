//! (being built)

pub mod doctor;
pub mod explain;

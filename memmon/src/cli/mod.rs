//! (being built)

pub mod explain;
pub mod doctor;

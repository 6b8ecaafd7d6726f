//! (being built)

pub mod doctor;
pub mod explain;
//! The command line.

pub mod check;
mod effective;
pub mod exit;

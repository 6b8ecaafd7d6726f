//! The bytes that cross between memmon and its BPF programs.
#![no_std]

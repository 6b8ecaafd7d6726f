//! How a guest ends itself with a verdict: QEMU's exit port, and the smallest program that writes to it. Pure.
//!
//! Debian's cloud kernels have no /dev/port, and a shell has no `out`.

/// Where QEMU's isa-debug-exit is.
pub(super) const PORT: u8 = 0xf4;
/// What the guest writes there when all is well. QEMU ends with `(N << 1) | 1`: it must be neither 0, which is a power-off
/// or a panic, nor 1, which is a failure of QEMU's own.
pub(super) const PASS: u8 = 0x10;
/// What the guest writes when something is not well.
pub(super) const FAIL: u8 = 0x11;

/// The status that QEMU ends with after `verdict`.
pub(super) const fn status(verdict: u8) -> i32 {
    ((verdict as i32) << 1) | 1
}

/// A static x86-64 program that ends the machine with `verdict`, and itself with 1 where it may not.
pub(super) fn program(verdict: u8) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const ELF_HEADER: u16 = 64;
    const PROGRAM_HEADER: u16 = 56;
    #[rustfmt::skip]
    let code = [
        0xbf, PORT, 0, 0, 0, // mov edi, PORT
        0xbe, 1, 0, 0, 0,    // mov esi, 1
        0xba, 1, 0, 0, 0,    // mov edx, 1
        0xb8, 173, 0, 0, 0,  // mov eax, ioperm
        0x0f, 0x05,          // syscall
        0xb0, verdict,       // mov al, verdict
        0xe6, PORT,          // out PORT, al
        0xbf, 1, 0, 0, 0,    // mov edi, 1
        0xb8, 60, 0, 0, 0,   // mov eax, exit
        0x0f, 0x05,          // syscall
    ];
    let headers = u64::from(ELF_HEADER + PROGRAM_HEADER);
    let size = headers + code.len() as u64;
    // elf(5): 64 bits, little-endian, System V; an executable for x86-64.
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |bytes: &[u8]| elf.extend_from_slice(bytes);
    put(&2_u16.to_le_bytes());
    put(&62_u16.to_le_bytes());
    put(&1_u32.to_le_bytes());
    for number in [BASE + headers, u64::from(ELF_HEADER), 0] {
        put(&number.to_le_bytes()); // entry, program headers, section headers
    }
    put(&0_u32.to_le_bytes());
    for number in [ELF_HEADER, PROGRAM_HEADER, 1, 0, 0, 0] {
        put(&number.to_le_bytes());
    }
    // All of the file is loaded, to be read and executed.
    put(&1_u32.to_le_bytes());
    put(&5_u32.to_le_bytes());
    for number in [0, BASE, BASE, size, size, 0x1000] {
        put(&number.to_le_bytes());
    }
    put(&code);
    elf
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{
            fs::PermissionsExt as _,
            process::{CommandExt as _, ExitStatusExt as _},
        },
        process::Command,
    };

    use super::*;
    use crate::privileges::Privileges;

    #[test]
    fn verdicts_are_told_apart_from_what_qemu_ends_with_by_itself() {
        assert_eq!((status(PASS), status(FAIL)), (33, 35));
    }

    /// Run as nobody, who may not use the port: the kernel loads it, it asks, and the `out` is its end.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_kernel_takes_it_for_a_program() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("pass");
        fs::write(&path, program(PASS)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(&path);
        if Privileges::of_this_process().unwrap().is_root() {
            command.uid(65534);
        }
        let ended = command.status().unwrap();
        assert_eq!(ended.signal(), Some(11), "{ended}");
    }
}

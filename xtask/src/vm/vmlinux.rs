//! Debian's kernel images, unpacked on the host: the ELF file inside.

use std::{
    io::{Seek as _, Write as _},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

/// The ELF file within a bzImage, by the header of the kernel's Documentation/arch/x86/boot.rst.
pub(super) fn extract(image: &[u8]) -> Result<Vec<u8>> {
    let field = |at: usize| -> Result<usize> {
        let bytes = image.get(at..at + 4).context("no kernel image: too short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    ensure!(image.get(0x202..0x206) == Some(b"HdrS"), "no kernel image: its header is not there");
    let setup_sectors = match image[0x1f1] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + field(0x248)?;
    // The last four bytes are the length of the content.
    let end = (start + field(0x24c)?).saturating_sub(4);
    let payload = image.get(start..end).context("the kernel image is cut off")?;
    let program = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        [b'\x7f', b'E', b'L', b'F', ..] => return Ok(payload.to_vec()),
        other => bail!("the kernel is compressed in an unknown way: {:02x?}", &other[..other.len().min(4)]),
    };
    let elf = unpacked(program, payload)?;
    ensure!(elf.starts_with(b"\x7fELF"), "the content of the kernel image is not an ELF file");
    Ok(elf)
}

/// Unpacks `packed` with `program` (zstd, xz, lz4).
pub(super) fn unpacked(program: &str, packed: &[u8]) -> Result<Vec<u8>> {
    let mut file = tempfile::tempfile().context("cannot make a temporary file")?;
    file.write_all(packed)?;
    file.rewind()?;
    let output = Command::new(program).args(["-d", "-c"]).stdin(file).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    ensure!(output.status.success(), "{program} failed ({})", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text is larger than a pipe.
    #[test]
    fn a_compressed_kernel_is_unpacked() {
        let plain = b"\x7fELF and more\n".repeat(100_000);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&plain).unwrap();
        file.rewind().unwrap();
        let packed = Command::new("gzip").arg("-c").stdin(file).output().unwrap().stdout;
        assert!(packed.len() < plain.len() / 10);
        assert_eq!(unpacked("gzip", &packed).unwrap(), plain);
        assert!(unpacked("gzip", b"no archive").is_err());
    }
}

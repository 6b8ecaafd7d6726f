//! Debian's kernel images, unpacked on the host: the ELF file inside, and its BTF.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    thread,
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
    // The last four bytes are the length of what is inside.
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
    ensure!(elf.starts_with(b"\x7fELF"), "what was in the kernel image is no ELF file");
    Ok(elf)
}

/// What `program` (zstd, xz, lz4) makes of `packed`.
pub(super) fn unpacked(program: &str, packed: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(program)
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let (mut input, mut output) =
        child.stdin.take().zip(child.stdout.take()).context("the pipes that were asked for")?;
    let mut plain = Vec::new();
    thread::scope(|scope| {
        // It fails where the reader stopped early, which its status tells better.
        scope.spawn(move || input.write_all(packed));
        output.read_to_end(&mut plain)
    })
    .with_context(|| format!("cannot read from {program}"))?;
    let status = child.wait()?;
    ensure!(status.success(), "{program} failed ({status})");
    Ok(plain)
}

/// The `.BTF` section of a 64-bit little-endian ELF file: the type information that the running kernel shows.
pub(super) fn btf(elf: &[u8]) -> Result<&[u8]> {
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let mut whole = [0; 8];
        whole[..bytes].copy_from_slice(elf.get(at..at + bytes)?);
        usize::try_from(u64::from_le_bytes(whole)).ok()
    };
    let section = |index: usize| -> Option<(usize, usize, usize)> {
        let at = number(40, 8)? + index * number(58, 2)?;
        Some((number(at, 4)?, number(at + 24, 8)?, number(at + 32, 8)?))
    };
    let find = || {
        let (_, names, _) = section(number(62, 2)?)?;
        (0..number(60, 2)?).filter_map(section).find_map(|(name, offset, size)| {
            elf.get(names + name..)?.starts_with(b".BTF\0").then(|| elf.get(offset..offset + size))?
        })
    };
    find().context("the kernel has no BTF")
}

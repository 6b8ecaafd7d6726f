//! QEMU: runs a machine from its start to its verdict, for a limited time.

use std::{
    path::Path,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use fs_err as fs;

use super::{
    kernel::Kernel,
    machine,
    plan::{Accelerator, Boot},
    rootfs::Image,
};

/// Huge pages and proactive compaction are off: an emulated processor takes so long for them that other processes have to wait.
const APPEND: &str = "console=ttyS0 quiet panic=-1 mitigations=off transparent_hugepage=never \
                      sysctl.vm.watermark_boost_factor=0 sysctl.vm.compaction_proactiveness=0 \
                      systemd.unit=memmon-vm.service";

/// The timeout of a guest that only ends, which takes a second.
const PROBE: Duration = Duration::from_secs(20);

/// KVM if a guest boots with it: in many virtual machines /dev/kvm exists but does not work.
pub(super) fn accelerator(kernel: &Kernel, cache: &Path) -> Result<Accelerator> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(Accelerator::Emulation);
    }
    let probe = Boot { timeout: PROBE, ..Boot::new("probe", 1, 512, Image::Plain) };
    let place = cache.join("boots/probe");
    let ended = boot(kernel, &machine::probe()?, None, &probe, Accelerator::Kvm, &place)?;
    Ok(if ended.passed { Accelerator::Kvm } else { Accelerator::Emulation })
}

/// The end of a machine.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// Whether the guest's verdict is that everything passed.
    pub(super) passed: bool,
    /// A description of the end, for the user.
    pub(super) how: String,
    /// The output of kernel, systemd and scenarios on the first serial port, with the journal of a scenario that failed.
    pub(super) console: String,
    /// The guest's output on its second serial port.
    pub(super) report: String,
}

/// Boots `kernel` with `initramfs`, and with the image `root` as its only disk. Writes to the disk are discarded; the output
/// on the serial ports is in `place`: the kernel's and systemd's console, and the guest's report.
pub(super) fn boot(
    kernel: &Kernel,
    initramfs: &[u8],
    root: Option<&Path>,
    boot: &Boot,
    accelerator: Accelerator,
    place: &Path,
) -> Result<Ended> {
    let _ = fs::remove_dir_all(place);
    fs::create_dir_all(place)?;
    let (initrd, console, report) = (place.join("initramfs"), place.join("console"), place.join("report"));
    fs::write(&initrd, initramfs)?;
    // The machine ends with this process.
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    qemu.args(["-no-user-config", "-nodefaults", "-no-reboot", "-display", "none", "-machine", "pc"]);
    qemu.args(match accelerator {
        Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        Accelerator::Emulation => ["-accel", "tcg,thread=multi", "-cpu", "qemu64"],
    });
    qemu.args(["-smp", &boot.cpus.to_string(), "-m", &boot.megabytes.to_string()]);
    qemu.arg("-serial").arg(format!("file:{}", console.display()));
    qemu.arg("-serial").arg(format!("file:{}", report.display()));
    qemu.arg("-kernel").arg(kernel.vmlinux()).arg("-initrd").arg(&initrd);
    qemu.args(["-append", APPEND]);
    if let Some(root) = root {
        qemu.arg("-drive");
        qemu.arg(format!("file={},format=raw,if=none,id=root,snapshot=on", root.display()));
        qemu.args(["-device", "virtio-blk-pci,drive=root"]);
    }
    if boot.swap_megabytes > 0 {
        let swap = place.join("swap");
        fs::File::create(&swap)?.set_len(boot.swap_megabytes << 20)?;
        qemu.arg("-drive").arg(format!("file={},format=raw,if=none,id=swap", swap.display()));
        qemu.args(["-device", "virtio-blk-pci,drive=swap"]);
    }
    let log = fs::File::create(place.join("qemu"))?.into_file();
    let mut child = qemu.stderr(log).spawn().context("cannot start setpriv (util-linux)")?;
    let status = wait(&mut child, boot.timeout)?;
    fs::remove_file(&initrd)?;
    let text = |name: &str| {
        fs::read(place.join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    };
    let report = text("report");
    let says = |verdict: &str| report.lines().any(|line| line.strip_prefix("verdict ") == Some(verdict));
    let how = match status {
        None => format!("it took longer than {} s", boot.timeout.as_secs()),
        Some(status) => match (status.code(), text("qemu").trim()) {
            (Some(0), _) if says("fail") => "its verdict is that something failed".to_owned(),
            (Some(0), _) => "it powered off or panicked without a verdict".to_owned(),
            (Some(code), "") => format!("QEMU ended with {code}"),
            (_, error) => format!("QEMU failed ({status}): {error}"),
        },
    };
    let passed = says("pass") && status.is_some_and(|status| status.success());
    Ok(Ended { passed, how, console: text("console"), report })
}

/// Waits for `child` to end and returns its status; if it takes longer than `timeout`, it is killed and there is no status.
fn wait(child: &mut Child, timeout: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_takes_too_long_is_killed_and_has_no_status() {
        let mut slow = Command::new("sleep").arg("1000").spawn().unwrap();
        assert_eq!(wait(&mut slow, Duration::from_millis(1)).unwrap(), None);
        assert!(slow.try_wait().unwrap().is_some());
        let mut quick = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let status = wait(&mut quick, Duration::from_secs(60)).unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
    }
}

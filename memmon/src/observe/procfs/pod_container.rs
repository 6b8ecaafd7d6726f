//! The name of a process's container in its Kubernetes pod, by its mounts. kubelet mounts a file of its own into each container,
//! for the container's last words: `/var/lib/kubelet/pods/UID/containers/NAME/HASH`.
//!
//! The runtime's files have the name as well (`report::containers`), but they lie on a disk, and no signal may wait for one.
//! The kernel has the mounts in memory, whatever the runtime is. A container may mount something else over the file, or have
//! mounts of its own that look like it: its name only decides what a termination is counted for, within its own pod.

use std::io;

use super::directory::ProcessDirectory;
use crate::model::{Name, Workload};

/// A container has some dozens of mounts, each with some hundred bytes; one with the right to mount may have 100,000. kubelet's
/// are among the first.
const LONGEST: u64 = 256 << 10;

/// The uid of the pod that `cgroup` lies in.
pub(super) fn pod(cgroup: &Name) -> Option<Name> {
    Workload::of(cgroup)?.container?.pod
}

/// The name of the container in `pod` whose mounts a process has, read at `place`.
pub(super) fn name(directory: &ProcessDirectory, place: &str, pod: &Name) -> io::Result<Option<Name>> {
    let mounts = directory.beginning(place, "mountinfo", LONGEST)?;
    Ok(named(&mounts, pod))
}

/// The name in a mountinfo (proc_pid_mountinfo(5)), whose fourth field is the mounted file: its path within its file system.
fn named(mounts: &[u8], pod: &Name) -> Option<Name> {
    let folder = [b"/pods/", pod.as_bytes(), b"/"].concat();
    mounts.split(|byte| *byte == b'\n').find_map(|line| {
        let file = line.split(|byte| *byte == b' ').nth(3)?;
        let at = file.windows(folder.len()).position(|part| part == folder)?;
        // A volume may have any folders in it, but kubelet has it in `volumes`.
        let mut parts = file[at + folder.len()..].split(|byte| *byte == b'/');
        let (kind, name, hash) = (parts.next()?, parts.next()?, parts.next()?);
        let is_name = !name.is_empty()
            && name.len() <= LONGEST_NAME
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        (kind == b"containers" && is_name && !hash.is_empty()).then(|| Name::new(name))
    })
}

/// A DNS label (RFC 1123).
const LONGEST_NAME: usize = 63;

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::super::{Accuracy, ProcRoot};
    use super::*;
    use crate::model::{Bytes, Pid, Process};

    const UID: &str = "b34634ea-cd65-4099-bee5-ad4de9264ffb";

    fn named_in(mounts: &str) -> Option<String> {
        named(mounts.as_bytes(), &Name::from(UID)).map(|name| name.to_string())
    }

    /// Lines as GKE, minikube with Docker, and kind with Podman on Fedora CoreOS have them, with other names.
    #[test]
    fn the_name_is_in_the_path_of_the_file_for_last_words() {
        for (before, after) in [
            (
                "2648 2628 8:1 /var/lib/kubelet",
                "/dev/termination-log rw,relatime - ext4 /dev/sda1 rw,commit=30",
            ),
            (
                "571 566 254:1 /docker/volumes/minikube/_data/lib/kubelet",
                "/dev/termination-log rw,relatime - ext4 /dev/vda1 rw",
            ),
            (
                "3874 3737 252:4 /ostree/deploy/fedora-coreos/var/home/core/.local/share/containers/storage/volumes/443579/_data/lib/kubelet",
                "/run/last-words rw,relatime - xfs /dev/vda4 rw,seclabel,attr2,inode64,prjquota",
            ),
            // kubelet has a file system of its own, and the file was removed.
            ("867 859 253:0 ", "/dev/termination-log rw - ext4 /dev/mapper/vg-lv rw"),
        ] {
            for file in ["fc4135aa", "fc4135aa//deleted"] {
                let line = format!("{before}/pods/{UID}/containers/calico-typha/{file} {after}\n");
                assert_eq!(named_in(&line).as_deref(), Some("calico-typha"), "{line}");
            }
        }
    }

    #[test]
    fn other_mounts_have_no_name() {
        let below =
            |path: &str| format!("2645 2626 8:1 /var/lib/kubelet/pods/{path} /mnt rw - ext4 /dev/sda1 rw\n");
        let other = "11111111-2222-3333-4444-555555555555";
        for path in [
            format!("{UID}/etc-hosts"),
            format!("{UID}/volumes/kubernetes.io~empty-dir/tmp"),
            format!("{UID}/volume-subpaths/config/web/0"),
            // A folder that somebody made in a volume.
            format!("{UID}/volumes/kubernetes.io~empty-dir/tmp/pods/{UID}/containers/other/1"),
            format!("{other}/containers/web/1"),
            format!("{UID}/containers/web"),
            format!("{UID}/containers//1"),
            format!("{UID}/containers/web/"),
            format!(r"{UID}/containers/a\040b/1"),
            format!("{UID}/containers/{}/1", "a".repeat(64)),
            String::new(),
        ] {
            assert_eq!(named_in(&below(&path)), None, "{path}");
        }
        for text in ["", "\n", "1 2 3", "\u{0}"] {
            assert_eq!(named_in(text), None, "{text:?}");
        }
    }

    fn confirm(root: &ProcRoot, limit: Bytes) -> Process {
        root.confirm(Pid(42), None, limit, &Accuracy::StatmExact).unwrap()
    }

    #[test]
    fn only_a_process_of_a_pod_that_is_over_its_limit_has_its_mounts_read() {
        let tree = Tree::new();
        tree.cat(42);
        let (root, web) = (tree.root(), Some(Name::from("web")));
        let in_pod = format!("0::/kubepods/burstable/pod{UID}/{}\n", "ab".repeat(32));
        let mounts = format!(
            "1 1 8:1 /var/lib/kubelet/pods/{UID}/containers/web/1 /dev/termination-log rw - ext4 a rw\n"
        );
        tree.write("42/cgroup", &in_pod);
        assert_eq!(confirm(&root, Bytes::ZERO).container, None, "there is no mountinfo");
        tree.write("42/mountinfo", &mounts);
        assert_eq!(confirm(&root, Bytes::ZERO).container, web);
        assert_eq!(confirm(&root, Bytes::MAX).container, None);
        // More mounts than anybody reads.
        let many = "1 1 8:1 / /mnt rw - ext4 a rw\n".repeat(10_000);
        tree.write("42/mountinfo", format!("{many}{mounts}"));
        assert_eq!(confirm(&root, Bytes::ZERO).container, None);
        tree.write("42/mountinfo", format!("{mounts}{many}"));
        assert_eq!(confirm(&root, Bytes::ZERO).container, web);
        tree.write("42/cgroup", "0::/system.slice/web.service\n");
        assert_eq!(confirm(&root, Bytes::ZERO).container, None);
    }
}

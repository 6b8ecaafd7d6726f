//! The mounts of a mount namespace (mountinfo of proc_pid_mountinfo(5)), and the place that a path has in them.

use super::machine::unescaped;

/// The mounts that a process sees.
pub(super) struct Mounts(Vec<Mount>);

struct Mount {
    number: u64,
    parent: u64,
    /// The file system: its device.
    device: Vec<u8>,
    /// The folder of the file system that is mounted.
    root: Vec<u8>,
    /// The path at which it is mounted.
    point: Vec<u8>,
}

/// A place in a file system, whatever it is mounted at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    device: Vec<u8>,
    path: Vec<u8>,
}

impl Mounts {
    /// Reads the text of a mountinfo. A line that is not one is left out.
    pub(super) fn read(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(Mount::read).collect())
    }

    /// Whether it has the mount of this number.
    pub(super) fn has(&self, number: u64) -> bool {
        self.0.iter().any(|mount| mount.number == number)
    }

    /// The place of the file that is at `path` on the mount of this number.
    pub(super) fn place_on(&self, number: u64, path: &[u8]) -> Option<Place> {
        self.0.iter().find(|mount| mount.number == number)?.place(path)
    }

    /// The place of a file that is found at `path`, which has no symbolic link on its way.
    pub(super) fn place(&self, path: &[u8]) -> Option<Place> {
        let is_top =
            |mount: &&Mount| mount.point == b"/" && (mount.parent == mount.number || !self.has(mount.parent));
        let mut mount = self.0.iter().find(is_top)?;
        // Each step leads to a mount on the one before, so that there are no more steps than mounts.
        for _ in &self.0 {
            let on_it =
                self.0.iter().filter(|next| next.parent == mount.number && next.number != mount.number);
            // The way comes to the shortest of these paths first; what is below that one on the same mount is hidden by it.
            let next =
                on_it.filter(|next| below(path, &next.point).is_some()).min_by_key(|next| next.point.len());
            match next {
                Some(next) => mount = next,
                None => return mount.place(path),
            }
        }
        None
    }
}

impl Mount {
    fn read(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        let mut number = || str::from_utf8(words.next()?).ok()?.parse().ok();
        Some(Self {
            number: number()?,
            parent: number()?,
            device: words.next()?.to_vec(),
            root: unescaped(words.next()?),
            point: unescaped(words.next()?),
        })
    }

    fn place(&self, path: &[u8]) -> Option<Place> {
        let below = below(path, &self.point)?;
        let root = self.root.strip_suffix(b"/").unwrap_or(&self.root);
        Some(Place { device: self.device.clone(), path: [root, below].concat() })
    }
}

/// The rest of `path` below `folder`, with the slash before it; empty if both are the same.
fn below<'a>(path: &'a [u8], folder: &[u8]) -> Option<&'a [u8]> {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    path.strip_prefix(folder).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 22 8:2 / /home rw - ext4 /dev/sda2 rw\n\
        31 22 0:40 /@srv /srv rw - btrfs /dev/sdb rw\n\
        32 31 0:41 / /srv/my\\040data rw - xfs /dev/sdc rw\n";

    fn place(mounts: &str, path: &str) -> Option<(String, String)> {
        let Place { device, path } = Mounts::read(mounts.as_bytes()).place(path.as_bytes())?;
        Some((String::from_utf8(device).unwrap(), String::from_utf8(path).unwrap()))
    }

    #[test]
    fn a_path_leads_over_mounts_to_a_place_in_a_file_system() {
        for (path, device, there) in [
            ("/usr/bin/x", "8:1", "/usr/bin/x"),
            ("/home/alice/app", "8:2", "/alice/app"),
            ("/homes/app", "8:1", "/homes/app"),
            ("/srv/app", "0:40", "/@srv/app"),
            ("/srv/my data/app", "0:41", "/app"),
        ] {
            assert_eq!(place(INIT, path), Some((device.to_owned(), there.to_owned())), "{path}");
        }
        assert_eq!(place("", "/x"), None);
        assert_eq!(place("30 22 8:2 / /home rw - ext4 x rw\n", "/x"), None, "no root");
    }

    #[test]
    fn a_mount_hides_what_was_mounted_below_it_before() {
        // A later mount at /home covers the earlier one at /home/alice, and one at the same path covers the first.
        let more = "40 30 8:3 / /home/alice rw - ext4 x rw\n41 30 8:4 / /home rw - ext4 x rw\n";
        assert_eq!(place(&format!("{INIT}{more}"), "/home/alice/app").unwrap().0, "8:4");
        let more = "40 30 8:3 / /home/alice rw - ext4 x rw\n41 40 8:4 / /home/alice rw - ext4 x rw\n";
        assert_eq!(place(&format!("{INIT}{more}"), "/home/alice/app").unwrap().0, "8:4");
    }

    #[test]
    fn a_mount_has_places_for_paths_on_it_only() {
        let mounts = Mounts::read(
            b"50 1 8:2 /alice/fake /usr/bin rw - ext4 x rw\n51 50 8:2 /alice/x /usr/bin/x rw - ext4 x rw\n",
        );
        let on = |number, path: &str| {
            mounts.place_on(number, path.as_bytes()).map(|place| String::from_utf8(place.path).unwrap())
        };
        assert_eq!(on(50, "/usr/bin/postgres"), Some("/alice/fake/postgres".to_owned()));
        assert_eq!(on(51, "/usr/bin/x"), Some("/alice/x".to_owned()));
        assert_eq!((on(50, "/usr/binary"), on(52, "/usr/bin/x")), (None, None));
        assert!(mounts.has(51) && !mounts.has(5));
    }
}

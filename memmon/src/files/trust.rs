//! Checks that only root decides about the content of a file, before memmon, which runs as root, executes it or takes a
//! password from it.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{self, Path, PathBuf},
};

/// Links on the way to a file, as many as the kernel follows (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// The file that `path` leads to, without any link, if only root may write to it and it belongs to root, and so every
/// directory and every link on the way there from the root.
///
/// # Errors
/// The first step on the way that is not root's alone, or does not lead on, and what helps.
pub fn roots_alone(path: &Path) -> Result<PathBuf, String> {
    let real = walk(path, &mut judge_facts)?;
    if real.is_file() { Ok(real) } else { Err(format!("{} is no file", real.display())) }
}

/// The folder that `path` leads to, under the same conditions.
///
/// # Errors
/// As for [`roots_alone`].
pub fn roots_alone_folder(path: &Path) -> Result<PathBuf, String> {
    let real = walk(path, &mut judge_facts)?;
    if real.is_dir() { Ok(real) } else { Err(format!("{} is no folder", real.display())) }
}

/// The same for the folder in which memmon keeps its state, whose place no configuration chooses.
///
/// # Errors
/// As for [`roots_alone`].
pub fn roots_alone_state(path: &Path) -> Result<PathBuf, String> {
    let real = walk(path, &mut |step, facts| {
        judge(step, facts.uid(), facts.file_type().into(), facts.mode(), &remedy_of_state(path, step))
    })?;
    if real.is_dir() { Ok(real) } else { Err(format!("{} is no folder", real.display())) }
}

/// The remedy if others decide about the folder `step` on the way to `path`, the state of memmon. Its content may be theirs, too.
fn remedy_of_state(path: &Path, step: &Path) -> String {
    let name = path.display();
    if step == path {
        format!("stop memmon and move {name} away, which memmon makes again")
    } else {
        format!("root alone must decide about each folder on the way to {name}, where memmon keeps its state")
    }
}

/// The user, or the folder, by which others than root decide what stands at `path`; `None` if they do not, or the way there
/// cannot be followed. Of the groups that may write an administrator knows.
pub fn others_decide(path: &Path) -> Option<String> {
    let mut found = None;
    let _ = walk(&path::absolute(path).ok()?, &mut |step, facts| {
        // In a folder that is shared as /tmp is, no other user can replace root's files.
        let is_open = facts.is_dir() && facts.mode() & 0o1002 == 0o002;
        let kind = if facts.is_dir() { "the folder " } else { "" };
        let step = step.display();
        if found.is_some() {
        } else if facts.uid() != 0 {
            found = Some(format!("{kind}{step} belongs to uid {}", facts.uid()));
        } else if is_open {
            found = Some(format!("any user may write to the folder {step}"));
        }
        Ok(())
    });
    found
}

/// Whether root alone decides what stands at `path`, where a socket is or will be. A folder on the way there may be one
/// that others share as they share /tmp, in which no other user can replace root's files; the last one may not.
///
/// # Errors
/// As for [`roots_alone`].
pub fn roots_alone_for_socket(path: &Path) -> Result<(), String> {
    const SHARED: u32 = 0o1000;
    const OWN: &str = "/run/memmon";
    const ELSEWHERE: &str = "put the socket where only root can write, in /run/memmon for example";
    const MADE_AGAIN: &str = "stop memmon and remove /run/memmon, which memmon makes again";
    let elsewhere = if path.starts_with(OWN) { MADE_AGAIN } else { ELSEWHERE };
    let judge = |step: &Path, facts: &fs::Metadata, shared: u32| {
        let others = if facts.is_dir() && facts.mode() & shared != 0 { 0o022 } else { 0 };
        judge(step, facts.uid(), facts.file_type().into(), facts.mode() & !others, elsewhere)
    };
    let folder = path.parent().unwrap_or(path);
    let real = walk(folder, &mut |step, facts| judge(step, facts, SHARED))?;
    let facts = fs::symlink_metadata(&real).map_err(|error| format!("{}: {error}", real.display()))?;
    if !facts.is_dir() {
        return Err(format!("{} is no folder", real.display()));
    }
    judge(&real, &facts, 0)
}

fn judge_facts(step: &Path, facts: &fs::Metadata) -> Result<(), String> {
    const ELSEWHERE: &str = "put the file where only root can write, in /usr/local/lib/memmon for example";
    judge(step, facts.uid(), facts.file_type().into(), facts.mode(), ELSEWHERE)
}

/// Whether root alone decides about the file at `step`. The remedy depends on its kind: others may rely on the owner and
/// the mode of a folder, so memmon never advises to change them.
fn judge(step: &Path, owner: u32, kind: Step, mode: u32, elsewhere: &str) -> Result<(), String> {
    let step = step.display();
    match kind {
        Step::Folder if owner != 0 => Err(format!("the folder {step} belongs to uid {owner}: {elsewhere}")),
        Step::Folder if mode & 0o022 != 0 => {
            Err(format!("others than root may write to the folder {step}: {elsewhere}"))
        }
        Step::Link if owner != 0 => {
            Err(format!("the link {step} belongs to uid {owner}: name its target instead"))
        }
        Step::Other => Err(format!("{step} is no regular file")),
        Step::File if owner != 0 => {
            Err(format!("{step} belongs to uid {owner}: read what it does, and give it to root (chown root)"))
        }
        Step::File if mode & 0o022 != 0 => {
            Err(format!("others than root may write to {step}: read what it does, and chmod go-w it"))
        }
        Step::Folder | Step::Link | Step::File => Ok(()),
    }
}

/// A file on the way to another one, or at its end.
#[derive(Clone, Copy)]
enum Step {
    Folder,
    Link,
    File,
    /// A device, a FIFO or a socket.
    Other,
}

impl From<fs::FileType> for Step {
    fn from(kind: fs::FileType) -> Self {
        match kind {
            _ if kind.is_dir() => Self::Folder,
            _ if kind.is_symlink() => Self::Link,
            _ if kind.is_file() => Self::File,
            _ => Self::Other,
        }
    }
}

/// Follows the absolute `path` as the kernel would, and lets `judge` see each directory, link and file that has a say in
/// where it leads.
fn walk(
    path: &Path,
    judge: &mut dyn FnMut(&Path, &fs::Metadata) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let names = |path: &Path| path.iter().rev().map(OsString::from).collect::<Vec<_>>();
    let mut left = names(path);
    let (mut real, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = left.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        // An absolute name begins at the root again.
        let step = real.join(name);
        let place = |error| format!("{}: {error}", step.display());
        let facts = fs::symlink_metadata(&step).map_err(|error| place(error.to_string()))?;
        judge(&step, &facts)?;
        if facts.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(place("too many links".to_owned()));
            }
            left.extend(names(&fs::read_link(&step).map_err(|error| place(error.to_string()))?));
        } else if facts.is_dir() || left.is_empty() {
            real = step;
        } else {
            return Err(place("is no directory".to_owned()));
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_chain_that_others_may_change_is_not_trusted() {
        let real = fs::canonicalize("/bin/sh").unwrap();
        assert_eq!(roots_alone(Path::new("/bin/sh")), Ok(real), "links of root's included");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hook");
        fs::write(&file, "").unwrap();
        // For every user who runs this test: a temporary folder is below one that any user may write to.
        let refused = roots_alone(&file).unwrap_err();
        assert!(
            refused.contains("others than root may write") || refused.contains("belongs to uid"),
            "{refused}"
        );
        let link = folder.path().join("link");
        symlink("/bin/sh", &link).unwrap();
        assert!(roots_alone(&link).is_err(), "a link that others may turn");
        assert!(roots_alone(Path::new("/bin")).is_err_and(|error| error.ends_with("is no file")));
        assert!(roots_alone(Path::new("/nonexistent/x")).is_err());
        assert_eq!(roots_alone_folder(Path::new("/etc")), Ok("/etc".into()));
        assert!(
            roots_alone_folder(Path::new("/etc/passwd")).is_err_and(|error| error.ends_with("is no folder"))
        );
        assert!(roots_alone_folder(folder.path()).is_err());
        assert!(roots_alone(Path::new("/bin/sh/..")).is_err());
    }

    /// The advice for a hook, to put it elsewhere, helps nobody here.
    #[test]
    fn the_remedy_for_memmons_state_is_one_that_helps() {
        let folder = tempfile::tempdir().unwrap();
        let refused = roots_alone_state(folder.path()).unwrap_err();
        assert!(refused.contains("root alone must decide about each folder on the way to "), "{refused}");
        let state = Path::new("/var/lib/memmon");
        let of = |step: &str| {
            judge(Path::new(step), 7, Step::Folder, 0o755, &remedy_of_state(state, Path::new(step)))
        };
        assert_eq!(
            of("/var/lib/memmon").unwrap_err(),
            "the folder /var/lib/memmon belongs to uid 7: stop memmon and move /var/lib/memmon away, which memmon makes again"
        );
        assert!(of("/var/lib").unwrap_err().contains("on the way to /var/lib/memmon"));
        assert_eq!(roots_alone_state(Path::new("/etc")), Ok("/etc".into()));
        assert!(
            roots_alone_state(Path::new("/etc/passwd")).is_err_and(|error| error.ends_with("is no folder"))
        );
    }

    #[test]
    fn a_socket_needs_a_folder_that_only_root_writes_to() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        fs::create_dir(&own).unwrap();
        let at = |folder: &Path| roots_alone_for_socket(&folder.join("sock"));
        if nix::unistd::geteuid().is_root() {
            assert_eq!(at(&own), Ok(()), "below /tmp, where nobody can replace it");
            for mode in [0o775, 0o777, 0o1777] {
                fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
                let refused = at(&own).unwrap_err();
                assert!(refused.ends_with("in /run/memmon for example"), "{refused}");
            }
            fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(&own, Some(12345), None).unwrap();
        }
        assert!(at(&own).is_err_and(|refused| refused.contains("belongs to uid")));
        assert!(at(Path::new("/tmp")).is_err());
        assert!(at(Path::new("/etc/passwd")).is_err_and(|error| error.ends_with("is no folder")));
    }

    #[test]
    #[ignore = "needs root"]
    fn others_decide_by_a_file_a_link_or_a_folder_of_theirs() {
        use std::os::unix::fs::{PermissionsExt as _, chown, lchown};
        let folder = tempfile::tempdir().unwrap();
        let (own, file) = (folder.path().join("own"), folder.path().join("own/file"));
        fs::create_dir(&own).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(others_decide(&file), None, "below /tmp, where nobody can replace it");
        let set = |mode| fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
        let ends = |path: &Path, end: &str| {
            let found = others_decide(path).unwrap_or_default();
            assert!(found.ends_with(end), "{found}");
        };
        set(0o777);
        ends(&file, &format!("any user may write to the folder {}", own.display()));
        for mode in [0o1777, 0o775] {
            set(mode);
            assert_eq!(others_decide(&file), None, "{mode:o}");
        }
        chown(&own, Some(12345), None).unwrap();
        ends(&file, "own belongs to uid 12345");
        chown(&own, Some(0), None).unwrap();
        let link = folder.path().join("link");
        symlink("own/file", &link).unwrap();
        assert_eq!(others_decide(&link), None);
        lchown(&link, Some(12345), None).unwrap();
        ends(&link, "link belongs to uid 12345");
        chown(&file, Some(12345), None).unwrap();
        ends(&file, "own/file belongs to uid 12345");
    }

    #[test]
    fn the_remedy_for_memmons_own_folder_is_not_that_folder() {
        let judged = |path: &str| roots_alone_for_socket(Path::new(path));
        assert!(judged("/tmp/x").unwrap_err().ends_with("in /run/memmon for example"));
        // It need not be there: its own folder has the same remedy wherever it is a link to.
        if let Err(refused) = judged("/run/memmon/x") {
            assert!(!refused.contains("in /run/memmon for example"), "{refused}");
        }
    }

    /// An administrator who follows the advice does not make a folder unusable to its users.
    #[test]
    fn no_advice_is_to_change_a_folder_that_others_share() {
        let at = |path, owner, kind, mode| {
            judge(Path::new(path), owner, kind, mode, "put it below /usr/local/lib/memmon")
                .err()
                .unwrap_or_default()
        };
        for (path, owner, mode) in [("/var/tmp", 0, 0o1777), ("/home/alice", 1000, 0o755), ("/srv", 0, 0o775)]
        {
            let refused = at(path, owner, Step::Folder, mode);
            assert!(refused.contains(path) && refused.contains("/usr/local/lib/memmon"), "{refused}");
            assert!(!refused.contains("chmod") && !refused.contains("chown"), "{refused}");
        }
        let link = at("/a", 1000, Step::Link, 0o777);
        assert!(link.ends_with("name its target instead"), "{link}");
        assert!(at("/a", 1000, Step::File, 0o755).ends_with("give it to root (chown root)"));
        assert!(at("/a", 0, Step::File, 0o775).ends_with("chmod go-w it"));
        // /dev/null is everybody's.
        assert_eq!(at("/dev/null", 0, Step::Other, 0o666), "/dev/null is no regular file");
        for (kind, mode) in [(Step::Folder, 0o755), (Step::Link, 0o777), (Step::File, 0o700)] {
            assert_eq!(at("/a", 0, kind, mode), "");
        }
    }

    /// A link to a link of a user's: neither the first nor the file at the end is the user's.
    #[test]
    fn every_link_on_the_way_is_judged_and_what_is_run_is_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        for name in ["root", "user", "file"] {
            fs::create_dir(folder.join(name)).unwrap();
        }
        let [first, turned, file] = ["root/hook", "user/link", "file/hook"].map(|name| folder.join(name));
        fs::write(&file, "").unwrap();
        symlink("../user/link/hook", &first).unwrap();
        symlink(folder.join("root/../file"), &turned).unwrap();

        let mut seen = Vec::new();
        let led = walk(&first, &mut |step, _| {
            seen.push(step.to_owned());
            Ok(())
        });
        assert_eq!(led.as_ref(), Ok(&file));
        for step in
            [Path::new("/"), &folder, &first, &folder.join("user"), &turned, &folder.join("file"), &file]
        {
            assert!(seen.iter().any(|seen| seen == step), "{} is not seen", step.display());
        }
        let refused = walk(&first, &mut |step, _| {
            if step == turned { Err("the user's".to_owned()) } else { Ok(()) }
        });
        assert_eq!(refused, Err("the user's".to_owned()));

        fs::remove_file(&turned).unwrap();
        symlink(&turned, &turned).unwrap();
        assert!(walk(&first, &mut |_, _| Ok(())).is_err_and(|error| error.ends_with("too many links")));
    }
}

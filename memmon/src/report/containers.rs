//! The names of a container and its pod, from the files that the container's runtime keeps on this machine. No runtime is
//! asked, and no network.
//!
//! Only a container of root's has its names here, because only root's files are read. Their formats are from the sources of
//! containerd 1.4 to 2, CRI-O, Podman 4 and 5 and Docker.

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::{Deserialize, de::DeserializeOwned};

use super::{event::Event, lookup::Lookups};
use crate::{
    files,
    model::{ContainerNames, Name, Runtime, Workload},
};

/// A container's configuration is a few ten KB, with all of its annotations and variables.
const LONGEST_OF_ONE: usize = 1 << 20;
/// Podman has one list for all containers, with some KB for each.
const LONGEST_OF_ALL: usize = 4 << 20;

/// Configurations of containers by id, as OCI's runtime specification has them, with the names among the annotations.
const BUNDLES: [(&str, &str); 3] = [
    ("run/containerd/io.containerd.runtime.v2.task/k8s.io", "config.json"),
    ("run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io", "config.json"),
    ("var/lib/containers/storage/overlay-containers", "userdata/config.json"),
];
/// Podman's lists of containers, in a folder for each storage driver; those of `podman run --rm` are in the second.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];
const STORAGE: &str = "var/lib/containers/storage";
const DRIVERS: [&str; 4] = ["overlay", "vfs", "btrfs", "zfs"];
const DOCKERS: &str = "var/lib/docker/containers";

/// The places of the runtimes' files.
#[derive(Clone, Debug)]
pub struct ContainerFiles {
    /// The folders that they are below, in the order in which they are tried.
    pub roots: Vec<PathBuf>,
    /// Their owner.
    pub owner: u32,
}

impl Default for ContainerFiles {
    /// Those of this mount namespace, and those of pid 1's if memmon is in a container itself.
    fn default() -> Self {
        Self { roots: vec!["/".into(), "/proc/1/root".into()], owner: 0 }
    }
}

impl ContainerFiles {
    /// The names of the container that `workload` is in, as far as the files have them. A file system may let this wait.
    pub fn names_of(&self, workload: &Workload) -> ContainerNames {
        wanted(workload).map(|wanted| names(self, &wanted)).unwrap_or_default()
    }
}

/// Names by container.
#[derive(Clone)]
pub(super) struct Containers(Lookups<Wanted, ContainerNames>);

impl Containers {
    /// Starts the thread that reads `files`: a file system may hang.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(super) fn start(files: ContainerFiles) -> io::Result<Self> {
        Lookups::start("memmon-names", move |wanted| names(&files, wanted)).map(Self)
    }

    /// Adds the names to the process of `event`, if it is in a container.
    pub(super) fn complete(&self, event: &mut Event, now: Instant) {
        let Some(workload) = event.subject_mut().and_then(|subject| subject.workload.as_mut()) else {
            return;
        };
        let Some(names) = wanted(workload).and_then(|wanted| self.0.get(&wanted, now)) else { return };
        if let Some(container) = &mut workload.container {
            container.names = names.or(&container.names);
        }
    }
}

/// A container whose names are wanted: its id, and the runtime.
type Wanted = (String, Option<Runtime>);

/// The container of `workload`, if the files of this machine can have names for it.
fn wanted(workload: &Workload) -> Option<Wanted> {
    let container = workload.container.as_ref().filter(|_| workload.has_users_of_its_own())?;
    let id = std::str::from_utf8(container.id.as_bytes()).ok()?;
    // It becomes a part of a path.
    let is_hash = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| (id.to_owned(), container.runtime))
}

/// The names of a container, as far as these files have them.
fn names(files: &ContainerFiles, (id, runtime): &Wanted) -> ContainerNames {
    let below = |root: &PathBuf| {
        let place = Place { root, owner: files.owner, id };
        match runtime {
            Some(Runtime::Podman) => place.of_podman(),
            Some(Runtime::Docker) => place.of_docker(),
            Some(Runtime::Containerd | Runtime::CriO) => place.of_bundle(),
            None => place.of_bundle().or_else(|| place.of_docker()),
            Some(Runtime::Nerdctl | Runtime::Lxc | Runtime::Machine) => None,
        }
    };
    files.roots.iter().find_map(below).unwrap_or_default()
}

/// A container, and the place of its files.
struct Place<'a> {
    root: &'a Path,
    owner: u32,
    id: &'a str,
}

#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The annotations of containerd's, then those of CRI-O and of cri-dockerd, which are kubelet's.
fn of_labels(labels: &BTreeMap<String, String>) -> Option<ContainerNames> {
    let first = |keys: [&str; 2]| keys.iter().find_map(|key| shown(labels.get(*key)?));
    let names = ContainerNames {
        name: first(["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]),
        pod_name: first(["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
        namespace: first(["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
    };
    (names != ContainerNames::default()).then_some(names)
}

impl Place<'_> {
    fn of_bundle(&self) -> Option<ContainerNames> {
        BUNDLES.iter().find_map(|(folder, file)| {
            let path = Path::new(folder).join(self.id).join(file);
            let bundle: Bundle = self.read(&path, LONGEST_OF_ONE)?;
            of_labels(&bundle.annotations)
        })
    }

    fn of_podman(&self) -> Option<ContainerNames> {
        let mut lists = DRIVERS
            .iter()
            .flat_map(|driver| LISTS.map(|list| format!("{STORAGE}/{driver}-containers/{list}")));
        lists.find_map(|list| {
            let stored: Vec<PodmanContainer> = self.read(Path::new(&list), LONGEST_OF_ALL)?;
            let found = stored.into_iter().find(|one| one.id == self.id)?;
            Some(ContainerNames { name: Some(shown(found.names.first()?)?), ..ContainerNames::default() })
        })
    }

    fn of_docker(&self) -> Option<ContainerNames> {
        let path = Path::new(DOCKERS).join(self.id).join("config.v2.json");
        let stored: DockerContainer = self.read(&path, LONGEST_OF_ONE)?;
        let labels = stored.config.and_then(|config| config.labels).unwrap_or_default();
        of_labels(&labels).or_else(|| {
            let name = shown(stored.name.trim_start_matches('/'));
            Some(ContainerNames { name: Some(name?), ..ContainerNames::default() })
        })
    }

    /// The content of a file that its owner alone may write to.
    fn read<T: DeserializeOwned>(&self, path: &Path, longest: usize) -> Option<T> {
        let (text, metadata) = files::read(&self.root.join(path), longest).ok()?;
        let is_theirs = metadata.uid() == self.owner && metadata.mode() & 0o022 == 0;
        if is_theirs { serde_json::from_slice(&text).ok() } else { None }
    }
}

#[derive(Deserialize)]
struct PodmanContainer {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerContainer {
    name: String,
    config: Option<DockerConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    labels: Option<BTreeMap<String, String>>,
}

/// A name for people; the names of Kubernetes have at most 253 characters.
fn shown(name: &str) -> Option<Name> {
    const LONGEST: usize = 253;
    (!name.is_empty() && name.len() <= LONGEST).then(|| Name::from(name))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;
    use crate::report::samples;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// A machine with these files; `ID` stands for the id.
    fn machine(written: &[(&str, &str)]) -> (tempfile::TempDir, ContainerFiles) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in written {
            let path = folder.path().join(path.replace("ID", ID));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text.replace("ID", ID)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
        let owner = fs::metadata(folder.path()).unwrap().uid();
        let files =
            ContainerFiles { roots: vec![folder.path().join("none"), folder.path().to_owned()], owner };
        (folder, files)
    }

    fn found(files: &ContainerFiles, runtime: Option<Runtime>) -> [Option<String>; 3] {
        let ContainerNames { name, pod_name, namespace } = names(files, &(ID.to_owned(), runtime));
        [name, pod_name, namespace].map(|name| name.map(|name| name.to_string()))
    }

    fn expected(names: [&str; 3]) -> [Option<String>; 3] {
        names.map(|name| (!name.is_empty()).then(|| name.to_owned()))
    }

    /// By the sources of containerd 1.7, CRI-O 1.28, Podman 4.3 and Docker 24, shortened. Only Podman was tried (vm-test's `podman`).
    const CONTAINERD: (&str, &str) = (
        "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json",
        r#"{"ociVersion":"1.1.0","process":{"args":["/pause"]},"annotations":{"io.kubernetes.cri.container-name":"web",
        "io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"ID",
        "io.kubernetes.cri.sandbox-name":"shop-768c6f9745-mn4bb","io.kubernetes.cri.sandbox-namespace":"default"}}"#,
    );
    const CRIO: (&str, &str) = (
        "var/lib/containers/storage/overlay-containers/ID/userdata/config.json",
        r#"{"annotations":{"io.kubernetes.container.name":"web","io.kubernetes.pod.name":"shop",
        "io.kubernetes.pod.namespace":"default","io.kubernetes.cri-o.ContainerName":"k8s_web_shop_default_1"}}"#,
    );
    const PODMAN: (&str, &str) = (
        "var/lib/containers/storage/overlay-containers/containers.json",
        r#"[{"id":"ff","names":["other"],"image":"1"},{"id":"ID","names":["web"],"image":"1","metadata":"{\"name\":\"web\"}"}]"#,
    );
    const DOCKER: (&str, &str) = (
        "var/lib/docker/containers/ID/config.v2.json",
        r#"{"StreamConfig":{},"State":{"Running":true},"ID":"ID","Config":{"Hostname":"x","Labels":{"maintainer":"me"}},"Name":"/web"}"#,
    );

    #[test]
    fn the_names_are_those_of_the_runtimes_files() {
        let in_pod = ["web", "shop", "default"];
        for (file, runtime, names) in [
            (CONTAINERD, Some(Runtime::Containerd), ["web", "shop-768c6f9745-mn4bb", "default"]),
            // Without systemd the path does not show the runtime.
            (CONTAINERD, None, ["web", "shop-768c6f9745-mn4bb", "default"]),
            (
                (&*CONTAINERD.0.replace("run/", "run/k3s/"), CONTAINERD.1),
                Some(Runtime::Containerd),
                ["web", "shop-768c6f9745-mn4bb", "default"],
            ),
            (CRIO, Some(Runtime::CriO), in_pod),
            (PODMAN, Some(Runtime::Podman), ["web", "", ""]),
            (
                (&*PODMAN.0.replace("/containers.json", "/volatile-containers.json"), PODMAN.1),
                Some(Runtime::Podman),
                ["web", "", ""],
            ),
            (DOCKER, Some(Runtime::Docker), ["web", "", ""]),
            (DOCKER, Some(Runtime::Podman), ["", "", ""]),
            (CONTAINERD, Some(Runtime::Lxc), ["", "", ""]),
        ] {
            let (_folder, files) = machine(&[file]);
            assert_eq!(found(&files, runtime), expected(names), "{} {runtime:?}", file.0);
        }
        // Docker below kubelet (cri-dockerd).
        let labels = r#""Labels":{"io.kubernetes.container.name":"web","io.kubernetes.pod.name":"shop","io.kubernetes.pod.namespace":"default"}"#;
        let text = DOCKER.1.replace(r#""Labels":{"maintainer":"me"}"#, labels);
        let (_folder, files) = machine(&[(DOCKER.0, &text)]);
        assert_eq!(found(&files, None), expected(in_pod));
    }

    #[test]
    fn a_file_of_others_a_wrong_one_and_one_without_an_end_have_no_names() {
        let nothing = expected(["", "", ""]);
        let (folder, files) = machine(&[DOCKER]);
        let path = folder.path().join(DOCKER.0.replace("ID", ID));
        assert_eq!(found(&files, Some(Runtime::Docker)), expected(["web", "", ""]));
        let others = ContainerFiles { owner: files.owner + 1, ..files.clone() };
        assert_eq!(found(&others, Some(Runtime::Docker)), nothing);
        fs::set_permissions(&path, Permissions::from_mode(0o620)).unwrap();
        assert_eq!(found(&files, Some(Runtime::Docker)), nothing, "its group may write to it");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for text in ["", "{", "[]", r#"{"Name":7}"#, r#"{"Name":"/"}"#] {
            fs::write(&path, text).unwrap();
            assert_eq!(found(&files, Some(Runtime::Docker)), nothing, "{text}");
        }
        fs::write(&path, format!(r#"{{"Name":"/{}"}}"#, "a".repeat(254))).unwrap();
        assert_eq!(found(&files, Some(Runtime::Docker)), nothing);
        fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(found(&files, Some(Runtime::Docker)), nothing);
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert_eq!(found(&files, Some(Runtime::Docker)), nothing);
    }

    #[test]
    fn a_container_of_a_user_and_an_id_that_is_none_have_no_names() {
        let of = |path: String| Workload::of(&Name::from(&*path)).and_then(|workload| wanted(&workload));
        assert_eq!(
            of(format!("/system.slice/docker-{ID}.scope")),
            Some((ID.to_owned(), Some(Runtime::Docker)))
        );
        assert_eq!(of(format!("/user.slice/user-7.slice/user@7.service/user.slice/docker-{ID}.scope")), None);
        for path in ["/system.slice/docker-...scope", "/lxc.payload.web", "/system.slice/nginx.service"] {
            assert_eq!(of(path.to_owned()), None, "{path}");
        }
    }

    #[test]
    fn an_event_gets_the_names() {
        let (_folder, files) = machine(&[DOCKER]);
        let containers = Containers::start(files).unwrap();
        for mut event in samples::samples() {
            let has_subject = event.subject().is_some();
            assert_eq!(event.subject_mut().is_some(), has_subject, "{event:?}");
            let Some(subject) = event.subject_mut() else { continue };
            subject.workload = Workload::of(&Name::from(&*format!("/docker/{ID}")));
            // The first line that waits may be the first of a busy machine.
            let deadline = Instant::now() + std::time::Duration::from_secs(60);
            let name = |event: &Event| {
                let container = event.subject()?.workload.as_ref()?.container.as_ref()?;
                container.names.name.as_ref().map(ToString::to_string)
            };
            while name(&event).is_none() && Instant::now() < deadline {
                containers.complete(&mut event, Instant::now());
            }
            assert_eq!(name(&event).as_deref(), Some("web"));
        }
    }
}

//! The workload that a process belongs to, as its cgroup names it: a batch job, a container, a unit of systemd.
//!
//! The path is read from its root on, because only the outermost names are root's choice: a container, a job or a user's
//! manager may give any name to a cgroup further inside.

use serde::Serialize;

use super::{Name, unit_path, words::words};

/// A job, a container and a unit. At least one of them is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The unit of this machine's systemd; for a unit of a user's manager `user@1000.service/app-x.scope`. A unit inside a
    /// container is not named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Name>,
    /// The Slurm job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slurm: Option<SlurmJob>,
    /// The container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

/// A job of Slurm, and the part of it that a process belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlurmJob {
    /// The job's number, as `sacct` and `scontrol` know it.
    pub job: u64,
    /// The step: a number, `batch`, `extern` or `interactive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Name>,
    /// The task's number in the step on this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// The node's name, if several nodes run on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Name>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Its id; for LXC, systemd-nspawn and libvirt its name.
    pub id: Name,
    /// The program that started it; `None` if the path does not show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// The uid of its Kubernetes pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Name>,
    /// Its names, which its path does not show; they are added to what is reported.
    #[serde(flatten)]
    pub names: ContainerNames,
}

/// The names of a container, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContainerNames {
    /// Its own name; in Kubernetes, within its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The name of its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<Name>,
    /// The namespace of Kubernetes that its pod is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
}

impl ContainerNames {
    /// These names, and those of `other` that are not among them.
    pub fn or(self, other: &Self) -> Self {
        let Self { name, pod_name, namespace } = self;
        Self {
            name: name.or_else(|| other.name.clone()),
            pod_name: pod_name.or_else(|| other.pod_name.clone()),
            namespace: namespace.or_else(|| other.namespace.clone()),
        }
    }
}

words! {
    /// A container runtime.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    pub enum Runtime {
        /// Docker.
        Docker = "docker",
        /// Podman (libpod).
        Podman = "podman",
        /// CRI-O.
        CriO = "cri-o",
        /// containerd, as Kubernetes uses it.
        Containerd = "containerd",
        /// nerdctl.
        Nerdctl = "nerdctl",
        /// LXC, LXD and Incus.
        Lxc = "lxc",
        /// A machine that is registered with systemd-machined: systemd-nspawn, or a virtual machine of libvirt.
        Machine = "machine",
    }
}

/// Names of a container's scope under systemd, by runtime: a prefix, the id, `.scope`.
const SCOPES: [(&[u8], Runtime); 6] = [
    (b"docker-", Runtime::Docker),
    (b"libpod-", Runtime::Podman),
    (b"crio-", Runtime::CriO),
    (b"cri-containerd-", Runtime::Containerd),
    (b"nerdctl-", Runtime::Nerdctl),
    (b"machine-", Runtime::Machine),
];

/// The folder that a runtime's containers are in without systemd.
const FOLDERS: [(&[u8], Runtime); 3] =
    [(b"docker", Runtime::Docker), (b"libpod_parent", Runtime::Podman), (b"lxc", Runtime::Lxc)];

impl Workload {
    /// The workload that the path `cgroup` names; `None` if it names none.
    pub fn of(cgroup: &Name) -> Option<Self> {
        let path = cgroup.as_bytes();
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let container = (0..parts.len()).find_map(|at| Some((at, container(&parts, at)?)));
        let outside = container.as_ref().map_or(parts.as_slice(), |(at, _)| &parts[..=*at]);
        let unit = unit_path(&Name::new(outside.join(&b'/'))).map(Name::new);
        let found = Self { unit, slurm: slurm(outside), container: container.map(|(_, found)| found) };
        (found != Self::default()).then_some(found)
    }

    /// Whether its uids mean users of a container, not those of this machine: a container that a user started without
    /// root has that user's uid, every other one has a list of users of its own.
    pub fn has_users_of_its_own(&self) -> bool {
        let of_user = self.unit.as_ref().is_some_and(|unit| unit.as_bytes().starts_with(b"user@"));
        self.container.is_some() && !of_user
    }
}

/// The container whose cgroup is part `at` of a path.
fn container(parts: &[&[u8]], at: usize) -> Option<Container> {
    let (part, parent) = (parts[at], parts[..at].last().copied().unwrap_or_default());
    let (id, runtime) = container_of_scope(part).or_else(|| container_of_folder(part, parent))?;
    let pod = parts[..at].iter().rev().find_map(|part| pod(part));
    Some(Container { id: unescaped(id), runtime, pod, names: ContainerNames::default() })
}

fn container_of_scope(part: &[u8]) -> Option<(&[u8], Option<Runtime>)> {
    let name = part.strip_suffix(b".scope")?;
    let (id, runtime) =
        SCOPES.iter().find_map(|(prefix, runtime)| Some((name.strip_prefix(*prefix)?, *runtime)))?;
    // The monitor of a container has a scope beside it: `libpod-conmon-ID`.
    let is_one = !id.is_empty() && (runtime == Runtime::Machine || !id.starts_with(b"conmon-"));
    is_one.then_some((id, Some(runtime)))
}

fn container_of_folder<'a>(part: &'a [u8], parent: &[u8]) -> Option<(&'a [u8], Option<Runtime>)> {
    if let Some(name) = part.strip_prefix(b"lxc.payload.").filter(|name| !name.is_empty()) {
        return Some((name, Some(Runtime::Lxc)));
    }
    let runtime = FOLDERS.iter().find_map(|(folder, runtime)| (parent == *folder).then_some(*runtime));
    // A service of Podman's (Quadlet, `--cgroups=split`) has `libpod-payload-ID` in its own cgroup.
    let podman = [&b"libpod-payload-"[..], b"libpod-"].iter().find_map(|prefix| part.strip_prefix(*prefix));
    let id = podman.unwrap_or(part);
    let runtime = runtime.or_else(|| podman.map(|_| Runtime::Podman));
    let is_id = id.len() == 64 && id.iter().all(u8::is_ascii_hexdigit);
    let is_name = runtime == Some(Runtime::Lxc) && !part.is_empty();
    (is_id || is_name).then_some((id, runtime))
}

/// The uid of a pod: `pod<uid>`, or `kubepods-burstable-pod<uid>.slice` with `_` for `-`, after the name of kubelet's own
/// cgroup if it has one, as with kind.
fn pod(part: &[u8]) -> Option<Name> {
    let by_systemd = || {
        let name = part.strip_suffix(b".slice")?;
        let from = name.windows(8).position(|window| window == b"kubepods")?;
        let name = &name[from..];
        let at = name.windows(4).position(|window| window == b"-pod")?;
        Some(&name[at + 4..])
    };
    let uid = part.strip_prefix(b"pod").or_else(by_systemd).filter(|uid| !uid.is_empty())?;
    let uid: Vec<u8> = uid.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
    // A uid of Kubernetes is a UUID; of a static pod it is 32 digits.
    let is_uid = uid.len() >= 32 && uid.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    is_uid.then(|| Name::new(uid))
}

/// The job that a path names below slurmstepd's scope (cgroup v2), or below Slurm's own folder (v1). Both are where only
/// root can make them.
fn slurm(parts: &[&[u8]]) -> Option<SlurmJob> {
    let (node, at) = slurm_job(parts)?;
    let job = number(parts[at], b"job_")?;
    let mut path = parts[at + 1..].iter();
    let step = path.next().and_then(|part| part.strip_prefix(b"step_")).filter(|step| !step.is_empty());
    let task = path.find_map(|part| number(part, b"task_"));
    let node = (!node.is_empty()).then(|| Name::new(node));
    Some(SlurmJob { job, step: step.map(Name::new), task, node })
}

/// The node's name, empty if the path has none, and the part of a path that is a job's cgroup.
fn slurm_job<'a>(parts: &[&'a [u8]]) -> Option<(&'a [u8], usize)> {
    let mut path = parts.iter().enumerate().skip_while(|(_, part)| part.is_empty() || **part == b"..");
    let (_, first) = path.next()?;
    let node = if *first == b"system.slice" {
        slurm_scope(path.next()?.1)?
    } else {
        first
            .strip_prefix(b"slurm")
            .and_then(|rest| if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"_") })?
    };
    let (at, _) = path.find(|(_, part)| number::<u64>(part, b"job_").is_some())?;
    Some((node, at))
}

/// The cgroup of the Slurm job that `cgroup` lies in.
pub(super) fn slurm_cgroup(cgroup: &Name) -> Option<Name> {
    let parts: Vec<&[u8]> = cgroup.as_bytes().split(|byte| *byte == b'/').collect();
    let (_, at) = slurm_job(&parts)?;
    Some(Name::new(parts[..=at].join(&b'/')))
}

/// The node's name in that of slurmstepd's scope, empty if it has none.
fn slurm_scope(part: &[u8]) -> Option<&[u8]> {
    let name = part.strip_suffix(b"slurmstepd.scope")?;
    if name.is_empty() { Some(name) } else { name.strip_suffix(b"_") }
}

fn number<T: std::str::FromStr>(part: &[u8], prefix: &[u8]) -> Option<T> {
    std::str::from_utf8(part.strip_prefix(prefix)?).ok()?.parse().ok()
}

/// `text` without systemd's escapes (systemd.unit(5)): `web\x2d1` is `web-1`.
fn unescaped(text: &[u8]) -> Name {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.strip_prefix(b"x").and_then(|digits| {
            let digits = std::str::from_utf8(digits.get(..2)?).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match escaped.filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    Name::new(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> String {
        "0123456789abcdef".repeat(4)
    }

    fn of(path: &str) -> Option<Workload> {
        Workload::of(&Name::from(path))
    }

    fn unit(name: &str) -> Workload {
        Workload { unit: Some(Name::from(name)), ..Workload::default() }
    }

    #[test]
    fn a_unit_of_the_machine_is_named_and_none_of_a_container() {
        assert_eq!(of("/system.slice/nginx.service/worker"), Some(unit("nginx.service")));
        assert_eq!(
            of("/user.slice/user-7.slice/user@7.service/app.slice/app-x.scope"),
            Some(unit("user@7.service/app-x.scope"))
        );
        assert_eq!(of("/"), None);
        assert_eq!(of(""), None);
        assert_eq!(of("/user.slice"), None);
        let inside = of("/lxc.payload.web/system.slice/nginx.service").unwrap();
        assert_eq!((inside.unit, inside.container.map(|found| found.id)), (None, Some(Name::from("web"))));
    }

    /// Paths of podman 4.3, Docker 24, CRI-O, containerd, LXC 5 and systemd-nspawn 252.
    #[test]
    fn containers_have_an_id_a_runtime_and_a_pod() {
        let id = id();
        let pod = "11111111-2222-3333-4444-555555555555";
        let slice = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
            pod.replace('-', "_")
        );
        for (path, unit, found, runtime, in_pod) in [
            (
                format!("/machine.slice/libpod-{id}.scope/container"),
                Some(format!("libpod-{id}.scope")),
                &*id,
                Some(Runtime::Podman),
                None,
            ),
            (
                format!("/user.slice/user-7.slice/user@7.service/user.slice/libpod-{id}.scope"),
                Some(format!("user@7.service/libpod-{id}.scope")),
                &id,
                Some(Runtime::Podman),
                None,
            ),
            (format!("/libpod_parent/libpod-{id}"), None, &id, Some(Runtime::Podman), None),
            (
                format!("/system.slice/docker-{id}.scope/below"),
                Some(format!("docker-{id}.scope")),
                &id,
                Some(Runtime::Docker),
                None,
            ),
            (format!("/docker/{id}"), None, &id, Some(Runtime::Docker), None),
            (
                format!("{slice}/cri-containerd-{id}.scope"),
                Some(format!("cri-containerd-{id}.scope")),
                &id,
                Some(Runtime::Containerd),
                Some(pod),
            ),
            (
                format!("{slice}/crio-{id}.scope"),
                Some(format!("crio-{id}.scope")),
                &id,
                Some(Runtime::CriO),
                Some(pod),
            ),
            (format!("/kubepods/besteffort/pod{pod}/{id}"), None, &id, None, Some(pod)),
            // kind: kubelet has a cgroup of its own.
            (
                format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{}.slice/cri-containerd-{id}.scope",
                    pod.replace('-', "_")
                ),
                Some(format!("cri-containerd-{id}.scope")),
                &id,
                Some(Runtime::Containerd),
                Some(pod),
            ),
            // Quadlet.
            (
                format!("/system.slice/web.service/libpod-payload-{id}"),
                Some("web.service".to_owned()),
                &id,
                Some(Runtime::Podman),
                None,
            ),
            ("/lxc/web".to_owned(), None, "web", Some(Runtime::Lxc), None),
            (
                r"/machine.slice/machine-web\x2d1.scope/payload".to_owned(),
                Some(r"machine-web\x2d1.scope".to_owned()),
                "web-1",
                Some(Runtime::Machine),
                None,
            ),
            (format!("/../../kubepods/pod{pod}/{id}"), None, &id, None, Some(pod)),
        ] {
            let (pod, names) = (in_pod.map(Name::from), ContainerNames::default());
            let container = Container { id: Name::from(found), runtime, pod, names };
            let expected =
                Workload { unit: unit.as_deref().map(Name::from), slurm: None, container: Some(container) };
            assert_eq!(of(&path), Some(expected), "{path}");
        }
        // The monitor is no part of its container.
        let monitor = of(&format!("/machine.slice/libpod-conmon-{id}.scope")).unwrap();
        assert_eq!(monitor.container, None);
    }

    #[test]
    fn a_container_that_a_user_started_has_the_users_uid() {
        let id = id();
        for (path, expected) in [
            (format!("/machine.slice/libpod-{id}.scope/container"), true),
            (format!("/docker/{id}"), true),
            (format!("/user.slice/user-7.slice/user@7.service/user.slice/libpod-{id}.scope"), false),
            ("/system.slice/nginx.service".to_owned(), false),
        ] {
            assert_eq!(of(&path).unwrap().has_users_of_its_own(), expected, "{path}");
        }
    }

    #[test]
    fn of_nested_containers_the_outermost_is_named() {
        let (outer, inner) = (id(), "f".repeat(64));
        let found = of(&format!("/docker/{outer}/docker/{inner}")).unwrap();
        assert_eq!(found.container.unwrap().id, Name::from(&*outer));
    }

    /// Paths of Slurm 22.05 with cgroup v2, and of its v1 plugin.
    #[test]
    fn a_job_of_slurm_has_its_step_and_task() {
        let step = |step: &str, task| SlurmJob { job: 2, step: Some(Name::from(step)), task, node: None };
        for (path, expected) in [
            ("/system.slice/slurmstepd.scope/job_2/step_0/user/task_0", step("0", Some(0))),
            ("/system.slice/slurmstepd.scope/job_2/step_batch/user/task_special", step("batch", None)),
            ("/system.slice/slurmstepd.scope/job_2/step_extern/user", step("extern", None)),
            (
                "/system.slice/n1_slurmstepd.scope/job_2/step_3/user/task_7",
                SlurmJob { node: Some(Name::from("n1")), ..step("3", Some(7)) },
            ),
            ("/slurm/uid_1000/job_2/step_0/task_1", step("0", Some(1))),
            ("/slurm_n1/uid_1000/job_2/step_0", SlurmJob { node: Some(Name::from("n1")), ..step("0", None) }),
            ("/slurm/uid_1000/job_2", SlurmJob { step: None, ..step("", None) }),
        ] {
            assert_eq!(of(path).and_then(|found| found.slurm), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_cgroup_that_a_user_or_a_container_named_is_no_job() {
        let in_container = format!("/docker/{}/slurm/uid_0/job_2", id());
        let of_user = "/user.slice/user-7.slice/user@7.service/slurm/uid_0/job_2";
        for path in [&in_container, of_user, "/slurm/uid_7", "/slurm/uid_7/job_x", "/slurmy/uid_7/job_2"] {
            assert_eq!(of(path).and_then(|found| found.slurm), None, "{path}");
        }
    }
}

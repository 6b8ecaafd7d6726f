//! The processes that a supervisor restarts when they end: those of a service, of a container, and the children of a
//! program that is known to restart what it runs.

use super::{Name, Process, workload::slurm_cgroup};

/// A cgroup whose processes are restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// The path that stays the same over a restart: the service's, the container's, for Kubernetes the pod's.
    pub cgroup: Name,
    /// The path of the container, if it is in a pod, which may have others.
    pub in_pod: Option<Name>,
}

/// The comms of supervisors, of which the kernel keeps 15 bytes. One that reparents orphans (pid 1) is not among them.
const SUPERVISORS: [&str; 15] = [
    "circusd", "conmon", "containerd-shim", "dinit", "forever", "god", "immortal", "monit", "perpd", "runsv",
    "s6-supervise", "service-manager", "supervise", "supervise-daemo", "supervisord",
];
/// PM2 calls itself `PM2 v5.3.0: God`.
const PM2: &[u8] = b"PM2 v";

/// Services that start what users hand in, and do not start it again: its end is not followed by a restart. `pbs_jobs` is
/// no unit of systemd, but the cgroup that OpenPBS has for its jobs.
const JOB_SERVICES: [&str; 19] = [
    "anacron", "atd", "condor", "cron", "cronie", "crond", "dcron", "fcron", "gitlab-runner",
    "jenkins-agent", "jupyterhub", "munge", "pbs", "pbs_jobs", "pbs_mom", "sge_execd", "slurmd",
    "slurmstepd", "torque-mom",
];

/// Services by which users log in: without pam_systemd(8) sessions stay in their cgroup. The session manager of a desktop
/// starts programs in services of their own, named `app-…` or `dbus-…`, and does not start them again, either.
const LOGIN_SERVICES: [&str; 24] = [
    "autologin", "cockpit", "console-getty", "container-getty", "display-manager", "dropbear", "gdm", "gdm3",
    "getty", "greetd", "inetd", "lightdm", "lxdm", "rstudio-server", "sddm", "serial-getty", "ssh", "sshd",
    "telnetd", "vncserver", "xdm", "xinetd", "xrdp", "xrdp-sesman",
];

const CONTAINER_SCOPES: [&str; 6] = ["docker-", "libpod-", "crio-", "cri-containerd-", "nerdctl-", "lxc-"];

impl Restarted {
    /// The unit or container that `cgroup` lies in; `None` for a user's session, for the jobs of a batch system, and
    /// outside of all units.
    pub fn of(cgroup: &Name) -> Option<Self> {
        let path = cgroup.as_bytes();
        let mut end = path.len();
        loop {
            let start = path[..end].iter().rposition(|byte| *byte == b'/')?;
            let part = &path[start + 1..end];
            if is_container(part) {
                let outer = path[..start].rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                // The container of a pod, and that of a service of Podman's (Quadlet), is a new one after each restart.
                let in_pod =
                    outer.starts_with(b"pod") || (contains(outer, b"kubepods") && contains(outer, b"-pod"));
                let is_replaced = in_pod || service(outer).is_some_and(|name| !runs_jobs(name));
                let container = Name::new(&path[..end]);
                let cgroup = if is_replaced { Name::new(&path[..start]) } else { container.clone() };
                return Some(Self { cgroup, in_pod: in_pod.then_some(container) });
            }
            if part.ends_with(b".scope") && part.len() > b".scope".len() {
                return None;
            }
            if let Some(name) = service(part) {
                return (!runs_jobs(name)).then(|| Self { cgroup: Name::new(&path[..end]), in_pod: None });
            }
            end = start;
        }
    }
}

/// Whether a supervisor would start `process` again, were it terminated. `parent`: the comm of its parent.
pub fn is_restarted(process: &Process, parent: impl FnOnce() -> Option<Name>) -> bool {
    process.cgroup.known().and_then(Restarted::of).is_some()
        || parent().is_some_and(|comm| is_supervisor(&comm))
}

/// The cgroup of the job that `cgroup` lies in, or the cgroup itself if it lies in a service that runs jobs and does not
/// show which part of its path is one. Jobs of one user may run one program, and the end of one is not its comeback in another.
pub(super) fn cgroup_of_job(cgroup: &Name) -> Option<Name> {
    slurm_cgroup(cgroup).or_else(|| {
        let mut services = cgroup.as_bytes().split(|byte| *byte == b'/').filter_map(service);
        services.next_back().is_some_and(runs_jobs).then(|| cgroup.clone())
    })
}

fn is_supervisor(comm: &Name) -> bool {
    let comm = comm.as_bytes();
    comm.starts_with(PM2) || SUPERVISORS.iter().any(|known| known.as_bytes() == comm)
}

/// The name of a service's cgroup, without its type.
fn service(part: &[u8]) -> Option<&[u8]> {
    part.strip_suffix(b".service").filter(|name| !name.is_empty())
}

/// Whether the service runs what is handed in: by a queue, a timetable, a login, or the user's own manager.
fn runs_jobs(service: &[u8]) -> bool {
    let template = service.split(|byte| *byte == b'@').next().unwrap_or(service);
    (template == b"user" && template != service)
        || [&b"app-"[..], b"dbus-"].iter().any(|start| template.starts_with(start))
        || JOB_SERVICES.iter().chain(&LOGIN_SERVICES).any(|name| name.as_bytes() == template)
}

fn is_container(part: &[u8]) -> bool {
    let scope = part.strip_suffix(b".scope");
    let by_systemd = scope.is_some_and(|name| {
        CONTAINER_SCOPES
            .iter()
            .any(|kind| name.strip_prefix(kind.as_bytes()).is_some_and(|id| !id.is_empty()))
    });
    let id = part.rsplit(|byte| *byte == b'-').next().unwrap_or(part);
    let by_cgroupfs = id.len() == 64 && id.iter().all(u8::is_ascii_hexdigit);
    by_systemd || by_cgroupfs || (part.starts_with(b"lxc.payload.") && part.len() > b"lxc.payload.".len())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_containers_are_restarted_and_nothing_else_is() {
        let id = "ab".repeat(32);
        let docker = format!("/docker/{id}");
        let scope = format!("/system.slice/docker-{id}.scope");
        let pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_3.slice";
        let in_pod = format!("{pod}/cri-containerd-{id}.scope");
        let kind = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod12_3.slice";
        let in_cgroupfs_pod = format!("/kubepods/burstable/pod12-3/{id}/child");
        let user = "/user.slice/user-1000.slice/user@1000.service";
        let user_service = format!("{user}/app.slice/sync.service");
        for (path, expected) in [
            ("/system.slice/nginx.service", Some("/system.slice/nginx.service")),
            ("/system.slice/nginx.service/worker/a", Some("/system.slice/nginx.service")),
            (
                "/system.slice/system-getty.slice/app@1.service",
                Some("/system.slice/system-getty.slice/app@1.service"),
            ),
            (&user_service, Some(&user_service)),
            (user, None),
            (&format!("{user}/app.slice/app-x.scope"), None),
            (&format!("{user}/app.slice/app.slice"), None),
            ("/user.slice/user-1000.slice/session-3.scope", None),
            ("/system.slice/cron.service", None),
            ("/system.slice/ssh.service", None),
            ("/system.slice/system-sshd.slice/sshd@7-10.0.0.1:22-10.0.0.2:5022.service", None),
            ("/system.slice/system-getty.slice/getty@tty1.service", None),
            ("/system.slice/sshd-keygen.service", Some("/system.slice/sshd-keygen.service")),
            (&format!("{user}/app.slice/app-org.kde.konsole@12ab.service"), None),
            ("/system.slice/slurmd.service/job_1/step_0", None),
            ("/system.slice/slurmstepd.scope/job_1/step_0/user", None),
            ("/system.slice/.service", None),
            (&docker, Some(&docker)),
            (&format!("{docker}/below"), Some(&docker)),
            (&scope, Some(&scope)),
            (&in_pod, Some(pod)),
            (&in_cgroupfs_pod, Some("/kubepods/burstable/pod12-3")),
            (&format!("{kind}/cri-containerd-{id}.scope/child"), Some(kind)),
            // Quadlet, which runs a new container after each end.
            (&format!("/system.slice/web.service/libpod-payload-{id}"), Some("/system.slice/web.service")),
            (
                &format!("{user}/app.slice/web.service/libpod-payload-{id}/child"),
                Some(&*format!("{user}/app.slice/web.service")),
            ),
            ("/pbs_jobs.service/jobid/12.server", None),
            (&format!("/pbs_jobs.service/{id}"), Some(&*format!("/pbs_jobs.service/{id}"))),
            ("/lxc.payload.web/system.slice/x.service", Some("/lxc.payload.web/system.slice/x.service")),
            ("/lxc.payload.web/other", Some("/lxc.payload.web")),
            ("/", None),
            ("", None),
            ("no-slash.service", None),
        ] {
            let found = Restarted::of(&Name::from(path)).map(|found| found.cgroup);
            assert_eq!(found, expected.map(Name::from), "{path}");
        }
    }

    #[test]
    fn supervisors_go_by_their_comm() {
        for (comm, expected) in [
            ("runsv", true),
            ("PM2 v5.3.0: God", true),
            ("supervisord", true),
            ("bash", false),
            ("systemd", false),
            ("my-runsv", false),
            ("", false),
        ] {
            assert_eq!(is_supervisor(&Name::from(comm)), expected, "{comm}");
        }
    }
}

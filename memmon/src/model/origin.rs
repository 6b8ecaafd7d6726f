//! The properties of a process that are the same after it is started again.

use super::{Name, Process, Restarted, Uid, Unit, supervision::cgroup_of_job};

/// A program with its cgroup and its user. A supervisor that restarts a process starts one of the same origin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The executable; if that is unknown, its comm.
    pub program: Name,
    /// The script or module that it runs, if it is an interpreter.
    pub script: Option<Name>,
    /// The cgroup up to the job, the unit, the container or its pod, because each may have its own cgroups below.
    pub cgroup: Option<Name>,
    /// The name of the container in its pod, whose cgroup has another name after each restart. If it is not known, `cgroup`
    /// is the container's: two containers of a pod never wait for each other.
    pub container: Option<Name>,
    /// The real uid: jobs of many users may run in one unit, such as cron's or a batch system's.
    pub uid: Uid,
}

impl Origin {
    /// The origin of `process`.
    pub fn of(process: &Process) -> Self {
        let program = process.names.exe.known().unwrap_or(&process.names.comm).clone();
        let place = process.cgroup.known().map(|cgroup| lasting(cgroup, process.container.as_ref()));
        let (cgroup, container) = place.unzip();
        let container = container.flatten();
        Self { program, script: process.names.script.clone(), cgroup, container, uid: process.real_uid }
    }
}

/// The part of a cgroup's path that is the same after a process in it is started again, and the container's name if the path
/// is its pod's.
fn lasting(cgroup: &Name, container: Option<&Name>) -> (Name, Option<Name>) {
    if let Some(job) = cgroup_of_job(cgroup) {
        return (job, None);
    }
    match (Restarted::of(cgroup), container) {
        (Some(Restarted { cgroup: pod, in_pod: Some(_) }), Some(name)) => (pod, Some(name.clone())),
        (Some(Restarted { in_pod: Some(container), .. }), None) => (container, None),
        (Some(Restarted { cgroup, in_pod: None }), _) => (cgroup, None),
        (None, _) => (Unit::of(cgroup).map_or_else(|| cgroup.clone(), |unit| unit.cgroup), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths of Slurm 22.05, OpenPBS 22 and HTCondor.
    #[test]
    fn jobs_of_one_user_have_different_origins_and_the_parts_of_a_job_have_one() {
        for (path, expected) in [
            (
                "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0",
                "/system.slice/slurmstepd.scope/job_7",
            ),
            (
                "/system.slice/slurmstepd.scope/job_8/step_batch/user/task_special",
                "/system.slice/slurmstepd.scope/job_8",
            ),
            ("/system.slice/n1_slurmstepd.scope/job_7/step_3", "/system.slice/n1_slurmstepd.scope/job_7"),
            ("/slurm_n1/uid_1000/job_7/step_0/task_1", "/slurm_n1/uid_1000/job_7"),
            ("/slurm/uid_1000/job_7", "/slurm/uid_1000/job_7"),
            ("/pbs_jobs.service/jobid/12.server", "/pbs_jobs.service/jobid/12.server"),
            (
                "/system.slice/condor.service/htcondor/condor_execute_slot1_1@n1",
                "/system.slice/condor.service/htcondor/condor_execute_slot1_1@n1",
            ),
            ("/system.slice/cron.service", "/system.slice/cron.service"),
            // Not Slurm's, but that of a service which restarts its processes.
            ("/system.slice/web.service/job_7/a", "/system.slice/web.service"),
            ("/user.slice/user-7.slice/session-3.scope/a", "/user.slice/user-7.slice/session-3.scope"),
            ("/other/place", "/other/place"),
        ] {
            assert_eq!(lasting(&path.into(), None), (expected.into(), None), "{path}");
        }
    }

    /// Paths of kubelet with systemd and without, and of kind.
    #[test]
    fn a_container_of_a_pod_has_its_name_and_without_one_its_id() {
        let web = Some(Name::from("web"));
        for pod in [
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_3.slice",
            "/kubepods/besteffort/pod12-3",
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod12_3.slice",
        ] {
            for container in ["ab", "cd"].map(|id| format!("{pod}/cri-containerd-{}.scope", id.repeat(32))) {
                for path in [container.clone(), format!("{container}/below/it")] {
                    let path = Name::from(&*path);
                    assert_eq!(lasting(&path, web.as_ref()), (pod.into(), web.clone()), "{path}");
                    assert_eq!(lasting(&path, None), (Name::from(&*container), None), "{path}");
                }
            }
        }
        // A name belongs to a pod.
        let docker = Name::from(&*format!("/docker/{}", "ab".repeat(32)));
        assert_eq!(lasting(&docker, web.as_ref()), (docker.clone(), None));
    }
}

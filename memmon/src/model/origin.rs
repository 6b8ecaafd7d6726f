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
    /// The real uid: jobs of many users may run in one unit, such as cron's or a batch system's.
    pub uid: Uid,
}

impl Origin {
    /// The origin of `process`.
    pub fn of(process: &Process) -> Self {
        let program = process.names.exe.known().unwrap_or(&process.names.comm).clone();
        let cgroup = process.cgroup.known().map(lasting);
        Self { program, script: process.names.script.clone(), cgroup, uid: process.real_uid }
    }
}

/// The part of a cgroup's path that is the same after a process in it is started again.
fn lasting(cgroup: &Name) -> Name {
    cgroup_of_job(cgroup)
        .or_else(|| Restarted::of(cgroup).map(|restarted| restarted.cgroup))
        .or_else(|| Unit::of(cgroup).map(|unit| unit.cgroup))
        .unwrap_or_else(|| cgroup.clone())
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
            assert_eq!(lasting(&path.into()), expected.into(), "{path}");
        }
    }
}

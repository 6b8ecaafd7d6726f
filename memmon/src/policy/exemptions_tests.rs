//! Tests of the processes that an exemption protects.

use super::{
    Rules,
    fixtures::{MEMORY, hog, phrase, rules},
    judge,
};
use crate::model::{
    Doubt, Exempt, Exemption, Fact, Name, Pid, Process, ProcessId, Protection, StartTime, Uid, UnixTime,
    Verdict,
};

fn exemption(id: u32, of: Exempt) -> Exemption {
    Exemption { id, of, until: UnixTime(u64::from(id)), by: Uid::ROOT, why: phrase("a batch") }
}

fn unit(name: &str) -> Exempt {
    Exempt::Unit(phrase(name))
}

fn verdict(of: Vec<Exempt>, change: impl FnOnce(&mut Rules, &mut Process)) -> Verdict {
    let (mut rules, mut process) = (rules(), hog());
    rules.exemptions = of.into_iter().zip(1..).map(|(of, id)| exemption(id, of)).collect();
    change(&mut rules, &mut process);
    judge(&rules, &process, &MEMORY)
}

#[test]
fn an_exemption_protects_its_processes_and_no_other() {
    let own = hog().id;
    let slurm = "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0";
    let app = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope";
    for (of, cgroup, protects) in [
        (Exempt::Process(own), "/", true),
        (Exempt::Process(ProcessId { start: StartTime(778), ..own }), "/", false),
        (Exempt::Process(ProcessId { pid: Pid(4243), ..own }), "/", false),
        (Exempt::User(Uid(1000)), "/", true),
        (Exempt::User(Uid(1001)), "/", false),
        (unit("nginx.service"), "/system.slice/nginx.service/worker", true),
        (unit("nginx.service"), "/system.slice/nginx2.service", false),
        (unit("nginx.service"), "/system.slice/x.service/nginx.service", false),
        (unit("*.service"), "/system.slice/nginx.service", false),
        (unit("user@1000.service/app-x.scope"), app, true),
        (unit("user@1000.service"), app, true),
        (unit("app-x.scope"), app, false),
        (Exempt::Job(7), slurm, true),
        (Exempt::Job(70), slurm, false),
        (Exempt::Job(7), "/user.slice/user-1000.slice/user@1000.service/slurm/uid_0/job_7", false),
    ] {
        let shown = format!("{of:?} {cgroup}");
        let found = verdict(vec![of.clone()], |_, process| process.cgroup = Fact::Known(cgroup.into()));
        match found {
            Verdict::Protected(Protection::Exempt(one)) if protects => assert_eq!(one.of, of),
            Verdict::Terminate(_) if !protects => {}
            found => panic!("{shown}: {found:?}"),
        }
    }
}

#[test]
fn the_exemption_that_ends_last_is_named_and_a_rule_of_the_configuration_comes_first() {
    let both = || vec![Exempt::User(Uid(1000)), Exempt::Process(hog().id)];
    let Verdict::Protected(Protection::Exempt(one)) = verdict(both(), |_, _| {}) else { panic!() };
    assert_eq!(one.id, 2);
    let listed = verdict(both(), |rules, _| _ = rules.whitelist.users.insert(Uid(1000)));
    assert_eq!(listed, Verdict::Protected(Protection::User { uid: Uid(1000) }));
    assert_eq!(verdict(both(), |_, process| process.rss = crate::model::Bytes::ZERO), {
        Verdict::Protected(Protection::Exempt(exemption(2, Exempt::Process(hog().id))))
    });
}

#[test]
fn a_cgroup_that_cannot_be_read_is_a_doubt_and_one_that_the_owner_withholds_no_favour() {
    let judged = |cgroup: Fact<Name>, uid| {
        verdict(vec![Exempt::Job(7)], |_, process| {
            process.cgroup = cgroup;
            process.real_uid = Uid(uid);
        })
    };
    assert_eq!(judged(Fact::Unreadable, 1000), Verdict::Unsure(Doubt::CgroupUnreadable));
    assert_eq!(judged(Fact::Withheld, 0), Verdict::Unsure(Doubt::CgroupUnreadable));
    assert!(matches!(judged(Fact::Withheld, 1000), Verdict::Terminate(_)));
    assert!(matches!(judged(Fact::Absent, 1000), Verdict::Terminate(_)));
}

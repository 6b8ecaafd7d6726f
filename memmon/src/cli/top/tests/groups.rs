//! Tests of processes in groups.

use super::*;
use crate::{
    model::{GroupKey, RuleName},
    status::{SumInForce, SumMember},
};

/// A sample in which a user and a unit hold memory under rules, with processes of both.
fn with_sums() -> Box<Sample> {
    let sum = |rule: &str, group: GroupKey, total: u64, limit: u64, growth: Option<f64>| SumInForce {
        rule: rule.into(),
        group: (&group).into(),
        members: 20,
        total_bytes: Bytes(total),
        limit_bytes: Bytes(limit),
        share_percent: Bytes(total).percent_of(Bytes(limit)),
        growth: Growth {
            bytes_per_second: growth,
            seconds_to_limit: growth.map(|growth| (limit - total) as f64 / growth),
        },
        action: "terminate".into(),
        largest: vec![SumMember {
            id: ProcessId { pid: Pid(12_345), start: StartTime(1) },
            comm: "chrome".into(),
            uid: Uid(1000),
            bytes: Bytes(GB),
        }],
    };
    let web = GroupKey::Unit { unit: "web.service".into() };
    let mut sample = sample(0.0, rows(0));
    sample.sums = vec![
        sum("sites", web, 5 * GB, 4 * GB, None),
        sum("students", GroupKey::User { uid: Uid(1000) }, 15 * GB / 2, 8 * GB, Some(64.0 * MB as f64)),
    ];
    sample.table.rows[0].unit = Some("user@1000.service/app-chrome.scope".into());
    sample.table.rows[0] = sample.table.rows[0].clone().limited(RuleName::new("browsers"), Bytes(4 * GB));
    sample.table.rows[2] = sample.table.rows[2].clone().limited(RuleName::new("free"), Bytes::MAX);
    sample.table.over = 1;
    sample
}

#[test]
fn tab_groups_processes_by_user_unit_and_rule() {
    let model = updated(at_size(80, 16), [Message::Sample(with_sums())]);
    // The limit of a process is that of its rule.
    insta::assert_snapshot!(screen(&model), @r"
    memmon  no daemon: own look at /proc  limit 2.00GB
    Mem █████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░ 43.8% used  7.00GB / 16.00GB
    245 processes, 1 over, by the rules of /etc/memmon/config.toml

        PID USER     NAME               RSS LIMIT  GROWTH  LEFT TREND    VERDICT
      12345 alice    chrome          3.50GB   88%               ▁        terminate
       4242 alice    make\u{1b}[2J   3.00GB  150%          over ▁        grace
         77 47001    python3         1.00GB                     ▁        within
          1 root     systemd         12.0MB    1%               ▁        protected



    12345 chrome (alice)  terminate: ram_gb_threshold
    anon 1.75GB  file 1.75GB  shmem 0B  swap 1.00MB

     q quit  ? help  enter explain  / filter  tab group  s sort (memory)
    ");
    let by_user = updated(model, [key(KeyCode::Tab)]);
    insta::assert_snapshot!(screen(&by_user), @r"
    memmon  no daemon: own look at /proc  limit 2.00GB
    Mem █████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░ 43.8% used  7.00GB / 16.00GB
    245 processes, 1 over, by the rules of /etc/memmon/config.toml

    GROUP                     PROCS  HOLDS     OF LIMIT  GROWTH  LEFT RULE
    alice                        20 7.50GB 8.00GB   94% +64.0MB  8.0s students
    47001                         1 1.00GB
    root                          1 12.0MB




    alice: rule students: 7.50GB of 8.00GB
    the largest: 12345 chrome

     q quit  ? help  tab group (user)  enter processes  s sort (memory)  / filter
    ");
    let by_unit = updated(by_user.clone(), [key(KeyCode::Tab)]);
    insta::assert_snapshot!(screen(&by_unit), @r"
    memmon  no daemon: own look at /proc  limit 2.00GB
    Mem █████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░ 43.8% used  7.00GB / 16.00GB
    245 processes, 1 over, by the rules of /etc/memmon/config.toml

    GROUP                     PROCS  HOLDS     OF LIMIT  GROWTH  LEFT RULE
    web.service                  20 5.00GB 4.00GB  125%          over sites
    no unit                       3 4.01GB
    user@1000.service/app-chr     1 3.50GB




    web.service: rule sites: 5.00GB of 4.00GB
    the largest: 12345 chrome

     q quit  ? help  tab group (unit)  enter processes  s sort (memory)  / filter
    ");
    let by_rule = updated(by_unit, [key(KeyCode::Tab), key(KeyCode::Down)]);
    insta::assert_snapshot!(screen(&by_rule), @r"
    memmon  no daemon: own look at /proc  limit 2.00GB
    Mem █████████████████████░░░░░░░░░░░░░░░░░░░░░░░░░░ 43.8% used  7.00GB / 16.00GB
    245 processes, 1 over, by the rules of /etc/memmon/config.toml

    GROUP                     PROCS  HOLDS     OF LIMIT  GROWTH  LEFT RULE
    students: user alice         20 7.50GB 8.00GB   94% +64.0MB  8.0s students
    sites: unit web.service      20 5.00GB 4.00GB  125%          over sites
    browsers                      1 3.50GB
    [thresholds]                  2 3.01GB
    free                          1 1.00GB


    sites: unit web.service: rule sites: 5.00GB of 4.00GB
    the largest: 12345 chrome

     q quit  ? help  tab group (rule)  enter processes  s sort (memory)  / filter
    ");
    let again = updated(by_rule.clone(), [key(KeyCode::Tab)]);
    assert_eq!(order(&again), [12_345, 4242, 77, 1]);
    // The processes of a group.
    assert_eq!(order(&updated(by_user.clone(), [key(KeyCode::Enter)])), [12_345, 4242]);
    let (_, command) = update(by_user, key(KeyCode::Enter));
    assert_eq!(command, None);
    let filtered = updated(by_rule, keys("/stud").chain([key(KeyCode::Enter)]));
    assert_eq!(filtered.count(), 1);
}

#[test]
fn groups_fit_every_screen() {
    for (columns, lines) in [(1, 1), (20, 5), (40, 8), (80, 24), (200, 60)] {
        for tabs in 0..4 {
            let model = updated(at_size(columns, lines), [Message::Sample(with_sums())]);
            let model = updated(model, (0..tabs).map(|_| key(KeyCode::Tab)).chain([key(KeyCode::End)]));
            assert_eq!(screen(&model).lines().count(), usize::from(lines));
        }
    }
}

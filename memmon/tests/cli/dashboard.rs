//! Grafana's dashboard: what its panels ask is PromQL, and they lie side by side.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::{Value, json};

/// The dashboard for single hosts.
const HOSTS: &str = include_str!("../../../contrib/grafana/memmon.json");
/// The one for all of them together.
const FLEET: &str = include_str!("../../../contrib/grafana/memmon-fleet.json");

fn panels(board: &str) -> Vec<Value> {
    let board: Value = serde_json::from_str(board).unwrap();
    let panels = board["panels"].as_array().unwrap();
    assert!(!panels.is_empty());
    panels.clone()
}

#[test]
#[ignore = "needs MEMMON_PROMTOOL: `cargo xtask setup --for-tests`"]
fn prometheus_understands_what_every_panel_asks() {
    let mut rules = Vec::new();
    for (board, panel) in [HOSTS, FLEET]
        .map(|board| panels(board).into_iter().map(move |panel| (board, panel)))
        .into_iter()
        .flatten()
    {
        for target in panel["targets"].as_array().unwrap() {
            let asked = target["expr"].as_str().unwrap();
            // As Grafana fills them in.
            let expr = asked.replace("$__rate_interval", "2m").replace("$instance", "one|two");
            // Several machines may be chosen at once, and only the fleet's dashboard adds them up.
            let is_of_hosts = board == HOSTS;
            let names_host = target["legendFormat"].as_str().unwrap().contains("{{instance}}");
            assert!(names_host || !is_of_hosts, "{target}");
            let sums = asked.contains("sum(") || asked.contains("sum by");
            let dropped = sums && !asked.contains("sum by (instance");
            let old_form = asked.contains("histogram_quantile(0.5, rate");
            assert!(!(dropped && is_of_hosts || old_form), "{asked}");
            assert!(asked.contains("{instance=~\"$instance\"") && !expr.contains('$'), "{asked}");
            rules.push(json!({ "record": format!("asked_{}", rules.len()), "expr": expr }));
        }
    }
    assert!(rules.len() >= panels(HOSTS).len() + panels(FLEET).len(), "a panel asks nothing");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    // JSON is YAML.
    fs::write(&file, json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string()).unwrap();
    let promtool = std::env::var_os("MEMMON_PROMTOOL").unwrap();
    let output = Command::new(promtool).args(["check", "rules"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_operators_first_questions_have_a_panel() {
    let board = serde_json::to_string(&panels(HOSTS)).unwrap();
    for figure in [
        "dry_run",
        "would_terminate_total",
        "oom_killed_total",
        "degraded_total",
        "signals_failed_total",
        "notifications_total",
        "rule_sum_bytes",
        "rule_terminations_total",
    ] {
        assert!(board.contains(&format!("memmon_{figure}{{instance")), "no panel shows memmon_{figure}");
    }
}

#[test]
fn the_fleet_has_terminations_by_rule_and_the_hosts_that_need_a_look() {
    let board: Value = serde_json::from_str(FLEET).unwrap();
    let variables = board["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|variable| variable["name"] == "instance"), "{variables:?}");
    let asked = serde_json::to_string(&panels(FLEET)).unwrap();
    for part in [
        "sum by (rule) (increase(memmon_rule_terminations_total{instance",
        "sum by (rule) (increase(memmon_terminations_total{instance",
        "count(memmon_dry_run{instance",
        "sum by (instance) (increase(memmon_degraded_total{instance",
        "memmon_source{instance",
        "topk(10, sum by (instance)",
    ] {
        assert!(asked.contains(part), "no panel asks {part}");
    }
}

#[test]
fn panels_fill_the_24_columns_and_none_lies_on_another() {
    for board in [HOSTS, FLEET] {
        fill_the_columns(board);
    }
}

fn fill_the_columns(board: &str) {
    let (mut ids, mut taken, mut lowest) = (BTreeSet::new(), BTreeSet::new(), 0);
    for panel in panels(board) {
        assert!(["stat", "timeseries"].contains(&panel["type"].as_str().unwrap()), "{panel}");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |row| (column, row))) {
            assert!(cell.0 < 24 && taken.insert(cell), "{panel}");
        }
        lowest = lowest.max(y + h);
    }
    assert_eq!(taken.len() as u64, 24 * lowest, "there is a hole");
}
